//! Parts that the decoder holds or rejects.

use super::*;

/// A delivery of parts `a`, `b` and `c`, one download at a time, none of which was opened yet.
struct DeliveredParts {
    world: World,
    delivery: tokio::task::JoinHandle<Result<(), SourceError>>,
    parts: Vec<StoredPart>,
    receiver: mpsc::Receiver<StoredPart>,
    progress: Arc<FetchProgress>,
}

impl DeliveredParts {
    async fn new() -> Self {
        let world = World::new().await;
        world.list(&["/c/a", "/c/b", "/c/c"]);
        for name in ["/c/a", "/c/b", "/c/c"] {
            world.blobs.on(name, [reply(200, name)]);
        }
        let mut config = world.files();
        config.downloads = NonZeroUsize::MIN;
        let (_, source) = sources(&config, world.work_dir.path()).open(dataset()).await.unwrap();
        let (sender, mut receiver) = mpsc::channel(1);
        let progress = Arc::new(FetchProgress::default());
        let delivery = tokio::spawn(source.deliver(sender, progress.clone()));
        let mut parts = Vec::new();
        while parts.len() < 3 {
            parts.push(receiver.recv().await.unwrap());
        }
        parts.sort_by_key(|part| part.index);
        Self { world, delivery, parts, receiver, progress }
    }
}

fn damage() -> std::io::Error {
    std::io::Error::other("no gzip")
}

#[tokio::test]
async fn delivered_parts_free_their_download_slot() {
    let DeliveredParts { world, delivery, mut parts, mut receiver, progress } = DeliveredParts::new().await;
    assert!(!delivery.is_finished(), "any of them may come back");
    assert!(parts.remove(1).reject(&damage()));
    drop(parts);
    let again = receiver.recv().await.unwrap();
    assert_eq!(again.name, "c/b");
    assert_eq!(std::io::read_to_string(again.open().unwrap()).unwrap(), "/c/b");
    drop(again);
    assert!(receiver.recv().await.is_none());
    delivery.await.unwrap().unwrap();
    let num_requests = ["/c/a", "/c/b", "/c/c"].map(|path| world.blobs.requests(path).len());
    assert_eq!(num_requests, [1, 2, 1]);
    let FetchProgress { bytes, parts } = &*progress;
    assert_eq!((bytes.load(Ordering::Relaxed), parts.load(Ordering::Relaxed)), (12, 3));
}

#[tokio::test]
async fn part_that_is_always_rejected_fails() {
    let DeliveredParts { world, delivery, parts, mut receiver, .. } = DeliveredParts::new().await;
    for part in parts {
        assert!(part.reject(&damage()));
    }
    let mut num_deliveries = 3;
    while let Some(part) = receiver.recv().await {
        num_deliveries += 1;
        if part.name != "c/c" {
            assert!(part.reject(&damage()));
        }
    }
    assert_eq!(num_deliveries, 4 + 4 + 2, "four attempts at each of two, and two at the third");
    let err = delivery.await.unwrap().unwrap_err();
    assert_eq!(err.to_string(), "part c/a could not be fetched (and 1 other part)");
    let chain = chain(&err);
    assert!(chain.contains(": gave up after 4 attempts in "), "{chain}");
    assert!(chain.ends_with("/c/a: damaged part: no gzip"), "{chain}");
    assert_eq!(err.exit_code(), ExitCode::Source);
    assert_eq!(world.blobs.requests("/c/c").len(), 2);
}

#[tokio::test]
async fn delivered_part_does_not_block_cancellation() {
    let DeliveredParts { delivery, mut parts, receiver, .. } = DeliveredParts::new().await;
    delivery.abort();
    assert!(delivery.await.unwrap_err().is_cancelled());
    assert!(!parts.remove(0).reject(&damage()), "delivery has ended");
    drop((parts, receiver));
}

#[tokio::test]
async fn part_of_an_earlier_run_is_checked_by_md5() {
    let world = World::new().await;
    world.list(&["/c/a", "/c/b"]);
    world.blobs.on("/c/a", [reply(200, "A").header("content-md5", md5("a")), reply(200, "a")]);
    world.blobs.on("/c/b", [reply(200, "b").header("content-md5", md5("b"))]);
    let (_, source) = sources(&world.files(), world.work_dir.path()).open(dataset()).await.unwrap();
    let (sender, mut receiver) = mpsc::channel(1);
    let delivery = tokio::spawn(source.deliver(sender, Arc::default()));
    // Ends before anybody looks at them.
    let parts = [receiver.recv().await.unwrap(), receiver.recv().await.unwrap()];
    delivery.abort();
    assert!(delivery.await.is_err());
    drop((parts, receiver));

    assert_eq!(world.run(&world.files()).await.unwrap().1, [part("c/a", "a"), part("c/b", "b")]);
    assert_eq!(world.blobs.requests("/c/a").len(), 2);
    assert_eq!(world.blobs.requests("/c/b").len(), 1, "was whole");
}
