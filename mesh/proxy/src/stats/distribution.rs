//! Envoy's own histograms: log-linear bins, 90 to a decade, from which quantiles are interpolated.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

/// The quantiles that Envoy prints, in per cent.
pub(crate) const QUANTILES: [f64; 10] =
    [0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 100.0];

/// 0, 1 to 9, and 90 bins for each decade from 10 to 10 million.
const BINS: usize = 10 + 90 * 6;

/// Whole milliseconds (or other whole units) by bin. Room for the bins is made when the first value
/// comes: most clusters never see one.
#[derive(Debug, Default)]
pub(crate) struct Distribution {
    bins: OnceLock<Box<[AtomicU32]>>,
    sum: AtomicU64,
}

/// What was recorded, at one moment.
#[derive(Debug)]
pub(crate) struct Recorded {
    counts: Vec<u32>,
    pub(crate) total: u64,
    pub(crate) sum: u64,
}

impl Distribution {
    pub(crate) fn record(&self, value: u64) {
        let bins = self
            .bins
            .get_or_init(|| (0..BINS).map(|_| AtomicU32::new(0)).collect());
        bins[bin(value)].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// `None`: there is no value yet.
    pub(crate) fn recorded(&self) -> Option<Recorded> {
        let counts: Vec<u32> = self
            .bins
            .get()?
            .iter()
            .map(|bin| bin.load(Relaxed))
            .collect();
        let total = counts.iter().copied().map(u64::from).sum();
        let sum = self.sum.load(Relaxed);
        (total > 0).then_some(Recorded { counts, total, sum })
    }
}

impl Recorded {
    /// The value below which `percent` of the recorded ones lie.
    pub(crate) fn quantile(&self, percent: f64) -> f64 {
        let wanted = percent / 100.0 * self.total as f64;
        let mut below = 0.0;
        for (index, count) in self
            .counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
        {
            let count = f64::from(*count);
            if below + count >= wanted {
                let (start, width) = bounds(index);
                return start + width * (wanted - below) / count;
            }
            below += count;
        }
        f64::NAN
    }

    /// How many are not above `bound`, which is where a bin ends or a whole number.
    pub(crate) fn up_to(&self, bound: f64) -> u64 {
        let bins = self.counts.iter().enumerate();
        bins.filter(|(index, _)| bounds(*index).0 <= bound)
            .map(|(_, count)| u64::from(*count))
            .sum()
    }
}

fn bin(value: u64) -> usize {
    if value < 10 {
        return value as usize;
    }
    let decade = value.ilog10().min(6);
    let step = 10_u64.pow(decade - 1);
    let digits = (value / step).min(99) as usize;
    10 + 90 * (decade as usize - 1) + digits - 10
}

/// Where a bin begins, and how wide it is: a tenth of its decade.
fn bounds(bin: usize) -> (f64, f64) {
    if bin == 0 {
        return (0.0, 0.0);
    }
    if bin < 10 {
        return (bin as f64, 0.1);
    }
    let step = 10_f64.powi((bin as i32 - 10) / 90);
    let digits = (bin - 10) % 90 + 10;
    (digits as f64 * step, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_two_digits() {
        for (value, start) in [
            (0, 0.0),
            (9, 9.0),
            (10, 10.0),
            (99, 99.0),
            (100, 100.0),
            (109, 100.0),
            (1_234, 1_200.0),
            (9_999_999, 9_900_000.0),
            (u64::MAX, 9_900_000.0),
        ] {
            assert_eq!(bounds(bin(value)).0, start, "{value}");
        }
    }

    #[test]
    fn quantiles_are_interpolated_in_their_bin() {
        let distribution = Distribution::default();
        assert!(distribution.recorded().is_none());
        distribution.record(1);
        let one = distribution.recorded().unwrap();
        let printed: Vec<f64> = [0.0, 25.0, 50.0, 100.0].map(|q| one.quantile(q)).into();
        assert_eq!(printed, [1.0, 1.025, 1.05, 1.1]);
        distribution.record(250);
        let two = distribution.recorded().unwrap();
        assert_eq!(
            (two.quantile(75.0), two.up_to(1.0), two.up_to(250.0)),
            (255.0, 1, 2)
        );
    }
}
