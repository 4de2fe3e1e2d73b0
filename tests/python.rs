//! The Python package, as `make wheel` built it and `make test` installed it: streams against lakes of the same parts, the calls
//! against the program, and what is in the wheel. The scripts are in `tests/python`, one process each.

use std::path::{Path, PathBuf};
use std::process::Command;

use fixtures::{Dataset, Tenant, TenantOptions};

use crate::support::{Run, Sandbox, tenant, unlimited};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is a folder of the repository")
}

/// Runs a script of `tests/python` in a sandbox, with the package and without the caller's variables.
fn python(sandbox: &Sandbox, script: &str) -> Command {
    let python = std::env::var_os("DEFENDER_LAKE_PYTHON")
        .map_or_else(|| repository().join(".venv/bin/python"), PathBuf::from);
    assert!(python.exists(), "no Python environment at {}: run `make test`", python.display());
    let mut command = Command::new(python);
    for (name, _) in std::env::vars_os() {
        if ["AZURE_", "DEFENDER_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    // It imports from the folder of the script, and not from the sandbox.
    command.arg(repository().join("tests/python").join(script));
    command.current_dir(sandbox.path()).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("HOME", sandbox.path()).env("PROGRAM", env!("CARGO_BIN_EXE_defender-lake"));
    command
}

#[test]
fn streams_equal_a_lake_of_the_same_parts() {
    let sandbox = Sandbox::new();
    let mut command = python(&sandbox, "streams.py");
    for dataset in Dataset::ALL {
        let tenant =
            Tenant::new(TenantOptions { dataset, devices: 20, parts: 2, ..TenantOptions::default() });
        tenant.write_to_dir(&sandbox.path().join(dataset.name())).unwrap();
        command.arg(dataset.name());
    }
    Run::of(command.output().unwrap()).expect(0);
}

#[test]
fn calls_do_what_the_program_does() {
    let sandbox = Sandbox::new();
    tenant(20).write_to_dir(&sandbox.path().join("parts")).unwrap();
    let emulator = unlimited(tenant(20));
    Run::of(python(&sandbox, "calls.py").envs(emulator.env()).output().unwrap()).expect(0);
}

#[test]
fn wheel_has_what_it_needs_and_no_more() {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from);
    let wheels = target.join("wheels");
    let wheels = std::fs::read_dir(&wheels).unwrap_or_else(|_| panic!("no wheel: run `make wheel`"));
    let wheels = wheels.map(|entry| entry.unwrap().path());
    let wheels: Vec<_> = wheels.filter(|path| path.extension().is_some_and(|end| end == "whl")).collect();
    let [wheel] = &wheels[..] else { panic!("one wheel: {wheels:?}") };
    let sandbox = Sandbox::new();
    let mut command = python(&sandbox, "wheel.py");
    command.arg(wheel).arg(repository()).arg(std::env::var_os("HOME").unwrap_or_default());
    Run::of(command.output().unwrap()).expect(0);
}
