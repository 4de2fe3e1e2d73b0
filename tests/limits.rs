//! What a run does with the limits of its process: threads, file sizes, memory.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fixtures::{At, Fault, Tenant, TenantOptions};

use crate::support::{Run, Sandbox, unlimited};

/// A user that no other process has, so that the limit counts this run's threads alone.
const USER: u32 = 12_347;

/// Writes 3,000 rows of 300 platforms.
fn write_platforms(path: &Path) {
    let mut text = String::new();
    for row in 0..3000 {
        writeln!(text, r#"{{"DeviceId":"d{row}","OSPlatform":"P{}"}}"#, row % 300).unwrap();
    }
    std::fs::write(path, text).unwrap();
}

/// Ingests them as a user that may have so many processes and threads.
fn run_with_processes(sandbox: &Sandbox, max_processes: u32) -> Run {
    let part = sandbox.path().join("part.json");
    write_platforms(&part);
    for path in [sandbox.path(), &part] {
        std::fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    }
    let program = sandbox.command("ingest");
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--nproc={max_processes}")).arg(program.get_program()).args(program.get_args());
    limited
        .args(["--threads", "8", "--generated-time", "2021-01-11T11:01:00Z", "--json", "--from"])
        .arg(part);
    limited.env("DEFENDER_LAKE", sandbox.lake()).current_dir(sandbox.path()).uid(USER).gid(USER);
    Run::of(limited.output().unwrap())
}

#[test]
fn few_threads_are_enough_for_a_run() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("needs to be root to run as a user of its own");
        return;
    }
    for max_processes in [30, 8] {
        let sandbox = Sandbox::new();
        let run = run_with_processes(&sandbox, max_processes).expect(0);
        assert_eq!(run.report()["totals"]["rows"], 3000, "{max_processes}");
        assert_eq!(sandbox.data_files().len(), 300);
    }
    for max_processes in [3, 1] {
        let sandbox = Sandbox::new();
        let run = run_with_processes(&sandbox, max_processes).expect(6);
        // With three it depends on when the kernel has put the program's first threads away.
        let purposes: &[&str] =
            if max_processes == 1 { &["the network"] } else { &["the network", "decoding"] };
        let errors = purposes.iter().map(|purpose| {
            format!(
                "error: cannot start a thread for {purpose}: the limit of processes and threads is {max_processes}: \
                 Resource temporarily unavailable (os error 11); hint: raise the limit of processes (ulimit -u, \
                 TasksMax, a container's --pids-limit), or end other processes of this user"
            )
        });
        let errors: Vec<_> = errors.collect();
        assert!(errors.contains(&run.error().to_owned()), "{}", run.error());
        assert!(!sandbox.lake().exists(), "nothing is left behind");
    }
}

#[test]
fn failed_write_ends_the_run_without_other_parts() {
    let tenant = Tenant::new(TenantOptions { devices: 12, parts: 2, ..TenantOptions::default() });
    let stalled = format!("/{}", tenant.part_path(1));
    let emulator = unlimited(tenant);
    // Each field that is rejected keeps the whole record once more, too long to be compressed away.
    let mut seed = 1_u64;
    let noise: String = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + u8::try_from(seed >> 58).unwrap())
    })
    .map(|noise| if noise == '\\' { '/' } else { noise })
    .take(40_000)
    .collect();
    let dataset = schema::DATASETS[0];
    let columns = dataset.columns.iter().map(|column| column.name);
    let fields = columns.filter(|name| !["DeviceId", "DeviceName", "GeneratedTime"].contains(name));
    let wrong: Vec<_> = fields.map(|field| format!(r#","{field}":true"#)).collect();
    let record = format!(r#"{{"DeviceId":"d","DeviceName":"{noise}"{}}}"#, wrong.concat());
    emulator.script(At::Part(0), 1, Fault::Body(record));
    emulator.script(At::Part(1), 1, Fault::Stall { after_bytes: 10 });
    let sandbox = Sandbox::new();
    let program = sandbox.ingest_command(&emulator, &["--downloads", "2"]);
    let mut limited = Command::new("env");
    limited.args(["--ignore-signal=XFSZ", "prlimit", "--fsize=100000"]);
    limited.arg(program.get_program()).args(program.get_args()).current_dir(sandbox.path());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let run = Run::of(limited.output().unwrap()).expect(6);
    let error = run.error();
    assert!(error.contains("cannot write") && error.contains("rejects.ndjson.gz"), "{error}");
    assert!(error.contains("File too large (os error 27)"), "{error}");
    let calls = emulator.calls().into_iter().filter(|call| call.path.replace("%3D", "=") == stalled).count();
    assert!(calls <= 1, "a run that goes on asks again for the part that stalls");
    assert_eq!(sandbox.staged_runs(), Vec::<String>::new());
}

/// Runs a command to its end and prints its exit code and its peak of resident memory, in KiB.
const PEAK: &str = "\
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
";

/// Ingests parts with the least budget and many threads; returns the peak of resident memory in MiB.
fn peak_mebibytes(sandbox: &Sandbox, parts: &Path) -> u64 {
    let python = std::env::var_os("DEFENDER_LAKE_PYTHON")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python"), PathBuf::from);
    assert!(python.exists(), "no Python environment at {}: run `make test`", python.display());
    let program = sandbox.command("ingest");
    let mut measured = Command::new(python);
    measured.arg("-c").arg(PEAK).arg(program.get_program()).args(program.get_args());
    measured.args(["-q", "--memory", "64MiB", "--threads", "16", "--generated-time", "2021-01-11T11:01:00Z"]);
    measured.arg("--lake").arg(sandbox.lake()).arg("--from").arg(parts).current_dir(sandbox.path());
    let run = Run::of(measured.output().unwrap()).expect(0);
    let (code, peak) = run.stdout.trim_end().rsplit('\n').next().unwrap().split_once(' ').unwrap();
    assert_eq!(code, "0", "{}", run.stderr);
    peak.parse::<u64>().unwrap() / 1024
}

#[test]
fn many_platforms_stay_within_the_memory_budget() {
    let sandbox = Sandbox::new();
    let parts = sandbox.path().join("parts");
    std::fs::create_dir(&parts).unwrap();
    let mut num_rows = 0;
    for part in 0..8 {
        let mut text = String::new();
        for device in 0..400 {
            let platform = (part * 7 + device * 13) % 600;
            for product in 0..30 {
                num_rows += 1;
                let path = format!(r"c:\\program files\\{part}\\{device}\\{product}.exe");
                writeln!(
                    text,
                    r#"{{"DeviceId":"{part}-{device}","OSPlatform":"P{platform}","SoftwareName":"s{product}","DiskPaths":["{path}"]}}"#
                )
                .unwrap();
            }
        }
        std::fs::write(parts.join(part.to_string()), text).unwrap();
    }
    let peak = peak_mebibytes(&sandbox, &parts);
    assert!(peak <= 64 + 96, "{peak} MiB");
    let files = sandbox.data_files();
    assert_eq!(files.iter().map(|(_, file)| file["rows"].as_u64().unwrap()).sum::<u64>(), num_rows);
    let several = files.iter().filter(|(_, file)| file["row_groups"] != 1).count();
    assert_eq!(several, 0, "a platform of few rows is one row group, though all are open at the same time");
}

#[test]
fn large_records_take_turns_within_the_budget() {
    const RECORD_MEBIBYTES: u32 = 6;
    let sandbox = Sandbox::new();
    let parts = sandbox.path().join("parts");
    std::fs::create_dir(&parts).unwrap();
    for part in 0..8 {
        let path = r#""c:\\windows\\system32\\a.dll","#.repeat(100_000);
        let rest = "x".repeat((RECORD_MEBIBYTES as usize * 1024 * 1024) - path.len());
        let record =
            format!(r#"{{"DeviceId":"{part}","DiskPaths":[{path}null],"SoftwareVendor":"{rest}{part}"}}"#);
        std::fs::write(parts.join(part.to_string()), record).unwrap();
    }
    let peak = peak_mebibytes(&sandbox, &parts);
    assert!(peak <= u64::from(64 + 96 + 8 * RECORD_MEBIBYTES), "{peak} MiB");
    assert_eq!(sandbox.rows().len(), 8);
}
