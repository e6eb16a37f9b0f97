//! Istio's histograms: fixed buckets for milliseconds and bytes alike.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Upper bounds of the buckets; above the last is `+Inf`.
pub(crate) const BOUNDS: [f64; 19] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 30000.0,
    60000.0, 300000.0, 600000.0, 1800000.0, 3600000.0,
];

/// Counts by bucket, and the sum.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// In thousandths, so that the sum of fractions of milliseconds stays exact.
    sum: AtomicU64,
}

impl Histogram {
    /// Records a value given in thousandths (microseconds for durations).
    pub(crate) fn record(&self, thousandths: u64) {
        let value = thousandths as f64 / 1000.0;
        let bucket = BOUNDS.iter().take_while(|bound| value > **bound).count();
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(thousandths, Relaxed);
    }

    /// Counts up to and including each bound, `+Inf` last.
    pub(crate) fn cumulative(&self) -> [u64; BOUNDS.len() + 1] {
        let mut total = 0;
        std::array::from_fn(|index| {
            total += self.buckets[index].load(Relaxed);
            total
        })
    }

    pub(crate) fn sum(&self) -> f64 {
        self.sum.load(Relaxed) as f64 / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_belongs_below_it() {
        let histogram = Histogram::default();
        for thousandths in [0, 500, 501, 1_000, 9_999_000_000] {
            histogram.record(thousandths);
        }
        let counts = histogram.cumulative();
        assert_eq!(counts[..3], [2, 4, 4]);
        assert_eq!(counts[BOUNDS.len() - 1], 4);
        assert_eq!(counts[BOUNDS.len()], 5);
        assert_eq!(histogram.sum(), 9_999_001.001 + 1.0);
    }
}
