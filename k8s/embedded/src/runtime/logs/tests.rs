use super::*;
use futures::TryStreamExt;
use std::time::Duration;

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("dojo-logs-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // left to the system's cleaning if it fails
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const POD: (&str, &str) = ("ns", "pod");

async fn read(logs: &Logs, options: LogOptions) -> String {
    let stream = logs.read("ns", "pod", "c", &options).unwrap();
    let all = async {
        let chunks: Vec<Bytes> = stream.try_collect().await.unwrap();
        String::from_utf8(chunks.concat()).unwrap()
    };
    tokio::time::timeout(Duration::from_secs(10), all)
        .await
        .expect("the log ends")
}

#[tokio::test]
async fn lines_come_back_with_the_options_asked_for() {
    let folder = Folder::new();
    let logs = Logs::default();
    let writer = logs.start_run(POD, "c", &folder.0, 0).unwrap();
    writer.copy("stdout", &b"one\ntwo\nthree"[..], |_| {}).await;
    assert_eq!(
        read(&logs, LogOptions::default()).await,
        "one\ntwo\nthree\n"
    );
    let options = LogOptions {
        tail_lines: Some(2),
        limit_bytes: Some(6),
        ..LogOptions::default()
    };
    assert_eq!(read(&logs, options).await, "two\nth");
    let options = LogOptions {
        timestamps: true,
        tail_lines: Some(1),
        ..LogOptions::default()
    };
    let stamped = read(&logs, options).await;
    let (time, text) = stamped.split_once(' ').unwrap();
    assert_eq!(
        (time.len(), text),
        ("2026-01-01T00:00:00.000000000Z".len(), "three\n")
    );
    let options = LogOptions {
        since_time: Some(jiff::Timestamp::now()),
        ..LogOptions::default()
    };
    assert_eq!(read(&logs, options).await, "");
}

#[tokio::test]
async fn following_ends_with_the_run() {
    let folder = Folder::new();
    let logs = Logs::default();
    let writer = logs.start_run(POD, "c", &folder.0, 0).unwrap();
    let follow = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    let reader = tokio::spawn({
        let logs = logs.clone();
        async move { read(&logs, follow).await }
    });
    writer.copy("stdout", &b"early\n"[..], |_| {}).await;
    tokio::task::yield_now().await;
    writer.copy("stderr", &b"late\n"[..], |_| {}).await;
    writer.end();
    assert_eq!(reader.await.unwrap(), "early\nlate\n");
}

#[tokio::test]
async fn the_run_before_is_kept_and_no_other() {
    let folder = Folder::new();
    let logs = Logs::default();
    for run in 0..3 {
        let writer = logs.start_run(POD, "c", &folder.0, run).unwrap();
        writer
            .copy("stdout", format!("run {run}\n").as_bytes(), |_| {})
            .await;
        writer.end();
    }
    let previous = LogOptions {
        previous: true,
        ..LogOptions::default()
    };
    assert_eq!(read(&logs, previous).await, "run 1\n");
    assert_eq!(read(&logs, LogOptions::default()).await, "run 2\n");
    assert!(!folder.0.join("0.log").exists());
}

#[tokio::test]
async fn a_log_stays_bounded_and_in_order() {
    let folder = Folder::new();
    let logs = Logs::default();
    let writer = logs.start_run(POD, "c", &folder.0, 0).unwrap();
    let line = "x".repeat(1000);
    let count = 3 * ROTATE_AT / 1000;
    for n in 0..count {
        writer
            .write("stdout", true, format!("{n} {line}").as_bytes())
            .unwrap();
    }
    let size = |name: &str| std::fs::metadata(folder.0.join(name)).unwrap().len();
    assert!(size("0.log") <= ROTATE_AT && size("0.log.1") <= ROTATE_AT);
    let tail = LogOptions {
        tail_lines: Some(3000),
        ..LogOptions::default()
    };
    let text = read(&logs, tail).await;
    let numbers: Vec<u64> = text
        .lines()
        .map(|l| l.split(' ').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(numbers.len(), 3000);
    assert_eq!(numbers.last(), Some(&(count - 1)));
    assert!(numbers.windows(2).all(|w| w[0] + 1 == w[1]));
}

#[tokio::test]
async fn long_lines_come_back_whole() {
    let folder = Folder::new();
    let logs = Logs::default();
    let writer = logs.start_run(POD, "c", &folder.0, 0).unwrap();
    let long = "y".repeat(3 * LONGEST_LINE + 5);
    writer
        .copy("stdout", format!("{long}\nshort\n").as_bytes(), |_| {})
        .await;
    assert_eq!(
        read(&logs, LogOptions::default()).await,
        format!("{long}\nshort\n")
    );
}

#[tokio::test]
async fn a_container_without_log_says_why() {
    let logs = Logs::default();
    logs.note_waiting(POD, "c", "ContainerCreating");
    let error = logs
        .read("ns", "pod", "c", &LogOptions::default())
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "container \"c\" in pod \"pod\" is waiting to start: ContainerCreating"
    );
}
