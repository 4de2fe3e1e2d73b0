//! The command line: help, completions, schema, and options that cannot be.

use crate::support::{Run, Sandbox};

#[test]
fn help_lists_the_exit_codes_and_goes_to_stdout() {
    let help = Sandbox::new().run("ingest", &["--help"]).expect(0);
    for code in ["0  ", "1  ", "2  ", "3  ", "4  ", "5  ", "6  ", "7  ", "130"] {
        assert!(help.stdout.contains(&format!("\n  {code}  ")), "{code} in {}", help.stdout);
    }
    assert!(help.stderr.is_empty());
}

#[test]
fn options_that_cannot_be_are_usage_errors() {
    let sandbox = Sandbox::new();
    for (args, said) in [
        (&["--sas-valid-hours", "25"][..], "--sas-valid-hours: expected 1 to 24"),
        (&["--via", "json", "--page-size", "200001"], "--page-size: expected 1 to 200000"),
        (&["--memory", "1MiB"], "--memory: expected at least 64.0 MiB"),
        (
            &["--dataset", "nothing"],
            "--dataset: unknown dataset, expected all or some of: software-inventory, ",
        ),
        (&["--max-rejects", "many"], "expected a number of records such as `100`"),
        (&["--via", "json", "--from", "x"], "'--via <VIA>' cannot be used with '--from <PATH|GLOB>...'"),
        (
            &["--lake", "ftp://host/x", "--from", "x"],
            "invalid lake location ftp://host/x: the scheme ftp is not supported",
        ),
        (&["--config", "missing.toml"], "cannot read the configuration file missing.toml"),
        (&["--page-size", "0"], "--page-size: expected 1 to 200000"),
        (&["--page-size", "-1"], "invalid value for '--page-size <ROWS>': expected 1 to 200000"),
        (&["--threads", "0"], "invalid value for '--threads <N>': expected a whole number of at least 1"),
        (
            &["--client-secret", "s"],
            "unexpected argument '--client-secret' found; hint: run `defender-lake ingest --help`",
        ),
    ] {
        let run = sandbox.run("ingest", args).expect(2);
        assert!(run.stderr.contains(said), "{args:?}: {}", run.stderr);
        assert!(run.stdout.is_empty());
    }
    assert!(sandbox.lake_listing().is_empty());
}

#[test]
fn flag_then_environment_then_file_then_default() {
    let sandbox = Sandbox::new();
    let config = sandbox.path().join("config.toml");
    std::fs::write(&config, "lake = \"s3://file/..\"\n").unwrap();
    let location = |args: &[&str], environment: Option<&str>| {
        let mut command = sandbox.command("ingest");
        command.env_remove("DEFENDER_LAKE").args(args).args(["--from", "nothing"]);
        command.envs(environment.map(|lake| ("DEFENDER_LAKE", lake)));
        let run = Run::of(command.output().unwrap()).expect(2);
        run.error().split([' ', ';']).find(|word| word.starts_with("s3://")).map(str::to_owned)
    };
    let file = ["--config", config.to_str().unwrap()];
    let flag = ["--config", config.to_str().unwrap(), "--lake", "s3://flag/.."];
    assert_eq!(location(&flag, Some("s3://environment/..")).unwrap(), "s3://flag/..:");
    assert_eq!(location(&file, Some("s3://environment/..")).unwrap(), "s3://environment/..:");
    assert_eq!(location(&file, Some("")).unwrap(), "s3://file/..:");
    assert_eq!(location(&file, None).unwrap(), "s3://file/..:");
    assert_eq!(location(&[], None), None);
}

#[test]
fn configuration_file_error_names_the_place() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path().join("config.toml"), "colour = \"red\"\n").unwrap();
    let run = sandbox.run("ingest", &["--config", "config.toml"]).expect(2);
    assert_eq!(run.error(), "error: config.toml:1:1: unknown field `colour`");
}

#[test]
fn schema_prints_every_form() {
    let sandbox = Sandbox::new();
    let table = sandbox.run("schema", &["--dataset", "software-inventory"]).expect(0);
    assert!(table.stdout.contains("SoftwareFirstSeenTimestamp"));
    let list = sandbox.run("schema", &[]).expect(0).stdout;
    assert_eq!(list.lines().count(), schema::DATASETS.len() + 1, "{list}");
    let json = |args: &[&str]| -> serde_json::Value {
        serde_json::from_str(&sandbox.run("schema", args).expect(0).stdout).unwrap()
    };
    assert_eq!(json(&["--format", "json"]).as_array().unwrap().len(), schema::DATASETS.len());
    let json = json(&["--format", "json", "--dataset", "software_inventory"]);
    assert_eq!(json["columns"].as_array().unwrap().len(), 19);
    assert_eq!(json["partition_by"], serde_json::json!(["snapshot_date", "OSPlatform"]));
    for (format, begin) in
        [("duckdb", "CREATE OR REPLACE VIEW"), ("spark", "CREATE OR REPLACE TEMPORARY VIEW")]
    {
        let ddl = sandbox.run("schema", &["--format", format]).expect(0);
        assert!(ddl.stdout.starts_with(begin), "{}", ddl.stdout);
        assert!(ddl.stdout.contains(sandbox.lake().to_str().unwrap()));
    }
}

#[test]
fn completions_are_for_the_shell_that_was_named() {
    let bash = Sandbox::new().run("completions", &["bash"]).expect(0);
    assert!(bash.stdout.contains("complete -F"), "{}", bash.stdout);
}

#[test]
fn empty_lake_has_no_snapshots_and_no_damage() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.run("snapshots", &[]).expect(0).stdout, "No snapshots of software_inventory yet.\n");
    assert_eq!(sandbox.run("verify", &[]).expect(0).stdout, "No snapshots to verify.\n");
    assert!(!sandbox.lake().exists());
}

#[test]
fn closed_stderr_does_not_end_the_run() {
    let sandbox = Sandbox::new();
    let emulator = crate::support::unlimited(crate::support::tenant(20));
    let mut child = sandbox.spawn_ingest(&emulator, &["-vv"]);
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(sandbox.manifests().len(), 1);
}

#[test]
fn verify_names_what_is_damaged() {
    let sandbox = Sandbox::new();
    sandbox.ingest_via(&crate::support::unlimited(crate::support::tenant(20)), &[]).expect(0);
    let manifest = &sandbox.manifests()[0];
    let name = manifest["files"][0]["path"].as_str().unwrap();
    let path = sandbox.lake().join("software_inventory").join(name);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let run = sandbox.run("verify", &["--progress", "none"]).expect(6);
    assert!(run.stdout.contains(name), "{}", run.stdout);
    assert!(run.error().contains("1 finding"), "{}", run.error());
}

/// DuckDB as it is on a shell: takes statements from stdin, prints rows.
#[cfg(not(feature = "query"))]
const DUCKDB: &str = "#!/bin/sh
exec '{python}' -c 'import duckdb, sys
for row in duckdb.connect().execute(sys.stdin.read()).fetchall(): print(*row)'
";

#[cfg(not(feature = "query"))]
#[test]
fn query_that_is_not_built_shows_what_duckdb_answers() {
    use std::os::unix::fs::PermissionsExt as _;
    let sandbox = Sandbox::new();
    let in_folder = part(&sandbox, &["Linux", "Windows11", "Windows11"]);
    sandbox.run("ingest", &["-q", "--from", &in_folder]).expect(0);
    let duckdb = sandbox.path().join("duckdb");
    let python = crate::stores::python();
    std::fs::write(&duckdb, DUCKDB.replace("{python}", python.to_str().unwrap())).unwrap();
    std::fs::set_permissions(&duckdb, std::fs::Permissions::from_mode(0o755)).unwrap();
    let moved = sandbox.path().join("my lake's");
    std::os::unix::fs::symlink(sandbox.lake(), &moved).unwrap();
    let sql = "SELECT count(*) -- all\nFROM software_inventory WHERE OSPlatform = 'Windows11'";
    for lake in [sandbox.lake(), moved] {
        let run = sandbox.run("query", &[sql, "--lake", lake.to_str().unwrap()]).expect(2);
        let error = run.error();
        let start = "error: query is not in this build; hint: build it with `cargo build --release --features query`, or ask DuckDB: ";
        let line = error.strip_prefix(start).unwrap_or_else(|| panic!("{error}"));
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_defender-lake")).parent().unwrap();
        let path = format!("{}:{}:/usr/bin:/bin", program.display(), sandbox.path().display());
        let mut shell = std::process::Command::new("bash");
        let answer = shell.args(["-o", "pipefail", "-c", line]).env("PATH", path).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&answer.stdout), "2\n", "{line}: {answer:?}");
    }
    let run = sandbox.run("query", &["SELECT 1", "--lake", "abfss://c@a.dfs.core.windows.net/x?sig=secret"]);
    assert!(!run.expect(2).stderr.contains("secret"));
    assert!(sandbox.run("query", &["--help"]).expect(0).stdout.contains("no SQL engine"));
}

/// A local part with devices of these platforms, in a folder that says when it was generated.
fn part(sandbox: &Sandbox, platforms: &[&str]) -> String {
    let folder = sandbox.path().join("in/2021-01-11/1101");
    std::fs::create_dir_all(&folder).unwrap();
    let record = |(number, platform): (usize, &&str)| {
        format!("{}\n", serde_json::json!({ "deviceId": format!("d{number}"), "osPlatform": platform }))
    };
    let records: String = platforms.iter().enumerate().map(record).collect();
    std::fs::write(folder.join("part.json"), records).unwrap();
    sandbox.path().join("in").to_str().unwrap().to_owned()
}

/// Names that mean something to a shell, to SQL, to a glob or to a terminal.
const ODD_NAMES: [&str; 16] = [
    "a b",
    "o'hara",
    "q\"x",
    "a$HOME",
    "a`id`",
    "a!b",
    "l[1]k",
    "a*b",
    "q?x",
    "~t",
    "{a,b}",
    "a;b&c|d",
    "per%20cent",
    "e\u{1b}[31mx",
    "n\nl",
    "bi\u{202e}di",
];

#[test]
fn line_to_paste_runs_as_printed() {
    let sandbox = Sandbox::new();
    let from = part(&sandbox, &["Linux", "Linux"]);
    let program = sandbox.path().join("duckdb");
    let python = crate::stores::python();
    let script = "import duckdb, sys\nprint(duckdb.sql(sys.argv[2]).fetchall())";
    std::fs::write(&program, format!("#!/bin/sh\nexec '{}' -c '{script}' \"$@\"\n", python.display()))
        .unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for name in ODD_NAMES {
        // One that is relative, for what that has of its own.
        let lake =
            if name == "~t" { name.to_owned() } else { format!("{}/{name}", sandbox.path().display()) };
        let summary = sandbox.run("ingest", &["--lake", &lake, "--from", &from]).expect(0).stdout;
        assert!(!summary.chars().any(|c| c != '\n' && pipeline::printable::is_unprintable(c)), "{summary:?}");
        let line = summary.lines().last().unwrap().trim();
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", line]).current_dir(sandbox.path()).env("HOME", "/nowhere");
        shell.env("PATH", format!("{}:/bin:/usr/bin", sandbox.path().display()));
        let run = Run::of(shell.output().unwrap());
        assert_eq!(run.stdout, "[(datetime.date(2021, 1, 11), 'Linux', 2)]\n", "{line}: {}", run.stderr);
        let ddl = sandbox.run("schema", &["--format", "duckdb", "--lake", &lake]).expect(0).stdout;
        assert!(!ddl.chars().any(|c| c != '\n' && pipeline::printable::is_unprintable(c)), "{ddl:?}");
        let script = "import duckdb, sys\nduckdb.sql(sys.argv[1])\nprint(duckdb.sql('SELECT count(*) FROM software_inventory').fetchall())";
        let mut view = std::process::Command::new(&python);
        view.args(["-c", script, &ddl]).current_dir(sandbox.path());
        let run = Run::of(view.output().unwrap());
        assert_eq!(run.stdout, "[(2,)]\n", "{ddl}: {}", run.stderr);
    }
    let lake = sandbox.path().join("back\\slash");
    let summary =
        sandbox.run("ingest", &["--lake", lake.to_str().unwrap(), "--from", &from]).expect(0).stdout;
    assert!(!summary.contains("DuckDB"), "{summary}");
    let refused = sandbox.run("schema", &["--format", "duckdb", "--lake", "a\\b"]).expect(2);
    assert_eq!(
        refused.error(),
        "error: DuckDB cannot read a path with a backslash; hint: move the lake to a path without a backslash"
    );
}

#[test]
fn nothing_printed_moves_the_cursor() {
    let sandbox = Sandbox::new();
    let odd = "\u{1b}[2J\r\u{7}\u{9b}31m\u{202e}\n\u{85}x";
    let from = part(&sandbox, &[odd, "Linux"]);
    let lake = sandbox.path().join(format!("l{odd}"));
    let lake = lake.to_str().unwrap();
    let renamed = sandbox.path().join(format!("in/2021-01-11/1101/{odd}.json"));
    std::fs::rename(sandbox.path().join("in/2021-01-11/1101/part.json"), &renamed).unwrap();
    let check = |run: &Run| {
        for text in [&run.stdout, &run.stderr] {
            let found = text.chars().find(|c| *c != '\n' && pipeline::printable::is_unprintable(*c));
            assert_eq!(found, None, "{text:?}");
        }
    };
    let ingested = sandbox.run("ingest", &["-vv", "--lake", lake, "--from", &from]).expect(0);
    check(&ingested);
    assert!(ingested.stdout.contains(r"\u{1b}[2J\r\u{7}\u{9b}31m\u{202e}\n\u{85}x"), "{}", ingested.stdout);
    let json = ["-vv", "--log-format", "json", "--json", "--if-published", "replace"];
    let report = sandbox.run("ingest", &[&json[..], &["--lake", lake, "--from", &from]].concat()).expect(0);
    check(&report);
    assert_eq!(report.report()["lake"], lake);
    let theirs =
        std::path::Path::new(lake).join(format!("software_inventory/snapshot_date=2021-01-11/{odd}.parquet"));
    std::fs::write(theirs, "theirs").unwrap();
    check(&sandbox.run("snapshots", &["--lake", lake]).expect(0));
    check(&sandbox.run("snapshots", &["--json", "--lake", lake]).expect(0));
    let damage = sandbox.run("verify", &["--lake", lake]).expect(6);
    check(&damage);
    assert!(damage.stdout.contains(r"\u{1b}[2J\r"), "{}", damage.stdout);
    check(&sandbox.run("verify", &["--json", "--lake", lake]).expect(6));
    check(&sandbox.run("ingest", &["--lake", lake, "--from", odd]).expect(2));
    check(&sandbox.run("ingest", &["--config", odd]).expect(2));
    check(&sandbox.run("snapshots", &["--lake", &format!("s3://b/{odd}")]).expect(2));
    check(&sandbox.run("ingest", &[odd]).expect(2));
    check(&sandbox.run("ingest", &["--via", odd]).expect(2));
    std::fs::write(
        sandbox.path().join("config.toml"),
        format!(
            "\"{}\" = 1\n",
            odd.escape_unicode().to_string().replace("u{", "U{").replace("U{1b}", "u001b")
        ),
    )
    .unwrap();
    check(&sandbox.run("ingest", &["--config", "config.toml"]).expect(2));
}

#[test]
fn report_that_cannot_be_written_is_a_warning() {
    let sandbox = Sandbox::new();
    let from = part(&sandbox, &["Linux"]);
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let said =
        "warning: the snapshot was published, but its report could not be printed: cannot write to stdout: ";
    for (number, args) in [&[][..], &["--json"], &["--json", "-q"]].into_iter().enumerate() {
        let lake = sandbox.path().join(format!("full{number}"));
        let mut command = sandbox.command("ingest");
        command.args(args).args(["--from", &from]).env("DEFENDER_LAKE", &lake).stdout(full());
        let run = Run::of(command.output().unwrap()).expect(0);
        let warning = format!("{said}No space left on device (os error 28)\n");
        assert!(run.stderr.ends_with(&warning), "{}", run.stderr);
        assert!(lake.join("_defender").exists());
    }
    let mut command = sandbox.command("ingest");
    command.args(["--from", &from]).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let run = Run::of(child.wait_with_output().unwrap()).expect(0);
    assert!(run.stderr.ends_with(&format!("{said}Broken pipe (os error 32)\n")), "{}", run.stderr);
    let mut shell = std::process::Command::new("sh");
    shell.args([
        "-c",
        "exec \"$0\" ingest --from in --lake closed --work-dir w >&-",
        env!("CARGO_BIN_EXE_defender-lake"),
    ]);
    Run::of(shell.current_dir(sandbox.path()).output().unwrap()).expect(0);
    assert_eq!(sandbox.run("snapshots", &["--lake", "closed"]).expect(0).stdout.lines().count(), 4);

    // What only reads fails, but for a reader that has enough; damage is damage for any reader.
    let run = Run::of(sandbox.command("snapshots").stdout(full()).output().unwrap()).expect(1);
    assert_eq!(run.error(), "error: cannot write to stdout: No space left on device (os error 28)");
    std::fs::remove_dir_all(sandbox.lake().join("software_inventory")).unwrap();
    let mut child = sandbox.command("verify").stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(6));
}

#[test]
fn removal_that_cannot_be_told_of_is_done() {
    let sandbox = Sandbox::new();
    for day in 0..2 {
        let emulator = crate::support::unlimited(crate::support::tenant_later(3, day * 24));
        sandbox.ingest_via(&emulator, &[]).expect(0);
    }
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = sandbox.command("expire");
    let run = Run::of(command.args(["--keep-days", "1", "--yes", "--json"]).stdout(full).output().unwrap())
        .expect(0);
    let warning =
        "warning: the snapshots were removed, but its report could not be printed: cannot write to stdout: ";
    assert!(run.stderr.contains(warning), "{}", run.stderr);
    assert_eq!(sandbox.manifests().len(), 1);
}

#[test]
fn time_far_ahead_is_refused() {
    let sandbox = Sandbox::new();
    let from = part(&sandbox, &["Linux"]);
    let ahead = "9999-12-31T23:59:59Z";
    let run = sandbox.run("ingest", &["--from", &from, "--generated-time", ahead]).expect(2);
    let expected = "error: generated time 9999-12-31T23:59:59Z: more than two days ahead of the clock, ";
    assert!(run.error().starts_with(expected), "{}", run.error());
    assert!(run.error().ends_with("hint: check this machine's clock, or pass --allow-future"));
    sandbox.run("ingest", &["--from", &from, "--generated-time", ahead, "--dry-run"]).expect(2);
    let tenant = fixtures::Tenant::new(fixtures::TenantOptions {
        generated_time: ahead.parse().unwrap(),
        devices: 3,
        ..fixtures::TenantOptions::default()
    });
    for args in [&[][..], &["--via", "json", "--page-size", "100"]] {
        let emulator = crate::support::unlimited(tenant.clone());
        let run = sandbox.ingest_via(&emulator, args).expect(4);
        // Pages say whole minutes.
        assert!(run.error().starts_with("error: generated time 9999-12-31T23:59:"), "{}", run.error());
        assert!(run.error().contains(": more than two days ahead of the clock, "), "{}", run.error());
    }
    assert!(!sandbox.lake().exists());
    sandbox.run("ingest", &["--from", &from, "--generated-time", ahead, "--allow-future"]).expect(0);
    sandbox.run("verify", &[]).expect(0);
    for year in ["+10000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"] {
        let run =
            sandbox.run("ingest", &["--from", &from, "--generated-time", year, "--allow-future"]).expect(2);
        assert_eq!(
            run.error(),
            "error: --generated-time: expected a time of the years 0001 to 9999, such as 2021-01-11T11:01:00Z"
        );
    }
    let folder = sandbox.path().join("old/0000-01-01/0000");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("p.json"), "{\"deviceId\":\"d\"}\n").unwrap();
    let run = sandbox.run("ingest", &["--from", "old"]).expect(2);
    assert_eq!(
        run.error(),
        "error: generated time 0000-01-01T00:00:00Z: expected a year from 0001 to 9999; hint: pass --generated-time"
    );
}

#[test]
fn keys_of_s3_are_not_urls() {
    let store = crate::stores::Store::start(crate::stores::Kind::S3);
    let from = part(&store.sandbox, &["Linux", "a/b%"]);
    let run = |command: &str, lake: &str, args: &[&str]| {
        Run::of(store.command(command).env("DEFENDER_LAKE", lake).args(args).output().unwrap())
    };
    for key in ["s3://lake/a b", "s3://lake/a%20b", "s3://lake/a+b&=é'", "s3a://lake/other/"] {
        let lake = &key.replace("lake", &store.container);
        assert_eq!(run("snapshots", lake, &[]).expect(0).stdout, "No snapshots of software_inventory yet.\n");
        run("ingest", lake, &["--from", &from]).expect(0);
        run("verify", lake, &[]).expect(0);
    }
    for (lake, reason) in [
        ("s3://lake/x/../y", "must not contain `.` or `..`, which are ordinary names in a store"),
        (
            "s3://lake/a//b",
            "must not contain empty folder names (`//`), which are folders of their own in a store",
        ),
    ] {
        let expected =
            format!("error: invalid lake location {lake}: {reason}; hint: give --lake (or DEFENDER_LAKE) ");
        assert!(run("ingest", lake, &["--from", &from]).expect(2).error().starts_with(&expected));
    }
}
