//! siege's lines: one per request, and the summary.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::engine::{Recorder, Sample};
use crate::shell::Sink;

/// After this many requests without an answer siege gives up.
const MAX_SOCKET_FAILURES: u64 = 1024;
/// How it says so.
pub(super) const GAVE_UP: &str = "siege aborted due to excessive socket failure";

/// What one thread keeps of its requests.
pub(super) struct Kept {
    line: String,
    log: Option<Sink>,
    succeeded: u64,
    failed: u64,
    bytes: u64,
    /// Of requests that succeeded.
    time: Duration,
    longest: Duration,
    shortest: Option<Duration>,
    socket_failures: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Kept {
    /// `line` is what `-v` shows of the request; `socket_failures` is shared by all threads.
    pub(super) fn new(
        line: &str,
        log: Option<Sink>,
        socket_failures: Arc<AtomicU64>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            line: line.to_owned(),
            log,
            succeeded: 0,
            failed: 0,
            bytes: 0,
            time: Duration::ZERO,
            longest: Duration::ZERO,
            shortest: None,
            socket_failures,
            stop,
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.bytes += other.bytes;
        self.time += other.time;
        self.longest = self.longest.max(other.longest);
        self.shortest = [self.shortest, other.shortest].into_iter().flatten().min();
    }

    pub(super) fn gave_up(&self) -> bool {
        self.socket_failures.load(Ordering::Relaxed) >= MAX_SOCKET_FAILURES
    }

    /// The summary of a siege that took `elapsed`.
    pub(super) fn summary(&self, elapsed: Duration) -> String {
        let seconds = elapsed.as_secs_f64();
        let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        let (hits, all) = (self.succeeded as f64, (self.succeeded + self.failed) as f64);
        let megabytes = self.bytes as f64 / (1024.0 * 1024.0);
        let busy = self.time.as_secs_f64();
        let shortest = self.shortest.unwrap_or_default();
        format!(
            "Transactions:\t\t{:12} hits\n\
             Availability:\t\t{:12.2} %\n\
             Elapsed time:\t\t{seconds:12.2} secs\n\
             Data transferred:\t{megabytes:12.2} MB\n\
             Response time:\t\t{:12.2} secs\n\
             Transaction rate:\t{:12.2} trans/sec\n\
             Throughput:\t\t{:12.2} MB/sec\n\
             Concurrency:\t\t{:12.2}\n\
             Successful transactions:{:12}\n\
             Failed transactions:\t{:12}\n\
             Longest transaction:\t{:12.2}\n\
             Shortest transaction:\t{:12.2}\n \n",
            self.succeeded,
            100.0 * share(hits, all),
            share(busy, hits),
            share(hits, seconds),
            share(megabytes, seconds),
            share(busy, seconds),
            self.succeeded,
            self.failed,
            self.longest.as_secs_f64(),
            shortest.as_secs_f64(),
        )
    }
}

impl Recorder for Kept {
    fn record(&mut self, sample: &Sample<'_>) {
        let took = sample.done - sample.sent;
        let good = matches!(sample.outcome, Ok(reply) if reply.status.as_u16() < 400);
        self.longest = self.longest.max(took);
        if good {
            self.succeeded += 1;
            self.time += took;
            self.shortest = Some(self.shortest.map_or(took, |shortest| shortest.min(took)));
        } else {
            self.failed += 1;
        }
        match sample.outcome {
            Ok(reply) => {
                self.bytes += reply.body_bytes;
                if let Some(log) = &self.log {
                    let status = reply.status.as_u16();
                    let line = format!(
                        "{:?} {status} {:8.2} secs: {:7} bytes ==> {}",
                        reply.version,
                        took.as_secs_f64(),
                        reply.body_bytes,
                        self.line
                    );
                    log.line(&if log.terminal {
                        coloured(status, &line)
                    } else {
                        line
                    });
                }
            }
            Err(error) => {
                if let Some(log) = &self.log {
                    log.line(&format!("[error] {}: {error}", self.line));
                }
                let before = self.socket_failures.fetch_add(1, Ordering::Relaxed);
                if before + 1 >= MAX_SOCKET_FAILURES {
                    self.stop.cancel();
                }
            }
        }
    }
}

/// A line in the colour of its status.
fn coloured(status: u16, line: &str) -> String {
    let colour = match status {
        0..=299 => 34,
        300..=399 => 36,
        400..=499 => 35,
        _ => 31,
    };
    format!("\u{1b}[0;{colour}m{line}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use http::{StatusCode, Version};
    use tokio::time::Instant;

    use super::*;
    use crate::connection::{CallError, Reply};
    use crate::shell::captured::Captured;

    fn take(kept: &mut Kept, status: u16, milliseconds: u64) {
        let sent = Instant::now();
        let reply = Reply {
            status: StatusCode::from_u16(status).expect("a status"),
            version: Version::HTTP_11,
            header_bytes: 100,
            body_bytes: 317,
        };
        kept.record(&Sample {
            due: sent,
            sent,
            done: sent + Duration::from_millis(milliseconds),
            outcome: &Ok(reply),
        });
    }

    #[test]
    fn the_summary_has_siege_s_lines() {
        let mut kept = Kept::new("POST x", None, Arc::default(), CancellationToken::new());
        for _ in 0..215 {
            take(&mut kept, 201, 570);
        }
        for _ in 0..70 {
            take(&mut kept, 500, 3000);
        }
        let expected = "\
Transactions:\t\t         215 hits
Availability:\t\t       75.44 %
Elapsed time:\t\t        9.80 secs
Data transferred:\t        0.09 MB
Response time:\t\t        0.57 secs
Transaction rate:\t       21.94 trans/sec
Throughput:\t\t        0.01 MB/sec
Concurrency:\t\t       12.51
Successful transactions:         215
Failed transactions:\t          70
Longest transaction:\t        3.00
Shortest transaction:\t        0.57
 
";
        assert_eq!(kept.summary(Duration::from_millis(9800)), expected);
    }

    #[test]
    fn each_request_has_its_line_when_verbose() {
        let captured = Captured::new(false);
        let log = Some(captured.shell.out.clone());
        let line = "POST http://booking:8080/bookings";
        let mut kept = Kept::new(line, log, Arc::default(), CancellationToken::new());
        take(&mut kept, 201, 570);
        assert_eq!(
            captured.out(),
            "HTTP/1.1 201     0.57 secs:     317 bytes ==> POST http://booking:8080/bookings\n"
        );
    }

    #[test]
    fn too_many_broken_sockets_end_the_siege() {
        let stop = CancellationToken::new();
        let mut kept = Kept::new("GET x", None, Arc::default(), stop.clone());
        let now = Instant::now();
        for count in 1..=MAX_SOCKET_FAILURES {
            assert!(!stop.is_cancelled(), "{count}");
            kept.record(&Sample {
                due: now,
                sent: now,
                done: now,
                outcome: &Err(CallError::Http("refused".to_owned())),
            });
        }
        assert!(stop.is_cancelled() && kept.gave_up());
        assert!(
            kept.summary(Duration::from_secs(1))
                .contains("Availability:\t\t        0.00 %")
        );
    }
}
