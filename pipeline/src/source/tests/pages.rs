//! The JSON route: a chain of pages.

use super::*;

#[tokio::test]
async fn links_to_hosts_of_the_cloud_stay_at_the_origin() {
    let world = World::new().await;
    let token = skip_token("2021-01-25/0200/", 1);
    let query = format!("pagesize=2&$skiptoken={token}");
    world.api.on(PAGES, [page("a", Some(&format!("https://api.securitycenter.example/api/2?{query}")))]);
    world.api.on("/api/2", [page("b", Some(&format!("https://EU.api.security.example/api/3?{query}#x")))]);
    world.api.on("/api/3", [page("c", None)]);
    let (_, parts) = world.run(&world.json()).await.unwrap();
    assert_eq!(parts.len(), 3);
    let request = world.api.requests("/api/2").remove(0);
    assert!(request.starts_with(&format!("GET /api/2?{query} ")), "{request}");
    assert!(request.contains("authorization: bearer token-"), "{request}");

    // The same page again, however its link is written.
    std::fs::remove_dir_all(world.work_dir.path().join("software_inventory")).unwrap();
    world.api.on("/api/3", [page("c", Some(&format!("https://us.api.security.example/api/3?{query}#y")))]);
    let err = world.fails(&world.json()).await;
    assert!(err.to_string().contains("`@odata.nextLink` was already followed"), "{err}");
    world.api.on("/api/3", [page("c", Some(&world.api.at(&format!("{PAGES}?pageSize=2"))))]);
    let err = world.fails(&world.json()).await;
    assert!(err.to_string().contains("page-00002.json: `@odata.nextLink` was already followed"), "{err}");

    for astray in [
        "https://api.security.example/api/2",
        "https://xapi.securitycenter.example/api/2",
        "https://api.securitycenter.example.evil.example/api/2",
        "https://evil.example/api.securitycenter.example/2",
        "http://api.securitycenter.example/api/2",
        "https://api.securitycenter.example:8443/api/2",
        "https://u:p@api.securitycenter.example/api/2",
        "https://api.securitycenter.example@evil.example/api/2",
    ] {
        world.api.on(PAGES, [page("a", Some(astray))]);
        let err = world.fails(&world.json()).await;
        assert!(err.to_string().contains("expected the API's origin"), "{astray}: {err}");
        assert!(!format!("{err:?}").contains("u:p@"), "{err:?}");
        assert_eq!(err.exit_code(), ExitCode::Source);
        assert!(err.hint().unwrap().contains("--api-url"), "{astray}");
    }
    for astray in ["/api/2", "?$skiptoken=1", "//api.securitycenter.example/api/2", "3"] {
        world.api.on(PAGES, [page("a", Some(astray))]);
        let err = world.fails(&world.json()).await;
        assert_eq!(err.to_string(), "page-00000.json: `@odata.nextLink` is not an absolute url", "{astray}");
        assert!(err.hint().is_some());
    }
}

fn skip_token(time_path: &str, index: u32) -> String {
    let json = serde_json::json!({ "ExportDefinition": { "TimePath": time_path }, "ExportFileIndex": index });
    BASE64_STANDARD.encode(json.to_string())
}

#[tokio::test]
async fn pages_are_followed_and_resumed() {
    let world = World::new().await;
    let link = |n| world.api.at(&format!("/api/next{n}?$skiptoken={}", skip_token("2021-01-25/0200/", n)));
    world.api.on(PAGES, [page("a", Some(&link(1)))]);
    world.api.on("/api/next1", [page("b", Some(&link(2))).cut_at(30), page("b", Some(&link(2)))]);
    world.api.on("/api/next2", [page("c", None)]);
    let (export, parts) = world.run(&world.json()).await.unwrap();
    assert_eq!((export.route, export.num_parts), (Route::Json, None));
    assert_eq!(export.snapshot_id().to_string(), "20210125T020000Z");
    assert_eq!(export.generated_time_from, GeneratedTimeFrom::SkipToken);
    let names: Vec<_> = parts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["page-00000.json", "page-00001.json", "page-00002.json"]);
    assert!(parts[2].1.contains(r#"["c"]"#));
    assert!(world.api.requests(PAGES)[0].starts_with(&format!("GET {PAGES}?pageSize=2 ")));
    world.assert_no_secret_at_rest();

    let (_, again) = world.run(&world.json()).await.unwrap();
    assert_eq!(again, parts);
    assert_eq!(world.api.requests("/api/next2").len(), 1, "taken over from the spool");
    assert_eq!(world.login.requests(TOKEN).len(), 2, "one token a run");
}

#[tokio::test]
async fn single_page_has_the_time_of_its_date_header() {
    let world = World::new().await;
    world.api.on(PAGES, [page("a", None)]);
    let (export, parts) = world.run(&world.json()).await.unwrap();
    assert_eq!(export.snapshot_id().to_string(), "20210125T021731Z");
    assert_eq!(export.generated_time_from, GeneratedTimeFrom::ResponseDate);
    assert_eq!(parts.len(), 1);
    let planned = sources(&world.json(), world.work_dir.path()).plan(dataset()).await.unwrap();
    assert_eq!(planned, export);
}

#[tokio::test]
async fn links_to_other_hosts_are_not_followed() {
    let world = World::new().await;
    let own = |n, time| world.api.at(&format!("/api/next{n}?$skiptoken={}", skip_token(time, n)));
    let now = "2021-01-25/0200/";
    let check = async |expected: &str| {
        let err = world.fails(&world.json()).await;
        assert_eq!(err.exit_code(), ExitCode::Source);
        assert!(err.to_string().contains(expected), "{err}");
    };

    // Another port is another origin: the bearer must not get there.
    let foreign = world.blobs.at(&format!("/api/next1?$skiptoken={}", skip_token(now, 1)));
    world.api.on(PAGES, [page("a", Some(&foreign))]);
    check("expected the API's origin").await;
    assert!(world.blobs.all_requests().is_empty());

    world.api.on(PAGES, [page("a", Some(&own(1, now)))]);
    world.api.on("/api/next1", [page("b", Some(&own(1, now)))]);
    check("page-00001.json: `@odata.nextLink` was already followed").await;

    world.api.on(PAGES, [page("a", Some(&own(2, now)))]);
    world.api.on("/api/next2", [page("b", Some(&own(3, "2021-01-25/0800/")))]);
    check("page-00001.json is of the snapshot 2021-01-25T08:00:00Z, the pages before it of 2021-01-25T02:00:00Z").await;
    assert!(world.api.requests("/api/next3").is_empty());

    world.api.on(PAGES, [page("a", Some("/api/relative"))]);
    check("not an absolute url").await;

    world.api.on(PAGES, [reply(200, r#"{"error":{"code":"x"}}"#)]);
    check("`value` is missing").await;

    world.api.on(PAGES, [reply(200, r#"{"value":["#)]);
    check("gave up after 4 attempts").await;
    let left = std::fs::read_dir(world.work_dir.path().join("software_inventory")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.starts_with("incoming")), "{left:?}");
}

#[tokio::test]
async fn page_is_streamed_to_the_disk() {
    const SENT: usize = 6 << 20;
    let world = World::new().await;
    world.api.on(PAGES, [reply(200, format!(r#"{{"value":["{}"]}}"#, "x".repeat(SENT))).stalls_at(SENT)]);
    let mut config = world.json();
    config.min_throughput.window = Duration::from_mins(1);
    let work_dir = world.work_dir.path().to_owned();
    let opening = tokio::spawn(async move { sources(&config, &work_dir).open(dataset()).await.is_ok() });
    let folder = world.work_dir.path().join("software_inventory");
    let at_rest = || {
        let files = std::fs::read_dir(&folder).into_iter().flatten();
        files.map(|file| file.unwrap().metadata().unwrap().len()).max().unwrap_or(0)
    };
    // The end of the page never comes; what did is with the disk, but for the last batch.
    while at_rest() < SENT as u64 - (1 << 20) {
        assert!(!opening.is_finished());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    opening.abort();
}
