//! How much a copy of a service can do: so many requests at a time, each of which takes some time
//! and some CPU. The rest waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// The flags of capacity.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Capacity")]
pub struct CapacityArgs {
    /// How many requests are worked on at a time.
    #[arg(long, env = "WORKERS", value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub workers: Option<u16>,
    /// How long the work on a request takes.
    #[arg(long, env = "WORK_TIME", value_name = "DURATION", value_parser = dojo_kit::duration::parse)]
    pub work_time: Option<Duration>,
    /// How much of that is CPU; at most a second.
    #[arg(long, env = "WORK_CPU", value_name = "DURATION", value_parser = cpu_time)]
    pub work_cpu: Option<Duration>,
}

fn cpu_time(text: &str) -> Result<Duration, String> {
    let time = dojo_kit::duration::parse(text)?;
    if time > Duration::from_secs(1) {
        return Err(format!("`{text}` is longer than a second"));
    }
    Ok(time)
}

impl CapacityArgs {
    /// The capacity, with the service's own figures where none were given.
    #[must_use]
    pub fn capacity(&self, workers: u16, time: Duration, cpu: Duration) -> Capacity {
        let workers = self.workers.unwrap_or(workers);
        let (time, cpu) = (self.work_time.unwrap_or(time), self.work_cpu.unwrap_or(cpu));
        Capacity {
            workers: Arc::new(Semaphore::new(usize::from(workers))),
            time,
            cpu,
        }
    }
}

/// What a copy of a service can do; clones share it.
#[derive(Clone, Debug)]
pub struct Capacity {
    workers: Arc<Semaphore>,
    time: Duration,
    cpu: Duration,
}

impl Capacity {
    /// Does the work that a request costs, when it is its turn. A request whose client has gone
    /// leaves the queue (its future is dropped).
    pub async fn work(&self) {
        // The semaphore is never closed, so a permit always comes.
        let permit = self.workers.acquire().await;
        burn(self.cpu);
        tokio::time::sleep(self.time.saturating_sub(self.cpu)).await;
        drop(permit);
    }
}

/// Keeps the processor busy. This holds up the whole process, as work does on a single core.
fn burn(time: Duration) {
    let started = Instant::now();
    while started.elapsed() < time {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_is_done_by_as_many_workers_as_there_are() {
        let args = CapacityArgs {
            workers: Some(2),
            work_time: Some(Duration::from_millis(100)),
            work_cpu: Some(Duration::ZERO),
        };
        let capacity = args.capacity(1, Duration::ZERO, Duration::ZERO);
        let started = tokio::time::Instant::now();
        let all: Vec<_> = (0..10)
            .map(|_| {
                let capacity = capacity.clone();
                tokio::spawn(async move { capacity.work().await })
            })
            .collect();
        for one in all {
            one.await.expect("no panic");
        }
        assert_eq!(started.elapsed().as_millis(), 500);
    }

    #[test]
    fn cpu_time_is_bounded() {
        assert!(cpu_time("2s").is_err());
        assert_eq!(cpu_time("5ms"), Ok(Duration::from_millis(5)));
    }
}
