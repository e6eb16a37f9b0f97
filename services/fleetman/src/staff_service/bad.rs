//! How the bad variant misbehaves.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// The share of requests that fail unless told otherwise.
pub const RATE: f64 = 0.7;

/// Every request waits a random while, and many fail then.
pub struct Badness {
    rate: f64,
    longest: Duration,
    random: Mutex<StdRng>,
}

impl fmt::Debug for Badness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, longest, .. } = self;
        write!(formatter, "{rate} fail after up to {longest:?}")
    }
}

impl Badness {
    /// `rate` (0 to 1) of the requests fail, each after 0 to `longest`. The same seed gives the same
    /// sequence.
    #[must_use]
    pub fn new(rate: f64, longest: Duration, seed: Option<u64>) -> Self {
        Self {
            rate,
            longest,
            random: Mutex::new(StdRng::seed_from_u64(seed.unwrap_or_else(rand::random))),
        }
    }

    /// What happens to the next request: how long it waits, and whether it fails then.
    pub(crate) fn next(&self) -> (Duration, bool) {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        let (wait, fails): (f64, f64) = (random.random(), random.random());
        (self.longest.mul_f64(wait), fails < self.rate)
    }
}

/// Reads a share.
///
/// # Errors
/// When it is not from 0 to 1.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.0..=1.0).contains(&rate) => Ok(rate),
        _ => Err(format!(
            "`{text}` is not a share; write a number from 0 to 1"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_of_ten_fail_after_up_to_five_seconds() {
        let badness = Badness::new(RATE, Duration::from_secs(5), Some(1));
        let plans: Vec<_> = (0..1000).map(|_| badness.next()).collect();
        let failed = plans.iter().filter(|(_, fails)| *fails).count();
        assert!((640..=760).contains(&failed), "{failed}");
        assert!(plans.iter().all(|(wait, _)| *wait < Duration::from_secs(5)));
        let slow = plans
            .iter()
            .filter(|(wait, _)| *wait > Duration::from_millis(2500))
            .count();
        assert!((430..=570).contains(&slow), "{slow}");
        let again = Badness::new(RATE, Duration::from_secs(5), Some(1));
        assert!(plans.iter().all(|plan| *plan == again.next()));
    }

    #[test]
    fn a_share_is_from_0_to_1() {
        assert_eq!(parse_rate("0.5"), Ok(0.5));
        for text in ["2", "-1", "NaN", "half", ""] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }
}
