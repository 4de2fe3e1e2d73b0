//! What the API and its authority refuse.

use super::*;

#[tokio::test]
async fn refused_token_is_renewed_once() {
    let world = World::new().await;
    world.list(&["/c/p"]);
    world.blobs.on("/c/p", [reply(200, "x")]);
    let listing = world.api.at(LISTING);
    assert!(listing.ends_with(LISTING));
    let body = serde_json::json!({
        "exportFiles": [world.blobs.at("/c/p?sig=SIGNATURE")], "generatedTime": "2021-01-11T11:01:00Z"
    });
    world.api.on(LISTING, [reply(401, ""), reply(200, body.to_string())]);
    world.run(&world.files()).await.unwrap();
    let requests = world.api.requests(LISTING);
    assert!(requests[0].contains("bearer token-1") && requests[1].contains("bearer token-2"), "{requests:?}");

    world.api.on(
        LISTING,
        [reply(
            401,
            r#"{"error":{"code":"Unauthorized","message":"bad TOKEN-9 eyJ.a"}}"#.replace("TOKEN-9 ", ""),
        )],
    );
    let err = world.fails(&world.files()).await;
    assert_eq!(err.exit_code(), ExitCode::NotAuthorised);
    assert!(err.to_string().ends_with("401: Unauthorized: bad …"), "{err}");
    assert_eq!(world.api.requests(LISTING).len(), 4, "one renewal");
}

#[tokio::test]
async fn datasets_of_a_run_share_one_token() {
    let world = World::new().await;
    world.list(&["/c/p"]);
    let config = world.files();
    let sources = sources(&config, world.work_dir.path());
    assert_eq!(sources.sign_in().await.unwrap(), None, "opaque");
    for _ in 0..3 {
        sources.plan(dataset()).await.unwrap();
    }
    assert_eq!(world.login.requests(TOKEN).len(), 1);
    world.login.on(TOKEN, [token("TOKEN-2", 0), token("TOKEN-3", 3600)]);
    let sources = super::sources(&config, world.work_dir.path());
    sources.sign_in().await.unwrap();
    sources.plan(dataset()).await.unwrap();
    sources.plan(dataset()).await.unwrap();
    assert_eq!(world.login.requests(TOKEN).len(), 3, "renewed when it had run out");
}

#[tokio::test]
async fn missing_permission_is_named() {
    let world = World::new().await;
    world.api.on(LISTING, [reply(403, r#"{"error":{"code":"Forbidden","message":"no","target":"t-1"}}"#)]);
    let err = world.fails(&world.files()).await;
    assert_eq!(err.exit_code(), ExitCode::NotAuthorised);
    assert!(err.to_string().ends_with("403: Forbidden: no (target t-1)"), "{err}");
    let hint = err.hint().unwrap();
    assert!(hint.contains("Software.Read.All") && hint.contains("Software.Read)"), "{hint}");
    assert_eq!(world.api.requests(LISTING).len(), 1);
}

#[tokio::test]
async fn missing_token_ends_the_listing() {
    let world = World::new().await;
    world.login.on(
        TOKEN,
        [reply(
            401,
            r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.\r\nTrace ID: 1"}"#,
        )],
    );
    let err = world.fails(&world.files()).await;
    assert_eq!(err.exit_code(), ExitCode::NotAuthorised);
    assert!(err.to_string().ends_with("/: 401: AADSTS7000215: Invalid client secret provided."), "{err}");

    let mut api = world.api();
    api.credentials.tenant_id = None;
    let route = World::service(api, None);
    let err = world.fails(&World::config(route)).await;
    assert_eq!(err.exit_code(), ExitCode::NotAuthorised);
    assert_eq!(err.to_string(), "no credentials: AZURE_TENANT_ID not set");
    assert!(world.api.all_requests().is_empty());

    let mut api = world.api();
    api.login_url = Url::parse("http://login.example/").unwrap();
    let route = World::service(api, None);
    let err = world.fails(&World::config(route)).await;
    assert_eq!(err.exit_code(), ExitCode::Usage);

    world.login.on(TOKEN, [reply(503, ""), reply(503, ""), token("TOKEN-1", 3600)]);
    world.list(&["/c/p"]);
    assert!(sources(&world.files(), world.work_dir.path()).plan(dataset()).await.is_ok());
}

#[tokio::test]
async fn short_throttling_waits_and_long_is_reported() {
    let world = World::new().await;
    world.list(&["/c/p"]);
    let listing = serde_json::json!({
        "exportFiles": [world.blobs.at("/c/p?sig=SIGNATURE")], "generatedTime": "2021-01-11T11:01:00Z"
    });
    let throttled =
        |secs: &str| reply(429, r#"{"error":{"code":"TooManyRequests"}}"#).header("retry-after", secs);
    world.api.on(LISTING, [throttled("0"), throttled("0"), reply(500, ""), reply(200, listing.to_string())]);
    assert!(sources(&world.files(), world.work_dir.path()).plan(dataset()).await.is_ok());

    world.api.on(LISTING, [throttled("3000")]);
    let err = world.fails(&world.files()).await;
    assert_eq!(err.exit_code(), ExitCode::Budget);
    assert!(err.to_string().contains("call rate limit reached until 20"), "{err}");
    let num_calls = world.api.requests(LISTING).len();
    assert_eq!(world.fails(&world.files()).await.exit_code(), ExitCode::Budget);
    assert_eq!(world.api.requests(LISTING).len(), num_calls, "not asked again before that time");

    let world = World::new().await;

    world.api.on(LISTING, [throttled("0")]);
    assert_eq!(world.fails(&world.files()).await.exit_code(), ExitCode::Budget, "no endless waiting");

    world.api.on(LISTING, [reply(503, r#"{"error":{"code":"Busy"}}"#)]);
    let err = world.fails(&world.files()).await;
    assert_eq!(err.exit_code(), ExitCode::Source);
    assert!(err.to_string().starts_with("gave up after 4 attempts"), "{err}");
}

#[tokio::test]
async fn responses_with_too_many_headers_are_refused() {
    let world = World::new().await;
    let many = |reply: Reply| (0..5000).fold(reply, |reply, n| reply.header(&format!("x-{n}"), "y"));
    world.api.on(LISTING, [many(reply(200, "{}"))]);
    let err = world.fails(&world.files()).await;
    assert!(chain(&err).contains("transfer failed"), "{}", chain(&err));
    assert_eq!(err.exit_code(), ExitCode::Source);
}
