//! Parts into the spool: whole, in pieces, from an earlier run.

use super::*;

#[tokio::test]
async fn parts_are_listed_downloaded_and_reused_by_a_rerun() {
    let world = World::new().await;
    world.list(&["/c/g=1/part-0", "/c/g=2/part-0"]);
    world.blobs.on("/c/g=1/part-0", [reply(200, "one").header("content-md5", md5("one"))]);
    world.blobs.on("/c/g=2/part-0", [reply(200, "two")]);
    let expected = [part("c/g=1/part-0", "one"), part("c/g=2/part-0", "two")];

    let (export, parts) = world.run(&world.files()).await.unwrap();
    assert_eq!(parts, expected);
    assert_eq!(export.snapshot_id().to_string(), "20210111T110100Z");
    assert_eq!((export.route, export.num_parts), (Route::Files, Some(2)));

    let (_, parts) = world.run(&world.files()).await.unwrap();
    assert_eq!(parts, expected);
    assert_eq!(world.blobs.all_requests().len(), 2, "nothing is downloaded twice");

    // Who sees which secret.
    for request in world.api.requests(LISTING) {
        assert!(
            request.starts_with("GET /api/machines/SoftwareInventoryExport?sasValidHours=6 "),
            "{request}"
        );
        assert!(request.contains("authorization: bearer token-"), "{request}");
    }
    for request in world.blobs.all_requests() {
        assert!(request.contains("?sig=SIGNATURE"), "{request}");
        assert!(!request.contains("authorization") && !request.contains("cookie"), "{request}");
    }
    let login = world.login.requests(TOKEN).remove(0);
    for text in
        ["client_id=client-1", "client_secret=hunter2", "grant_type=client_credentials", "securitycenter"]
    {
        assert!(login.contains(text), "{login}");
    }
    world.assert_no_secret_at_rest();
}

#[tokio::test]
async fn plan_writes_nothing() {
    let world = World::new().await;
    world.list(&["/c/p"]);
    assert_eq!(
        sources(&world.files(), world.work_dir.path()).plan(dataset()).await.unwrap().num_parts,
        Some(1)
    );
    assert_eq!(std::fs::read_dir(world.work_dir.path()).unwrap().count(), 0);
    assert!(world.blobs.all_requests().is_empty());
}

#[tokio::test]
async fn broken_downloads_are_retried() {
    let text = "0123456789";
    let empty = reply(200, "").header("x-ms-copy-status", "pending");
    let cases: [(&str, Vec<Reply>); 6] = [
        ("empty", vec![empty, reply(200, text)]),
        ("not there yet", vec![reply(404, "<Error><Code>BlobNotFound</Code></Error>"), reply(200, text)]),
        ("busy", vec![reply(503, ""), reply(500, ""), reply(200, text)]),
        ("short", vec![reply(200, text).cut_at(4), reply(200, text)]),
        ("damaged", vec![reply(200, "012345678X").header("content-md5", md5(text)), reply(200, text)]),
        (
            "replaced",
            vec![reply(200, text).header("etag", "\"1\"").cut_at(4), reply(412, ""), reply(200, text)],
        ),
    ];
    for (name, replies) in cases {
        let world = World::new().await;
        world.list(&["/c/p"]);
        let num_replies = replies.len();
        world.blobs.on("/c/p", replies);
        let (_, parts) = world.run(&world.files()).await.unwrap();
        assert_eq!(parts, [part("c/p", text)], "{name}");
        assert_eq!(world.blobs.all_requests().len(), num_replies, "{name}");
    }
}

#[tokio::test]
async fn truncated_chunked_body_is_fetched_again() {
    let world = World::new().await;
    world.list(&["/c/p"]);
    world
        .blobs
        .on("/c/p", [reply(200, "0123456789").chunked().cut_at(4), reply(200, "0123456789").chunked()]);
    assert_eq!(world.run(&world.files()).await.unwrap().1, [part("c/p", "0123456789")]);
}

#[tokio::test]
async fn range_of_another_blob_restarts_the_part() {
    let first = || reply(200, "0123456789").header("etag", "\"e1\"").cut_at(4);
    let range =
        |range: &str, etag: &str| reply(206, "456789").header("content-range", range).header("etag", etag);
    for other in [range("bytes 4-9/12", "\"e1\""), range("bytes 4-9/10", "\"e2\"")] {
        let world = World::new().await;
        world.list(&["/c/p"]);
        world.blobs.on("/c/p", [first(), other, reply(200, "abcdefghij")]);
        assert_eq!(world.run(&world.files()).await.unwrap().1, [part("c/p", "abcdefghij")]);
    }
    // Without a size of its own, a range is held against the one that was announced first.
    let world = World::new().await;
    world.list(&["/c/p"]);
    let short = reply(206, "45").header("content-range", "bytes 4-5/*").header("etag", "\"e1\"");
    let rest = reply(206, "6789").header("content-range", "bytes 6-9/*").header("etag", "\"e1\"");
    world.blobs.on("/c/p", [first(), short, rest]);
    assert_eq!(world.run(&world.files()).await.unwrap().1, [part("c/p", "0123456789")]);
}

#[tokio::test]
async fn stalled_transfer_resumes_by_range() {
    let world = World::new().await;
    world.list(&["/c/p"]);
    let first = reply(200, "0123456789").header("etag", "\"e1\"").header("content-md5", md5("0123456789"));
    let rest = reply(206, "456789").header("content-range", "bytes 4-9/10").header("etag", "\"e1\"");
    world.blobs.on("/c/p", [first.stalls_at(4), rest]);
    let (_, parts) = world.run(&world.files()).await.unwrap();
    assert_eq!(parts, [part("c/p", "0123456789")]);
    assert!(world.blobs.all_requests()[1].contains("range: bytes=4-\r\n"));

    world.blobs.on("/c/p", [reply(200, "0123456789").stalls_at(4)]);
    world.api.on(
        LISTING,
        [reply(
            200,
            serde_json::json!({
                "exportFiles": [world.blobs.at("/c/p?sig=SIGNATURE")], "generatedTime": "2021-01-12T11:01:00Z"
            })
            .to_string(),
        )],
    );
    let err = world.fails(&world.files()).await;
    assert!(chain(&err).contains("stalled: "), "{}", chain(&err));
    assert_eq!(err.exit_code(), ExitCode::Source);
}

#[tokio::test]
async fn partial_part_resumes_in_the_next_run() {
    let world = World::new().await;
    world.list(&["/c/p"]);
    let text = "0123456789";
    let whole = || reply(200, text).header("etag", "\"e1\"").header("content-md5", md5(text));
    world.blobs.on("/c/p", [whole().cut_at(4), reply(400, "")]);
    world.fails(&world.files()).await;
    let rest = reply(206, "456789").header("content-range", "bytes 4-9/10").header("etag", "\"e1\"");
    world.blobs.on("/c/p", [rest]);
    assert_eq!(world.run(&world.files()).await.unwrap().1, [part("c/p", text)]);
    let requests = world.blobs.all_requests();
    assert!(requests[2].contains("range: bytes=4-\r\n"), "{}", requests[2]);
    assert!(requests[2].contains("if-match: \"e1\"\r\n"), "{}", requests[2]);
    world.assert_no_secret_at_rest();
}

#[tokio::test]
async fn partial_part_of_another_blob_is_restarted() {
    let world = World::new().await;
    world.list(&["/c/p"]);
    let old = reply(200, "old-bytes!").header("etag", "\"e1\"");
    world.blobs.on("/c/p", [old.cut_at(4), reply(400, "")]);
    world.fails(&world.files()).await;
    let new = reply(200, "new").header("etag", "\"e2\"").header("content-md5", md5("new"));
    world.blobs.on("/c/p", [reply(412, ""), new]);
    assert_eq!(world.run(&world.files()).await.unwrap().1, [part("c/p", "new")]);
}

#[tokio::test]
async fn download_resumes_by_range() {
    let world = World::new().await;
    world.list(&["/c/p"]);
    let first = reply(200, "0123456789").header("etag", "\"e1\"").header("content-md5", md5("0123456789"));
    let rest = reply(206, "456789").header("content-range", "bytes 4-9/10").header("etag", "\"e1\"");
    world.blobs.on("/c/p", [first.cut_at(4), rest]);
    let (_, parts) = world.run(&world.files()).await.unwrap();
    assert_eq!(parts, [part("c/p", "0123456789")]);
    let requests = world.blobs.all_requests();
    assert!(!requests[0].contains("range:"), "{}", requests[0]);
    assert!(requests[1].contains("range: bytes=4-\r\n"), "{}", requests[1]);
    assert!(requests[1].contains("if-match: \"e1\"\r\n"), "{}", requests[1]);
}

#[tokio::test]
async fn failed_part_leaves_the_others_in_the_spool() {
    let expired = "\u{feff}<?xml version=\"1.0\"?><Error><Code>AuthenticationFailed</Code>\
                   <Message>sig=SIGNATURE</Message></Error>";
    let cases: [(Reply, &str, usize); 5] = [
        (reply(403, expired), "403: AuthenticationFailed", 4),
        (reply(200, ""), "empty response", 4),
        (reply(200, "x").header("content-md5", md5("y")), "damaged part: MD5 mismatch: expected ", 4),
        (reply(200, "xyz").cut_at(1), "transfer failed", 4),
        (
            reply(302, "").header("location", "https://evil.example/?sig=SIGNATURE"),
            "redirects to evil.example",
            1,
        ),
    ];
    for (bad, expected, num_attempts) in cases {
        let world = World::new().await;
        world.list(&["/c/bad", "/c/a", "/c/b", "/c/c", "/c/d"]);
        world.blobs.on("/c/bad", [bad]);
        for name in ["a", "b", "c", "d"] {
            world.blobs.on(&format!("/c/{name}"), [reply(200, name)]);
        }
        let err = world.fails(&world.files()).await;
        assert_eq!(err.to_string(), "part c/bad could not be fetched");
        assert_eq!(err.exit_code(), ExitCode::Source);
        let chain = chain(&err);
        assert!(chain.contains(expected), "{chain}");
        assert_eq!(world.blobs.requests("/c/bad").len(), num_attempts, "{expected}");

        world.blobs.on("/c/bad", [reply(200, "bad")]);
        assert_eq!(world.run(&world.files()).await.unwrap().1.len(), 5);
        assert_eq!(world.blobs.requests("/c/d").len(), 1, "was whole");
    }
}

#[tokio::test]
async fn dropped_receiver_ends_the_delivery() {
    let world = World::new().await;
    world.list(&["/c/a", "/c/b", "/c/c"]);
    for name in ["/c/a", "/c/b", "/c/c"] {
        world.blobs.on(name, [reply(200, "x")]);
    }
    let (_, source) = sources(&world.files(), world.work_dir.path()).open(dataset()).await.unwrap();
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    source.deliver(sender, Arc::default()).await.unwrap();
}

#[tokio::test]
async fn removed_spool_leaves_nothing() {
    let world = World::new().await;
    world.list(&["/c/a"]);
    world.blobs.on("/c/a", [reply(200, "x")]);
    let (_, source) = sources(&world.files(), world.work_dir.path()).open(dataset()).await.unwrap();
    let spool = source.spool().unwrap();
    deliver(source).await.unwrap();
    assert_eq!(std::fs::read_dir(spool.dir()).unwrap().count(), 2);
    spool.remove().unwrap();
    assert_eq!(std::fs::read_dir(world.work_dir.path().join("software_inventory")).unwrap().count(), 0);
}
