//! What containers use of the machine, as the system counts it for their processes.
//!
//! Nothing is measured until somebody asks. The rate of CPU is that since the last question, if it
//! was asked a while ago; else a second is waited.

use super::containers::Containers;
use super::memory;
use crate::node::Usage;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A shorter time says little: the system counts in hundredths of seconds.
const SHORTEST: Duration = Duration::from_millis(900);
/// What was long ago says nothing of now.
const LONGEST: Duration = Duration::from_secs(60);

/// Counters of one moment, by a container's first process.
#[derive(Clone, Debug)]
struct Sample {
    at: Instant,
    cpu: HashMap<u32, Duration>,
}

/// Remembers the counters of the last question. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<Mutex<Option<Arc<Sample>>>>);

/// CPU time and memory of the processes of one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counters {
    cpu: Duration,
    memory: u64,
}

impl Meter {
    fn last(&self) -> Option<Arc<Sample>> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone()
            .filter(|sample| (SHORTEST..LONGEST).contains(&sample.at.elapsed()))
    }

    fn remember(&self, sample: Sample) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(sample));
    }

    /// What the containers use now. One that has just started has no rate yet and is left out.
    pub async fn read(&self, containers: &Containers) -> Vec<Usage> {
        let before = match self.last() {
            Some(sample) => sample,
            None => {
                let first = sample(&sessions());
                tokio::time::sleep(SHORTEST).await;
                Arc::new(first)
            }
        };
        let sessions = sessions();
        let now = sample(&sessions);
        let window = now.at.duration_since(before.at);
        let used = containers.all().into_iter().filter_map(|entry| {
            let (namespace, pod, container, pid) = entry;
            let counters = sessions.get(&pid)?;
            let spent = counters.cpu.saturating_sub(*before.cpu.get(&pid)?);
            Some(Usage {
                namespace,
                pod,
                container,
                cpu: spent.as_secs_f64() / window.as_secs_f64(),
                memory: counters.memory,
                window,
            })
        });
        let used = used.collect();
        self.remember(now);
        used
    }
}

fn sample(sessions: &HashMap<u32, Counters>) -> Sample {
    Sample {
        at: Instant::now(),
        cpu: sessions.iter().map(|(id, c)| (*id, c.cpu)).collect(),
    }
}

/// All processes of the machine, added up by session.
fn sessions() -> HashMap<u32, Counters> {
    let mut sessions: HashMap<u32, Counters> = HashMap::new();
    let tick = rustix::param::clock_ticks_per_second();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return sessions;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // gone meanwhile: uses nothing
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        if let Some((session, cpu)) = parse(&stat, tick) {
            let sum = sessions.entry(session).or_default();
            sum.cpu += cpu;
            sum.memory += memory::own(pid).unwrap_or(0);
        }
    }
    sessions
}

/// Session and CPU time in `/proc/PID/stat`, that of its ended children included.
fn parse(stat: &str, tick: u64) -> Option<(u32, Duration)> {
    // the name, in parentheses, may hold anything
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let ticks: u64 = (11..15).filter_map(number).sum();
    let cpu = Duration::from_nanos(ticks * 1_000_000_000 / tick.max(1));
    Some((fields.get(3)?.parse().ok()?, cpu))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_past_any_name() {
        let stat = "42 (a) b) S 1 7 7 0 -1 4194304 5 6 0 0 250 50 30 20 20 0 1 0 100 9999 3 18446744073709551615";
        assert_eq!(parse(stat, 100), Some((7, Duration::from_millis(3500))));
        assert_eq!(parse("", 100), None);
        assert!(sessions().values().any(|c| c.memory > 0));
    }
}
