//! The line on standard error that tells how a run is getting on.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::shell::Sink;

/// Between two updates of the line.
const TICK: Duration = Duration::from_secs(1);

/// Counts that all threads share while they run.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) requests: AtomicU64,
    pub(super) failures: AtomicU64,
}

impl Progress {
    /// Waits for `running` and writes the line each second. On a terminal it replaces itself.
    pub(super) async fn during<F: Future>(
        &self,
        running: F,
        sink: &Sink,
        end: Option<Duration>,
        requests: Option<u64>,
    ) -> F::Output {
        let mut running = pin!(running);
        let started = Instant::now();
        let mut ticks = interval_at(started + TICK, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = 0;
        loop {
            tokio::select! {
                output = &mut running => {
                    if sink.terminal {
                        sink.text("\r\u{1b}[K");
                    }
                    return output;
                }
                _ = ticks.tick() => {
                    let sent = self.requests.load(Ordering::Relaxed);
                    let failures = self.failures.load(Ordering::Relaxed);
                    let line = line(started.elapsed(), end, sent, requests, sent - before, failures);
                    before = sent;
                    if sink.terminal {
                        sink.text(&format!("\r\u{1b}[K{line}"));
                    } else {
                        sink.line(&line);
                    }
                }
            }
        }
    }
}

fn line(
    elapsed: Duration,
    end: Option<Duration>,
    sent: u64,
    requests: Option<u64>,
    last_second: u64,
    failures: u64,
) -> String {
    let of = |all: Option<String>| all.map_or(String::new(), |all| format!(" of {all}"));
    format!(
        "{} s{}  {sent}{} requests  {last_second}/s  {failures} failed",
        elapsed.as_secs(),
        of(end.map(|end| format!("{} s", end.as_secs_f64()))),
        of(requests.map(|requests| requests.to_string())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::captured::Captured;

    #[tokio::test(start_paused = true)]
    async fn the_line_comes_each_second_and_goes_at_the_end() {
        let captured = Captured::new(true);
        let progress = Progress::default();
        let running = async {
            progress.requests.store(100, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(1500)).await;
            progress.requests.store(150, Ordering::Relaxed);
            progress.failures.store(2, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(1000)).await;
        };
        let end = Some(Duration::from_secs(3));
        progress
            .during(running, &captured.shell.err, end, None)
            .await;
        assert_eq!(
            captured.err(),
            "\r\u{1b}[K1 s of 3 s  100 requests  100/s  0 failed\
             \r\u{1b}[K2 s of 3 s  150 requests  50/s  2 failed\
             \r\u{1b}[K"
        );
    }
}
