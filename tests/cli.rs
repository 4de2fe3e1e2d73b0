//! The command line: help, completions, schema, and options that cannot be.

use crate::support::Sandbox;

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
        (&["--dataset", "nothing"], "there is no dataset \"nothing\"; known: software-inventory"),
        (&["--max-rejects", "many"], "expected a number of records such as `100`"),
        (&["--via", "json", "--from", "x"], "cannot be used with"),
        (&["--lake", "ftp://host/x", "--from", "x"], "scheme ftp"),
        (&["--config", "missing.toml"], "cannot read the configuration file missing.toml"),
        (&["--threads", "0"], "invalid value '0'"),
        (&["--client-secret", "s"], "unexpected argument"),
    ] {
        let run = sandbox.run("ingest", args).expect(2);
        assert!(run.stderr.contains(said), "{args:?}: {}", run.stderr);
        assert!(run.stdout.is_empty());
    }
    assert!(sandbox.lake_listing().is_empty());
}

#[test]
fn configuration_file_stands_behind_flags_and_environment() {
    let sandbox = Sandbox::new();
    let config = sandbox.path().join("config.toml");
    let text = "dataset = \"from-file\"\nlake = \"from-file\"\n";
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let run = sandbox.run("ingest", &["--config", config]).expect(2);
    assert!(run.stderr.contains("there is no dataset \"from-file\""), "{}", run.stderr);
    let run = sandbox.run("ingest", &["--config", config, "--dataset", "from-flag"]).expect(2);
    assert!(run.stderr.contains("there is no dataset \"from-flag\""), "{}", run.stderr);
    std::fs::write(config, "colour = \"red\"\n").unwrap();
    let run = sandbox.run("ingest", &["--config", config]).expect(2);
    assert!(run.stderr.contains("unknown field `colour`"), "{}", run.stderr);
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
