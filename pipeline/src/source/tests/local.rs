//! Files and pipes on this machine.

use super::*;

fn local(patterns: &[&Path]) -> SourceConfig {
    World::config(RouteConfig::Local {
        patterns: patterns.iter().map(|path| path.to_str().unwrap().to_owned()).collect(),
        generated_time: "2021-01-11T11:01:00Z".parse().ok(),
    })
}

fn make_pipe(path: &Path) {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pipes_are_read_once_and_leave_nothing() {
    let (work_dir, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
    make_pipe(&one);
    make_pipe(&other);
    std::fs::write(folder.path().join("file"), "file").unwrap();
    // A writer that opens them in the other order, and sends more than a pipe holds.
    let text = "0123456789".repeat(100_000);
    let writer = std::thread::spawn({
        let (one, other, text) = (one.clone(), other.clone(), text.clone());
        move || {
            std::fs::write(other, &text).unwrap();
            std::fs::write(one, "one").unwrap();
        }
    });
    let config = local(&[&one, &other, &folder.path().join("file"), &one]);
    let planned = sources(&config, work_dir.path()).plan(dataset()).await.unwrap();
    assert_eq!((planned.num_parts, planned.num_bytes), (Some(3), None), "nothing is read for a plan");
    let (export, source) = sources(&config, work_dir.path()).open(dataset()).await.unwrap();
    writer.join().unwrap();
    assert_eq!((export.num_parts, export.num_bytes), (Some(3), Some(1_000_007)));
    let parts = deliver(source).await.unwrap();
    let name = |path: &Path| path.to_str().unwrap().to_owned();
    let expected = [
        part(&name(&folder.path().join("file")), "file"),
        part(&name(&one), "one"),
        part(&name(&other), &text),
    ];
    assert_eq!(parts, expected);
    assert_eq!(std::fs::read_dir(work_dir.path().join("software_inventory")).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn pipe_without_a_writer_can_be_cancelled() {
    let (work_dir, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pipe = folder.path().join("pipe");
    make_pipe(&pipe);
    let config = local(&[&pipe]);
    let sources = sources(&config, work_dir.path());
    let opening = sources.open(dataset());
    assert!(tokio::time::timeout(Duration::from_mins(10), opening).await.is_err());
    let left = std::fs::read_dir(work_dir.path().join("software_inventory"));
    assert_eq!(left.map_or(0, Iterator::count), 0);
    let reading = read_small_file(&pipe, 10);
    assert!(tokio::time::timeout(Duration::from_mins(10), reading).await.is_err());
}

#[tokio::test]
async fn small_files_are_bounded_and_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "0123456789").unwrap();
    assert_eq!(read_small_file(&file, 10).await.unwrap(), b"0123456789");
    let text = async |path: &Path| read_small_file(path, 9).await.unwrap_err().to_string();
    assert_eq!(text(&file).await, "larger than 9 bytes");
    assert_eq!(text(Path::new("/dev/zero")).await, "is not a regular file");
    assert_eq!(text(folder.path()).await, "is not a regular file");
}
