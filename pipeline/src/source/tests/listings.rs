//! Listings, and the signed URLs that they give.

use super::*;

#[tokio::test]
async fn part_in_another_spelling_is_not_fetched_again() {
    let world = World::new().await;
    world.list(&["/c/OrgId=1/p"]);
    world.blobs.on("/c/OrgId=1/p", [reply(200, "x")]);
    world.blobs.on("/c/OrgId%3d1/p", [reply(200, "x")]);
    world.run(&world.files()).await.unwrap();
    world.list(&["/c/OrgId%3d1/p"]);
    assert_eq!(world.run(&world.files()).await.unwrap().1, [part("c/OrgId=1/p", "x")]);
    assert_eq!(world.blobs.all_requests().len(), 1);

    world.list(&["/c/OrgId%3D1/p", "/c/OrgId=1/p"]);
    let err = world.fails(&world.files()).await;
    assert_eq!(err.to_string(), "the export lists c/OrgId%3D1/p twice, also spelled c/OrgId=1/p");
    assert_eq!(err.exit_code(), ExitCode::Source);
}

#[tokio::test]
async fn listing_in_another_spelling_has_the_same_parts() {
    let world = World::new().await;
    let listing = |path: &str| {
        let url = world.blobs.at(&format!("{path}?sig=SIGNATURE"));
        let body = serde_json::json!({ "exportFiles": [url], "generatedTime": "2021-01-11T11:01:00Z" });
        reply(200, body.to_string())
    };
    world.api.on(LISTING, [listing("/c/OrgId=1/p"), listing("/c/OrgId%3D1/p")]);
    let expired = "<Error><Code>AuthenticationFailed</Code><AuthenticationErrorDetail>Signature not valid in the \
                   specified time frame</AuthenticationErrorDetail></Error>";
    world.blobs.on("/c/OrgId=1/p", [reply(403, expired)]);
    world.blobs.on("/c/OrgId%3D1/p", [reply(200, "x")]);
    assert_eq!(world.run(&world.files()).await.unwrap().1.len(), 1);
}

#[tokio::test]
async fn permanent_refusal_of_storage_is_not_retried() {
    let coded = |status, code: &str| reply(status, "").header("x-ms-error-code", code);
    let xml = |status, code: &str| reply(status, format!("\u{feff}<Error><Code>{code}</Code></Error>"));
    let network = ": the storage account refuses this network";
    let cases = [
        (coded(403, "AuthorizationFailure"), "403: AuthorizationFailure", network),
        (xml(403, "AuthorizationFailure"), "403: AuthorizationFailure", network),
        (xml(403, "AuthorizationSourceIPMismatch"), "403: AuthorizationSourceIPMismatch", network),
        (coded(403, "IpAuthorizationFailure"), "403: IpAuthorizationFailure", network),
        (coded(403, "AuthorizationPermissionMismatch"), "403: AuthorizationPermissionMismatch", ""),
        (coded(409, "PublicAccessNotPermitted"), "409: PublicAccessNotPermitted", ""),
        (coded(401, "NoAuthenticationInformation"), "401: NoAuthenticationInformation", ""),
    ];
    for (refusal, expected, reason) in cases {
        let world = World::new().await;
        world.list(&["/c/p"]);
        world.blobs.on("/c/p", [refusal]);
        let err = world.fails(&world.files()).await;
        assert!(chain(&err).ends_with(&format!("/c/p: {expected}{reason}")), "{}", chain(&err));
        assert_eq!(err.exit_code(), ExitCode::Source);
        assert_eq!(world.api.requests(LISTING).len(), 1, "{expected}");
        assert_eq!(world.blobs.all_requests().len(), 1, "{expected}");
        let hint = err.hint().unwrap();
        let expected_hint = match (reason, expected) {
            ("", "403: AuthorizationPermissionMismatch") => {
                "run again to list the export again; completed parts are kept"
            }
            ("", _) => {
                "check whether a proxy strips the query from download urls: storage saw no signature; completed parts are kept"
            }
            _ => {
                "run from a network that the account's firewall allows; check vpn, private endpoint and proxy; \
                 completed parts are kept"
            }
        };
        assert_eq!(hint, expected_hint);
    }
}

#[tokio::test]
async fn expired_signature_lists_again_until_the_bound() {
    let end =
        |hours: i64| (Utc::now() + chrono::TimeDelta::hours(hours)).format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let failed = || reply(403, "<Error><Code>AuthenticationFailed</Code></Error>");
    let firewall = || reply(403, "").header("x-ms-error-code", "AuthorizationFailure");
    // Refusals, hours that the URLs have left, then listings and requests.
    let cases = [
        ("too new for a clock", failed(), 1, 2, 4),
        ("a proxy's page", reply(403, "<html>"), 1, 1, 4),
        ("ended, and a firewall that lasts", firewall(), -1, 3, 4),
    ];
    for (name, refusal, hours, num_listings, num_requests) in cases {
        let world = World::new().await;
        let url = world.blobs.at(&format!("/c/p?se={}&sig=SIGNATURE", end(hours)));
        let body = serde_json::json!({ "exportFiles": [url], "generatedTime": "2021-01-11T11:01:00Z" });
        world.api.on(LISTING, [reply(200, body.to_string())]);
        world.blobs.on("/c/p", [refusal]);
        let err = world.fails(&world.files()).await;
        assert_eq!(err.exit_code(), ExitCode::Source, "{name}");
        assert_eq!(world.api.requests(LISTING).len(), num_listings, "{name}");
        assert_eq!(world.blobs.all_requests().len(), num_requests, "{name}");
        assert!(err.hint().is_some(), "{name}");
    }
}

#[tokio::test]
async fn option_that_the_service_refuses_is_named() {
    let world = World::new().await;
    let refusal = || reply(400, r#"{"error":{"code":"InvalidInput","message":"Invalid value."}}"#);
    world.api.on(LISTING, [refusal()]);
    world.api.on(PAGES, [refusal()]);
    let mut long = world.files();
    let RouteConfig::Service(service) = &mut long.route else { unreachable!("the service's") };
    service.sas_valid_hours = 24;
    for (config, expected) in [
        (
            long,
            "pass --sas-valid-hours 6 instead of 24: several of the service's calls allow 6 hours at most",
        ),
        (world.files(), "pass a lower value if the service does not allow --sas-valid-hours 6"),
        (world.json(), "pass a lower value if the service does not allow --page-size 2"),
    ] {
        let err = world.fails(&config).await;
        assert!(err.to_string().ends_with("400: InvalidInput: Invalid value."), "{err}");
        assert_eq!(err.hint().unwrap(), expected);
        assert_eq!(err.exit_code(), ExitCode::Source);
        let planned = sources(&config, world.work_dir.path()).plan(dataset()).await.unwrap_err();
        assert_eq!(planned.hint().unwrap(), expected);
    }
}

#[tokio::test]
async fn urls_are_renewed_by_their_path() {
    let world = World::new().await;
    let end =
        |secs: i64| (Utc::now() + chrono::TimeDelta::seconds(secs)).format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let listing = |ends_in: i64, paths: &[&str]| {
        let at = |path: &&str| world.blobs.at(&format!("{path}?se={}&sig=SIGNATURE{ends_in}", end(ends_in)));
        let urls: Vec<_> = paths.iter().map(at).collect();
        reply(
            200,
            serde_json::json!({ "exportFiles": urls, "generatedTime": "2021-01-11T11:01:00Z" }).to_string(),
        )
    };
    // The first part takes so long that the others' URLs are in the second half of their life by then; the
    // new listing has them in another order.
    world.api.on(LISTING, [listing(3, &["/a/p", "/b/p"]), listing(7200, &["/b/p", "/a/p"])]);
    let busy = || reply(503, "");
    world.blobs.on("/a/p", [busy(), busy(), reply(200, "a").after(Duration::from_secs(2))]);
    world.blobs.on("/b/p", [reply(200, "b")]);
    let mut config = world.files();
    config.downloads = NonZeroUsize::MIN;
    config.min_throughput.window = Duration::from_secs(10);
    let (_, parts) = world.run(&config).await.unwrap();
    assert_eq!(parts, [part("a/p", "a"), part("b/p", "b")]);
    assert_eq!(world.api.requests(LISTING).len(), 2);
    assert!(world.blobs.requests("/b/p")[0].contains("sig=SIGNATURE7200"));
}

#[tokio::test]
async fn another_snapshot_ends_the_delivery() {
    let world = World::new().await;
    let listing = |time: &str, paths: &[&str]| {
        let urls: Vec<_> =
            paths.iter().map(|path| world.blobs.at(&format!("{path}?sig=SIGNATURE"))).collect();
        reply(200, serde_json::json!({ "exportFiles": urls, "generatedTime": time }).to_string())
    };
    let expired = "<Error><Code>AuthenticationFailed</Code><AuthenticationErrorDetail>Signature not valid in the \
                   specified key time frame</AuthenticationErrorDetail></Error>";
    world.blobs.on("/c/p", [reply(403, expired)]);
    let first = || listing("2021-01-11T11:01:00Z", &["/c/p"]);
    world.api.on(LISTING, [first(), listing("2021-01-11T17:01:00Z", &["/c/p"])]);
    let err = world.fails(&world.files()).await;
    assert!(err.is_other_snapshot());
    assert_eq!(
        err.to_string(),
        "the export was regenerated during the download: expected snapshot 2021-01-11T11:01:00Z, \
         found 2021-01-11T17:01:00Z; snapshots are never mixed"
    );
    assert_eq!(err.exit_code(), ExitCode::Source);
    world.api.on(LISTING, [first(), listing("2021-01-11T11:01:00Z", &["/c/p", "/c/q"])]);
    let err = world.fails(&world.files()).await;
    assert_eq!(err.to_string(), "the export now lists c/q, which an earlier listing lacked");
    assert!(err.is_other_snapshot());
}

#[tokio::test]
async fn parts_on_other_hosts_are_never_requested() {
    let world = World::new().await;
    let body =
        r#"{"exportFiles":["http://evil.example/p?sig=SIGNATURE"],"generatedTime":"2021-01-11T11:01:00Z"}"#;
    world.api.on(LISTING, [reply(200, body)]);
    let err = world.fails(&world.files()).await;
    assert_eq!(err.to_string(), "part http://evil.example/p is not fetched: only https is allowed");
    assert_eq!(err.exit_code(), ExitCode::Source);
    assert!(err.hint().unwrap().contains("--blob-host"));
}

#[tokio::test]
async fn empty_export_and_redirects_end_the_run() {
    let world = World::new().await;
    world.list(&[]);
    let err = world.fails(&world.files()).await;
    assert_eq!(err.to_string(), "the export lists no files; nothing published");
    assert_eq!(err.exit_code(), ExitCode::Source);

    world.api.on(LISTING, [reply(307, "").header("location", world.blobs.at("/x?sig=SIGNATURE"))]);
    let err = world.fails(&world.files()).await;
    assert!(err.to_string().ends_with("307 redirects to 127.0.0.1; redirects are not followed"), "{err}");
    assert!(world.blobs.all_requests().is_empty());
}
