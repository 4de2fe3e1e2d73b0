//! What a run leaves when it ends early, and what the next one makes of it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use fixtures::{At, Emulator, Fault, Tenant, TenantOptions};

use crate::support::{Run, Sandbox, unlimited};

fn ten_parts() -> Tenant {
    Tenant::new(TenantOptions { devices: 200, parts: 10, ..TenantOptions::default() })
}

/// Status and range of each download, by path.
fn downloads(emulator: &Emulator) -> BTreeMap<String, Vec<(u16, Option<String>)>> {
    let mut downloads: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for call in emulator.calls().into_iter().filter(|call| call.path.starts_with("/tvm-export/")) {
        downloads.entry(call.path).or_default().push((call.status, call.range));
    }
    downloads
}

/// Every file below `folder`.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn kill_when(sandbox: &Sandbox, emulator: &Emulator, args: &[&str], is_time: impl Fn() -> bool) -> Run {
    let mut child = sandbox.spawn_ingest(emulator, args);
    for _ in 0..2000 {
        if is_time() || child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    Run::of(child.wait_with_output().unwrap())
}

fn whole_parts(sandbox: &Sandbox) -> usize {
    let is_part = |path: &std::path::PathBuf| path.extension().is_some_and(|ending| ending == "part");
    files(&sandbox.work_dir().join("software_inventory")).iter().filter(|path| is_part(path)).count()
}

#[test]
fn a_killed_run_resumes_by_parts_and_within_a_part() {
    let (emulator, sandbox) = (unlimited(ten_parts()), Sandbox::new());
    emulator.script(At::Part(7), 1, Fault::Stall { after_bytes: 9_000 });
    let killed = kill_when(&sandbox, &emulator, &[], || whole_parts(&sandbox) >= 9);
    assert_eq!(killed.code, 137, "{}", killed.stderr);

    let run = sandbox.ingest_via(&emulator, &[]).expect(0);
    assert_eq!(sandbox.rows().len() as u64, ten_parts().num_records());
    let downloads = downloads(&emulator);
    assert_eq!(downloads.len(), 10);
    assert_eq!(
        downloads.values().filter(|calls| calls.len() == 1).count(),
        9,
        "{downloads:?} {}",
        run.stderr
    );
    assert!(files(&sandbox.work_dir().join("software_inventory")).is_empty(), "cleaned after publishing");
}

#[test]
fn an_interrupted_run_goes_on_within_a_part() {
    let (emulator, sandbox) = (unlimited(ten_parts()), Sandbox::new());
    emulator.script(At::Part(7), 1, Fault::Reset { after_bytes: 9_000 });
    emulator.script(At::Part(7), u32::MAX, Fault::Status(400));
    let run = sandbox.ingest_via(&emulator, &[]).expect(4);
    assert!(run.error().contains("completed parts are kept"), "{}", run.error());
    emulator.clear_faults();
    sandbox.ingest_via(&emulator, &[]).expect(0);
    let path = format!("/{}", ten_parts().part_path(7));
    let downloads = downloads(&emulator);
    assert_eq!(downloads[&path].last(), Some(&(206, Some("bytes=9000-".to_owned()))));
    assert!(downloads.iter().all(|(name, calls)| *name == path || calls.len() == 1));
}

#[test]
fn what_the_spool_holds_is_checked_and_not_trusted() {
    let (emulator, sandbox) = (unlimited(ten_parts()), Sandbox::new());
    emulator.script(At::Part(0), u32::MAX, Fault::Status(400));
    sandbox.ingest_via(&emulator, &[]).expect(4);
    let mut parts = files(&sandbox.work_dir().join("software_inventory"));
    parts.retain(|path| path.extension().is_some_and(|ending| ending == "part"));
    assert_eq!(parts.len(), 9);
    let mut bytes = std::fs::read(&parts[4]).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&parts[4], bytes).unwrap();
    std::fs::write(&parts[5], "short").unwrap();
    emulator.clear_faults();
    sandbox.ingest_via(&emulator, &[]).expect(0);
    assert_eq!(sandbox.rows().len() as u64, ten_parts().num_records());
    let refetched = downloads(&emulator).values().filter(|calls| calls.len() > 1).count();
    assert_eq!(refetched, 3, "the one that failed and the two that were changed");
}

#[test]
fn spooled_part_is_checked_against_the_servers_md5() {
    let (emulator, sandbox) = (unlimited(ten_parts()), Sandbox::new());
    emulator.script(At::Part(0), u32::MAX, Fault::Status(400));
    sandbox.ingest_via(&emulator, &[]).expect(4);
    let spooled = files(&sandbox.work_dir().join("software_inventory"));
    let path = spooled.iter().find(|path| path.extension().is_some_and(|ending| ending == "part")).unwrap();
    // As it is where a part came in damaged and the run ended before anybody looked at it.
    let mut bytes = std::fs::read(path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(path, &bytes).unwrap();
    let facts_path = path.with_extension("json");
    let mut facts: serde_json::Value = serde_json::from_slice(&std::fs::read(&facts_path).unwrap()).unwrap();
    assert!(facts["server_md5"].is_string() && facts["written_crc32"].is_u64(), "{facts}");
    facts["written_crc32"] = crc32fast::hash(&bytes).into();
    std::fs::write(&facts_path, facts.to_string()).unwrap();
    emulator.clear_faults();
    let run = sandbox.ingest_via(&emulator, &[]).expect(0);
    assert!(run.stderr.contains("MD5 mismatch: expected "), "{}", run.stderr);
    assert!(!run.stderr.contains("starting over"), "{}", run.stderr);
    assert_eq!(sandbox.rows().len() as u64, ten_parts().num_records());
    let refetched = downloads(&emulator).values().filter(|calls| calls.len() > 1).count();
    assert_eq!(refetched, 2, "the one that failed and the one that was damaged");
}

#[test]
fn the_spool_is_private() {
    let (emulator, sandbox) = (unlimited(ten_parts()), Sandbox::new());
    emulator.script(At::Part(0), u32::MAX, Fault::Status(400));
    sandbox.ingest_via(&emulator, &[]).expect(4);
    for path in files(&sandbox.work_dir()) {
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let folder = path.parent().unwrap();
        assert_eq!(mode(folder), 0o700, "{}", folder.display());
    }
}

#[test]
fn pages_resume_at_the_last_whole_one() {
    let (emulator, sandbox) = (unlimited(ten_parts()), Sandbox::new());
    let args = ["--via", "json", "--page-size", "3000"];
    emulator.script(At::Page, 4, Fault::Nothing);
    emulator.script(At::Page, u32::MAX, Fault::Status(400));
    sandbox.ingest_via(&emulator, &args).expect(4);
    emulator.clear_faults();
    sandbox.ingest_via(&emulator, &args).expect(0);
    assert_eq!(sandbox.rows().len() as u64, ten_parts().num_records());
    let calls =
        emulator.calls().into_iter().filter(|call| call.path.ends_with("ByMachine") && call.status == 200);
    let mut times: BTreeMap<_, u32> = BTreeMap::new();
    for call in calls {
        *times.entry(call.query).or_default() += 1;
    }
    let again: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    // The first page says which snapshot it is: that is its use the second time.
    assert_eq!(again.len(), 1, "{again:?}");
    assert!(!again[0].0.as_ref().unwrap().contains("skiptoken"));
}

#[test]
fn two_runs_at_once_publish_one_snapshot() {
    let (emulator, sandbox) = (unlimited(ten_parts()), Sandbox::new());
    let children: Vec<_> = (0..3).map(|_| sandbox.spawn_ingest(&emulator, &["--json"])).collect();
    let runs: Vec<_> = children.into_iter().map(|child| Run::of(child.wait_with_output().unwrap())).collect();
    let mut outcomes: Vec<_> =
        runs.into_iter().map(|run| run.expect(0).report()["outcome"].to_string()).collect();
    outcomes.sort();
    assert_eq!(outcomes, ["\"published\"", "\"skipped\"", "\"skipped\""]);
    assert_eq!(sandbox.manifests().len(), 1);
    assert!(downloads(&emulator).values().all(|calls| calls.len() == 1));
    assert!(files(&sandbox.work_dir().join("software_inventory")).is_empty());
}

#[test]
fn leftovers_are_removed_and_kept_parts_stay() {
    let (emulator, sandbox) = (unlimited(ten_parts()), Sandbox::new());
    let generated_time = ten_parts().options().generated_time;
    sandbox.ingest_via(&emulator, &["--keep-parts"]).expect(0);
    emulator.regenerate(generated_time + chrono::TimeDelta::days(1));
    emulator.script(At::Part(0), u32::MAX, Fault::Status(400));
    sandbox.ingest_via(&emulator, &[]).expect(4);
    emulator.clear_faults();
    emulator.regenerate(generated_time + chrono::TimeDelta::days(2));
    sandbox.ingest_via(&emulator, &[]).expect(0);
    let spools = std::fs::read_dir(sandbox.work_dir().join("software_inventory")).unwrap();
    let mut names: Vec<_> = spools.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["20210111T110100Z", "20210111T110100Z.lock"]);
    assert_eq!(sandbox.manifests().len(), 2);
}

/// Every file below `folder` with its bytes.
fn contents(folder: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    files(folder).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn kept_parts_stay_after_later_runs_of_any_options() {
    let tenant = Tenant::new(TenantOptions { devices: 10, parts: 4, ..TenantOptions::default() });
    let (emulator, sandbox) = (unlimited(tenant), Sandbox::new());
    sandbox.ingest_via(&emulator, &["--keep-parts"]).expect(0);
    let kept = sandbox.work_dir().join("software_inventory/20210111T110100Z");
    let before = contents(&kept);
    assert_eq!(
        before.keys().filter(|path| path.extension().is_some_and(|ending| ending == "part")).count(),
        4
    );
    let replace = ["--if-published", "replace"];
    let json = ["--via", "json", "--page-size", "500", "--if-published", "replace"];
    for args in [&[][..], &replace, &json, &["--keep-parts"], &["--keep-parts", "--if-published", "replace"]]
    {
        sandbox.ingest_via(&emulator, args).expect(0);
        assert_eq!(contents(&kept), before, "{args:?}");
        let folders = std::fs::read_dir(sandbox.work_dir().join("software_inventory")).unwrap();
        let folders = folders.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
        assert_eq!(folders, 1, "{args:?}");
    }
    assert!(downloads(&emulator).values().all(|calls| calls.len() == 1), "taken over each time");
    emulator.script(At::Part(0), u32::MAX, Fault::Status(400));
    sandbox.ingest_via(&emulator, &replace).expect(0);

    // Pages of another size are kept beside them, and each folder is an export by itself.
    sandbox.ingest_via(&emulator, &[&json[..], &["--keep-parts"]].concat()).expect(0);
    assert_eq!(contents(&kept), before);
    let rows = sandbox.rows_of_both_routes();
    for folder in ["20210111T110100Z", "20210111T110100Z.2"] {
        let folder = sandbox.work_dir().join("software_inventory").join(folder);
        let fresh = Sandbox::new();
        let args = ["--from", folder.to_str().unwrap(), "--generated-time", "2021-01-11T11:01:00Z"];
        let run = fresh.run("ingest", &args).expect(0);
        assert_eq!(fresh.rows_of_both_routes(), rows);
        assert!(run.stderr.contains("ignored names that begin with"), "{}", run.stderr);
        assert!(fresh.manifests()[0]["parts"][0]["proof"] == "local");
    }
}

#[test]
fn nothing_is_kept_of_a_run_that_published_nothing() {
    let (emulator, sandbox) = (unlimited(ten_parts()), Sandbox::new());
    sandbox.ingest_via(&emulator, &[]).expect(0);
    for args in [&["--keep-parts"][..], &["--keep-parts", "--via", "json", "--page-size", "9000"]] {
        sandbox.ingest_via(&emulator, args).expect(0);
        assert!(files(&sandbox.work_dir().join("software_inventory")).is_empty(), "{args:?}");
    }
}

#[test]
fn decoding_begins_before_the_last_part_is_there() {
    let (emulator, sandbox) = (unlimited(ten_parts()), Sandbox::new());
    emulator.script(At::Part(9), 3, Fault::Status(503));
    let run = sandbox.ingest_via(&emulator, &["-vv"]).expect(0);
    let at = |text: &str| run.stderr.lines().position(|line| line.contains(text));
    let third_retry = at("attempt=4").unwrap();
    assert!(at("part decoded").unwrap() < third_retry, "{}", run.stderr);
}

#[test]
fn a_page_is_decoded_while_the_next_one_is_fetched() {
    let (emulator, sandbox) = (unlimited(ten_parts()), Sandbox::new());
    emulator.script(At::Page, 1, Fault::Nothing);
    emulator.script(At::Page, 3, Fault::Reset { after_bytes: 2000 });
    let args = ["--via", "json", "--page-size", "3000", "-vv"];
    let run = sandbox.ingest_via(&emulator, &args).expect(0);
    assert_eq!(sandbox.rows().len() as u64, ten_parts().num_records());
    let at = |text: &str| run.stderr.lines().position(|line| line.contains(text));
    let third_retry = at("attempt=4").unwrap();
    assert!(at("part decoded").unwrap() < third_retry, "{}", run.stderr);
}
