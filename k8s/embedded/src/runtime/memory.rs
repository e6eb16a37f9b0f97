//! The memory of a container's processes, and the limit on it.
//!
//! Counted is what a process has for itself: what it has written, and not the pages of its program,
//! which all processes of that program share. The kernel charges a container's cgroup much the same
//! way; an ordinary user may not make cgroups, so the processes of containers with a limit are
//! looked at once in a while.

use crate::validate::amount;
use k8s_openapi::api::core::v1::Container;
use std::fs::read_to_string;
use std::time::Duration;

/// How often the memory of a container with a limit is looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// A process that is just starting another one has its memory counted twice for a moment.
const SECOND_LOOK: Duration = Duration::from_millis(50);
/// Most processes of a container that are looked at.
const PROCESSES: usize = 10_000;

/// `resources.limits.memory` in bytes. Zero means, as to container runtimes, that there is none.
pub(super) fn limit(spec: &Container) -> Option<u64> {
    let limits = spec.resources.as_ref()?.limits.as_ref()?;
    let bytes = amount(&limits.get("memory")?.0)?;
    // limits beyond 2^64 are none either; fractions of a byte do not matter
    (bytes >= 1.0).then_some(bytes as u64)
}

/// Waits until the container whose first process this is has more memory than `limit`; without a limit for ever.
pub(super) async fn exceeded(first: u32, limit: Option<u64>) {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(INTERVAL).await;
        if of_container(first, own) <= limit {
            continue;
        }
        tokio::time::sleep(SECOND_LOOK).await;
        if of_container(first, |pid| shared_once(pid).or_else(|| own(pid))) > limit {
            return;
        }
    }
}

/// Why a run ended, as `kubectl get pods` shows it.
pub(super) fn reason(exit_code: i32, exceeded: bool) -> &'static str {
    match exit_code {
        // one that ended by itself in the same moment was not killed
        137 if exceeded => "OOMKilled",
        0 => "Completed",
        _ => "Error",
    }
}

/// The memory of a process that is its own, in bytes; `None` when it is gone.
pub(super) fn own(pid: u32) -> Option<u64> {
    let pages = in_statm(&read_to_string(format!("/proc/{pid}/statm")).ok()?)?;
    Some(pages * rustix::param::page_size() as u64)
}

/// The same, and what processes have in common since a `fork` is divided by their number: exact, but slow to find out.
fn shared_once(pid: u32) -> Option<u64> {
    in_smaps(&read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

/// Resident pages less those shared with files.
fn in_statm(statm: &str) -> Option<u64> {
    let mut fields = statm.split_ascii_whitespace().skip(1);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()?.saturating_sub(next()?))
}

/// The proportional share of anonymous memory, in bytes.
fn in_smaps(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|l| l.strip_prefix("Pss_Anon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The memory of a process, of those that it has started, and so on.
fn of_container(first: u32, measure: impl Fn(u32) -> Option<u64>) -> u64 {
    let mut found = vec![first];
    let mut sum = 0;
    let mut at = 0;
    while let Some(&pid) = found.get(at) {
        at += 1;
        sum += measure(pid).unwrap_or(0);
        if found.len() < PROCESSES {
            found.extend(children(pid));
        }
    }
    sum
}

/// The processes that a process has started. Each of its threads has a list of its own.
fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let lists = threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|thread| read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| {
            let pids = list.split_ascii_whitespace();
            pids.filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn limits_in_bytes() {
        let of = |resources: serde_json::Value| {
            let container = json!({"name": "c", "resources": resources});
            limit(&serde_json::from_value(container).unwrap())
        };
        assert_eq!(of(json!({"limits": {"memory": "64Mi"}})), Some(64 << 20));
        assert_eq!(of(json!({"limits": {"memory": "1e3"}})), Some(1000));
        assert_eq!(of(json!({"limits": {"memory": "0"}})), None);
        assert_eq!(of(json!({"limits": {"cpu": "1"}})), None);
        assert_eq!(of(json!({"requests": {"memory": "1Gi"}})), None);
    }

    #[test]
    fn only_what_was_killed_for_it_is_out_of_memory() {
        assert_eq!(reason(137, true), "OOMKilled");
        assert_eq!(reason(137, false), "Error");
        assert_eq!(reason(0, true), "Completed");
        assert_eq!(reason(1, true), "Error");
    }

    #[test]
    fn what_is_shared_with_files_does_not_count() {
        assert_eq!(in_statm("765 441 413 5 0 123 0\n"), Some(28));
        assert_eq!(in_statm("765"), None);
        let rollup = "Pss:  900 kB\nPss_Anon:            12 kB\nPss_File: 888 kB\n";
        assert_eq!(in_smaps(rollup), Some(12 << 10));
        assert_eq!(in_smaps("Pss: 900 kB\n"), None);
    }

    #[test]
    fn the_processes_that_one_has_started_count() {
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let both = of_container(std::process::id(), |pid| {
            Some(u64::from(pid == child.id() || pid == std::process::id()))
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(both, 2);
    }
}
