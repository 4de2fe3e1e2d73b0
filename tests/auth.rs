//! Who we are: every way to sign in, what is said where none works, and what a refusal is explained by.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use fixtures::{At, Emulator, EmulatorOptions, Fault};

use crate::support::{Run, Sandbox, tenant};

/// A run without the application's secret, to which a case adds what it is about.
fn command(sandbox: &Sandbox, emulator: &Emulator) -> Command {
    let mut command = sandbox.ingest_command(emulator, &["--dry-run"]);
    for name in ["AZURE_CLIENT_SECRET", "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT"] {
        command.env_remove(name);
    }
    // No Azure CLI, and no machine's identity service, of whoever runs the tests.
    command.env("PATH", sandbox.path()).env("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9");
    command
}

fn run(command: &mut Command) -> Run {
    let run = Run::of(command.output().unwrap());
    for secret in [Emulator::CLIENT_SECRET, Emulator::FEDERATED_TOKEN, Emulator::IDENTITY_HEADER, "eyJ"] {
        assert!(!run.stdout.contains(secret) && !run.stderr.contains(secret), "{secret}: {run:?}");
    }
    run
}

fn signed_in_by(run: Run, auth: &str) {
    let run = run.expect(0);
    assert!(run.stderr.contains(&format!("signed in auth=\"{auth}\"")), "{}", run.stderr);
}

fn write(path: &Path, text: &str) -> String {
    std::fs::write(path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Puts a program named `az` on the path of [`command`].
fn install_azure_cli(sandbox: &Sandbox, script: &str) {
    let path = sandbox.path().join("az");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn print_token(token: &str) -> String {
    format!("echo '{{\"accessToken\":\"{token}\",\"expires_on\":4102444800,\"tokenType\":\"Bearer\"}}'")
}

#[test]
fn a_secret_signs_in_and_comes_first() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    let mut command = command(&sandbox, &emulator);
    command.env("AZURE_CLIENT_SECRET", Emulator::CLIENT_SECRET).env("AZURE_FEDERATED_TOKEN_FILE", "/nowhere");
    signed_in_by(run(&mut command), "client-secret");
}

#[test]
fn a_certificate_signs_in() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    let path = write(&sandbox.path().join("application.pem"), Emulator::CERTIFICATE_PEM);
    for args in [&[][..], &["--auth", "client-certificate"]] {
        let mut command = command(&sandbox, &emulator);
        signed_in_by(
            run(command.args(args).env("AZURE_CLIENT_CERTIFICATE_PATH", &path)),
            "client-certificate",
        );
    }
}

#[test]
fn a_strangers_certificate_is_refused() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    let path = write(&sandbox.path().join("stranger.pem"), Emulator::STRANGERS_PEM);
    let run = run(command(&sandbox, &emulator).env("AZURE_CLIENT_CERTIFICATE_PATH", path)).expect(3);
    assert!(run.error().contains("401: AADSTS700027"), "{}", run.error());
}

#[test]
fn what_is_no_certificate_says_what_it_is() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    let half = Emulator::CERTIFICATE_PEM.split_once("-----BEGIN CERTIFICATE").unwrap().0;
    for (text, expected) in [
        (half, "holds no certificate"),
        ("nothing", "holds no unencrypted private key"),
        ("", "holds no unencrypted private key"),
    ] {
        let path = write(&sandbox.path().join("half.pem"), text);
        let run = run(command(&sandbox, &emulator).env("AZURE_CLIENT_CERTIFICATE_PATH", path)).expect(3);
        assert!(run.error().contains(expected), "{}", run.error());
    }
    let run = run(command(&sandbox, &emulator).env("AZURE_CLIENT_CERTIFICATE_PATH", "/nowhere")).expect(3);
    assert!(run.error().contains("cannot read /nowhere: No such file"), "{}", run.error());
}

#[test]
fn a_workload_signs_in() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    let path = write(&sandbox.path().join("token"), Emulator::FEDERATED_TOKEN);
    signed_in_by(
        run(command(&sandbox, &emulator).env("AZURE_FEDERATED_TOKEN_FILE", &path)),
        "workload-identity",
    );
}

#[test]
fn a_managed_identity_signs_in() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    // As on App Service, which says where its identity service is.
    let mut on_app_service = command(&sandbox, &emulator);
    on_app_service
        .env("IDENTITY_ENDPOINT", format!("{}/metadata/identity/oauth2/token", emulator.api_url()))
        .env("IDENTITY_HEADER", Emulator::IDENTITY_HEADER);
    signed_in_by(run(&mut on_app_service), "managed-identity");
    // As on a virtual machine, where it has one address everywhere.
    let mut on_machine = command(&sandbox, &emulator);
    signed_in_by(
        run(on_machine.env("AZURE_POD_IDENTITY_AUTHORITY_HOST", emulator.api_url())),
        "managed-identity",
    );
}

#[test]
fn the_azure_cli_signs_in_where_nothing_else_does() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    install_azure_cli(&sandbox, &print_token(&emulator.user_token(&["User.Read", "Software.Read"])));
    signed_in_by(run(&mut command(&sandbox, &emulator)), "azure-cli");
}

#[test]
fn where_nothing_works_each_way_says_why() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    let run1 = run(&mut command(&sandbox, &emulator)).expect(3);
    assert_eq!(
        run1.error(),
        "error: no credentials: client-secret: AZURE_CLIENT_SECRET not set; client-certificate: \
         AZURE_CLIENT_CERTIFICATE_PATH not set; workload-identity: AZURE_FEDERATED_TOKEN_FILE not set; \
         managed-identity: this machine has no identity service; azure-cli: az not found on PATH; hint: set \
         AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET of an app registration, or sign in with `az login`"
    );
    install_azure_cli(&sandbox, "echo \"ERROR: Please run 'az login' to setup account.\" >&2; exit 1");
    let mut command = command(&sandbox, &emulator);
    let run2 = run(command.args(["--auth", "azure-cli"])).expect(3);
    assert_eq!(
        run2.error(),
        "error: --auth azure-cli: Please run 'az login' to setup account.; hint: sign in with `az login`"
    );
    assert!(!emulator.calls().iter().any(|call| call.path.starts_with("/api/")));
}

#[test]
fn half_an_app_registration_is_named() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    let mut command = command(&sandbox, &emulator);
    command.env("AZURE_CLIENT_SECRET", Emulator::CLIENT_SECRET).env_remove("AZURE_CLIENT_ID");
    let run = run(&mut command).expect(3);
    assert!(
        run.error().starts_with("error: no credentials: AZURE_CLIENT_ID not set; hint: "),
        "{}",
        run.error()
    );
}

#[test]
fn a_wrong_secret_is_not_stepped_over() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    install_azure_cli(&sandbox, &print_token(&emulator.user_token(&["Software.Read"])));
    let run = run(command(&sandbox, &emulator).env("AZURE_CLIENT_SECRET", "another")).expect(3);
    assert!(run.error().contains("401: AADSTS7000215: Invalid client secret provided."), "{}", run.error());
}

#[test]
fn a_missing_role_is_named_beside_those_the_token_has() {
    let roles = vec!["Machine.Read.All".to_owned(), "Alert.Read.All".to_owned()];
    let emulator = Emulator::start(EmulatorOptions { roles, ..EmulatorOptions::new(tenant(3)) });
    let sandbox = Sandbox::new();
    let run = sandbox.ingest_via(&emulator, &[]).expect(3);
    let expected = "hint: the application needs the permission Software.Read.All of WindowsDefenderATP, with admin \
                    consent; it has: Machine.Read.All, Alert.Read.All";
    assert!(run.error().ends_with(expected), "{}", run.error());
    assert!(
        run.error().contains("/api/machines/SoftwareInventoryExport: 403: Forbidden: "),
        "{}",
        run.error()
    );
    assert!(sandbox.lake_listing().is_empty());
}

#[test]
fn a_signed_in_user_is_told_the_delegated_permission() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    install_azure_cli(&sandbox, &print_token(&emulator.user_token(&["Machine.Read"])));
    let run = run(&mut command(&sandbox, &emulator)).expect(3);
    let expected = "hint: the signed-in user's token needs the permission Software.Read of WindowsDefenderATP, with \
                    admin consent; it has: Machine.Read";
    assert!(run.error().ends_with(expected), "{}", run.error());
}

#[test]
fn a_wrong_audience_is_told_apart() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    let scope = "https://api.security.microsoft.com/.default";
    let run = sandbox.ingest_via(&emulator, &["--scope", scope]).expect(3);
    let expected = "hint: the token is for https://api.security.microsoft.com, which is not the audience that this API \
                    takes: check --scope and --cloud (worldwide it is https://api.securitycenter.microsoft.com/.default, \
                    whatever the host of --api-url)";
    assert!(run.error().ends_with(expected), "{}", run.error());
}

#[test]
fn a_token_refused_mid_run_is_renewed_once() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    emulator.script(At::List, 1, Fault::Status(401));
    let run = sandbox.ingest_via(&emulator, &[]).expect(0);
    assert!(run.stderr.contains("token refused, asking for a new one"), "{}", run.stderr);
    let tokens = emulator.calls().iter().filter(|call| call.path.ends_with("/token")).count();
    assert_eq!(tokens, 2);

    let sandbox = Sandbox::new();
    emulator.script(At::List, u32::MAX, Fault::Status(401));
    let run = sandbox.ingest_via(&emulator, &[]).expect(3);
    assert!(run.error().contains("401: Unauthorized"), "{}", run.error());
    assert!(sandbox.lake_listing().is_empty());
}

#[test]
fn an_authority_that_is_down_is_asked_again() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    emulator.script(At::Token, 1, Fault::Status(503));
    sandbox.ingest_via(&emulator, &[]).expect(0);
}

/// A blob server that holds nothing; what it was sent in the way of credentials goes to the channel.
fn empty_container() -> (u16, std::sync::mpsc::Receiver<String>) {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, credentials) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            for line in lines.take_while(|line| !line.is_empty()) {
                if let Some(credential) = line.strip_prefix("authorization: ") {
                    sender.send(credential.to_owned()).unwrap();
                }
            }
            let body = "<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>";
            let head = format!(
                "Content-Type: application/xml\r\nContent-Length: {}\r\nConnection: close",
                body.len()
            );
            write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}").unwrap();
        }
    });
    (port, credentials)
}

#[test]
fn a_lake_on_azure_is_signed_in_to_as_the_api_is() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    let (port, credentials) = empty_container();
    let mut command = sandbox.command("verify");
    command.envs(emulator.env()).env("DEFENDER_LAKE", "abfss://lake@account.dfs.core.windows.net/some");
    command.env("AZURE_STORAGE_ENDPOINT", format!("http://127.0.0.1:{port}"));
    signed_in_by(run(&mut command), "client-secret");
    let credentials: Vec<_> = credentials.try_iter().collect();
    assert!(!credentials.is_empty());
    assert!(
        credentials.iter().all(|credential| credential.starts_with("Bearer eyJ")),
        "tokens and nothing else"
    );
}

#[test]
fn a_lake_on_azure_without_credentials_is_exit_3() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    let mut command = sandbox.command("verify");
    command.envs(emulator.env()).env("DEFENDER_LAKE", "abfss://lake@account.dfs.core.windows.net/some");
    command.env("PATH", sandbox.path()).env("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9");
    for name in ["AZURE_CLIENT_SECRET", "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT"] {
        command.env_remove(name);
    }
    let run = run(&mut command).expect(3);
    assert!(
        run.error().contains("no credentials: client-secret: AZURE_CLIENT_SECRET not set"),
        "{}",
        run.error()
    );
    assert!(run.error().contains("hint: check the store's credentials"), "{}", run.error());
}
