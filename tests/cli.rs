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
        (&["--dataset", "nothing"], "--dataset: there is no dataset of that name; known: software-inventory"),
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
    let table = sandbox.run("schema", &[]).expect(0);
    assert!(table.stdout.contains("SoftwareFirstSeenTimestamp"));
    let json: serde_json::Value =
        serde_json::from_str(&sandbox.run("schema", &["--format", "json"]).expect(0).stdout).unwrap();
    assert_eq!(json["columns"].as_array().unwrap().len(), 15);
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
fn log_that_nobody_reads_does_not_end_the_run() {
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

#[cfg(not(feature = "history"))]
#[test]
fn commands_that_are_not_built_say_how_to_build_them() {
    let sandbox = Sandbox::new();
    for (command, args) in [("diff", &["--from", "2021-01-11"][..]), ("trend", &[]), ("query", &["SELECT 1"])]
    {
        let run = sandbox.run(command, args).expect(2);
        assert_eq!(
            run.error(),
            "error: diff, trend and query are not in this build; hint: build it with \
             `cargo build --release --features history`, or run `make diff`"
        );
    }
    assert!(!sandbox.run("help", &[]).expect(0).stdout.contains("diff"));
}
