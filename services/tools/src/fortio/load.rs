//! `fortio load`: the plan that its flags mean, and the run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::{self, End, Plan, Recorder, RunError, Sample, WarmUpError};
use crate::schedule::{Budget, Rhythm};
use crate::shell::{Shell, Sink};

use super::arguments::{Flags, Level};
use super::histogram::{Counter, Histogram};
use super::report;

/// What the flags mean for the engine, and what the report says about it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Intent {
    /// Connections; fewer than asked for when there are too few calls for them.
    pub(super) connections: usize,
    /// Calls of each connection; none: as many as time allows.
    pub(super) each: Option<u64>,
    /// Calls that are left over; the first connection makes them too.
    pub(super) left_over: u64,
    /// Between two calls of a connection; none: as fast as possible.
    pub(super) interval: Option<Duration>,
    /// When it ends, if not by the number of calls.
    pub(super) time: Option<Duration>,
}

/// Decides how calls are shared out. Each connection's first call is at the start and its last one at
/// the end of the time.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Counts, checked to be above 0.
pub(super) fn intent(flags: &Flags) -> Intent {
    let exact = (flags.calls > 0).then_some(flags.calls);
    let rate = (flags.qps > 0.0).then_some(flags.qps);
    let wanted = u64::from(flags.connections);
    let Some(rate) = rate else {
        let connections = exact.map_or(wanted, |calls| wanted.min(calls));
        return Intent {
            connections: connections as usize,
            each: exact.map(|calls| calls / connections),
            left_over: exact.map_or(0, |calls| calls % connections),
            interval: None,
            time: exact.is_none().then_some(flags.time),
        };
    };
    let planned = (rate * flags.time.as_secs_f64()) as u64;
    let calls = exact.unwrap_or_else(|| planned.max(2));
    let connections = wanted.min((calls / 2).max(1));
    let each = calls / connections;
    let own_rate = rate / connections as f64;
    let steps = each.saturating_sub(1).max(1) as f64;
    let seconds = each as f64 / own_rate / steps;
    Intent {
        connections: connections as usize,
        each: Some(each),
        left_over: if exact.is_some() {
            calls % connections
        } else {
            0
        },
        interval: Duration::try_from_secs_f64(seconds).ok(),
        time: exact.is_none().then_some(flags.time),
    }
}

/// What one thread keeps of its calls.
pub(super) struct Kept {
    pub(super) all: Histogram,
    pub(super) errors: Histogram,
    /// Answers by status; -1 for none.
    pub(super) codes: BTreeMap<i32, u64>,
    pub(super) header_sizes: Counter,
    pub(super) sizes: Counter,
    log: Option<Sink>,
    logged: u64,
}

/// How many failed calls each thread logs one by one.
const MAX_LOGGED: u64 = 10;

impl Kept {
    pub(super) fn new(resolution: f64, log: Option<Sink>) -> Self {
        Self {
            all: Histogram::new(resolution),
            errors: Histogram::new(resolution),
            codes: BTreeMap::new(),
            header_sizes: Counter::default(),
            sizes: Counter::default(),
            log,
            logged: 0,
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.all.merge(&other.all);
        self.errors.merge(&other.errors);
        for (code, count) in &other.codes {
            *self.codes.entry(*code).or_default() += count;
        }
        self.header_sizes.merge(&other.header_sizes);
        self.sizes.merge(&other.sizes);
    }

    fn warn(&mut self, problem: &str) {
        if let Some(log) = &self.log
            && self.logged <= MAX_LOGGED
        {
            if self.logged == MAX_LOGGED {
                log.line("[WRN] more of these are counted, not logged");
            } else {
                log.line(&format!("[WRN] {problem}"));
            }
            self.logged += 1;
        }
    }
}

impl Recorder for Kept {
    fn record(&mut self, sample: &Sample<'_>) {
        let seconds = (sample.done - sample.sent).as_secs_f64();
        self.all.record(seconds);
        let (code, good) = match sample.outcome {
            Ok(reply) => {
                self.header_sizes.record(reply.header_bytes as f64);
                self.sizes
                    .record((reply.header_bytes + reply.body_bytes) as f64);
                (i32::from(reply.status.as_u16()), engine::succeeded(reply))
            }
            Err(_) => (-1, false),
        };
        *self.codes.entry(code).or_default() += 1;
        if !good {
            self.errors.record(seconds);
            match sample.outcome {
                Ok(_) => self.warn(&format!("Non ok http code {code}")),
                Err(error) => self.warn(&error.to_string()),
            }
        }
    }
}

/// Runs and reports. 0 unless there was no run.
pub(super) async fn run(flags: &Flags, shell: &Shell) -> u8 {
    let target = match super::target(flags, shell).await {
        Ok(target) => Arc::new(target),
        Err(error) => {
            shell.err.line(&format!("Error: {error}"));
            return 1;
        }
    };
    shell.stop_on_interrupt();
    let intent = intent(flags);
    let exact = flags.calls > 0;
    let rate = intent.interval.map(|_| flags.qps);
    let threads = match flags.threads {
        0 => engine::threads(intent.connections, rate),
        asked => usize::from(asked).min(intent.connections),
    };
    shell.err.text(&report::opening(flags, &intent, threads));
    let budgets = (0..intent.connections).map(|index| {
        let more = if index == 0 { intent.left_over } else { 0 };
        Budget::Own(intent.each.map(|each| each + more))
    });
    let plan = Plan {
        connections: intent.connections,
        threads,
        budgets: budgets.collect(),
        rhythm: match intent.interval {
            None => Rhythm::FlatOut,
            Some(interval) => Rhythm::Every {
                interval,
                jitter: if flags.jitter { 0.1 } else { 0.0 },
            },
        },
        timeout: flags.timeout,
        warm_up: !exact,
        close_after_error: true,
        end: End {
            after: intent.time,
            abrupt: false,
            stop: shell.stop.clone(),
        },
        seed: shell.seed,
    };
    let log = (!flags.quiet && flags.loglevel <= Level::Warning).then(|| shell.err.clone());
    let recorder = || Kept::new(flags.resolution, log.clone());
    let allow = |_: &WarmUpError| flags.allow_initial_errors;
    match engine::run(target, plan, recorder, allow).await {
        Ok(finished) => {
            let warm_ups = if exact { 0 } else { intent.connections };
            shell
                .err
                .text(&report::closing(flags, &intent, &finished, warm_ups));
            0
        }
        Err(RunError::WarmUp(WarmUpError::Status { status, bytes })) => {
            let url = &flags.url;
            shell.err.line(&format!(
                "Aborting because of error {status} for {url} ({bytes} bytes)"
            ));
            1
        }
        Err(error) => {
            shell
                .err
                .line(&format!("Aborting because of {error} for {}", flags.url));
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Intent {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        intent(&super::super::arguments::parse(&words).expect("flags"))
    }

    #[test]
    fn calls_are_shared_out() {
        let intent = of("-c 2 -qps 2 -t 30s x");
        assert_eq!((intent.connections, intent.each), (2, Some(30)));
        assert_eq!(intent.interval.map(|i| i.as_millis()), Some(1034));
        assert_eq!(intent.time, Some(Duration::from_secs(30)));
        let intent = of("-c 3 -qps 0 -n 31 x");
        assert_eq!(
            (intent.connections, intent.each, intent.left_over),
            (3, Some(10), 1)
        );
        assert_eq!((intent.interval, intent.time), (None, None));
        let intent = of("-c 3 -qps 0 x");
        assert_eq!(
            (intent.each, intent.time),
            (None, Some(Duration::from_secs(5)))
        );
    }

    #[test]
    fn too_few_calls_mean_fewer_connections() {
        assert_eq!(of("-c 4 -qps 1 -t 4s x").connections, 2);
        assert_eq!(of("-c 4 -qps 0 -n 2 x").connections, 2);
        assert_eq!(of("-c 4 -qps 1 -n 1 x").each, Some(1));
        assert_eq!(of("-c 4 -qps 0.01 -t 1s x").each, Some(2));
    }
}
