//! The three sources: what each sends, and that all give the same table.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Run, Sandbox, rows_of, tenant, unlimited};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/samples/software-inventory");

#[test]
fn every_source_gives_the_same_table() {
    let tenant = tenant(300);
    let emulator = unlimited(tenant.clone());
    let parts = Sandbox::new();
    tenant.write_to_dir(parts.path()).unwrap();

    let files = Sandbox::new();
    let report = files.ingest_via(&emulator, &["--json"]).expect(0).report();
    assert_eq!(report["route"], "files");
    assert_eq!(report["generated_time_from"], "listing");
    let json = Sandbox::new();
    let report =
        json.ingest_via(&emulator, &["--json", "--via", "json", "--page-size", "7000"]).expect(0).report();
    assert_eq!(report["route"], "json");
    assert_eq!(report["generated_time_from"], "skip_token");
    let local = Sandbox::new();
    let from = parts.path().to_str().unwrap();
    let report = local.run("ingest", &["--json", "--from", from]).expect(0).report();
    assert_eq!(report["route"], "local");
    assert_eq!(report["generated_time_from"], "path");

    let expected = tenant.expected();
    let rows = files.rows();
    assert_eq!(rows.len() as u64, expected.records);
    assert_eq!(files.rows_of_both_routes(), json.rows_of_both_routes());
    assert_eq!(rows, local.rows());
    for (platform, num_rows) in &expected.records_per_platform {
        let manifest = &files.manifests()[0];
        let of_platform = |file: &&Value| file["os_platform"].as_str() == platform.as_deref();
        let found: u64 = manifest["files"]
            .as_array()
            .unwrap()
            .iter()
            .filter(of_platform)
            .map(|file| file["rows"].as_u64().unwrap())
            .sum();
        assert_eq!(found, *num_rows, "{platform:?}");
    }
}

#[test]
fn only_api_calls_carry_the_bearer_token() {
    let emulator = unlimited(tenant(60));
    Sandbox::new().ingest_via(&emulator, &[]).expect(0);
    let calls = emulator.calls();
    let blobs: Vec<_> = calls.iter().filter(|call| call.path.contains("tvm-export")).collect();
    assert_eq!(blobs.len(), 8);
    assert!(blobs.iter().all(|call| !call.has_authorization));
    let listings: Vec<_> = calls.iter().filter(|call| call.path.starts_with("/api/")).collect();
    assert_eq!(listings.len(), 1, "one listing: the service allows twenty an hour");
    assert!(listings[0].has_authorization);
}

#[test]
fn single_page_takes_the_time_of_the_response() {
    let emulator = unlimited(tenant(20));
    let sandbox = Sandbox::new();
    let report = sandbox.ingest_via(&emulator, &["--json", "--via", "json"]).expect(0).report();
    assert_eq!(report["generated_time_from"], "response_date");
    assert_eq!(report["totals"]["parts"], 1);
}

/// What a tenant that is spelt by hand sends is what the declaration reads: a misspelt property in
/// either would leave its column empty here.
#[test]
fn tenant_fills_and_empties_every_optional_column() {
    let emulator = unlimited(tenant(500));
    for route in ["files", "json"] {
        let sandbox = Sandbox::new();
        let report = sandbox.ingest_via(&emulator, &["--json", "--via", route]).expect(0).report();
        let undocumented: BTreeSet<&str> =
            report["undocumented_fields"].as_object().unwrap().keys().map(String::as_str).collect();
        assert!(undocumented.is_empty(), "{route}: {undocumented:?}");
        let absent: &[&str] = match route {
            "files" => &[],
            _ => &["SoftwareLastSeenTimestamp"],
        };

        let rows: Vec<_> = sandbox.data_files().iter().flat_map(|(path, _)| rows_of(path)).collect();
        for (index, column) in schema::DATASETS[0].file_columns().enumerate() {
            let name = column.name;
            if absent.contains(&name) {
                assert!(rows.iter().all(|row| row[index] == "-"), "{name} has a value, {route}");
                continue;
            }
            assert!(rows.iter().any(|row| row[index] != "-"), "{name} has a value, {route}");
            let optional = column.presence == schema::Presence::Optional;
            assert_eq!(
                rows.iter().any(|row| row[index] == "-"),
                optional,
                "{name} is null somewhere, {route}"
            );
        }
        assert!(sandbox.data_files().iter().any(|(_, file)| file["os_platform"].is_null()), "{route}");
        assert!(sandbox.data_files().iter().any(|(_, file)| file["os_platform"].is_string()), "{route}");
    }
}

#[test]
fn dates_timestamps_and_lists_are_what_the_wire_says() {
    let sandbox = Sandbox::new();
    let time = ["--generated-time", "2021-01-11T11:01:00Z"];
    for sample in ["dates-both-forms.ndjson", "lists-empty-absent-null.ndjson"] {
        let path = format!("{SAMPLES}/{sample}");
        let args = [&["--from", path.as_str(), "--if-published", "replace"], &time[..]].concat();
        sandbox.run("ingest", &args).expect(0);
        let rows = sandbox.rows().join("\n");
        if sample.starts_with("dates") {
            assert!(rows.contains("|2021-05-11|"), "{rows}");
            assert!(rows.contains("|2020-12-30|"), "{rows}");
            assert!(rows.contains("+00:00|"), "{rows}");
        } else {
            assert!(rows.contains("|[]|") && rows.contains("|-|"), "{rows}");
        }
    }
}

#[test]
fn local_parts_of_mixed_time_are_a_usage_error() {
    let sandbox = Sandbox::new();
    let sample = format!("{SAMPLES}/files-route.ndjson");
    let unknown = sandbox.run("ingest", &["--from", &sample]).expect(2);
    assert!(unknown.error().contains("--generated-time"), "{}", unknown.error());

    let parts = Sandbox::new();
    for folder in ["2021-01-11/1101", "2021-01-12/0501"] {
        let folder = parts.path().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(&sample, folder.join("part.json")).unwrap();
    }
    let mixed = sandbox.run("ingest", &["--from", parts.path().to_str().unwrap()]).expect(2);
    assert!(mixed.error().contains("2021-01-11/1101"), "{}", mixed.error());
    assert!(sandbox.lake_listing().is_empty());
}

const TIME: [&str; 2] = ["--generated-time", "2021-01-11T11:01:00Z"];

fn make_pipe(path: &Path) {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).unwrap();
}

/// A run that is interrupted by `signal` once it has said `text`.
fn interrupt(mut child: Child, text: &str, signal: Signal) -> Run {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = String::new();
    while !said.contains(text) {
        said.push_str(&lines.next().unwrap_or_else(|| panic!("{said}")).unwrap());
        said.push('\n');
    }
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), signal).unwrap();
    lines.for_each(|line| said.extend([line.unwrap(), "\n".to_owned()]));
    let run = Run::of(child.wait_with_output().unwrap());
    Run { stderr: said, ..run }
}

fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn pipe_is_read_once_and_is_a_part() {
    let sandbox = Sandbox::new();
    let pipe = sandbox.path().join("pipe");
    make_pipe(&pipe);
    let sample = std::fs::read(format!("{SAMPLES}/files-route.ndjson")).unwrap();
    let mut command = sandbox.command("ingest");
    let child = spawn(command.arg("--json").arg("--from").arg(&pipe).args(TIME));
    std::fs::write(&pipe, sample).unwrap();
    let report = Run::of(child.wait_with_output().unwrap()).expect(0).report();
    assert_eq!(report["parts"][0]["name"], pipe.to_str().unwrap());
    assert_eq!(report["parts"][0]["proof"], "local");
    let file = Sandbox::new();
    let path = format!("{SAMPLES}/files-route.ndjson");
    file.run("ingest", &["--from", &path, TIME[0], TIME[1]]).expect(0);
    assert_eq!(sandbox.rows(), file.rows());
    assert_eq!(std::fs::read_dir(sandbox.work_dir().join("software_inventory")).unwrap().count(), 0);
}

#[test]
fn process_substitution_is_read() {
    let sandbox = Sandbox::new();
    let run = sandbox.command("ingest");
    let program = run.get_program().to_str().unwrap().to_owned();
    let mut shell = Command::new("bash");
    shell.arg("-c").arg(format!(
        "{program} ingest --work-dir work --json --from <(cat {SAMPLES}/files-route.ndjson) \
         <(gzip -c {SAMPLES}/array.json) --config <(echo 'lake = \"lake\"') {} {}",
        TIME[0], TIME[1]
    ));
    let output = shell.current_dir(sandbox.path()).env_remove("DEFENDER_LAKE").output().unwrap();
    let report = Run::of(output).expect(0).report();
    assert_eq!(report["totals"]["parts"], 2);
    assert_eq!(sandbox.rows().len() as u64, report["totals"]["rows"].as_u64().unwrap());
}

#[test]
fn waits_for_pipes_end_with_each_signal() {
    for signal in [Signal::INT, Signal::TERM] {
        let sandbox = Sandbox::new();
        let pipe = sandbox.path().join("pipe");
        make_pipe(&pipe);
        let mut command = sandbox.command("ingest");
        let child = spawn(command.arg("--from").arg(&pipe).args(TIME));
        let run = interrupt(child, "reading a pipe into the work dir", signal).expect(130);
        assert!(run.error().contains("interrupted; nothing was published"), "{}", run.error());
        assert!(sandbox.lake_listing().is_empty(), "no lock was taken");

        let mut command = sandbox.command("ingest");
        let child = spawn(command.arg("--config").arg(&pipe));
        let run = interrupt(child, "reading options from a pipe", signal).expect(130);
        assert_eq!(run.error(), "error: interrupted; nothing was published");
    }
}

#[test]
fn what_is_not_a_regular_file_is_refused() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path().join("parts");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(format!("{SAMPLES}/array.json"), folder.join("a.json")).unwrap();
    let pipe = folder.join("pipe");
    make_pipe(&pipe);
    let (folder, shown) = (folder.to_str().unwrap(), pipe.display());
    let hint = "pass the pipe itself, or exclude it with a glob";
    for (path, expected) in [
        (folder, format!("error: {shown} is not a regular file but a pipe; hint: {hint}")),
        (
            "/dev/zero",
            "error: /dev/zero is not a regular file but a character device; hint: pass files, folders or pipes"
                .to_owned(),
        ),
    ] {
        let run = sandbox.run("ingest", &["--from", path, TIME[0], TIME[1]]).expect(2);
        assert_eq!(run.error(), expected);
    }
    let run = sandbox.run("ingest", &["--config", "/dev/zero"]).expect(2);
    assert_eq!(run.error(), "error: cannot read the configuration file /dev/zero: is not a regular file");
    assert!(sandbox.lake_listing().is_empty());
}

/// A folder as Spark leaves it.
fn spark_folder(names: &[&str]) -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    let folder = sandbox.path().join("2021-01-11/1101");
    for name in names {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    let folder = folder.to_str().unwrap().to_owned();
    (sandbox, folder)
}

#[test]
fn names_that_spark_leaves_are_passed_over_and_said() {
    let (sandbox, folder) =
        spark_folder(&["_SUCCESS", "_committed_1", "_started_1", ".part.crc", "_temporary/x"]);
    let path = format!("{folder}/_RbacGroupId=4");
    std::fs::create_dir(&path).unwrap();
    std::fs::copy(format!("{SAMPLES}/array.json"), format!("{path}/part-0.json")).unwrap();
    for from in [folder.clone(), format!("{folder}/*"), format!("{folder}/**/*")] {
        let run = sandbox.run("ingest", &["--json", "--from", &from, "--if-published", "replace"]).expect(0);
        assert_eq!(run.report()["totals"]["parts"], 1, "{from}");
        let said = "ignored names that begin with `_` or `.`, and the records of a spool";
        assert!(run.stderr.contains(said) && run.stderr.contains("num_ignored=5"), "{}", run.stderr);
        assert!(run.stderr.contains(&format!("example={folder}/.part.crc")), "{}", run.stderr);
    }
}

#[test]
fn folder_of_hidden_names_is_a_usage_error() {
    let (sandbox, folder) = spark_folder(&["_SUCCESS", ".hidden"]);
    let run = sandbox.run("ingest", &["--from", &folder]).expect(2);
    assert_eq!(
        run.error(),
        format!(
            "error: {folder}: no parts found: 2 names ignored, such as {folder}/.hidden; hint: name a file \
             itself to ingest it: names that begin with `_` or `.` are ignored"
        )
    );
    // Named itself, it is taken for what it is.
    let path = format!("{folder}/_SUCCESS");
    let run = sandbox.run("ingest", &["--from", &path]).expect(4);
    assert_eq!(
        run.error(),
        format!(
            "error: part {path} is damaged: the part is empty: no bytes, not even of compression; hint: replace the \
             file with a complete one, or leave it out of --from"
        )
    );
}
