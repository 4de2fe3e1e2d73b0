//! The house: files without circles of imports, and which rooms may import which.
//!
//! A `mod.rs` may re-export what its children define, and the children may use it. A `mod.rs` that also calls its
//! children must not define what they use: that belongs into a file of its own.

mod imports;

use std::collections::BTreeSet;
use std::path::Path;

use self::imports::{Sources, circles_of};

/// Rooms of `pipeline/src`, each with the rooms that it must not import.
const MUST_NOT_IMPORT: &[(&str, &[&str])] = &[
    ("http", &["auth", "fetch", "source", "spool", "lake", "commit", "ingest"]),
    ("auth", &["fetch", "source", "spool", "lake", "commit", "ingest"]),
    ("fetch", &["source", "spool", "write", "staging", "lake", "commit", "ingest"]),
    ("source", &["write", "staging", "lake", "commit", "ingest"]),
    ("spool", &["source", "fetch", "http", "auth", "write", "staging", "lake", "commit", "ingest"]),
    ("delta", &["lake", "commit", "verify", "history", "ingest"]),
    ("lake", &["fetch", "source", "spool", "write", "staging", "commit", "verify", "history", "ingest"]),
    ("staging", &["write", "commit", "verify", "ingest"]),
    ("write", &["fetch", "source", "spool", "commit", "verify", "ingest"]),
    ("commit", &["fetch", "source", "spool", "write", "verify", "history", "ingest"]),
    ("verify", &["fetch", "source", "spool", "write", "staging", "history", "ingest"]),
    ("history", &["fetch", "source", "spool", "write", "staging", "commit", "verify", "ingest", "page"]),
    ("page", &["fetch", "source", "spool", "write", "staging", "commit", "verify", "ingest"]),
];

/// The room that alone may name `clap`, and that no other room may import.
const COMMAND_LINE: &str = "cli";

fn crate_sources(name: &str) -> Sources {
    Sources::read(&Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(name).join("src"))
}

#[test]
fn sources_have_no_circles() {
    let mut circles = Vec::new();
    for name in ["schema", "pipeline", "pipeline/codec"] {
        let imports = crate_sources(name).imports();
        let of_files =
            imports.iter().map(|import| (import.from.join("::"), import.to.join("::"), &*import.name));
        circles.extend(circles_of(of_files).into_iter().map(|circle| format!("{name}: files: {circle}")));
        let of_rooms = imports
            .iter()
            .map(|import| (import.room_of_importer(), import.room_of_imported(), &*import.name));
        circles.extend(circles_of(of_rooms).into_iter().map(|circle| format!("{name}: rooms: {circle}")));
    }
    assert!(circles.is_empty(), "\n{}\n", circles.join("\n"));
}

#[test]
fn rooms_import_downwards_only() {
    let forbidden: BTreeSet<(&str, &str)> = MUST_NOT_IMPORT
        .iter()
        .flat_map(|(room, others)| others.iter().map(move |other| (*room, *other)))
        .collect();
    let imports = crate_sources("pipeline").imports();
    let upwards: BTreeSet<_> = imports
        .iter()
        .filter(|import| {
            let (from, to) = (import.room_of_importer(), import.room_of_imported());
            forbidden.contains(&(from.as_str(), to.as_str()))
                || (to == COMMAND_LINE && !["cli", "lib", "main"].contains(&from.as_str()))
        })
        .map(|import| format!("{} imports {}", import.from.join("::"), import.to.join("::")))
        .collect();
    assert!(upwards.is_empty(), "\n{}\n", upwards.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn only_cli_names_clap() {
    let sources = crate_sources("pipeline");
    let found = sources.files.iter().filter(|(path, file)| {
        path.first().is_none_or(|room| room != COMMAND_LINE)
            && file.tokens.iter().any(|token| token == "clap")
    });
    let found: Vec<_> = found.map(|(path, _)| path.join("::")).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn circle_is_found_through_a_re_export() {
    let circles = |files: &[(&str, &str)]| {
        let path = |name: &str| name.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let texts = files.iter().map(|(name, text)| (path(name), (*text).to_owned())).collect();
        let imports = Sources::new(texts).imports();
        circles_of(imports.iter().map(|import| (import.from.join("::"), import.to.join("::"), &*import.name)))
    };
    let room = ("a", "mod b; mod c; pub use self::b::{B, C as D}; #[cfg(test)] mod tests;");
    assert_eq!(
        circles(&[room, ("a::b", "use super::c; fn f() { c::g(\"}\") }"), ("a::c", "use crate::a::D;")]),
        ["a::b imports a::c (g), a::c imports a::b (C)"]
    );
    let none: [&str; 0] = [];
    assert_eq!(circles(&[room, ("a::b", "/* super::c::g */ type B = u8;"), ("a::c", "use super::B;")]), none);
    let tests = "#[cfg(test)] mod tests { use super::*; use crate::a::c::g; } struct B<'a>(&'a str);";
    assert_eq!(
        circles(&[room, ("a::b", tests), ("a::c", "use super::B;"), ("a::tests", "use crate::x::Y;")]),
        none
    );
    assert_eq!(
        circles(&[("a", "mod b; use self::b::B; struct A;"), ("a::b", "use super::A; struct B;")]),
        ["a imports a::b (B), a::b imports a (A)"]
    );
}
