//! What is kept of the calls of `fortio load`.

use std::collections::BTreeMap;

use crate::engine::{self, Recorder, Sample};
use crate::shell::Sink;

use super::histogram::{Counter, Histogram};

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
