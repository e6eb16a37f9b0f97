//! No process outlives its cluster: the parent-death signal and the reaper, with real processes.

use k8s_embedded::runtime::shim::{CLUSTER_MARK, SUBCOMMAND};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SHIM: &str = env!("CARGO_BIN_EXE_container-shim");

fn is_alive(pid: u32) -> bool {
    // a zombie is dead
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").starts_with(" Z"))
}

fn wait_until(what: &str, mut test: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !test() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_container_dies_with_the_process_that_started_it() {
    let mut parent = Command::new("sh")
        .args([
            "-c",
            "\"$0\" container-shim exec $$ sleep 600 & echo $!; wait",
            SHIM,
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(parent.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let pid: u32 = line.trim().parse().unwrap();
    wait_until("the shim becomes the program", || {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.starts_with(b"sleep"))
    });
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_until("the program dies", || !is_alive(pid));
}

#[test]
fn a_shim_whose_parent_is_gone_starts_nothing() {
    let output = Command::new(SHIM)
        .args([SUBCOMMAND, "exec", "1", "echo", "started"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
}

#[test]
fn the_reaper_kills_what_carries_the_mark_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut reaper = Command::new(SHIM)
        .args([SUBCOMMAND, "reap"])
        .arg(folder.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut marked = Command::new("setsid")
        .args(["sh", "-c", "sleep 600 & wait"])
        .env(CLUSTER_MARK, folder.path())
        .spawn()
        .unwrap();
    let mut innocent = Command::new("sleep")
        .arg("600")
        .env(CLUSTER_MARK, folder.path().join("other"))
        .spawn()
        .unwrap();
    wait_until("the marked process runs", || is_alive(marked.id()));
    drop(reaper.stdin.take());
    marked.wait().unwrap();
    reaper.wait().unwrap();
    assert!(is_alive(innocent.id()));
    innocent.kill().unwrap();
    innocent.wait().unwrap();
}
