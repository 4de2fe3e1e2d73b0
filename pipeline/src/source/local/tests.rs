use std::{fs, path::Path};

use chrono::{DateTime, Utc};

use super::LocalError;
use super::find::{find, time_of_path};
use crate::exit_code::{Diagnostic, ExitCode};
use crate::manifest::GeneratedTimeFrom;
use crate::source::Export;

fn tree(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "{}").unwrap();
    }
    dir
}

fn found(dir: &Path, patterns: &[&str]) -> Result<(Export, Vec<String>), LocalError> {
    let patterns: Vec<_> = patterns.iter().map(|p| format!("{}/{p}", dir.display())).collect();
    let found = find(&patterns, None)?;
    let prefix = format!("{}/", dir.display());
    Ok((found.export(), found.files.iter().map(|file| file.name.replace(&prefix, "")).collect()))
}

#[test]
fn folders_globs_and_files_are_found_once_and_sorted() {
    let dir = tree(&[
        "2021-01-11/1101/b.gz",
        "2021-01-11/1101/sub/a.gz",
        "2021-01-11/1101/.hidden",
        "2021-01-11/1101/.h/x",
    ]);
    let all = ["2021-01-11/1101/b.gz", "2021-01-11/1101/sub/a.gz"];
    let (export, names) = found(dir.path(), &["."]).unwrap();
    assert_eq!(names.len(), 2);
    assert_eq!((export.num_parts, export.num_bytes), (Some(2), Some(4)));
    assert_eq!(export.snapshot_id().to_string(), "20210111T110100Z");
    assert_eq!(export.generated_time_from, GeneratedTimeFrom::Path);
    for patterns in
        [&["2021-01-11"][..], &["2021-01-11/**/*.gz"], &["2021-01-11/1101/b.gz", "2021-*/"], &["*"]]
    {
        assert_eq!(found(dir.path(), patterns).unwrap().1, all, "{patterns:?}");
    }
}

#[test]
fn links_to_files_count_once_to_folders_never() {
    let dir = tree(&["2021-01-11/1101/a", "2021-01-11/1101/z"]);
    std::os::unix::fs::symlink(dir.path(), dir.path().join("2021-01-11/1101/loop")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("2021-01-11/1101/a"), dir.path().join("2021-01-11/1101/b"))
        .unwrap();
    assert_eq!(found(dir.path(), &["2021-01-11"]).unwrap().1, ["2021-01-11/1101/a", "2021-01-11/1101/z"]);
}

#[test]
fn files_of_several_exports_are_refused() {
    let dir = tree(&["2021-01-11/1101/a", "2021-01-12/1101/a", "other/a"]);
    let check = |patterns: &[&str], expected: &str, code| {
        let err = found(dir.path(), patterns).unwrap_err();
        assert_eq!(err.to_string().replace(&format!("{}/", dir.path().display()), ""), expected);
        assert_eq!(err.exit_code(), code);
    };
    check(&["2021-01-11", "x*"], "x*: no files match", ExitCode::Usage);
    check(&["nothing"], "nothing: no files match", ExitCode::Usage);
    check(
        &["2021*"],
        "parts of two snapshots: 2021-01-11/1101/a is of 2021-01-11T11:01:00Z, \
         2021-01-12/1101/a of 2021-01-12T11:01:00Z",
        ExitCode::Usage,
    );
    check(
        &["other"],
        "other/a: unknown generated time: no `YYYY-MM-DD/HHMM` folder in the path",
        ExitCode::Usage,
    );
    assert!(matches!(found(dir.path(), &["a***"]), Err(LocalError::BadPattern { .. })));
}

#[test]
fn hidden_names_in_folders_and_globs_are_ignored() {
    let dir = tree(&[
        "2021-01-11/1101/_RbacGroupId=4/part-0.json",
        "2021-01-11/1101/_RbacGroupId%3D5/part-0.json",
        "2021-01-11/1101/_SUCCESS",
        "2021-01-11/1101/_committed_1",
        "2021-01-11/1101/_temporary/0/part-9.json",
        "2021-01-11/1101/.part-0.json.crc",
        "2021-01-11/1101/part-8.json._COPYING_",
        "2021-01-11/1101/part-1.json",
    ]);
    let parts = [
        "2021-01-11/1101/_RbacGroupId%3D5/part-0.json",
        "2021-01-11/1101/_RbacGroupId=4/part-0.json",
        "2021-01-11/1101/part-1.json",
    ];
    for pattern in ["2021-01-11", "*", "2021-01-11/1101/*", "2021-01-11/**/*", "**"] {
        assert_eq!(found(dir.path(), &[pattern]).unwrap().1, parts, "{pattern}");
    }
    // What is named itself, or by a pattern that begins so, is asked for.
    for (pattern, expected) in [
        ("2021-01-11/1101/_SUCCESS", "2021-01-11/1101/_SUCCESS"),
        ("2021-01-11/1101/_comm*", "2021-01-11/1101/_committed_1"),
        ("2021-01-11/1101/.*", "2021-01-11/1101/.part-0.json.crc"),
        ("2021-01-11/1101/_temporary", "2021-01-11/1101/_temporary/0/part-9.json"),
        ("2021-01-11/1101/_temporary/*/*", "2021-01-11/1101/_temporary/0/part-9.json"),
    ] {
        assert_eq!(found(dir.path(), &[pattern]).unwrap().1, [expected], "{pattern}");
    }
    let err = found(dir.path(), &["2021-01-11/1101/*S*"]).unwrap_err();
    assert_eq!(
        err.to_string().replace(&format!("{}/", dir.path().display()), ""),
        "2021-01-11/1101/*S*: no parts found: 1 name ignored, such as 2021-01-11/1101/_SUCCESS"
    );
    assert_eq!(err.exit_code(), ExitCode::Usage);
    assert_eq!(
        err.hint().unwrap(),
        "name a file itself to ingest it: names that begin with `_` or `.` are ignored"
    );
}

#[test]
fn records_of_a_spool_are_ignored() {
    let stem = "0123456789abcdef0123456789abcdef";
    let file = |ending: &str| format!("2021-01-11/1101/{stem}.{ending}");
    let dir = tree(&[&file("part"), &file("json"), "2021-01-11/1101/.kept"]);
    for pattern in ["2021-01-11", "2021-01-11/1101/*"] {
        assert_eq!(found(dir.path(), &[pattern]).unwrap().1, [file("part")], "{pattern}");
    }
    let alone = tree(&[&file("json")]);
    assert_eq!(found(alone.path(), &["2021-01-11"]).unwrap().1, [file("json")], "a part of that name");
    let unfinished = tree(&[&file("part"), &file("part.partial"), &file("partial.json")]);
    for pattern in ["2021-01-11", "2021-01-11/1101/*"] {
        let err = found(unfinished.path(), &[pattern]).unwrap_err();
        assert!(err.to_string().ends_with(".part.partial is an unfinished download"), "{err}");
        assert_eq!(err.exit_code(), ExitCode::Usage);
    }
}

#[test]
fn files_in_two_spellings_of_one_part_are_refused() {
    let dir = tree(&["2021-01-11/1101/OrgId=1/p", "2021-01-11/1101/OrgId%3D1/p"]);
    let err = found(dir.path(), &["2021-01-11"]).unwrap_err();
    assert_eq!(
        err.to_string().replace(&format!("{}/2021-01-11/1101/", dir.path().display()), ""),
        "OrgId%3D1/p and OrgId=1/p are the same part in two spellings"
    );
    assert_eq!(err.exit_code(), ExitCode::Usage);
}

#[test]
fn devices_and_sockets_are_refused() {
    let dir = tree(&["2021-01-11/1101/a"]);
    let folder = dir.path().join("2021-01-11/1101");
    let check = |pattern: &str, expected: &str| {
        let err = find(&[pattern.to_owned()], Some(Utc::now())).unwrap_err();
        assert_eq!(err.to_string(), expected);
        assert_eq!(err.exit_code(), ExitCode::Usage);
        assert!(err.hint().is_some());
    };
    check("/dev/zero", "/dev/zero is not a regular file but a character device");
    let _socket = std::os::unix::net::UnixListener::bind(folder.join("s")).unwrap();
    let shown = format!("{}/s is not a regular file but a socket", folder.display());
    for pattern in ["", "/*", "/s"] {
        check(&format!("{}{pattern}", folder.display()), &shown);
    }
    fs::remove_file(folder.join("s")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.join("z")).unwrap();
    check(
        folder.to_str().unwrap(),
        &format!("{}/z is not a regular file but a character device", folder.display()),
    );
}

#[test]
fn generated_time_option_overrides_the_paths() {
    let dir = tree(&["2021-01-11/1101/a", "2021-01-12/1101/a"]);
    let time = DateTime::from_timestamp(1_600_000_000, 0).unwrap();
    let found = find(&[dir.path().display().to_string()], Some(time)).unwrap();
    let export = found.export();
    assert_eq!((export.generated_time, export.generated_time_from), (time, GeneratedTimeFrom::Option));
    assert_eq!(found.files.len(), 2);
}

#[test]
fn the_last_pair_of_folders_is_the_time() {
    let check = |path: &str, expected: Option<&str>| {
        let time = time_of_path(Path::new(path)).map(|time| time.format("%Y%m%d%H%M").to_string());
        assert_eq!(time.as_deref(), expected, "{path}");
    };
    check("/x/2021-01-11/1101/SoftwareInventory/json/p.gz", Some("202101111101"));
    check("2020-01-01/0000/2021-01-11/1101/p.gz", Some("202101111101"));
    check("/x/2021-01-11/p.gz", None);
    check("/x/2021-01-11/y/1101/p.gz", None);
    check("/flat-va/2021-01-11/1101/json/_RbacGroupId=7/part-000.c000.json.gz", None);
    check("/x/2021-01-11/1101/flat-va/2021-01-11/0203/p.gz", Some("202101111101"));
}
