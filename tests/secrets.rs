//! No secret appears anywhere: every byte of output, spool, lake and manifests is searched, in success and in failures.

use std::path::{Path, PathBuf};

use fixtures::{At, Emulator, EmulatorOptions, Fault, RetryAfter, Tenant, TenantOptions};

use crate::support::{Run, Sandbox};

/// What all tokens and signatures of the emulator contain, in any encoding that a log could choose.
fn secrets(emulator: &Emulator) -> Vec<String> {
    let mut secrets: Vec<String> =
        [Emulator::CLIENT_SECRET, Emulator::FEDERATED_TOKEN, Emulator::IDENTITY_HEADER]
            .map(str::to_owned)
            .into();
    // Tokens and certificates' statements begin with these (`$skiptoken`, no secret, only with `eyJ`); bearer headers
    // have that in front.
    secrets.extend(
        ["eyJ0eXAi", "eyJhbGci", "Bearer ", "bearer ", "sig=", "sig%3D", "PRIVATE KEY"].map(str::to_owned),
    );
    // The signatures that were really sent, without their name too.
    for query in emulator.calls().into_iter().filter_map(|call| call.query) {
        if let Some((_, signature)) = query.split_once("sig=") {
            secrets.push(signature.replace("%3D", "").replace("%2B", "+").replace("%2F", "/"));
            secrets.push(signature.trim_end_matches("%3D").to_owned());
        }
    }
    secrets
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Neither the output of a run nor any file of the sandbox has a secret.
#[track_caller]
pub fn assert_holds_no_secret(emulator: &Emulator, sandbox: &Sandbox, run: &Run) {
    let secrets = secrets(emulator);
    let look = |place: &str, bytes: &[u8]| {
        for secret in &secrets {
            let is_found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!is_found, "{secret} is in {place}");
        }
    };
    look("stdout", run.stdout.as_bytes());
    look("stderr", run.stderr.as_bytes());
    for path in files(sandbox.path()) {
        // Parquet and gzip hold rows; the names and footers are searched as they are.
        look(&path.display().to_string(), path.display().to_string().as_bytes());
        look(&path.display().to_string(), &std::fs::read(&path).unwrap());
    }
}

fn emulator() -> Emulator {
    let tenant = Tenant::new(TenantOptions { devices: 4, parts: 3, ..TenantOptions::default() });
    Emulator::start(EmulatorOptions { rate_limits: None, ..EmulatorOptions::new(tenant) })
}

#[test]
fn success_shows_no_secret() {
    for route in ["files", "json"] {
        for format in ["text", "json"] {
            let (emulator, sandbox) = (emulator(), Sandbox::new());
            let args = [
                "-vv",
                "--via",
                route,
                "--log-format",
                format,
                "--json",
                "--keep-parts",
                "--page-size",
                "200",
            ];
            let run = sandbox.ingest_via(&emulator, &args).expect(0);
            assert_holds_no_secret(&emulator, &sandbox, &run);
            let run = sandbox.run("snapshots", &["--json"]).expect(0);
            assert_holds_no_secret(&emulator, &sandbox, &run);
        }
    }
}

#[test]
fn failures_show_no_secret() {
    let leak = "https://evil.example/p?sig=LEAK&token=eyJhbGciOi.x.y".to_owned();
    let always = u32::MAX;
    let cases: Vec<(&str, At, u32, Fault, i32)> = vec![
        ("token refused", At::Token, always, Fault::Status(401), 3),
        ("token garbled", At::Token, always, Fault::Body(r#"{"access_token":"eyJ.LEAK"}"#.into()), 3),
        ("token redirected", At::Token, always, Fault::Redirect(leak.clone()), 3),
        ("unauthorised", At::List, always, Fault::Status(401), 3),
        ("forbidden", At::List, always, Fault::Status(403), 3),
        ("throttled", At::List, always, Fault::Throttled(RetryAfter::Secs(3000)), 7),
        ("list redirected", At::List, always, Fault::Redirect(leak.clone()), 4),
        ("list foreign", At::List, always, Fault::ExportFiles(vec![leak.clone()]), 4),
        ("list garbled", At::List, always, Fault::Body(format!(r#"{{"exportFiles":["{leak}",1]}}"#)), 4),
        ("list empty", At::List, always, Fault::ExportFiles(vec![]), 4),
        ("part expired", At::Part(1), always, Fault::SasExpired, 4),
        ("part redirected", At::Part(1), always, Fault::Redirect(leak.clone()), 4),
        ("part refused", At::Part(1), always, Fault::Status(400), 4),
        // For ever, these end as in `faults::names_the_part`, after minutes.
        ("part damaged once", At::Part(1), 1, Fault::Short { bytes: 500 }, 0),
        ("part of another digest once", At::Part(1), 1, Fault::WrongMd5, 0),
        ("part reset once", At::Part(1), 1, Fault::Reset { after_bytes: 900 }, 0),
        ("part expired once", At::Part(1), 1, Fault::SasExpired, 0),
        ("unauthorised once", At::List, 1, Fault::Status(401), 0),
    ];
    for (name, at, times, fault, code) in cases {
        let (emulator, sandbox) = (emulator(), Sandbox::new());
        emulator.script(at, times, fault);
        let run = sandbox.ingest_via(&emulator, &["-vv"]);
        assert_eq!(run.code, code, "{name}: {}", run.stderr);
        assert_holds_no_secret(&emulator, &sandbox, &run);
        assert!(!run.stderr.contains("LEAK"), "{name}: {}", run.stderr);
    }
}

#[test]
fn failed_pages_show_no_secret() {
    // A page is kept as it came, so the link in it is none of the words that are searched for in the spool.
    let leak = "https://evil.example/p?$skiptoken=LEAK".to_owned();
    for fault in [
        Fault::NextLink(leak.clone()),
        Fault::Redirect(leak),
        Fault::Status(403),
        Fault::Body("<a sig=LEAK>".into()),
    ] {
        let (emulator, sandbox) = (emulator(), Sandbox::new());
        emulator.script(At::Page, 1, Fault::Nothing);
        emulator.script(At::Page, u32::MAX, fault);
        let run = sandbox.ingest_via(&emulator, &["-vv", "--via", "json", "--page-size", "100"]);
        assert!([3, 4].contains(&run.code), "{run:?}");
        assert_holds_no_secret(&emulator, &sandbox, &run);
        assert!(!run.stderr.contains("LEAK"), "{}", run.stderr);
    }
}

#[test]
fn a_secret_is_never_an_argument() {
    let run = Sandbox::new().run("ingest", &["--help"]).expect(0);
    assert!(!run.stdout.to_lowercase().contains("--client-secret") && !run.stdout.contains("password"));
}

/// The one secret of [`typed_secrets_are_never_shown`].
const TYPED: &str = "hunter2LOOKFORIT";

/// A command, its arguments, its environment and its configuration file.
type Typed<'a> = (&'a str, Vec<&'a str>, Vec<(&'a str, &'a str)>, String);

#[test]
fn typed_secrets_are_never_shown() {
    let url = format!("https://account.blob.core.windows.net/c/p?sv=1&sig={TYPED}");
    let userinfo = format!("https://user:{TYPED}@account.blob.core.windows.net/c");
    let s3 = format!("s3://AKIA:{TYPED}@bucket/x");
    let connection = format!("DefaultEndpointsProtocol=https;AccountName=a;AccountKey={TYPED}");
    let assigned = format!("--client-secret={TYPED}");
    let glued = format!("-p{TYPED}");
    let (url, userinfo, s3, connection) = (&*url, &*userinfo, &*s3, &*connection);
    let nowhere = ["--from", "nowhere"];
    // Each of these is a usage error.
    let places: Vec<&str> = vec![url, userinfo, s3, connection];
    let mut cases: Vec<Typed<'_>> = Vec::new();
    for place in &places {
        for command in ["ingest", "snapshots", "verify", "expire", "schema"] {
            let more: &[&str] = match command {
                "ingest" => &nowhere,
                "expire" => &["--keep-days", "1"],
                "schema" => &["--format", "duckdb"],
                _ => &[],
            };
            cases.push((command, [&["--lake", place][..], more].concat(), vec![], String::new()));
            cases.push((command, more.to_vec(), vec![("DEFENDER_LAKE", place)], String::new()));
        }
        cases.push(("ingest", vec![], vec![], format!("lake = \"{place}\"\nfrom = [\"x\"]\n")));
        cases.push(("ingest", vec!["--from", place], vec![], String::new()));
        cases.push(("ingest", vec!["--config", place], vec![], String::new()));
        cases.push(("ingest", vec!["--scope", place], vec![], String::new()));
        for (flag, variable) in [("--api-url", "DEFENDER_API_URL"), ("--login-url", "AZURE_AUTHORITY_HOST")] {
            cases.push(("ingest", vec![flag, place], vec![], String::new()));
            cases.push(("ingest", vec![], vec![(variable, place)], String::new()));
            cases.push(("ingest", vec![], vec![], format!("{} = \"{place}\"\n", &flag[2..])));
        }
    }
    for flag in [
        "--via",
        "--generated-time",
        "--dataset",
        "--cloud",
        "--auth",
        "--blob-host",
        "--sas-valid-hours",
        "--page-size",
        "--table",
        "--if-published",
        "--max-rejects",
        "--extra-fields",
        "--threads",
        "--downloads",
        "--memory",
        "--progress",
        "--log-format",
        "--client-secret",
        "--sig",
    ] {
        let value = if flag == "--blob-host" { url } else { TYPED };
        cases.push(("ingest", vec![flag, value], vec![], String::new()));
        cases.push(("ingest", vec![], vec![], format!("{} = \"{value}\"\n", &flag[2..])));
        cases.push(("ingest", vec![], vec![], format!("{} = {TYPED}\n", &flag[2..])));
    }
    for args in [vec![&*assigned], vec![&*glued], vec![TYPED], vec!["--quiet=hunter2LOOKFORIT"]] {
        for command in ["ingest", "snapshots", "verify", "expire", "schema", "completions"] {
            cases.push((command, args.clone(), vec![], String::new()));
        }
    }
    cases.push((TYPED, vec![], vec![], String::new()));
    cases.push(("verify", vec!["--date", TYPED], vec![], String::new()));
    cases.push(("ingest", vec![], vec![], format!("client-secret = \"{TYPED}\"\n")));
    cases.push(("ingest", vec![], vec![], format!("[azure]\nsecret = \"{TYPED}\"\n")));
    cases.push(("ingest", vec![], vec![], format!("lake = \"{TYPED}\nthreads = 1\n")));
    cases.push(("ingest", vec![], vec![], format!("lake = \"x\"\nlake = \"{TYPED}\"\n")));
    cases.push(("ingest", vec![], vec![], format!("from = [\"x\", {{ a = \"{TYPED}\" }}]\n")));
    for (index, (command, args, env, config)) in cases.iter().enumerate() {
        let sandbox = Sandbox::new();
        let path = sandbox.path().join("config.toml");
        std::fs::write(&path, config).unwrap();
        let loud: &[&[&str]] = match *command {
            // Two of the four in turn: each is a start of the program.
            "ingest" | "verify" | "expire" if index % 2 == 0 => &[&["-q"], &["-vv", "--log-format", "json"]],
            "ingest" | "verify" | "expire" => &[&[], &["-vv"]],
            _ => &[&[]],
        };
        for more in loud {
            let mut command = sandbox.command(command);
            if !config.is_empty() {
                command.arg("--config").arg(&path).env_remove("DEFENDER_LAKE");
            }
            command.args(args.iter().chain(*more)).envs(env.iter().copied());
            // A case that is not a usage error meets no service.
            command
                .env("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9")
                .env("PATH", sandbox.path());
            let run = Run::of(command.output().unwrap());
            assert_eq!(run.code, 2, "{args:?} {env:?} {config}: {run:?}");
            assert!(
                !run.stdout.contains(TYPED) && !run.stderr.contains(TYPED),
                "{args:?} {env:?} {config}: {run:?}"
            );
            assert!(run.stderr.starts_with("error: ") && run.stderr.lines().count() == 1, "{run:?}");
        }
    }
}

#[test]
fn help_shows_no_value_of_the_environment() {
    for command in ["ingest", "snapshots", "verify", "expire", "schema"] {
        let sandbox = Sandbox::new();
        let mut command = sandbox.command(command);
        let url = format!("https://h/?sig={TYPED}");
        command.env("DEFENDER_LAKE", &url).env("DEFENDER_API_URL", &url).env("AZURE_AUTHORITY_HOST", &url);
        let run = Run::of(command.arg("--help").output().unwrap()).expect(0);
        assert!(!run.stdout.contains(TYPED), "{}", run.stdout);
    }
}
