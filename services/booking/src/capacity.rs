//! How much a copy of a service can do: so many requests at a time, each of which takes some time
//! and some CPU. The rest waits, and whose turn is next is a matter of luck.
//!
//! Luck makes overload show gradually: with a fair queue all requests would wait equally long, and
//! either all or none would be in time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// How many may wait before those whose clients have gone are removed.
const CROWD: usize = 256;

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
            queue: Queue(Arc::new(Mutex::new(Places {
                free: usize::from(workers),
                waiting: Vec::new(),
            }))),
            time,
            cpu,
        }
    }
}

/// What a copy of a service can do; clones share it.
#[derive(Clone, Debug)]
pub struct Capacity {
    queue: Queue,
    time: Duration,
    cpu: Duration,
}

impl Capacity {
    /// Does the work that a request costs, when it is its turn. A request whose client has gone
    /// (its future is dropped) gives up its place.
    pub async fn work(&self) {
        let turn = self.queue.turn().await;
        burn(self.cpu);
        tokio::time::sleep(self.time.saturating_sub(self.cpu)).await;
        drop(turn);
    }
}

#[derive(Clone, Debug)]
struct Queue(Arc<Mutex<Places>>);

#[derive(Debug)]
struct Places {
    free: usize,
    waiting: Vec<oneshot::Sender<Turn>>,
}

/// The right to work; when it is dropped, wherever that happens, somebody else has it.
#[derive(Debug)]
struct Turn(Option<Queue>);

impl Queue {
    async fn turn(&self) -> Turn {
        let called = {
            let mut places = self.lock();
            if places.free > 0 {
                places.free -= 1;
                return Turn(Some(self.clone()));
            }
            if places.waiting.len() >= CROWD {
                places.waiting.retain(|one| !one.is_closed());
            }
            let (call, called) = oneshot::channel();
            places.waiting.push(call);
            called
        };
        // The caller's end is kept until it is used, so a turn always comes.
        called.await.unwrap_or(Turn(None))
    }

    /// Gives a turn to one of those that still wait.
    fn pass_on(self) {
        let mut turn = Turn(Some(self.clone()));
        loop {
            let call = {
                let mut places = self.lock();
                if places.waiting.is_empty() {
                    places.free += 1;
                    // The place is free again, so this turn must not be passed on once more.
                    turn.0 = None;
                    return;
                }
                let lucky = rand::random_range(0..places.waiting.len());
                places.waiting.swap_remove(lucky)
            };
            match call.send(turn) {
                Ok(()) => return,
                Err(back) => turn = back,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        // Every change is complete before anything in it can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(queue) = self.0.take() {
            queue.pass_on();
        }
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

    #[tokio::test(start_paused = true)]
    async fn those_who_give_up_leave_their_place() {
        let args = CapacityArgs {
            workers: Some(1),
            work_time: Some(Duration::from_secs(1)),
            work_cpu: Some(Duration::ZERO),
        };
        let capacity = args.capacity(1, Duration::ZERO, Duration::ZERO);
        let patience = Duration::from_millis(2500);
        let all: Vec<_> = (0..2000)
            .map(|_| {
                let capacity = capacity.clone();
                tokio::spawn(async move {
                    tokio::time::timeout(patience, capacity.work())
                        .await
                        .is_ok()
                })
            })
            .collect();
        let mut served = 0;
        for one in all {
            served += usize::from(one.await.expect("no panic"));
        }
        assert_eq!(served, 2);
        // Nobody's turn was lost.
        tokio::time::timeout(patience, capacity.work())
            .await
            .expect("a turn");
        let places = capacity.queue.lock();
        assert_eq!((places.free, places.waiting.len()), (1, 0));
    }

    #[test]
    fn cpu_time_is_bounded() {
        assert!(cpu_time("2s").is_err());
        assert_eq!(cpu_time("5ms"), Ok(Duration::from_millis(5)));
    }
}
