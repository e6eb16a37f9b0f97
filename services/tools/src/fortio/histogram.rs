//! fortio's histogram: fixed ranges that widen with the value, percentiles by straight lines within them.

use std::fmt::Write as _;

/// Upper ends of the ranges, in units of the resolution; beyond the last one there is one more.
const ENDS: [u32; 53] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 18, 20, 25, 30, 35, 40, 45, 50, 60, 70, 80, 90,
    100, 120, 140, 160, 180, 200, 250, 300, 350, 400, 450, 500, 600, 700, 800, 900, 1_000, 2_000,
    3_000, 4_000, 5_000, 7_500, 10_000, 20_000, 30_000, 50_000, 100_000,
];

/// Count, mean, deviation and bounds of values.
#[derive(Clone, Debug, PartialEq)]
pub struct Counter {
    /// How many values.
    pub count: u64,
    min: f64,
    max: f64,
    /// Their sum.
    pub sum: f64,
    squares: f64,
}

impl Default for Counter {
    fn default() -> Self {
        Self {
            count: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            sum: 0.0,
            squares: 0.0,
        }
    }
}

impl Counter {
    /// Takes a value in.
    pub fn record(&mut self, value: f64) {
        self.count += 1;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sum += value;
        self.squares += value * value;
    }

    /// Takes another counter's values in.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum += other.sum;
        self.squares += other.squares;
    }

    /// The mean; 0 without values.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            self.sum / self.count as f64
        }
    }

    fn deviation(&self) -> f64 {
        let mean = self.mean();
        (self.squares / self.count as f64 - mean * mean)
            .max(0.0)
            .sqrt()
    }

    /// The line about this counter.
    #[must_use]
    pub fn line(&self, title: &str) -> String {
        if self.count == 0 {
            return format!("{title} : no data\n");
        }
        format!(
            "{title} : count {} avg {} +/- {} min {} max {} sum {}\n",
            self.count,
            significant(self.mean(), 8),
            significant(self.deviation(), 4),
            significant(self.min, 8),
            significant(self.max, 8),
            significant(self.sum, 9),
        )
    }
}

/// A histogram of times in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// The values' count, mean and bounds.
    pub counter: Counter,
    resolution: f64,
    counts: [u64; ENDS.len() + 1],
}

impl Histogram {
    /// An empty histogram; `resolution` is the width of the finest range in seconds, above 0.
    #[must_use]
    pub fn new(resolution: f64) -> Self {
        Self {
            counter: Counter::default(),
            resolution,
            counts: [0; ENDS.len() + 1],
        }
    }

    /// Takes a time in.
    pub fn record(&mut self, seconds: f64) {
        self.counter.record(seconds);
        let units = seconds / self.resolution;
        self.counts[ENDS.partition_point(|end| f64::from(*end) < units)] += 1;
    }

    /// Takes in the values of another histogram of the same resolution.
    pub fn merge(&mut self, other: &Self) {
        self.counter.merge(&other.counter);
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// Ranges that hold values: from, to, count. The outermost are cut to the values' bounds.
    fn ranges(&self) -> Vec<(f64, f64, u64)> {
        let end = |index: usize| match ENDS.get(index) {
            Some(end) => f64::from(*end) * self.resolution,
            None => f64::INFINITY,
        };
        let filled = self
            .counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0);
        filled
            .map(|(index, count)| {
                let from = if index == 0 { 0.0 } else { end(index - 1) };
                let (min, max) = (self.counter.min, self.counter.max);
                (from.max(min), end(index).min(max), *count)
            })
            .collect()
    }

    /// The value that `percent` of all values do not exceed, estimated within its range.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> f64 {
        let wanted = self.counter.count as f64 * percent / 100.0;
        let mut before = 0.0;
        for (from, to, count) in self.ranges() {
            let count = count as f64;
            if before + count >= wanted {
                return from + (to - from) * ((wanted - before) / count).max(0.0);
            }
            before += count;
        }
        self.counter.max
    }

    /// The lines about this histogram: its counter, its ranges when `detailed`, its percentiles.
    #[must_use]
    pub fn lines(&self, title: &str, detailed: bool, percentiles: &[f64]) -> String {
        let mut text = self.counter.line(title);
        if self.counter.count == 0 {
            return text;
        }
        if detailed {
            text.push_str("# range, mid point, percentile, count\n");
            let mut total = 0;
            for (index, (from, to, count)) in self.ranges().into_iter().enumerate() {
                total += count;
                let sign = if index == 0 { ">=" } else { ">" };
                let share = 100.0 * total as f64 / self.counter.count as f64;
                // Writing to a string cannot fail.
                let _ = writeln!(
                    text,
                    "{sign} {} <= {} , {} , {share:.2}, {count}",
                    significant(from, 6),
                    significant(to, 6),
                    significant(f64::midpoint(from, to), 6),
                );
            }
        }
        for percent in percentiles {
            let value = significant(self.percentile(*percent), 6);
            let _ = writeln!(text, "# target {percent}% {value}");
        }
        text
    }
}

/// A number with `digits` significant digits, trailing zeros left out; very small and very large
/// ones with an exponent.
#[must_use]
pub fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 {
            "0".to_owned()
        } else {
            value.to_string()
        };
    }
    let scientific = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    let whole = i32::try_from(digits).unwrap_or(i32::MAX);
    if exponent < -4 || exponent >= whole {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    let decimals = usize::try_from(whole - 1 - exponent).unwrap_or(0);
    trim(&format!("{value:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_resilience_lab() {
        let mut histogram = Histogram::new(0.001);
        for index in 0..30 {
            histogram.record(1.01516 + (1.03212 - 1.01516) * f64::from(index) / 29.0);
        }
        let text = histogram.lines(
            "Aggregated Function Time",
            false,
            &[50.0, 75.0, 90.0, 99.0, 99.9],
        );
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("Aggregated Function Time : count 30 avg 1.02364 +/- 0.005"));
        assert_eq!(
            lines[1..],
            [
                "# target 50% 1.02364",
                "# target 75% 1.02788",
                "# target 90% 1.03042",
                "# target 99% 1.03195",
                "# target 99.9% 1.0321",
            ]
        );
    }

    #[test]
    fn ranges_cover_all_values_once() {
        let mut histogram = Histogram::new(0.001);
        for value in [0.0005, 0.001, 0.0011, 0.0135, 200.0] {
            histogram.record(value);
        }
        let text = histogram.lines("T", true, &[50.0, 100.0]);
        assert_eq!(
            text.lines().skip(1).collect::<Vec<_>>(),
            [
                "# range, mid point, percentile, count",
                ">= 0.0005 <= 0.001 , 0.00075 , 40.00, 2",
                "> 0.001 <= 0.002 , 0.0015 , 60.00, 1",
                "> 0.012 <= 0.014 , 0.013 , 80.00, 1",
                "> 100 <= 200 , 150 , 100.00, 1",
                "# target 50% 0.0015",
                "# target 100% 200",
            ]
        );
        assert_eq!(
            Histogram::new(0.001).lines("Error cases", true, &[50.0]),
            "Error cases : no data\n"
        );
    }

    #[test]
    fn merging_is_as_if_recorded_together() {
        let (mut one, mut other, mut both) = (
            Histogram::new(0.001),
            Histogram::new(0.001),
            Histogram::new(0.001),
        );
        for index in 0..100 {
            let value = f64::from(index) * 0.25;
            if index % 2 == 0 {
                one.record(value)
            } else {
                other.record(value)
            }
            both.record(value);
        }
        one.merge(&other);
        assert_eq!(one, both);
    }

    #[test]
    fn numbers_have_significant_digits() {
        for (value, digits, text) in [
            (0.0, 6, "0"),
            (1.0236412, 6, "1.02364"),
            (1.0321, 6, "1.0321"),
            (0.000_045, 6, "4.5e-05"),
            (845.0, 8, "845"),
            (1_234_567.0, 6, "1.23457e+06"),
            (0.1, 4, "0.1"),
        ] {
            assert_eq!(significant(value, digits), text);
        }
    }
}
