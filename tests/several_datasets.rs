//! Several datasets in one run: what each ends as, what a person and a scheduler are told, and that none stops the others.

use std::time::{Duration, Instant};

use fixtures::tenant::Dataset;
use fixtures::{At, Emulator, EmulatorOptions, Fault, RetryAfter, Tenant, TenantOptions};
use pipeline::exit_code::ExitCode;
use pipeline::ingest::exit_code;
use pipeline::report::RunReport;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Run, Sandbox};

/// Three datasets of small exports; the second may be empty.
const THREE: [Dataset; 3] =
    [Dataset::SoftwareInventory, Dataset::BrowserExtensions, Dataset::InformationGathering];
const NAMES: &str = "software-inventory,browser_extensions,information-gathering";

fn options() -> EmulatorOptions {
    let tenant = Tenant::new(TenantOptions { devices: 3, parts: 2, ..TenantOptions::default() });
    EmulatorOptions { rate_limits: None, ..EmulatorOptions::new(tenant) }
}

/// The reports of a run with `--json`.
fn reports(run: &Run) -> Vec<Value> {
    run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Datasets and outcomes of a run with `--json`, in the order printed.
fn outcomes(run: &Run) -> Vec<(String, String)> {
    let text = |report: &Value, name: &str| report[name].as_str().unwrap().to_owned();
    reports(run).iter().map(|report| (text(report, "dataset"), text(report, "outcome"))).collect()
}

fn expected(outcomes: &[(Dataset, &str)]) -> Vec<(String, String)> {
    outcomes.iter().map(|(dataset, outcome)| (dataset.to_string(), (*outcome).to_owned())).collect()
}

fn errors(run: &Run) -> Vec<&str> {
    run.stderr.lines().filter(|line| line.starts_with("error: ")).collect()
}

/// The datasets of which the lake has a snapshot.
fn published(sandbox: &Sandbox) -> Vec<String> {
    let run = sandbox.run("snapshots", &["--dataset", "all", "--json"]).expect(0);
    let manifests: Vec<Value> = serde_json::from_str(&run.stdout).unwrap();
    manifests.iter().map(|manifest| manifest["dataset"].as_str().unwrap().to_owned()).collect()
}

fn num_token_calls(emulator: &Emulator) -> usize {
    emulator.calls().iter().filter(|call| call.path.ends_with("/token")).count()
}

#[test]
fn all_datasets_are_taken_with_one_token() {
    let (emulator, sandbox) = (Emulator::start(options()), Sandbox::new());
    let run = sandbox.ingest_via(&emulator, &["--dataset", "all", "--json"]).expect(0);
    assert_eq!(outcomes(&run), expected(&Dataset::ALL.map(|dataset| (dataset, "published"))));
    assert_eq!(num_token_calls(&emulator), 1);
    for report in reports(&run) {
        let files = report["files"].as_array().unwrap();
        let dataset: Dataset = report["dataset"].as_str().unwrap().parse().unwrap();
        let has_platform = |file: &Value| file.as_object().unwrap().contains_key("os_platform");
        assert!(
            files.iter().all(|file| has_platform(file) == dataset.has_platform()),
            "{dataset}: {files:?}"
        );
    }
    assert_eq!(published(&sandbox), Dataset::ALL.map(|dataset| dataset.to_string()));
    let verified = sandbox.run("verify", &["--dataset", "all", "--json"]).expect(0);
    let of = |object: &Value| object["dataset"].as_str().unwrap().to_owned();
    assert_eq!(reports(&verified).iter().map(of).collect::<Vec<_>>(), published(&sandbox));

    // Again, for people: nothing to do, and the same on the other route but for the dataset that lacks it.
    let run = sandbox.ingest_via(&emulator, &["--dataset", "all"]).expect(0);
    assert!(run.stdout.starts_with(" dataset "), "{}", run.stdout);
    assert!(run.stdout.contains("\n9 datasets to "), "{}", run.stdout);
    assert!(run.stdout.ends_with(" s: 9 skipped\n"), "{}", run.stdout);
    assert!(
        run.stderr.contains("taking dataset dataset=\"certificates\" number=7 num_datasets=9"),
        "{}",
        run.stderr
    );
    let run = sandbox
        .ingest_via(&emulator, &["--dataset", "all", "--via", "json", "--json", "--dry-run"])
        .expect(0);
    let has_pages = Dataset::ALL.into_iter().filter(|dataset| dataset.has_json_route());
    let names: Vec<_> = has_pages.map(|dataset| dataset.to_string()).collect();
    assert_eq!(outcomes(&run).into_iter().map(|(dataset, _)| dataset).collect::<Vec<_>>(), names);
    let left_out = "left out: not on the route of --via datasets=\"information_gathering\"";
    assert!(run.stderr.contains(left_out), "{}", run.stderr);
}

#[test]
fn datasets_without_permission_are_left_out_of_all() {
    let roles = vec!["Other".to_owned(), "SecurityBaselinesAssessment.Read.All".to_owned()];
    let (emulator, sandbox) = (Emulator::start(EmulatorOptions { roles, ..options() }), Sandbox::new());
    let run = sandbox.ingest_via(&emulator, &["--dataset", "all", "--json"]).expect(0);
    let wanted = Dataset::ALL.map(|dataset| {
        (dataset, if dataset == Dataset::SecurityBaselines { "published" } else { "not_permitted" })
    });
    assert_eq!(outcomes(&run), expected(&wanted));
    assert!(errors(&run).is_empty(), "{}", run.stderr);
    let named = "left out: the token lacks the permission datasets=\"software_inventory, software_inventory_non_cpe, \
                 browser_extensions, hardware_firmware\" permission=\"Software.Read.All\"";
    assert!(run.stderr.contains(named), "{}", run.stderr);
    let hint = "the application needs the permission Software.Read.All of WindowsDefenderATP, with admin consent; it \
                has: Other, SecurityBaselinesAssessment.Read.All";
    assert_eq!(reports(&run)[0]["hint"], hint);
    assert!(emulator.calls().iter().all(|call| call.status == 200), "none is tried");
    let summary = sandbox.ingest_via(&emulator, &["--dataset", "all"]).expect(0).stdout;
    assert!(summary.contains("Not permitted: software_inventory, software_inventory_non_cpe, "), "{summary}");

    let args = ["--dataset", "security-baselines,certificates", "--json"];
    let run = sandbox.ingest_via(&emulator, &args).expect(3);
    let failed = [(Dataset::SecurityBaselines, "skipped"), (Dataset::Certificates, "failed")];
    assert_eq!(outcomes(&run), expected(&failed));
    assert!(run.error().starts_with("error: certificates: GET http://"), "{}", run.error());
    assert!(run.error().contains("Vulnerability.Read.All"), "{}", run.error());
}

#[test]
fn token_that_permits_nothing_is_refused() {
    let (emulator, sandbox) =
        (Emulator::start(EmulatorOptions { roles: vec![], ..options() }), Sandbox::new());
    let run = sandbox.ingest_via(&emulator, &["--dataset", "all", "--json"]).expect(3);
    let error = "error: the token permits none of the datasets; hint: the application needs the permission \
                 Software.Read.All of WindowsDefenderATP, with admin consent; it has: none";
    assert_eq!(run.error(), error);
    assert_eq!(outcomes(&run), expected(&Dataset::ALL.map(|dataset| (dataset, "not_permitted"))));
    assert!(!sandbox.lake().exists());
}

#[test]
fn missing_feature_is_a_missing_permission_of_all() {
    let roles = vec!["SecurityBaselinesAssessment.Read.All".to_owned()];
    let (emulator, sandbox) = (Emulator::start(EmulatorOptions { roles, ..options() }), Sandbox::new());
    emulator.script_for(Dataset::SecurityBaselines, At::List, u32::MAX, Fault::FeatureDisabled);
    let run = sandbox.ingest_via(&emulator, &["--dataset", "all", "--json"]).expect(3);
    assert!(outcomes(&run).iter().all(|(_, outcome)| outcome == "not_permitted"), "{}", run.stdout);
    assert!(
        run.error().starts_with("error: the token permits none of the datasets; hint: "),
        "{}",
        run.error()
    );
    let run = sandbox.ingest_via(&emulator, &["--dataset", "security-baselines", "--json"]).expect(3);
    assert_eq!(outcomes(&run), expected(&[(Dataset::SecurityBaselines, "failed")]));
    assert!(
        run.error().contains("check that the tenant has a licence for it, such as Defender"),
        "{}",
        run.error()
    );
}

#[test]
fn empty_export_is_a_failure_unless_it_may_be() {
    let empty = vec![Dataset::BrowserExtensions, Dataset::InformationGathering];
    let (emulator, sandbox) = (Emulator::start(EmulatorOptions { empty, ..options() }), Sandbox::new());
    for args in [&["--json"][..], &["--json", "--dry-run"]] {
        let run = sandbox.ingest_via(&emulator, &[&["--dataset", NAMES][..], args].concat()).expect(4);
        let outcomes: Vec<_> = outcomes(&run).into_iter().map(|(_, outcome)| outcome).collect();
        assert_eq!(outcomes[1..], ["empty", "failed"], "{}", run.stdout);
        assert!(run.error().starts_with("error: information_gathering: "), "{}", run.error());
    }
    assert_eq!(published(&sandbox), ["software_inventory"]);
    let one = ["--dataset", "browser-extensions"];
    let nothing = "Nothing to publish: the export of browser_extensions has no records.\n";
    let run = sandbox.ingest_via(&emulator, &one).expect(0);
    assert_eq!(run.stdout, nothing);
    let run = sandbox.ingest_via(&emulator, &[&one[..], &["--via", "json"]].concat()).expect(0);
    assert_eq!(run.stdout, nothing);
    let report = sandbox.ingest_via(&emulator, &[&one[..], &["--json"]].concat()).expect(0).report();
    assert_eq!(report["outcome"], "empty");
    // A part or a page without a record.
    let folder = sandbox.path().join("in/2021-01-11/1101");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("page.json"), "{\"value\":[]}").unwrap();
    let from = folder.to_str().unwrap();
    let run = sandbox.run("ingest", &["--from", from, "--dataset", "certificates", "--json"]).expect(0);
    assert_eq!(run.report()["outcome"], "empty");
    assert_eq!(run.report()["generated_time"], "2021-01-11T11:01:00Z");
    sandbox.run("ingest", &["--from", from, "--dataset", "secure-configurations"]).expect(4);
    assert_eq!(published(&sandbox), ["software_inventory"]);
    assert!(!sandbox.lake().join("browser_extensions").exists());
}

#[test]
fn one_that_fails_does_not_stop_the_others() {
    let (emulator, sandbox) = (Emulator::start(options()), Sandbox::new());
    emulator.script_for(Dataset::BrowserExtensions, At::List, 1, Fault::Throttled(RetryAfter::Secs(3000)));
    emulator.script_for(Dataset::InformationGathering, At::List, 1, Fault::Body("{}".to_owned()));
    let run = sandbox.ingest_via(&emulator, &["--dataset", NAMES, "--json"]).expect(7);
    assert_eq!(
        outcomes(&run),
        expected(&[(THREE[0], "published"), (THREE[1], "failed"), (THREE[2], "failed")])
    );
    let [throttled, invalid] = errors(&run)[..] else { panic!("one line for each failure: {}", run.stderr) };
    assert!(throttled.starts_with("error: browser_extensions: GET "), "{throttled}");
    assert!(
        throttled.contains("call rate limit reached until ")
            && throttled.contains("; hint: run again after ")
    );
    assert!(invalid.starts_with("error: information_gathering: GET "), "{invalid}");
    assert!(invalid.ends_with("; hint: run again later"), "{invalid}");
    let report = &reports(&run)[1];
    assert_eq!(report["exit_code"], 7);
    let line =
        format!("error: browser_extensions: {}; hint: {}", text(report, "error"), text(report, "hint"));
    assert_eq!(line, throttled);
    assert_eq!(published(&sandbox), ["software_inventory"]);

    // The budget is that of one call; without a quiet run, the table says how each ended.
    let run = sandbox.ingest_via(&emulator, &["--dataset", NAMES]).expect(7);
    let rows: Vec<Vec<_>> =
        run.stdout.lines().map(|line| line.split_whitespace().take(2).collect()).collect();
    let shown = [
        ["dataset", "outcome"],
        ["software_inventory", "skipped"],
        ["browser_extensions", "failed"],
        ["information_gathering", "published"],
    ];
    assert_eq!(rows[..4], shown, "{}", run.stdout);
    let num_listings = |name: &str| emulator.calls().iter().filter(|call| call.path.ends_with(name)).count();
    assert_eq!(
        (num_listings("BrowserExtensionsInventoryExport"), num_listings("InfoGatheringExport")),
        (1, 2)
    );
    // A lake that cannot be written fails each by itself.
    let blocked = Sandbox::new();
    std::fs::create_dir_all(blocked.lake().join("_defender")).unwrap();
    std::fs::write(blocked.lake().join("_defender/software_inventory"), "").unwrap();
    let names = "software-inventory,information_gathering";
    let run = blocked.ingest_via(&emulator, &["--dataset", names, "--json"]).expect(6);
    assert_eq!(outcomes(&run), expected(&[(THREE[0], "failed"), (THREE[2], "published")]));
}

#[test]
fn refused_empty_and_damaged_in_one_run() {
    let empty = vec![Dataset::BrowserExtensions];
    let (emulator, sandbox) = (Emulator::start(EmulatorOptions { empty, ..options() }), Sandbox::new());
    emulator.script_for(Dataset::InformationGathering, At::Part(0), u32::MAX, Fault::Damaged { at_byte: 40 });
    emulator.script_for(Dataset::HardwareFirmware, At::List, u32::MAX, Fault::FeatureDisabled);
    let names = format!("{NAMES},hardware-firmware,certificates");
    let taken = sandbox.take_impatiently(&emulator, Some(&names)).unwrap();
    assert_eq!(exit_code(&taken), ExitCode::Source, "of the first that failed");
    let lake = sandbox.lake().display().to_string();
    let reports: Vec<Value> = taken
        .iter()
        .map(|taken| match &taken.result {
            Ok(report) => serde_json::to_value(report).unwrap(),
            Err(error) => serde_json::to_value(RunReport::failed(&lake, taken.dataset, error)).unwrap(),
        })
        .collect();
    let outcomes: Vec<_> = reports.iter().map(|report| text(report, "outcome")).collect();
    assert_eq!(outcomes, ["published", "empty", "failed", "failed", "published"]);
    let (damaged, refused) = (&reports[2], &reports[3]);
    assert_eq!((&damaged["exit_code"], &refused["exit_code"]), (&json!(4), &json!(3)));
    assert!(text(damaged, "error").starts_with("part "), "{damaged}");
    assert!(
        text(damaged, "error").contains(" could not be fetched: gave up after 4 attempts in "),
        "{damaged}"
    );
    assert!(text(refused, "error").contains(": 403: DisabledFeature: "), "{refused}");
    assert_eq!(published(&sandbox), ["software_inventory", "certificates"]);
}

fn text<'r>(report: &'r Value, name: &str) -> &'r str {
    report[name].as_str().unwrap()
}

#[test]
fn token_refused_after_the_first_is_renewed_for_each() {
    let (emulator, sandbox) = (Emulator::start(options()), Sandbox::new());
    emulator.script_for(Dataset::BrowserExtensions, At::List, 2, Fault::Status(401));
    emulator.script_for(Dataset::InformationGathering, At::List, 1, Fault::Status(401));
    let run = sandbox.ingest_via(&emulator, &["--dataset", NAMES, "--json"]).expect(3);
    assert_eq!(
        outcomes(&run),
        expected(&[(THREE[0], "published"), (THREE[1], "failed"), (THREE[2], "published")])
    );
    assert!(run.error().starts_with("error: browser_extensions: GET "), "{}", run.error());
    assert_eq!(num_token_calls(&emulator), 3);
    // Without a token there is nothing to take: one line, not one for each.
    let mut command = sandbox.ingest_command(&emulator, &["--dataset", "all", "--json"]);
    let run = Run::of(command.env("AZURE_CLIENT_SECRET", "wrong").output().unwrap()).expect(3);
    assert!(run.error().contains("AADSTS7000215") && run.stdout.is_empty(), "{}", run.error());
}

#[test]
fn interruption_in_the_second_ends_the_run() {
    let (emulator, sandbox) = (Emulator::start(options()), Sandbox::new());
    emulator.script_for(Dataset::BrowserExtensions, At::AnyPart, u32::MAX, Fault::Stall { after_bytes: 10 });
    let child = sandbox.spawn_ingest(&emulator, &["--dataset", NAMES, "--json"]);
    let started = Instant::now();
    while !emulator.calls().iter().any(|call| call.path.contains("/BrowserExtensions/")) {
        assert!(started.elapsed() < Duration::from_mins(1), "{:?}", emulator.calls());
        std::thread::sleep(Duration::from_millis(10));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let run = Run::of(child.wait_with_output().unwrap()).expect(130);
    assert_eq!(outcomes(&run), expected(&[(THREE[0], "published"), (THREE[1], "failed")]));
    let error = "error: browser_extensions: interrupted; nothing was published; hint: ";
    assert!(run.error().starts_with(error), "{}", run.error());
    assert_eq!(published(&sandbox), ["software_inventory"]);
    assert!(!emulator.calls().iter().any(|call| call.path.ends_with("InfoGatheringExport")));
}

#[test]
fn names_that_cannot_be_are_usage_errors() {
    let (emulator, sandbox) = (Emulator::start(options()), Sandbox::new());
    for (args, said) in [
        (
            &["--dataset", "all", "--from", "x"][..],
            "--from: requires exactly one dataset; name it with --dataset",
        ),
        (
            &["--dataset", NAMES, "--from", "x"],
            "--from: requires exactly one dataset; name it with --dataset",
        ),
        (
            &["--dataset", "software-inventory,"],
            "--dataset: unknown dataset, expected all or some of: software-",
        ),
        (&["--dataset", "all,software-inventory"], "--dataset: unknown dataset, expected all or some of: "),
        (
            &["--dataset", NAMES, "--via", "json"],
            "information_gathering has no JSON route; hint: pass --via files",
        ),
    ] {
        let run = sandbox.ingest_via(&emulator, args).expect(2);
        assert!(run.error().contains(said), "{args:?}: {}", run.error());
        assert!(run.stdout.is_empty());
    }
    let run = sandbox.run("snapshots", &["--dataset", NAMES]).expect(2);
    assert!(run.error().contains("--dataset: unknown dataset, expected one of: "), "{}", run.error());
    assert!(emulator.calls().is_empty());
}

#[test]
fn datasets_come_from_flag_environment_or_file() {
    let (emulator, sandbox) = (Emulator::start(options()), Sandbox::new());
    let config = sandbox.path().join("c.toml");
    std::fs::write(&config, "dataset = \"hardware-firmware,hardware_firmware, browser-extensions\"\n")
        .unwrap();
    let taken = |args: &[&str], environment: Option<&str>| {
        let args = [&["--dry-run", "--json", "--config", config.to_str().unwrap()], args].concat();
        let mut command = sandbox.ingest_command(&emulator, &args);
        command.envs(environment.map(|names| ("DEFENDER_DATASET", names)));
        let run = Run::of(command.output().unwrap()).expect(0);
        outcomes(&run).into_iter().map(|(dataset, _)| dataset).collect::<Vec<_>>()
    };
    assert_eq!(taken(&[], None), ["hardware_firmware", "browser_extensions"]);
    assert_eq!(taken(&[], Some("certificates")), ["certificates"]);
    assert_eq!(taken(&["--dataset", "software-inventory"], Some("certificates")), ["software_inventory"]);
    assert!(!sandbox.lake().exists());
}

#[test]
fn lake_is_kept_up_for_all_its_datasets() {
    let (emulator, sandbox) = (Emulator::start(options()), Sandbox::new());
    let names = ["--dataset", "hardware-firmware,software-inventory"];
    assert_eq!(sandbox.run("snapshots", &["--dataset", "all"]).expect(0).stdout, "No snapshots yet.\n");
    assert_eq!(sandbox.run("verify", &["--dataset", "all"]).expect(0).stdout, "No snapshots to verify.\n");
    for day in 11..14 {
        emulator.regenerate(format!("2021-01-{day}T11:01:00Z").parse().unwrap());
        sandbox.ingest_via(&emulator, &names).expect(0);
    }
    sandbox.ingest_via(&emulator, &["--dataset", "certificates"]).expect(0);
    let listed = sandbox.run("snapshots", &["--dataset", "all"]).expect(0).stdout;
    let headings: Vec<_> =
        listed.lines().filter(|line| line.starts_with(|c: char| c.is_lowercase())).collect();
    assert_eq!(headings, ["software_inventory", "certificates", "hardware_firmware"], "{listed}");
    assert_eq!(listed.matches("3 snapshots, ").count(), 2, "{listed}");
    let verified = sandbox.run("verify", &["--dataset", "all", "--date", "2021-01-12"]).expect(0).stdout;
    assert!(verified.starts_with("software_inventory\n20210112T110100Z  ok  "), "{verified}");
    assert!(verified.contains("\n\nhardware_firmware\n20210112T110100Z  ok  "), "{verified}");
    assert!(!verified.contains("certificates"), "{verified}");
    let run = sandbox.run("verify", &["--dataset", "all", "--date", "2020-01-01"]).expect(6);
    assert_eq!(run.error(), "error: the lake has no snapshot of 2020-01-01");

    let all = ["--dataset", "all", "--keep-days", "1"];
    let before = sandbox.lake_listing();
    let planned = sandbox.run("expire", &[&all[..], &["--dry-run"]].concat()).expect(0).stdout;
    assert_eq!(planned.matches("Would remove 2 snapshots, ").count(), 2, "{planned}");
    assert!(
        planned.contains("\n\ncertificates: nothing to remove; 1 snapshot kept.\n\nhardware"),
        "{planned}"
    );
    let run = sandbox.run("expire", &[&all[..], &["--yes"]].concat()).expect(2);
    let said = "error: expire would permanently remove 4 snapshots of 2 datasets, ";
    assert!(run.error().starts_with(said), "{}", run.error());
    let said = ", more than half of the snapshots of software_inventory, hardware_firmware; hint: check with \
                --dry-run, then pass --yes-remove-most";
    assert!(run.error().ends_with(said), "{}", run.error());
    assert_eq!(sandbox.lake_listing(), before);
    let run = sandbox.run("expire", &[&all[..], &["--yes-remove-most", "--json"]].concat()).expect(0);
    let removed: Vec<_> =
        reports(&run).iter().map(|report| report["removed"].as_array().unwrap().len()).collect();
    assert_eq!(removed, [2, 0, 2]);
    assert_eq!(reports(&run)[1]["outcome"], json!("unchanged"));
    assert_eq!(published(&sandbox), ["software_inventory", "certificates", "hardware_firmware"]);

    // Damage of one is said of that one, and the others are verified.
    let folder = sandbox.lake().join("certificates/snapshot_date=2021-01-13");
    std::fs::remove_file(folder.join("_SUCCESS")).unwrap();
    let run = sandbox.run("verify", &["--dataset", "all", "--json"]).expect(6);
    assert!(
        run.error().starts_with("error: certificates: verify found damage: 1 finding; hint: "),
        "{}",
        run.error()
    );
    let findings: Vec<_> =
        reports(&run).iter().map(|report| report["snapshots"][0]["findings"].to_string()).collect();
    assert_eq!((findings[0].as_str(), findings[2].as_str()), ("[]", "[]"), "{findings:?}");
}
