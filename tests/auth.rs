//! Who we are: every way to sign in, what is said where none works, and what a refusal is explained by.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use fixtures::{At, Emulator, EmulatorOptions, Fault};

use crate::support::{Run, Sandbox, tenant, unlimited};

/// A run without the application's secret, to which a case adds what it is about.
fn command(sandbox: &Sandbox, emulator: &Emulator) -> Command {
    let mut command = sandbox.ingest_command(emulator, &["--dry-run"]);
    for name in ["AZURE_CLIENT_SECRET", "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT"] {
        command.env_remove(name);
    }
    // Neither the Azure CLI nor the identity service of the machine that runs the tests.
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
fn invalid_certificate_file_says_what_it_is() {
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
    let expected = "hint: check --scope and --cloud: the token is for https://api.security.microsoft.com, which this \
                    API does not accept (the scope of the worldwide cloud is \
                    https://api.securitycenter.microsoft.com/.default, independent of --api-url)";
    assert!(run.error().ends_with(expected), "{}", run.error());
}

#[test]
fn a_token_refused_mid_run_is_renewed_once() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    emulator.script(At::List, 1, Fault::Status(401));
    let run = sandbox.ingest_via(&emulator, &[]).expect(0);
    assert!(run.stderr.contains("token refused, requesting a new one"), "{}", run.stderr);
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

/// Something at the address of the machine's identity service; where the answer is empty it gives none.
fn identity_service(answer: &'static str) -> String {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut waiting = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let _ = stream.write_all(answer.as_bytes());
            if answer.is_empty() {
                waiting.push(stream);
            }
        }
    });
    url
}

const END: &str = "Connection: close\r\n\r\n";

#[test]
fn odd_answers_are_not_an_identity_service() {
    let emulator = unlimited(tenant(3));
    for answer in [
        "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n<html>sign in</html>",
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n{\"message\":\"Not Found\"}",
        "HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\n\r\n<html>",
        "HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<html>welcome</html>",
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n{\"error\":\"invalid_request\",\"error_description\":\"Identity not found\"}",
        "ICY 200 OK\r\n\r\n",
        "",
    ] {
        let sandbox = Sandbox::new();
        install_azure_cli(&sandbox, &print_token(&emulator.user_token(&["Software.Read"])));
        let mut command = command(&sandbox, &emulator);
        signed_in_by(
            run(command.env("AZURE_POD_IDENTITY_AUTHORITY_HOST", identity_service(answer))),
            "azure-cli",
        );
    }
}

#[test]
fn odd_answer_is_said_where_nothing_works() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    let url = identity_service("HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n<html>");
    let run = run(command(&sandbox, &emulator).env("AZURE_POD_IDENTITY_AUTHORITY_HOST", &url)).expect(3);
    let expected = format!(
        "; managed-identity: not an identity service: GET {url}/metadata/identity/oauth2/token: 403: no reason given; \
         azure-cli: az not found on PATH; hint: "
    );
    assert!(run.error().contains(&expected), "{}", run.error());
}

#[test]
fn managed_identity_keeps_the_exact_error() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    install_azure_cli(&sandbox, &print_token(&emulator.user_token(&["Software.Read"])));
    for (answer, code, said) in [
        (
            "HTTP/1.1 403 Forbidden\r\n",
            3,
            "403: no reason given; hint: check the AZURE_* variables, --login-url and --scope",
        ),
        (
            "HTTP/1.1 200 OK\r\n",
            4,
            "response contains no access token; hint: check --login-url and the network",
        ),
    ] {
        let url = identity_service(format!("{answer}{END}<html>").leak());
        let mut command = command(&sandbox, &emulator);
        command.args(["--auth", "managed-identity"]).env("AZURE_POD_IDENTITY_AUTHORITY_HOST", &url);
        let run = run(&mut command).expect(code);
        assert_eq!(run.error(), format!("error: GET {url}/metadata/identity/oauth2/token: {said}"));
    }
    let mut command = command(&sandbox, &emulator);
    let run = run(command.args(["--auth", "managed-identity"])).expect(3);
    let expected = "error: --auth managed-identity: this machine has no identity service: GET \
                    http://127.0.0.1:9/metadata/identity/oauth2/token: ";
    assert!(run.error().starts_with(expected), "{}", run.error());
}

#[test]
fn busy_identity_service_is_asked_again() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    emulator.script(At::Token, 2, Fault::Status(503));
    let mut command = command(&sandbox, &emulator);
    signed_in_by(
        run(command.env("AZURE_POD_IDENTITY_AUTHORITY_HOST", emulator.api_url())),
        "managed-identity",
    );
}

#[test]
fn azure_arc_is_stepped_over() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    install_azure_cli(&sandbox, &print_token(&emulator.user_token(&["Software.Read"])));
    let on_arc = || {
        let mut command = command(&sandbox, &emulator);
        command.env("IDENTITY_ENDPOINT", "http://127.0.0.1:9/x").env("IMDS_ENDPOINT", "http://127.0.0.1:9");
        command
    };
    signed_in_by(run(&mut on_arc()), "azure-cli");
    let run = run(on_arc().args(["--auth", "managed-identity"])).expect(3);
    let expected =
        "error: cannot use the credentials: the managed identity of Azure Arc is not supported; hint: ";
    assert!(run.error().starts_with(expected), "{}", run.error());
}

#[test]
fn empty_variables_are_absent() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    let mut command = command(&sandbox, &emulator);
    for name in [
        "AZURE_CLIENT_SECRET",
        "AZURE_CLIENT_CERTIFICATE_PATH",
        "AZURE_FEDERATED_TOKEN_FILE",
        "IDENTITY_ENDPOINT",
        "IDENTITY_HEADER",
        "IDENTITY_SERVER_THUMBPRINT",
        "IMDS_ENDPOINT",
        "MSI_ENDPOINT",
        "MSI_SECRET",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "DEFENDER_LEASE_SECS",
        "DEFENDER_LAKE",
        "XDG_CACHE_HOME",
    ] {
        command.env(name, "");
    }
    signed_in_by(
        run(command.env("AZURE_POD_IDENTITY_AUTHORITY_HOST", emulator.api_url())),
        "managed-identity",
    );
}

#[test]
fn line_ends_behind_secrets_are_cut() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    for end in ["\n", "\r\n"] {
        let mut command = command(&sandbox, &emulator);
        command.env("AZURE_CLIENT_ID", format!("{}{end}", emulator.client_id()));
        signed_in_by(
            run(command.env("AZURE_CLIENT_SECRET", format!("{}{end}", Emulator::CLIENT_SECRET))),
            "client-secret",
        );
    }
    let path = write(&sandbox.path().join("token"), &format!("{}\r\n", Emulator::FEDERATED_TOKEN));
    signed_in_by(
        run(command(&sandbox, &emulator).env("AZURE_FEDERATED_TOKEN_FILE", &path)),
        "workload-identity",
    );
    for (path, said) in [
        (write(&sandbox.path().join("token"), "\n"), "is empty"),
        ("/nowhere".to_owned(), "No such file or directory (os error 2)"),
    ] {
        let run = run(command(&sandbox, &emulator).env("AZURE_FEDERATED_TOKEN_FILE", path)).expect(3);
        assert!(
            run.error().contains("cannot use the credentials: AZURE_FEDERATED_TOKEN_FILE: "),
            "{}",
            run.error()
        );
        assert!(run.error().contains(said), "{}", run.error());
    }
}

#[test]
fn noise_of_the_azure_cli_is_passed_over() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    let token = print_token(&emulator.user_token(&["Software.Read"]));
    install_azure_cli(&sandbox, &format!("echo 'WARNING: {{preview}}'; echo 'WARNING: x' >&2; {token}"));
    signed_in_by(run(&mut command(&sandbox, &emulator)), "azure-cli");
}

#[test]
fn last_words_of_the_azure_cli_are_the_reason() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    for (script, said) in [
        (
            "printf 'Traceback (most recent call last):\\n  File \"x\"\\nModuleNotFoundError: no azure\\n' >&2; exit 1",
            "ModuleNotFoundError: no azure",
        ),
        (
            "echo '{\"accessToken\":\"opaque-secret\"'; echo 'WARNING: x' >&2",
            "`az` printed no token; it said: WARNING: x",
        ),
        ("echo 'ERROR: token eyJhbGciOi.a.b is old' >&2; exit 1", "token … is old"),
        ("printf 'ERROR: \\033[31mred\\n' >&2; exit 1", "[31mred"),
    ] {
        install_azure_cli(&sandbox, script);
        let mut command = command(&sandbox, &emulator);
        let run = run(command.args(["--auth", "azure-cli"])).expect(3);
        assert_eq!(run.error(), format!("error: --auth azure-cli: {said}; hint: sign in with `az login`"));
        assert!(!run.stderr.contains("opaque-secret"), "{}", run.stderr);
    }
}

#[test]
fn connection_string_is_named_as_unread() {
    let sandbox = Sandbox::new();
    let secret = "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=bG9vay1mb3ItaXQ=";
    let snapshots = |name: &str| {
        let mut command = sandbox.command("snapshots");
        command.env("DEFENDER_LAKE", "az://c/p").env("AZURE_STORAGE_ACCOUNT_NAME", "a").env(name, secret);
        command.env("PATH", sandbox.path()).env("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9");
        command
    };
    for name in ["AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_KEY"] {
        let run = run(&mut snapshots(name)).expect(2);
        assert_eq!(
            run.error(),
            format!(
                "error: {name}: not supported; hint: set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, and \
                 AZURE_STORAGE_ACCOUNT_NAME with az://"
            )
        );
    }
    let mut other = snapshots("AZURE_STORAGE_CONNECTION_STRING");
    other.env("AZURE_STORAGE_ACCOUNT_KEY", "eA==").env("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:9");
    let run = Run::of(other.output().unwrap()).expect(6);
    assert!(
        run.stderr.contains("WARN AZURE_STORAGE_CONNECTION_STRING is not supported and ignored"),
        "{}",
        run.stderr
    );
    assert!(!run.stderr.contains("bG9v"), "{}", run.stderr);
}
