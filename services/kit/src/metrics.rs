//! Counters, gauges and histograms in Prometheus' text exposition.
//!
//! A service has a handful of series, so this is a sorted map behind a lock and a function that
//! writes it down; a metrics library would be larger than the services.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The most series that one metric may have; observations for further ones are dropped and counted
/// in `metrics_series_dropped_total`.
const MAX_SERIES: usize = 256;
/// Upper bounds of the histograms' buckets, in seconds.
const BUCKETS: [f64; 12] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Label names and values of one series.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// A registry of metrics; clones share it.
#[derive(Clone, Default)]
pub struct Metrics {
    families: Arc<Mutex<BTreeMap<&'static str, Family>>>,
}

struct Family {
    help: &'static str,
    kind: &'static str,
    series: BTreeMap<String, Value>,
}

enum Value {
    Number(f64),
    Histogram {
        buckets: [u64; BUCKETS.len()],
        sum: f64,
        count: u64,
    },
}

impl Metrics {
    /// Adds one to a counter.
    pub fn count(&self, name: &'static str, help: &'static str, labels: Labels<'_>) {
        self.with(name, help, "counter", labels, |value| {
            if let Value::Number(number) = value {
                *number += 1.0;
            }
        });
    }

    /// Sets a gauge.
    pub fn set(&self, name: &'static str, help: &'static str, labels: Labels<'_>, to: f64) {
        self.with(name, help, "gauge", labels, |value| {
            if let Value::Number(number) = value {
                *number = to;
            }
        });
    }

    /// Removes every series of a gauge, so that what no longer holds is no longer shown.
    pub fn clear(&self, name: &'static str) {
        self.lock().remove(name);
    }

    /// Adds an observation to a histogram of durations.
    pub fn observe(
        &self,
        name: &'static str,
        help: &'static str,
        labels: Labels<'_>,
        duration: Duration,
    ) {
        let seconds = duration.as_secs_f64();
        self.with(name, help, "histogram", labels, |value| {
            if let Value::Histogram {
                buckets,
                sum,
                count,
            } = value
            {
                for (bucket, bound) in buckets.iter_mut().zip(BUCKETS) {
                    *bucket += u64::from(seconds <= bound);
                }
                *sum += seconds;
                *count += 1;
            }
        });
    }

    /// Everything, in Prometheus' text format, version 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (name, family) in self.lock().iter() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# HELP {name} {}", family.help);
            let _ = writeln!(text, "# TYPE {name} {}", family.kind);
            for (labels, value) in &family.series {
                write_series(&mut text, name, labels, value);
            }
        }
        text
    }

    fn with(
        &self,
        name: &'static str,
        help: &'static str,
        kind: &'static str,
        labels: Labels<'_>,
        change: impl FnOnce(&mut Value),
    ) {
        let key = label_text(labels);
        let mut families = self.lock();
        let family = families.entry(name).or_insert_with(|| Family {
            help,
            kind,
            series: BTreeMap::new(),
        });
        if family.series.len() < MAX_SERIES || family.series.contains_key(&key) {
            change(family.series.entry(key).or_insert_with(|| Value::new(kind)));
            return;
        }
        drop(families);
        tracing::debug!(metric = name, "too many series");
        self.count(
            "metrics_series_dropped_total",
            "Observations dropped because their metric has too many series.",
            &[("metric", name)],
        );
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Family>> {
        // A panic elsewhere leaves numbers that are still numbers.
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Value {
    fn new(kind: &str) -> Self {
        if kind == "histogram" {
            Self::Histogram {
                buckets: [0; BUCKETS.len()],
                sum: 0.0,
                count: 0,
            }
        } else {
            Self::Number(0.0)
        }
    }
}

fn write_series(text: &mut String, name: &str, labels: &str, value: &Value) {
    let braced = |extra: &str| match (labels.is_empty(), extra.is_empty()) {
        (true, true) => String::new(),
        (false, true) => format!("{{{labels}}}"),
        (true, false) => format!("{{{extra}}}"),
        (false, false) => format!("{{{labels},{extra}}}"),
    };
    match value {
        Value::Number(number) => {
            let _ = writeln!(text, "{name}{} {number}", braced(""));
        }
        Value::Histogram {
            buckets,
            sum,
            count,
        } => {
            for (bucket, bound) in buckets.iter().zip(BUCKETS) {
                let _ = writeln!(
                    text,
                    "{name}_bucket{} {bucket}",
                    braced(&format!("le=\"{bound}\""))
                );
            }
            let _ = writeln!(text, "{name}_bucket{} {count}", braced("le=\"+Inf\""));
            let _ = writeln!(text, "{name}_sum{} {sum}", braced(""));
            let _ = writeln!(text, "{name}_count{} {count}", braced(""));
        }
    }
}

fn label_text(labels: Labels<'_>) -> String {
    let mut text = String::new();
    for (name, value) in labels {
        if !text.is_empty() {
            text.push(',');
        }
        let value = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        let _ = write!(text, "{name}=\"{value}\"");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_histograms_are_written_as_prometheus_reads_them() {
        let metrics = Metrics::default();
        metrics.count("a_total", "A.", &[("code", "200")]);
        metrics.count("a_total", "A.", &[("code", "200")]);
        metrics.observe("d_seconds", "D.", &[], Duration::from_millis(30));
        let text = metrics.render();
        assert!(
            text.contains("# TYPE a_total counter\na_total{code=\"200\"} 2\n"),
            "{text}"
        );
        assert!(
            text.contains("d_seconds_bucket{le=\"0.025\"} 0\n"),
            "{text}"
        );
        assert!(text.contains("d_seconds_bucket{le=\"0.05\"} 1\n"), "{text}");
        assert!(text.contains("d_seconds_bucket{le=\"+Inf\"} 1\n"), "{text}");
        assert!(text.contains("d_seconds_count 1\n"), "{text}");
    }

    #[test]
    fn label_values_are_escaped() {
        let metrics = Metrics::default();
        metrics.set("g", "G.", &[("path", "a\"b\\c\n")], 1.5);
        assert!(
            metrics
                .render()
                .contains("g{path=\"a\\\"b\\\\c\\n\"} 1.5\n")
        );
    }

    #[test]
    fn the_number_of_series_is_bounded() {
        let metrics = Metrics::default();
        for n in 0..1000 {
            metrics.count("a_total", "A.", &[("n", &n.to_string())]);
        }
        let text = metrics.render();
        assert_eq!(text.matches("a_total{n=").count(), MAX_SERIES);
        assert!(
            text.contains("metrics_series_dropped_total{metric=\"a_total\"} 744\n"),
            "{text}"
        );
    }
}
