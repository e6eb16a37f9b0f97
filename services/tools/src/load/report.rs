//! What a run found, as text with a histogram, or as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::engine::{Recorder, Sample};

use super::LoadArgs;
use super::progress::Progress;

/// The longest time that is told apart, in microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;
/// Different error messages that are counted by themselves.
const MAX_MESSAGES: usize = 20;
/// Lines of the histogram, at most.
const BARS: usize = 11;
/// The longest bar in characters.
const WIDTH: u64 = 40;

/// What one thread keeps of its requests.
pub(super) struct Kept {
    progress: Arc<Progress>,
    /// Count times from when requests were due.
    corrected: bool,
    /// Microseconds.
    times: Histogram<u64>,
    statuses: BTreeMap<u16, u64>,
    errors: BTreeMap<String, u64>,
    body_bytes: u64,
}

impl Kept {
    pub(super) fn new(progress: Arc<Progress>, corrected: bool) -> Self {
        let times = Histogram::new_with_bounds(1, LONGEST, 3);
        Self {
            progress,
            corrected,
            times: times.expect("bounds and precision are within what the crate documents"),
            statuses: BTreeMap::new(),
            errors: BTreeMap::new(),
            body_bytes: 0,
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        let added = self.times.add(&other.times);
        added.expect("both have the same bounds");
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (message, count) in &other.errors {
            *self.errors.entry(message.clone()).or_default() += count;
        }
        self.body_bytes += other.body_bytes;
    }

    pub(super) fn answers(&self) -> u64 {
        self.statuses.values().sum()
    }

    pub(super) fn first_error(&self) -> Option<&str> {
        self.errors.keys().next().map(String::as_str)
    }
}

impl Recorder for Kept {
    fn record(&mut self, sample: &Sample<'_>) {
        let from = if self.corrected {
            sample.due
        } else {
            sample.sent
        };
        let micros = sample.done.saturating_duration_since(from).as_micros();
        let micros = u64::try_from(micros).unwrap_or(LONGEST);
        self.progress.requests.fetch_add(1, Ordering::Relaxed);
        let mut failed = true;
        match sample.outcome {
            Ok(reply) => {
                self.times.saturating_record(micros.clamp(1, LONGEST));
                let status = reply.status.as_u16();
                *self.statuses.entry(status).or_default() += 1;
                self.body_bytes += reply.body_bytes;
                failed = status >= 400;
            }
            Err(error) => {
                let mut message = error.to_string();
                if self.errors.len() >= MAX_MESSAGES && !self.errors.contains_key(&message) {
                    message = "other errors".to_owned();
                }
                *self.errors.entry(message).or_default() += 1;
            }
        }
        if failed {
            self.progress.failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A finished run's figures.
pub(super) struct Report {
    url: String,
    wanted_rate: Option<f64>,
    elapsed: Duration,
    connections: usize,
    sockets: u64,
    statuses: BTreeMap<u16, u64>,
    errors: BTreeMap<String, u64>,
    body_bytes: u64,
    percentiles: Vec<(f64, Duration)>,
    mean: Duration,
    min: Duration,
    max: Duration,
    /// From, to, count.
    bars: Vec<(Duration, Duration, u64)>,
}

impl Report {
    pub(super) fn new(
        args: &LoadArgs,
        kept: &Kept,
        elapsed: Duration,
        connections: usize,
        sockets: u64,
    ) -> Self {
        let times = &kept.times;
        let at = |percent: &f64| {
            (
                *percent,
                Duration::from_micros(times.value_at_percentile(*percent)),
            )
        };
        let micros = |value: u64| Duration::from_micros(if times.is_empty() { 0 } else { value });
        Self {
            url: args.url.clone(),
            wanted_rate: args.rate,
            elapsed,
            connections,
            sockets,
            statuses: kept.statuses.clone(),
            errors: kept.errors.clone(),
            body_bytes: kept.body_bytes,
            percentiles: args.percentiles.iter().map(at).collect(),
            mean: Duration::from_secs_f64(times.mean() / 1e6),
            min: micros(times.min()),
            max: micros(times.max()),
            bars: bars(times),
        }
    }

    fn answers(&self) -> u64 {
        self.statuses.values().sum()
    }

    fn requests(&self) -> u64 {
        self.answers() + self.errors.values().sum::<u64>()
    }

    fn rate(&self) -> f64 {
        self.requests() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    fn succeeded(&self) -> u64 {
        self.statuses.range(..400).map(|(_, count)| count).sum()
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let all = self.requests();
        let share = |count: u64| {
            if all > 0 {
                100.0 * count as f64 / all as f64
            } else {
                0.0
            }
        };
        // Writing to a string cannot fail, here and below.
        let mut text = String::new();
        let _ = writeln!(text, "{}\n", self.url);
        let _ = writeln!(text, "requests     {all} in {}", time(self.elapsed));
        let wanted = self
            .wanted_rate
            .map_or(String::new(), |rate| format!(" ({rate} wanted)"));
        let _ = writeln!(text, "rate         {:.1} per second{wanted}", self.rate());
        let succeeded = self.succeeded();
        let _ = writeln!(text, "succeeded    {succeeded} ({:.2} %)", share(succeeded));
        let _ = writeln!(
            text,
            "connections  {}, {} sockets used",
            self.connections, self.sockets
        );
        let _ = writeln!(text, "received     {} bytes of bodies", self.body_bytes);
        if self.answers() > 0 {
            text.push_str("\ntimes");
            if self.wanted_rate.is_some() {
                text.push_str(" (from when requests were due)");
            }
            text.push('\n');
            let _ = writeln!(text, "  mean {:>10}", time(self.mean));
            let _ = writeln!(text, "  min  {:>10}", time(self.min));
            for (percent, value) in &self.percentiles {
                let _ = writeln!(text, "  {:<5}{:>9}", format!("{percent}%"), time(*value));
            }
            let _ = writeln!(text, "  max  {:>10}\n", time(self.max));
            let most = self
                .bars
                .iter()
                .map(|(_, _, count)| *count)
                .max()
                .unwrap_or(1)
                .max(1);
            for (_, to, count) in &self.bars {
                let length = usize::try_from((count * WIDTH).div_ceil(most)).unwrap_or(0);
                let bar = "█".repeat(length);
                let line = format!("  ≤ {:>9} {count:>9} {bar}", time(*to));
                let _ = writeln!(text, "{}", line.trim_end());
            }
        }
        text.push_str("\nanswers\n");
        for (status, count) in &self.statuses {
            let _ = writeln!(text, "  {status}  {count} ({:.2} %)", share(*count));
        }
        for (message, count) in &self.errors {
            let _ = writeln!(text, "  none {count} ({:.2} %): {message}", share(*count));
        }
        text
    }

    /// One JSON object; times in seconds.
    pub(super) fn json(&self) -> String {
        let percentiles = self
            .percentiles
            .iter()
            .map(|(percent, value)| (percent.to_string(), Value::from(value.as_secs_f64())));
        let statuses = self
            .statuses
            .iter()
            .map(|(status, count)| (status.to_string(), json!(count)));
        let errors = self
            .errors
            .iter()
            .map(|(message, count)| (message.clone(), json!(count)));
        let bars = self.bars.iter().map(|(from, to, count)| {
            json!({"from": from.as_secs_f64(), "to": to.as_secs_f64(), "count": count})
        });
        let value = json!({
            "url": self.url,
            "requests": self.requests(),
            "succeeded": self.succeeded(),
            "seconds": self.elapsed.as_secs_f64(),
            "rate": self.rate(),
            "wantedRate": self.wanted_rate,
            "connections": self.connections,
            "sockets": self.sockets,
            "bodyBytes": self.body_bytes,
            "times": {
                "mean": self.mean.as_secs_f64(),
                "min": self.min.as_secs_f64(),
                "max": self.max.as_secs_f64(),
                "percentiles": percentiles.collect::<Map<_, _>>(),
                "histogram": bars.collect::<Vec<_>>(),
            },
            "statuses": statuses.collect::<Map<_, _>>(),
            "errors": errors.collect::<Map<_, _>>(),
        });
        value.to_string()
    }
}

/// Ranges of equal ratio that cover all times.
fn bars(times: &Histogram<u64>) -> Vec<(Duration, Duration, u64)> {
    if times.is_empty() {
        return Vec::new();
    }
    let (min, max) = (times.min().max(1) as f64, times.max().max(1) as f64);
    let ratio = (max / min).powf(1.0 / BARS as f64);
    let mut bars = Vec::new();
    let (mut from, mut before) = (times.min(), 0);
    for index in 1..=BARS {
        // Microseconds, at most an hour of them.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let to = match index {
            BARS => times.max(),
            _ => (min * ratio.powf(index as f64)).ceil() as u64,
        };
        if to <= from && index < BARS {
            continue;
        }
        let until = times.count_between(0, to);
        bars.push((
            Duration::from_micros(from),
            Duration::from_micros(to),
            until - before,
        ));
        (from, before) = (to, until);
    }
    bars
}

/// A time with three significant digits.
fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let (value, unit) = match seconds {
        _ if seconds >= 1.0 => (seconds, "s"),
        _ if seconds >= 1e-3 => (seconds * 1e3, "ms"),
        _ => (seconds * 1e6, "µs"),
    };
    match value {
        _ if value >= 100.0 => format!("{value:.0} {unit}"),
        _ if value >= 10.0 => format!("{value:.1} {unit}"),
        _ => format!("{value:.2} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use http::{StatusCode, Version};
    use tokio::time::Instant;

    use super::*;
    use crate::connection::{CallError, Reply};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: LoadArgs,
    }

    fn report(words: &[&str], corrected: bool) -> Report {
        let args = Line::parse_from(words).args;
        let mut kept = Kept::new(Arc::default(), corrected);
        let due = Instant::now();
        for index in 1..=100 {
            let sent = due + Duration::from_millis(100);
            let reply = Reply {
                status: StatusCode::from_u16(if index % 10 == 0 { 503 } else { 200 })
                    .expect("a status"),
                version: Version::HTTP_11,
                header_bytes: 100,
                body_bytes: 10,
            };
            let outcome = if index == 100 {
                Err(CallError::Http("broken".to_owned()))
            } else {
                Ok(reply)
            };
            let done = sent + Duration::from_millis(index);
            kept.record(&Sample {
                due,
                sent,
                done,
                outcome: &outcome,
            });
        }
        Report::new(&args, &kept, Duration::from_secs(2), 10, 12)
    }

    #[test]
    fn the_text_tells_rates_times_and_answers() {
        let text = report(&["load", "http://x/"], false).text();
        for part in [
            "requests     100 in 2.00 s\n",
            "rate         50.0 per second\n",
            "succeeded    90 (90.00 %)\n",
            "connections  10, 12 sockets used\n",
            "received     990 bytes of bodies\n",
            "  min     1.00 ms\n",
            "  50%    50.0 ms\n",
            "  max     99.0 ms\n",
            "  200  90 (90.00 %)\n",
            "  503  9 (9.00 %)\n",
            "  none 1 (1.00 %): broken\n",
            "█",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }

    #[test]
    fn the_histogram_counts_every_answer_once() {
        let report = report(&["load", "http://x/"], false);
        assert_eq!(
            report.bars.iter().map(|(_, _, count)| count).sum::<u64>(),
            99
        );
        assert!(report.bars.len() <= BARS);
    }

    #[test]
    fn with_a_rate_times_begin_when_requests_are_due() {
        let value: Value =
            serde_json::from_str(&report(&["load", "-r", "50", "http://x/"], true).json())
                .expect("JSON");
        assert_eq!(value["wantedRate"], 50.0);
        assert_eq!(value["requests"], 100);
        assert_eq!(value["statuses"]["503"], 9);
        assert_eq!(value["errors"]["broken"], 1);
        let median = value["times"]["percentiles"]["50"]
            .as_f64()
            .expect("a number");
        assert!((median - 0.15).abs() < 0.001, "{median}");
    }

    #[test]
    fn wrong_arguments_are_explained() {
        for (words, message) in [
            (vec!["load"], "<URL>"),
            (vec!["load", "-r", "0", "x"], "from 0.001 to 1000000"),
            (vec!["load", "-d", "soon", "x"], "150ms, 2.5s or 1m30s"),
            (vec!["load", "-c", "0", "x"], "1..=10000"),
            (vec!["load", "-p", "0", "x"], "above 0 up to 100"),
        ] {
            let error = Line::try_parse_from(words)
                .err()
                .expect(message)
                .to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
