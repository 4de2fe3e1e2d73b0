//! README and the other documents: links and paths lead somewhere, options and verbs exist, and every example is run.
//!
//! What a fenced block is, says its first word: `console` is run against the sample tenant and must print what it
//! shows, where `…` stands for any text, or alone on a line for any lines. `sql` is run by DuckDB, and `python` by the
//! readers' Python. `sh` and `cron` need an account or minutes: only their options and verbs are checked. A second
//! word (`sql snowflake`) names a service that is not here, or `sql views` what `questions.rs` asks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::schema_growth::copy_old_lake;
use crate::support::{Run, Sandbox};

/// Most lines of README: a page that is read to its end.
const MAX_README_LINES: usize = 180;

/// Folders that hold nothing of ours.
const FOREIGN_FOLDERS: &[&str] = &["target", "corpus", "artifacts", "node_modules", "__pycache__"];

/// What a path begins with that is named from the repository's root.
const ROOTS: &[&str] = &["pipeline/", "schema/", "fixtures/", "tests/", ".ci/", ".config/", ".cargo/"];

/// Options of other programs that documents name.
const OTHER_OPTIONS: &[&str] =
    &["--master", "--features", "--release", "--changes", "--devices", "--day", "--indent"];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is a folder of the repository")
}

/// A Markdown file of the repository.
struct Document {
    /// From the repository's root.
    path: PathBuf,
    blocks: Vec<Block>,
    /// Lines outside of blocks, with their numbers.
    prose: Vec<(usize, String)>,
}

/// A fenced block.
struct Block {
    line: usize,
    info: String,
    text: String,
}

impl Document {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(repository().join(path)).unwrap();
        let mut document = Self { path: path.to_owned(), blocks: Vec::new(), prose: Vec::new() };
        let mut open: Option<(usize, Block)> = None;
        for (index, line) in text.lines().enumerate() {
            let is_fence = line.trim_start().starts_with("```");
            match open.take() {
                Some((_, block)) if is_fence => document.blocks.push(block),
                Some((indent, mut block)) => {
                    block.text.push_str(line.get(indent..).unwrap_or_default());
                    block.text.push('\n');
                    open = Some((indent, block));
                }
                None if is_fence => {
                    let indent = line.len() - line.trim_start().len();
                    let info = line.trim_start().trim_start_matches('`').to_owned();
                    open = Some((indent, Block { line: index + 1, info, text: String::new() }));
                }
                None => document.prose.push((index + 1, line.to_owned())),
            }
        }
        assert!(open.is_none(), "{}: a block is not closed", path.display());
        document
    }

    /// Every document of the repository, README first.
    fn all() -> Vec<Self> {
        let mut paths = vec![PathBuf::from("README.md")];
        for folder in ["pipeline", "schema", "fixtures", "tests"] {
            paths.extend(files(folder, &|path| path.extension().is_some_and(|extension| extension == "md")));
        }
        assert!(paths.len() > 10, "{paths:?}");
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn named(path: &str) -> Self {
        Self::read(Path::new(path))
    }

    /// README and what is written for users: their commands are ours.
    fn is_for_users(&self) -> bool {
        self.path == Path::new("README.md") || self.path.starts_with("pipeline/docs")
    }

    /// Anchors of the headings, as GitHub makes them.
    fn anchors(&self) -> BTreeSet<String> {
        let headings = self.prose.iter().filter_map(|(_, line)| line.strip_prefix('#'));
        headings.map(|heading| anchor(heading.trim_start_matches('#').trim())).collect()
    }

    /// Text between backticks, outside of blocks.
    fn inline_code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.prose
            .iter()
            .flat_map(|(line, text)| text.split('`').skip(1).step_by(2).map(move |code| (*line, code)))
    }

    /// Targets of links.
    fn links(&self) -> impl Iterator<Item = (usize, &str)> {
        self.prose.iter().flat_map(|(line, text)| {
            text.split("](").skip(1).map(move |rest| (*line, rest.split(')').next().unwrap()))
        })
    }

    fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Files below a folder of the repository, from its root, sorted.
fn files(folder: &str, is_wanted: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(repository().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = folder.join(&name);
            if entry.file_type().unwrap().is_dir() {
                if !FOREIGN_FOLDERS.contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if is_wanted(&path) {
                found.push(path);
            }
        }
    }
    found.sort_unstable();
    found
}

/// Says what is wrong with a link, if anything is.
fn broken(from: &Path, target: &str, documents: &BTreeMap<PathBuf, BTreeSet<String>>) -> Option<String> {
    if target.starts_with("https://") {
        return target.parse::<url::Url>().err().map(|error| error.to_string());
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if path.is_empty() { from.to_owned() } else { normal(&from.parent().unwrap().join(path)) };
    if !repository().join(&path).exists() {
        return Some("no such file".to_owned());
    }
    if anchor.is_empty() {
        return None;
    }
    match documents.get(&path) {
        None => Some("an anchor into a file that is not a document".to_owned()),
        Some(anchors) => {
            (!anchors.contains(anchor)).then(|| format!("no such heading; there are {anchors:?}"))
        }
    }
}

/// A path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            std::path::Component::ParentDir => {
                assert!(normal.pop(), "{} leaves the repository", path.display());
            }
            component => normal.push(component),
        }
    }
    normal
}

fn anchors_of_all() -> BTreeMap<PathBuf, BTreeSet<String>> {
    Document::all().into_iter().map(|document| (document.path.clone(), document.anchors())).collect()
}

#[track_caller]
fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn links_lead_somewhere() {
    let anchors = anchors_of_all();
    let mut problems = Vec::new();
    for document in Document::all() {
        for (line, target) in document.links() {
            if let Some(problem) = broken(&document.path, target, &anchors) {
                problems.push(format!("{}: {target}: {problem}", document.at(line)));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn paths_in_documents_exist() {
    let mut problems = Vec::new();
    for document in Document::all() {
        for (line, code) in document.inline_code() {
            let is_path = ROOTS.iter().any(|root| code.starts_with(root)) && !code.contains(['*', '<', ' ']);
            if is_path && !repository().join(code).exists() {
                problems.push(format!("{}: there is no {code}", document.at(line)));
            }
        }
    }
    assert_none(&problems);
}

/// A comment names a document from the repository's root, `pipeline/docs/<document>.md#<section>`.
#[test]
fn comments_cite_sections_that_exist() {
    const FOLDER: &str = "pipeline/";
    let anchors = anchors_of_all();
    let is_source = |path: &Path| {
        path.extension()
            .is_some_and(|extension| ["rs", "py", "toml", "sql"].iter().any(|it| extension == *it))
    };
    let mut sources = vec![PathBuf::from("Makefile"), PathBuf::from("Cargo.toml")];
    for folder in ["pipeline", "schema", "fixtures", "tests"] {
        sources.extend(files(folder, &is_source));
    }
    let mut problems = Vec::new();
    for source in sources {
        let text = std::fs::read_to_string(repository().join(&source)).unwrap();
        for (index, line) in text.lines().enumerate() {
            for cited in line.split(FOLDER).skip(1) {
                let is_end =
                    |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '/' | '#' | '-' | '_');
                let cited = cited.split(is_end).next().unwrap().trim_end_matches('.');
                if !cited.contains(".md") {
                    continue;
                }
                if let Some(problem) = broken(Path::new("README.md"), &format!("{FOLDER}{cited}"), &anchors) {
                    problems.push(format!("{}:{}: {cited}: {problem}", source.display(), index + 1));
                }
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn readme_is_a_page() {
    let lines = std::fs::read_to_string(repository().join("README.md")).unwrap().lines().count();
    assert!(lines <= MAX_README_LINES, "README has {lines} lines, {MAX_README_LINES} at most");
}

/// The commands, and the options that each has; `""` has those of all.
fn options() -> BTreeMap<String, BTreeSet<String>> {
    let sandbox = Sandbox::new();
    let help = sandbox.run("help", &[]).expect(0).stdout;
    let commands =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let mut options = BTreeMap::<_, BTreeSet<_>>::new();
    for command in
        commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).filter(|name| *name != "help")
    {
        let help = sandbox.run(command, &["--help"]).expect(0).stdout;
        let words =
            help.split(|c: char| c.is_whitespace() || matches!(c, ',' | '`' | '|' | '[' | ']' | ';' | ':'));
        let named = words.filter(|word| word.starts_with("--")).map(|word| option_name(word).to_owned());
        let named: BTreeSet<_> = named.collect();
        options.entry(String::new()).or_default().extend(named.iter().cloned());
        options.insert(command.to_owned(), named);
    }
    options
}

/// The name of an option, without its value.
fn option_name(word: &str) -> &str {
    let end = word.find(|c: char| !c.is_ascii_lowercase() && !matches!(c, '-')).unwrap_or(word.len());
    word[..end].trim_end_matches('-')
}

/// What is wrong with the commands of ours that `text` names.
fn unknown_options(text: &str, options: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut problems = Vec::new();
    for command in text.split("defender-lake ").skip(1) {
        let command = command.split(['|', '&', '>', '`', '\n']).next().unwrap();
        let mut words = command.split_whitespace();
        let Some(name) = words.next().filter(|name| name.chars().all(|c| c.is_ascii_lowercase())) else {
            continue;
        };
        match options.get(name) {
            None => problems.push(format!("there is no command {name}")),
            Some(known) => {
                let named = words.filter(|word| word.starts_with("--") && *word != "--").map(option_name);
                problems.extend(
                    named.filter(|it| !known.contains(*it)).map(|it| format!("{name} has no option {it}")),
                );
            }
        }
    }
    problems
}

#[test]
fn options_in_documents_exist() {
    let options = options();
    assert!(options["ingest"].contains("--lake") && options["verify"].contains("--keys"), "{options:?}");
    let mut problems = Vec::new();
    for document in Document::all().iter().filter(|document| document.is_for_users()) {
        for block in document.blocks.iter().filter(|block| ["sh", "console", "cron"].contains(&&*block.info))
        {
            problems.extend(
                unknown_options(&block.text, &options)
                    .into_iter()
                    .map(|problem| format!("{}: {problem}", document.at(block.line))),
            );
        }
        for (line, code) in document.inline_code() {
            let mut found = unknown_options(code, &options);
            if code.starts_with("--") {
                let name = option_name(code);
                if !options[""].contains(name) && !OTHER_OPTIONS.contains(&name) {
                    found.push(format!("no command has the option {name}"));
                }
            }
            problems.extend(found.into_iter().map(|problem| format!("{}: {problem}", document.at(line))));
        }
    }
    assert_none(&problems);
}

#[test]
fn configuration_files_in_documents_are_taken() {
    let mut num_blocks = 0;
    for document in Document::all() {
        for block in document.blocks.iter().filter(|block| block.info == "toml") {
            num_blocks += 1;
            let sandbox = Sandbox::new();
            std::fs::write(sandbox.path().join("example.toml"), &block.text).unwrap();
            let run = sandbox.run("ingest", &["--config", "example.toml", "--from", "nothing"]).expect(2);
            // Nothing is wrong with it but that there are no parts.
            assert!(
                run.error().starts_with("error: nothing: no files match"),
                "{}: {run:?}",
                document.at(block.line)
            );
        }
    }
    assert!(num_blocks > 0);
}

#[test]
fn make_verbs_in_documents_exist() {
    let makefile = std::fs::read_to_string(repository().join("Makefile")).unwrap();
    let verbs: BTreeSet<_> = makefile
        .lines()
        .filter(|line| line.contains(": ") || line.ends_with(':'))
        .filter_map(|line| line.split(':').next())
        .collect();
    let mut problems = Vec::new();
    for document in Document::all() {
        let blocks = document.blocks.iter().filter(|block| ["sh", "console"].contains(&&*block.info));
        let blocks = blocks.flat_map(|block| block.text.lines().map(|line| (block.line, line)));
        for (line, text) in blocks.chain(document.inline_code()) {
            for verb in text.split("make ").skip(1).filter_map(|rest| rest.split([' ', ';', '\'']).next()) {
                if !verb.contains('=') && !verbs.contains(verb.trim()) {
                    problems.push(format!("{}: there is no verb {verb}", document.at(line)));
                }
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn exit_codes_agree_with_the_help() {
    let help = Sandbox::new().run("ingest", &["--help"]).expect(0).stdout;
    let of_help = help.lines().skip_while(|line| *line != "Exit codes:").skip(1);
    let of_help: Vec<u8> = of_help.map_while(|line| line.split_whitespace().next()?.parse().ok()).collect();
    assert!(of_help.len() > 5, "{help}");
    let document = Document::named("pipeline/docs/operations.md");
    let section = document.prose.iter().skip_while(|(_, line)| *line != "## Exit codes").skip(1);
    let section = section.take_while(|(_, line)| !line.starts_with("## "));
    let of_table: Vec<u8> =
        section.filter_map(|(_, line)| line.strip_prefix("| ")?.split(' ').next()?.parse().ok()).collect();
    assert_eq!(of_table, of_help);
}

/// All tests, in one text.
fn test_sources() -> String {
    let is_source = |path: &Path| path.extension().is_some_and(|extension| extension == "rs");
    let sources = ["tests", "pipeline", "fixtures"].into_iter().flat_map(|folder| files(folder, &is_source));
    sources.map(|path| std::fs::read_to_string(repository().join(path)).unwrap()).collect()
}

/// Whether there is a test of this name; `…_reads_every_partition_value…` stands for several.
fn is_test(sources: &str, name: &str) -> bool {
    let name = name.rsplit("::").next().unwrap();
    let parts: Vec<_> = name.split('…').filter(|part| !part.is_empty()).collect();
    match parts[..] {
        [whole] if whole == name => sources.contains(&format!("fn {whole}()")),
        _ => parts.iter().all(|part| sources.contains(part)),
    }
}

/// The catalogue lists every fixture, and the tests that it names exist.
#[test]
fn catalogue_of_fixtures_is_complete() {
    let sources = test_sources();
    let document = Document::named("fixtures/README.md");
    let mut listed = BTreeMap::<PathBuf, BTreeSet<String>>::new();
    let mut folder = PathBuf::new();
    let mut problems = Vec::new();
    for (line, text) in &document.prose {
        if let Some(heading) = text.strip_prefix("## ") {
            folder = Path::new("fixtures").join(heading);
        } else if text.starts_with("| `") && repository().join(&folder).is_dir() {
            let cells: Vec<_> = text.trim_matches('|').split(" | ").collect();
            let of = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
            listed.entry(folder.clone()).or_default().extend(of(cells[0]));
            for test in of(cells.last().unwrap()) {
                if !is_test(&sources, &test) {
                    problems.push(format!("{}: there is no test {test}", document.at(*line)));
                }
            }
        }
    }
    assert!(listed.len() >= 3, "{listed:?}");
    for (folder, names) in listed {
        let there = std::fs::read_dir(repository().join(&folder)).unwrap();
        let there: BTreeSet<_> =
            there.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        for name in names.symmetric_difference(&there) {
            problems.push(format!("{}/{name}: in the folder or the catalogue alone", folder.display()));
        }
    }
    assert_none(&problems);
}

/// One command of a console block, and what it prints.
struct Example {
    command: String,
    output: Vec<String>,
}

fn examples(block: &Block) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut is_open = false;
    for line in block.text.lines() {
        if is_open {
            let example = examples.last_mut().unwrap();
            example.command.push('\n');
            example.command.push_str(line);
            is_open = ends_in_a_quote(&example.command);
        } else if let Some(command) = line.strip_prefix("$ ") {
            is_open = ends_in_a_quote(command);
            examples.push(Example { command: command.to_owned(), output: Vec::new() });
        } else {
            examples.last_mut().expect("a command stands first").output.push(line.trim_end().to_owned());
        }
    }
    examples
}

/// Whether a command goes on in the next line.
fn ends_in_a_quote(command: &str) -> bool {
    let open = command.chars().fold(None, |open, c| match (open, c) {
        (None, '\'' | '"') => Some(c),
        (Some(quote), c) if quote == c => None,
        _ => open,
    });
    open.is_some()
}

/// Whether lines are those of an example, where `…` stands for any text, or alone on a line for any lines.
fn lines_match(shown: &[String], printed: &[&str]) -> bool {
    match shown {
        [] => printed.is_empty(),
        [first, rest @ ..] if first == "…" => {
            (0..=printed.len()).any(|skipped| lines_match(rest, &printed[skipped..]))
        }
        [first, rest @ ..] => {
            printed.first().is_some_and(|line| text_matches(first, line)) && lines_match(rest, &printed[1..])
        }
    }
}

fn text_matches(shown: &str, printed: &str) -> bool {
    let Some((before, after)) = shown.split_once('…') else { return shown == printed };
    printed.strip_prefix(before).is_some_and(|rest| {
        let mut ends = rest.char_indices().map(|(index, _)| index).chain([rest.len()]);
        ends.any(|end| text_matches(after, &rest[end..]))
    })
}

#[test]
fn ellipsis_stands_for_text_or_lines() {
    let shown = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    for (text, printed, is_match) in [
        ("a\n…\nd", &["a", "b", "c", "d"][..], true),
        ("a\n…", &["a"], true),
        ("a …", &["a b"], true),
        ("… days ago", &["2,140 days ago"], true),
        ("a", &["a", "b"], false),
        ("a … c", &["a b"], false),
        ("…\nb", &["a"], false),
    ] {
        assert_eq!(lines_match(&shown(text), printed), is_match, "{text:?} {printed:?}");
    }
}

mod run {
    use std::fmt::Write as _;

    use fixtures::{Emulator, EmulatorOptions, Tenant, TenantOptions};

    use super::*;

    /// The days of the sample tenant that the examples are about; the emulator stays on the last.
    const DAYS: std::ops::Range<u32> = 0..8;

    fn emulator(day: u32, devices: u32) -> Emulator {
        let options = TenantOptions { devices, ..TenantOptions::default() }.on_day(day);
        Emulator::start(EmulatorOptions { rate_limits: None, ..EmulatorOptions::new(Tenant::new(options)) })
    }

    /// A command line in a folder with `lake`, with our programs on the path.
    fn shell(folder: &Path, emulator: &Emulator, command: &str) -> Command {
        let programs = Path::new(env!("CARGO_BIN_EXE_defender-lake")).parent().unwrap();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path =
            std::env::join_paths([programs.to_owned()].into_iter().chain(std::env::split_paths(&path)));
        let mut shell = Command::new("bash");
        for (name, _) in std::env::vars_os() {
            let name = name.into_string().unwrap_or_default();
            if name.starts_with("AZURE_") || name.starts_with("DEFENDER_") || name.starts_with("XDG_") {
                shell.env_remove(name);
            }
        }
        shell.args(["-o", "pipefail", "-c", command]).current_dir(folder).envs(emulator.env());
        shell.env("PATH", path.unwrap()).env("HOME", folder);
        shell
    }

    /// Publishes the sample tenant of some days to `lake` in a folder; gives the emulator of the last.
    fn publish(folder: &Path, days: impl Iterator<Item = u32>, devices: u32, args: &str) -> Emulator {
        let mut last = None;
        for day in days {
            let emulator = emulator(day, devices);
            let command = format!("defender-lake ingest -q {args}");
            Run::of(shell(folder, &emulator, &command).output().unwrap()).expect(0);
            last = Some(emulator);
        }
        last.expect("a day at least")
    }

    fn copy(from: &Path, to: &Path) {
        Run::of(Command::new("cp").arg("-r").args([from, to]).output().unwrap()).expect(0);
    }

    #[test]
    fn console_examples_print_what_they_show() {
        let sandbox = Sandbox::new();
        let emulator = publish(sandbox.path(), DAYS, TenantOptions::default().devices, "");
        let mut problems = Vec::new();
        let mut num_examples = 0;
        for document in Document::all() {
            let blocks: Vec<_> = document.blocks.iter().filter(|block| block.info == "console").collect();
            if blocks.is_empty() {
                continue;
            }
            let folder = sandbox.path().join(document.path.to_string_lossy().replace('/', "-"));
            std::fs::create_dir(&folder).unwrap();
            copy(&sandbox.path().join("lake"), &folder);
            for block in blocks {
                for example in examples(block) {
                    // Without the feature, SQL alone is not answered.
                    if !cfg!(feature = "query") && example.command.starts_with("defender-lake query ") {
                        continue;
                    }
                    num_examples += 1;
                    let run = Run::of(shell(&folder, &emulator, &example.command).output().unwrap());
                    let printed: Vec<_> = run.stdout.lines().map(str::trim_end).collect();
                    if run.code != 0 || !lines_match(&example.output, &printed) {
                        problems.push(format!(
                            "{}: `{}` ends with {} and prints\n{}\n{}",
                            document.at(block.line),
                            example.command,
                            run.code,
                            run.stdout,
                            run.stderr
                        ));
                    }
                }
            }
        }
        assert!(num_examples > 10, "{num_examples}");
        assert_none(&problems);
    }

    /// Whether a block is about the log of a Delta table.
    fn is_delta(block: &Block) -> bool {
        block.text.contains("delta")
    }

    fn check_readers(
        is_wanted: &dyn Fn(&Block) -> bool,
        python: (&str, &str),
        begin: &str,
        ingest_args: &str,
    ) {
        let (variable, default) = python;
        let python = std::env::var_os(variable).map_or_else(|| repository().join(default), PathBuf::from);
        assert!(python.exists(), "no Python environment at {}: run `make test`", python.display());
        let sandbox = Sandbox::new();
        // Beside snapshots of an older version, whose files lack columns.
        let kind = if ingest_args.is_empty() { "plain" } else { "delta" };
        copy_old_lake(kind, &sandbox.lake());
        let emulator = publish(sandbox.path(), 2..4, 20, ingest_args);
        let parts = Tenant::new(TenantOptions { devices: 20, ..TenantOptions::default() });
        parts.write_to_dir(&sandbox.path().join("parts")).unwrap();
        let mut script = begin.to_owned();
        let mut num_blocks = 0;
        for document in Document::all() {
            for block in document.blocks.iter().filter(|block| is_wanted(block)) {
                num_blocks += 1;
                let text = match &*block.info {
                    "sql" => format!("import duckdb\nduckdb.sql({:?}).show()", block.text),
                    _ => block.text.clone(),
                };
                write!(script, "\nprint({:?})\n{text}", document.at(block.line)).unwrap();
            }
        }
        assert!(num_blocks > 0);
        let path = sandbox.path().join("examples.py");
        std::fs::write(&path, script).unwrap();
        // Read from stdin, so that no folder but the readers' is on Python's path.
        let mut command = shell(sandbox.path(), &emulator, &format!("'{}' -", python.display()));
        command.stdin(std::fs::File::open(path).unwrap());
        command.env("PYTHONPATH", repository().join("tests/readers")).env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("TMPDIR", sandbox.path()).env_remove("SPARK_HOME");
        Run::of(command.output().unwrap()).expect(0);
    }

    const PYTHON: (&str, &str) = ("DEFENDER_LAKE_PYTHON", ".venv/bin/python");
    const DELTA_PYTHON: (&str, &str) = ("DEFENDER_LAKE_DELTA_PYTHON", ".venv-delta/bin/python");

    #[test]
    fn reader_examples_run() {
        let is_wanted = |block: &Block| {
            ["sql", "python"].contains(&&*block.info) && !is_delta(block) && !block.text.contains("spark.")
        };
        check_readers(&is_wanted, PYTHON, "", "");
    }

    #[test]
    fn delta_reader_examples_run() {
        let is_wanted = |block: &Block| ["sql", "python"].contains(&&*block.info) && is_delta(block);
        let extension = "import duckdb_extensions\nduckdb_extensions.import_extension('delta')";
        check_readers(&is_wanted, DELTA_PYTHON, extension, "--table delta");
    }

    #[test]
    fn spark_examples_run() {
        let is_wanted = |block: &Block| block.info == "python" && block.text.contains("spark.");
        check_readers(&is_wanted, PYTHON, "import by_spark\nspark = by_spark.start()", "");
    }
}
