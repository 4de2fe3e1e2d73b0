//! What the files of a crate import from each other.
//!
//! Reads the sources as text, without test code: every `use`, and every path that starts with `crate`, `self`,
//! `super`, an imported module or a child module. A name counts for the file that defines it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;

/// A module's path from the crate, without `crate`.
pub type ModulePath = Vec<String>;

/// One file imports a name from another.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    pub from: ModulePath,
    pub to: ModulePath,
    pub name: String,
}

impl Import {
    pub fn room_of_importer(&self) -> String {
        self.from.first().cloned().unwrap_or_else(|| "lib".to_owned())
    }

    pub fn room_of_imported(&self) -> String {
        self.to.first().cloned().unwrap_or_else(|| "lib".to_owned())
    }
}

/// The files of a crate without their test code.
pub struct Sources {
    pub files: BTreeMap<ModulePath, SourceFile>,
}

#[derive(Default)]
pub struct SourceFile {
    pub tokens: Vec<String>,
    /// By the name that the file knows it by.
    uses: BTreeMap<String, UsePath>,
    /// Modules whose names all come in.
    globs: Vec<Vec<String>>,
    /// Every other path, absolute.
    paths: Vec<Vec<String>>,
}

#[derive(Clone)]
struct UsePath {
    path: Vec<String>,
    is_exported: bool,
}

impl Sources {
    pub fn read(root: &Path) -> Self {
        let mut texts = BTreeMap::new();
        read_folder(root, &[], &mut texts);
        Self::new(texts)
    }

    pub fn new(texts: BTreeMap<ModulePath, String>) -> Self {
        let mut files = BTreeMap::new();
        let mut test_modules = Vec::new();
        for (path, text) in texts {
            let (tokens, test_children) = without_tests(&tokens(&text));
            test_modules.extend(test_children.into_iter().map(|name| child(&path, &name)));
            files.insert(path, SourceFile { tokens, ..SourceFile::default() });
        }
        files.retain(|path, _| !test_modules.iter().any(|module| path.starts_with(module)));
        let modules: BTreeSet<_> = files.keys().cloned().collect();
        for (path, file) in &mut files {
            file.read_paths(path, &modules);
        }
        Self { files }
    }

    pub fn imports(&self) -> BTreeSet<Import> {
        let mut imports = BTreeSet::new();
        for (from, file) in &self.files {
            let is_own = |path: &[String]| path.starts_with(from);
            let uses = file.uses.values().filter(|one| !(one.is_exported && is_own(&one.path)));
            let globs = file.globs.iter().filter(|path| !is_own(path));
            let globs = globs.map(|path| child(path, "*"));
            for path in uses.map(|one| one.path.clone()).chain(globs).chain(file.paths.iter().cloned()) {
                match self.resolve(&path, 0) {
                    Some((to, name)) if to != *from => {
                        imports.insert(Import { from: from.clone(), to, name });
                    }
                    _ => {}
                }
            }
        }
        imports
    }

    /// The file that defines what `path` names, and the name there; none if it is a module.
    fn resolve(&self, path: &[String], depth: usize) -> Option<(ModulePath, String)> {
        let num_modules =
            (0..=path.len()).rev().find(|num| *num == 0 || self.files.contains_key(&path[..*num]))?;
        let (module, rest) = path.split_at(num_modules);
        let (name, rest) = rest.split_first()?;
        let file = self.files.get(module)?;
        if depth < 8 {
            if let Some(used) = file.uses.get(name) {
                return self.resolve(&[&used.path, rest].concat(), depth + 1);
            }
            for glob in &file.globs {
                let found = self.files.get(glob).is_some_and(|file| file.defines(name));
                if found {
                    return Some((glob.clone(), name.clone()));
                }
            }
        }
        Some((module.to_vec(), name.clone()))
    }
}

impl SourceFile {
    fn defines(&self, name: &str) -> bool {
        const KINDS: [&str; 7] = ["struct", "enum", "fn", "const", "static", "trait", "type"];
        self.tokens.windows(2).any(|pair| KINDS.contains(&pair[0].as_str()) && pair[1] == name)
    }

    fn read_paths(&mut self, module: &[String], modules: &BTreeSet<ModulePath>) {
        let tokens = std::mem::take(&mut self.tokens);
        let token = |index: usize| tokens.get(index).map_or("", String::as_str);
        // First the imports, since a path can start with one that stands below it.
        let mut in_use = vec![false; tokens.len()];
        let mut inline = InlineModules::default();
        for index in 0..tokens.len() {
            inline.see(&tokens, index);
            if token(index) == "use" && !in_use[index] {
                let end = (index..tokens.len()).find(|at| token(*at) == ";").unwrap_or(tokens.len());
                in_use[index..end].fill(true);
                let is_exported = index > 0 && ["pub", ")"].contains(&token(index - 1));
                for (path, name) in use_tree(&tokens[index + 1..end]) {
                    let Some(path) = absolute(&path, module, &inline.names, modules) else { continue };
                    match name.as_str() {
                        "*" => self.globs.push(path),
                        "_" => self.paths.push(path),
                        _ => drop(self.uses.insert(name, UsePath { path, is_exported })),
                    }
                }
            }
        }
        let mut inline = InlineModules::default();
        for index in 0..tokens.len() {
            inline.see(&tokens, index);
            let is_head = token(index + 1) == "::" && (index == 0 || token(index - 1) != "::");
            if in_use[index] || !is_head {
                continue;
            }
            let mut path = vec![tokens[index].clone()];
            let mut next = index + 1;
            while token(next) == "::" && is_name(token(next + 1)) {
                path.push(tokens[next + 1].clone());
                next += 2;
            }
            let path = match self.uses.get(&path[0]) {
                Some(used) => Some([&used.path, &path[1..]].concat()),
                None => absolute(&path, module, &inline.names, modules),
            };
            self.paths.extend(path);
        }
        self.tokens = tokens;
    }
}

/// `mod name { … }` around the place that is read.
#[derive(Default)]
struct InlineModules {
    names: Vec<String>,
    starts: Vec<usize>,
    depth: usize,
}

impl InlineModules {
    fn see(&mut self, tokens: &[String], index: usize) {
        match tokens[index].as_str() {
            "{" => {
                if index >= 2 && tokens[index - 2] == "mod" {
                    self.names.push(tokens[index - 1].clone());
                    self.starts.push(self.depth);
                }
                self.depth += 1;
            }
            "}" => {
                self.depth = self.depth.saturating_sub(1);
                if self.starts.last() == Some(&self.depth) {
                    self.starts.pop();
                    self.names.pop();
                }
            }
            _ => {}
        }
    }
}

/// A path from the crate on; none if it leads to another crate or starts with a local name. What is in an
/// inline module counts for its file.
fn absolute(
    path: &[String],
    module: &[String],
    inline: &[String],
    modules: &BTreeSet<ModulePath>,
) -> Option<Vec<String>> {
    let mut base = [module, inline].concat();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => {
            base.clear();
            rest = &rest[1..];
        }
        "self" => rest = &rest[1..],
        "super" => {
            while rest.first().is_some_and(|segment| segment == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
        head if modules.contains(&child(module, head)) => base = module.to_vec(),
        _ => return None,
    }
    base.truncate(module.len());
    Some([&base, rest].concat())
}

/// The paths of a `use`, each with the name that it brings.
fn use_tree(tokens: &[String]) -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    let mut prefix: Vec<String> = Vec::new();
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        match token.as_str() {
            "::" => {}
            "{" => {
                let end = matching(tokens, index, "{", "}");
                let mut start = index + 1;
                let mut depth = 0;
                for at in index + 1..=end {
                    match tokens[at].as_str() {
                        "{" => depth += 1,
                        "}" if depth > 0 => depth -= 1,
                        "," | "}" if depth == 0 => {
                            for (path, name) in use_tree(&tokens[start..at]) {
                                found.push(([prefix.clone(), path].concat(), name));
                            }
                            start = at + 1;
                        }
                        _ => {}
                    }
                }
                return found
                    .into_iter()
                    .map(|(mut path, name)| match path.last().map(String::as_str) {
                        // `use a::{self}` brings `a`.
                        Some("self") => {
                            path.pop();
                            let name = if name == "self" { path.last().cloned() } else { Some(name) };
                            (path, name.unwrap_or_default())
                        }
                        _ => (path, name),
                    })
                    .collect();
            }
            "*" => return vec![(prefix, "*".to_owned())],
            "as" => return vec![(prefix, tokens[index + 1].clone())],
            name => prefix.push(name.to_owned()),
        }
        index += 1;
    }
    match prefix.last().cloned() {
        Some(name) => vec![(prefix, name)],
        None => found,
    }
}

fn child(module: &[String], name: &str) -> ModulePath {
    [module, &[name.to_owned()]].concat()
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

fn read_folder(folder: &Path, module: &[String], texts: &mut BTreeMap<ModulePath, String>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if path.is_dir() {
            read_folder(&path, &child(module, name), texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = match name {
                "lib" if module.is_empty() => Vec::new(),
                "mod" => module.to_vec(),
                name => child(module, name),
            };
            texts.insert(module, fs::read_to_string(&path).unwrap());
        }
    }
}

/// Names and punctuation; no comments, text or lifetimes.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    let mut tokens = Vec::new();
    let mut index = 0;
    while index < chars.len() {
        match (at(index), at(index + 1)) {
            ('/', '/') => {
                while index < chars.len() && at(index) != '\n' {
                    index += 1;
                }
            }
            ('/', '*') => {
                let mut depth = 1;
                index += 2;
                while index < chars.len() && depth > 0 {
                    match (at(index), at(index + 1)) {
                        ('/', '*') => (depth, index) = (depth + 1, index + 2),
                        ('*', '/') => (depth, index) = (depth - 1, index + 2),
                        _ => index += 1,
                    }
                }
            }
            ('"', _) => index = end_of_text(&chars, index),
            ('\'', '\\') => {
                index += 3;
                while index < chars.len() && at(index) != '\'' {
                    index += 1;
                }
                index += 1;
            }
            ('\'', _) if at(index + 2) == '\'' => index += 3,
            // A lifetime.
            ('\'', _) => {
                index += 1;
                while is_word(at(index)) {
                    index += 1;
                }
            }
            (':', ':') => {
                tokens.push("::".to_owned());
                index += 2;
            }
            (first, _) if is_word(first) => {
                let start = index;
                while is_word(at(index)) {
                    index += 1;
                }
                let word: String = chars[start..index].iter().collect();
                let num_hashes = chars[index..].iter().take_while(|char| **char == '#').count();
                let is_prefix = ["r", "b", "br", "c", "cr"].contains(&word.as_str());
                if is_prefix && word.contains('r') && at(index + num_hashes) == '"' {
                    index += num_hashes + 1;
                    let is_end = |index: usize| {
                        at(index) == '"' && (1..=num_hashes).all(|offset| at(index + offset) == '#')
                    };
                    while index < chars.len() && !is_end(index) {
                        index += 1;
                    }
                    index += num_hashes + 1;
                } else if !(is_prefix && (at(index) == '"' || num_hashes > 0)) {
                    tokens.push(word);
                }
            }
            (char, _) => {
                if !char.is_whitespace() {
                    tokens.push(char.to_string());
                }
                index += 1;
            }
        }
    }
    tokens
}

fn end_of_text(chars: &[char], start: usize) -> usize {
    let mut index = start + 1;
    while index < chars.len() && chars[index] != '"' {
        index += if chars[index] == '\\' { 2 } else { 1 };
    }
    index + 1
}

/// Leaves out items under `#[cfg(test)]` and `#[test]`; also returns the names of the modules that are only
/// declared under one.
fn without_tests(tokens: &[String]) -> (Vec<String>, Vec<String>) {
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    let mut index = 0;
    while index < tokens.len() {
        if tokens[index] == "#" && tokens.get(index + 1).is_some_and(|next| next == "[") {
            let end = matching(tokens, index + 1, "[", "]");
            let attribute = tokens[index + 2..end].join(" ");
            if attribute == "test" || attribute == "cfg ( test )" || attribute.starts_with("cfg ( all ( test")
            {
                let item = item_end(tokens, end + 1);
                if let [.., keyword, name, end] = &tokens[..item]
                    && keyword == "mod"
                    && end == ";"
                {
                    modules.push(name.clone());
                }
                index = item;
                continue;
            }
        }
        kept.push(tokens[index].clone());
        index += 1;
    }
    (kept, modules)
}

/// Where the item or statement at `start` ends.
fn item_end(tokens: &[String], start: usize) -> usize {
    let mut index = start;
    while tokens.get(index).is_some_and(|token| token == "#") {
        index = matching(tokens, index + 1, "[", "]") + 1;
    }
    let ends_with_semicolon = tokens[index..]
        .iter()
        .take(5)
        .any(|token| ["use", "const", "static", "let"].contains(&token.as_str()))
        && !tokens[index..].iter().take(6).any(|token| token == "fn");
    let mut depth = 0;
    while let Some(token) = tokens.get(index) {
        match token.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth -= 1;
                if depth == 0 && token == "}" && !ends_with_semicolon {
                    return index + 1;
                }
            }
            ";" | "," if depth == 0 => return index + 1,
            _ => {}
        }
        index += 1;
    }
    index
}

/// The index of the bracket that closes the one at `start`.
fn matching(tokens: &[String], start: usize, open: &str, close: &str) -> usize {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(start) {
        if token == open {
            depth += 1;
        } else if token == close {
            depth -= 1;
            if depth == 0 {
                return index;
            }
        }
    }
    tokens.len()
}

/// A shortest circle through each node that is in one and in none of those before, with the names imported.
pub fn circles_of<'a>(edges: impl Iterator<Item = (String, String, &'a str)>) -> Vec<String> {
    let mut graph: BTreeMap<String, BTreeMap<String, BTreeSet<&str>>> = BTreeMap::new();
    for (from, to, name) in edges.filter(|(from, to, _)| from != to) {
        graph.entry(from).or_default().entry(to).or_default().insert(name);
    }
    let mut circles = Vec::new();
    let mut seen = BTreeSet::new();
    for start in graph.keys() {
        if seen.contains(start.as_str()) {
            continue;
        }
        if let Some(circle) = shortest_circle(&graph, start) {
            let imports = circle.windows(2).map(|pair| {
                let names: Vec<_> = graph[pair[0]][pair[1]].iter().copied().collect();
                format!("{} imports {} ({})", shown(pair[0]), shown(pair[1]), names.join(", "))
            });
            circles.push(imports.collect::<Vec<_>>().join(", "));
            seen.extend(circle);
        }
    }
    circles
}

fn shown(module: &str) -> &str {
    if module.is_empty() { "lib" } else { module }
}

fn shortest_circle<'a>(
    graph: &'a BTreeMap<String, BTreeMap<String, BTreeSet<&str>>>,
    start: &'a str,
) -> Option<Vec<&'a str>> {
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    let mut todo = VecDeque::from([start]);
    while let Some(node) = todo.pop_front() {
        for next in graph.get(node).into_iter().flat_map(BTreeMap::keys) {
            if next == start {
                let mut circle = vec![start, node];
                while let Some(previous) = before.get(circle[circle.len() - 1]) {
                    circle.push(previous);
                }
                circle.reverse();
                return Some(circle);
            }
            if !before.contains_key(next.as_str()) {
                before.insert(next, node);
                todo.push_back(next);
            }
        }
    }
    None
}
