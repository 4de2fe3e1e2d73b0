//! What shows that a part is whole.

use super::*;

/// As of a part that was gzip: nothing here decodes it.
const GZIP: &[u8] = b"\x1f\x8b\x08 and more";

#[tokio::test]
async fn each_part_has_a_proof() {
    let world = World::new().await;
    let text = "0123456789";
    let cases = [
        ("/c/md5", reply(200, text).header("content-md5", md5(text)), Proof::Md5),
        ("/c/md5-alone", reply(200, text).header("content-md5", md5(text)).unframed(), Proof::Md5),
        ("/c/gzip", reply(200, GZIP), Proof::Gzip),
        ("/c/gzip-alone", reply(200, GZIP).unframed(), Proof::Gzip),
        ("/c/length", reply(200, text), Proof::Length),
        ("/c/chunked", reply(200, text).chunked(), Proof::Chunked),
    ];
    world.list(&cases.each_ref().map(|(path, ..)| *path));
    for (path, reply, _) in &cases {
        world.blobs.on(path, [reply.clone()]);
    }
    let expected = cases.each_ref().map(|(.., proof)| *proof);
    assert_eq!(world.proofs(&world.files()).await.unwrap(), expected);
    assert_eq!(world.proofs(&world.files()).await.unwrap(), expected, "from the spool");
    for request in world.blobs.all_requests() {
        assert!(request.contains("accept-encoding: identity\r\n"), "{request}");
    }

    world.api.on(PAGES, [page("a", Some(&world.api.at("/api/2"))).chunked()]);
    world.api.on("/api/2", [page("b", Some(&world.api.at("/api/3"))).unframed()]);
    world.api.on("/api/3", [page("c", None)]);
    let expected = [Proof::Chunked, Proof::Json, Proof::Length];
    assert_eq!(world.proofs(&world.json()).await.unwrap(), expected);
}

/// The case, the server's responses to `GET`, its body for the size of `HEAD`, and the expected proof or error.
type UnframedCase = (&'static str, Vec<Reply>, Option<&'static str>, Result<Proof, &'static str>);

#[tokio::test]
async fn text_without_framing_is_proved_or_refused() {
    let (text, cut) = ("line 1\nline 2\n", "line 1\n");
    let plain = |text: &str| reply(200, text).unframed();
    let range = |text: &str| {
        let range = format!("bytes 0-{}/{}", text.len() - 1, text.len());
        reply(206, text).header("content-range", range).unframed()
    };
    let unproved = "they may not be the whole part";
    let cases: [UnframedCase; 10] = [
        ("HEAD says as much", vec![plain(text)], Some(text), Ok(Proof::Length)),
        ("HEAD says more, the range too", vec![plain(cut), range(text)], Some(text), Ok(Proof::Length)),
        ("no HEAD, a range", vec![plain(cut), range(text)], None, Ok(Proof::Length)),
        ("no HEAD, a length by range", vec![plain(cut), reply(200, text)], None, Ok(Proof::Length)),
        ("no HEAD, chunks by range", vec![plain(cut), reply(200, text).chunked()], None, Ok(Proof::Chunked)),
        ("HEAD lies, the range does not", vec![plain(cut), range(text)], Some(cut), Ok(Proof::Length)),
        ("HEAD says nothing", vec![plain(text)], Some(""), Err(unproved)),
        ("nothing says anything", vec![plain(cut)], None, Err(unproved)),
        ("cut each time", vec![plain(cut)], Some(text), Err("expected 14 bytes, received 7")),
        (
            "the range is cut",
            vec![plain(cut), range(text).cut_at(3)],
            None,
            Err("expected 14 bytes, received 3"),
        ),
    ];
    for (name, replies, head, expected) in cases {
        let world = World::new().await;
        world.list(&["/c/p"]);
        world.blobs.on("/c/p", replies);
        if let Some(head) = head {
            world.blobs.on_head("/c/p", reply(200, head));
        }
        match expected {
            Ok(proof) => assert_eq!(world.proofs(&world.files()).await.unwrap(), [proof], "{name}"),
            Err(expected) => {
                let err = world.fails(&world.files()).await;
                assert!(chain(&err).contains(expected), "{name}: {}", chain(&err));
                assert_eq!(err.to_string(), "part c/p could not be fetched", "{name}");
                assert_eq!(err.exit_code(), ExitCode::Source, "{name}");
                assert!(err.hint().is_some(), "{name}");
            }
        }
        // Nothing of it is taken for whole by the next run.
        world.blobs.on("/c/p", [reply(200, text)]);
        assert_eq!(world.run(&world.files()).await.unwrap().1, [part("c/p", text)], "{name}");
    }
}

#[tokio::test]
async fn size_of_unframed_gzip_is_requested() {
    // Cut between two members it would look whole.
    let world = World::new().await;
    world.list(&["/c/p"]);
    let whole = [GZIP, GZIP].concat();
    world.blobs.on("/c/p", [reply(200, GZIP).unframed(), reply(200, whole.clone())]);
    world.blobs.on_head("/c/p", reply(200, whole.clone()));
    assert_eq!(world.proofs(&world.files()).await.unwrap(), [Proof::Gzip]);
    assert_eq!(world.blobs.requests("/c/p").len(), 2);

    let world = World::new().await;
    world.list(&["/c/p"]);
    world.blobs.on("/c/p", [reply(200, GZIP).unframed()]);
    world.blobs.on_head("/c/p", reply(200, whole));
    let err = world.fails(&world.files()).await;
    assert!(
        chain(&err).contains("expected 22 bytes, received 11") || chain(&err).contains("received"),
        "{}",
        chain(&err)
    );
}

#[tokio::test]
async fn spooled_parts_without_proof_are_fetched_again() {
    let world = World::new().await;
    world.list(&["/c/p"]);
    world.blobs.on("/c/p", [reply(200, "old"), reply(200, "new")]);
    let (_, source) = sources(&world.files(), world.work_dir.path()).open(dataset()).await.unwrap();
    let folder = source.spool().unwrap().dir().to_owned();
    deliver(source).await.unwrap();
    let facts = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let facts = facts.into_iter().find(|path| path.extension().unwrap() == "json").unwrap();
    let text = std::fs::read_to_string(&facts).unwrap();
    assert!(text.contains(r#","proof":"length""#), "{text}");
    std::fs::write(&facts, text.replace(r#","proof":"length""#, "")).unwrap();
    assert_eq!(world.run(&world.files()).await.unwrap().1, [part("c/p", "new")]);
}
