//! What happens to a request: decided here, without doing it.

use std::time::Duration;

use super::settings::{ErrorType, Pattern, Settings};

/// What happens to one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// It fails in this way, in place of being served.
    pub fault: Option<Fault>,
    /// Being served is made to take this long at least.
    pub takes: Duration,
}

/// How one request fails.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// In which way.
    pub kind: ErrorType,
    /// With which status; 200 means that it is served after all.
    pub code: u16,
    /// After which wait.
    pub delay: Duration,
    /// With which text.
    pub message: String,
}

/// The random sequence of a service: the same seed gives the same plans for the same requests, in
/// this version and every later one (which is why the generator is spelt out here).
#[derive(Clone, Debug)]
pub struct Randomness {
    state: u64,
    requests: u64,
}

impl Randomness {
    /// A sequence of this seed, or of one that nobody knows.
    #[must_use]
    pub fn new(seed: Option<u64>) -> Self {
        Self {
            state: seed.unwrap_or_else(rand::random),
            requests: 0,
        }
    }

    /// Decides about the next request. Three numbers are drawn whatever the settings, so that
    /// changing one setting does not shift the others' sequence.
    pub fn plan(&mut self, settings: &Settings) -> Plan {
        self.requests += 1;
        let (error, percentile, variance) = (self.next(), self.next(), self.next());
        let fails = match settings.error_pattern {
            Pattern::Random => error < settings.error_rate,
            Pattern::Counter => {
                every(settings.error_rate).is_some_and(|n| self.requests.is_multiple_of(n))
            }
        };
        let [(_, fifty), (_, ninety), (_, ninety_nine)] = settings.percentiles();
        let takes = match percentile {
            p if p < 0.90 => fifty,
            p if p < 0.99 => ninety,
            _ => ninety_nine,
        };
        Plan {
            fault: fails.then(|| fault(settings, variance)),
            takes: takes + settings.timing_variance.of(takes, variance),
        }
    }

    /// The next number, from 0 up to but not including 1 (`SplitMix64`).
    fn next(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bits = (z ^ (z >> 31)) >> 11;
        // 53 bits fit a float exactly.
        bits as f64 / (1_u64 << 53) as f64
    }
}

/// Every how many requests one fails, when failures are counted out.
fn every(rate: f64) -> Option<u64> {
    // A valid rate is at most 1, so the quotient is at least 1; a tiny rate saturates.
    (rate > 0.0).then(|| (1.0 / rate) as u64)
}

fn fault(settings: &Settings, variance: f64) -> Fault {
    let delay = settings.error_delay;
    let usual = match settings.error_type {
        ErrorType::Delay => "Service delay automatically injected",
        _ => "Service error automatically injected",
    };
    Fault {
        kind: settings.error_type,
        code: settings.error_code,
        delay: match settings.error_type {
            ErrorType::Delay => delay + settings.timing_variance.of(delay, variance),
            _ => Duration::ZERO,
        },
        message: settings
            .error_message
            .clone()
            .unwrap_or_else(|| usual.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(settings: &Settings, seed: u64, requests: usize) -> Vec<usize> {
        let mut randomness = Randomness::new(Some(seed));
        (1..=requests)
            .filter(|_| randomness.plan(settings).fault.is_some())
            .collect()
    }

    fn rate(error_rate: f64, error_pattern: Pattern) -> Settings {
        Settings {
            error_rate,
            error_pattern,
            ..Settings::default()
        }
    }

    #[test]
    fn about_the_given_share_fails_and_the_seed_says_which() {
        let half = rate(0.5, Pattern::Random);
        for seed in 0..20 {
            let failed = failures(&half, seed, 1000);
            // Five standard deviations of a fair coin are 79.
            assert!((421..=579).contains(&failed.len()), "{}", failed.len());
            assert_eq!(failed, failures(&half, seed, 1000));
        }
        assert_ne!(failures(&half, 1, 1000), failures(&half, 2, 1000));
        assert!(failures(&rate(0.0, Pattern::Random), 1, 1000).is_empty());
        assert_eq!(failures(&rate(1.0, Pattern::Random), 1, 1000).len(), 1000);
    }

    #[test]
    fn a_known_seed_has_a_known_sequence_for_ever() {
        assert_eq!(
            failures(&rate(0.5, Pattern::Random), 42, 12),
            [2, 3, 6, 7, 8, 9]
        );
    }

    #[test]
    fn counting_makes_every_nth_fail() {
        assert_eq!(failures(&rate(0.5, Pattern::Counter), 1, 6), [2, 4, 6]);
        assert_eq!(failures(&rate(0.3, Pattern::Counter), 1, 9), [3, 6, 9]);
        assert_eq!(failures(&rate(0.75, Pattern::Counter), 1, 3), [1, 2, 3]);
        assert!(failures(&rate(0.0, Pattern::Counter), 1, 100).is_empty());
    }

    #[test]
    fn times_follow_the_percentiles() {
        let milliseconds = Duration::from_millis;
        let settings = Settings {
            timing_50_percentile: milliseconds(100),
            timing_90_percentile: milliseconds(200),
            timing_99_percentile: milliseconds(300),
            ..Settings::default()
        };
        let mut randomness = Randomness::new(Some(7));
        let times: Vec<_> = (0..10_000)
            .map(|_| randomness.plan(&settings).takes)
            .collect();
        let count = |ms| {
            times
                .iter()
                .filter(|time| **time == milliseconds(ms))
                .count()
        };
        assert_eq!(count(100) + count(200) + count(300), 10_000);
        assert!((8850..=9150).contains(&count(100)), "{}", count(100));
        assert!((50..=150).contains(&count(300)), "{}", count(300));
    }

    #[test]
    fn variance_adds_up_to_its_share() {
        let settings = Settings {
            timing_50_percentile: Duration::from_millis(100),
            timing_variance: "10".parse().expect("a variance"),
            ..Settings::default()
        };
        let mut randomness = Randomness::new(Some(7));
        let times: Vec<_> = (0..1000)
            .map(|_| randomness.plan(&settings).takes)
            .collect();
        let (least, most) = (
            times.iter().min().expect("some"),
            times.iter().max().expect("some"),
        );
        assert!(*least >= Duration::from_millis(100) && *least < Duration::from_millis(101));
        assert!(*most <= Duration::from_millis(110) && *most > Duration::from_millis(109));
    }
}
