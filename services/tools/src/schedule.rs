//! When a connection sends its next request: pure decisions over a clock that is passed in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

/// How many requests there are, and who may send them.
#[derive(Clone, Debug)]
pub enum Budget {
    /// This connection's own number; none: as many as time allows.
    Own(Option<u64>),
    /// All connections together; whoever is free takes the next.
    Shared {
        /// How many were taken.
        taken: Arc<AtomicU64>,
        /// How many there are; none: as many as time allows.
        total: Option<u64>,
    },
}

/// What lies between requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rhythm {
    /// Nothing.
    FlatOut,
    /// Request number i is due i times `interval` after the start; one that is late is sent at once.
    Every {
        /// Between two requests of the same budget.
        interval: Duration,
        /// Lengthen or shorten each wait by up to this share of it, 0 to 1.
        jitter: f64,
    },
    /// A rest of random length, up to this, after each answer.
    Rest(Duration),
}

/// The schedule of one connection.
#[derive(Debug)]
pub struct Pace {
    start: Instant,
    budget: Budget,
    rhythm: Rhythm,
    sent: u64,
    random: StdRng,
}

impl Pace {
    /// A schedule that begins at `start`; `seed` decides jitter and rests.
    #[must_use]
    pub fn new(start: Instant, budget: Budget, rhythm: Rhythm, seed: u64) -> Self {
        Self {
            start,
            budget,
            rhythm,
            sent: 0,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// When the next request is due, at or before `now` for at once; none when there is no more.
    pub fn next(&mut self, now: Instant) -> Option<Instant> {
        let index = match &self.budget {
            Budget::Own(total) => Some(self.sent).filter(|i| total.is_none_or(|all| *i < all)),
            Budget::Shared { taken, total } => {
                let index = taken.fetch_add(1, Ordering::Relaxed);
                Some(index).filter(|i| total.is_none_or(|all| *i < all))
            }
        }?;
        let first = self.sent == 0;
        self.sent += 1;
        Some(match self.rhythm {
            Rhythm::FlatOut => now,
            Rhythm::Every { interval, jitter } => {
                let due = self.start + interval.mul_f64(index as f64);
                let wait = due.saturating_duration_since(now);
                if jitter > 0.0 && !wait.is_zero() {
                    now + wait.mul_f64(1.0 + self.random.random_range(-jitter..=jitter))
                } else {
                    due
                }
            }
            Rhythm::Rest(_) if first => now,
            Rhythm::Rest(longest) => now + longest.mul_f64(self.random.random::<f64>()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn dues(mut pace: Pace, start: Instant) -> Vec<Duration> {
        std::iter::from_fn(|| pace.next(start))
            .map(|due| due - start)
            .collect()
    }

    #[test]
    fn a_rate_spaces_requests_and_the_budget_ends_them() {
        let start = Instant::now();
        let every = Rhythm::Every {
            interval: SECOND,
            jitter: 0.0,
        };
        let pace = Pace::new(start, Budget::Own(Some(3)), every, 1);
        assert_eq!(dues(pace, start), [Duration::ZERO, SECOND, SECOND * 2]);
    }

    #[test]
    fn connections_share_a_budget_without_sending_anything_twice() {
        let start = Instant::now();
        let budget = Budget::Shared {
            taken: Arc::default(),
            total: Some(3),
        };
        let every = Rhythm::Every {
            interval: SECOND,
            jitter: 0.0,
        };
        let mut one = Pace::new(start, budget.clone(), every, 1);
        let mut other = Pace::new(start, budget, every, 2);
        assert_eq!(one.next(start), Some(start));
        assert_eq!(other.next(start), Some(start + SECOND));
        assert_eq!(one.next(start), Some(start + SECOND * 2));
        assert_eq!(other.next(start), None);
    }

    #[test]
    fn jitter_and_rests_stay_within_their_bounds() {
        let start = Instant::now();
        let every = Rhythm::Every {
            interval: SECOND,
            jitter: 0.1,
        };
        let pace = Pace::new(start, Budget::Own(Some(200)), every, 7);
        for (index, due) in dues(pace, start).into_iter().enumerate() {
            let exact = index as f64;
            assert!(
                (due.as_secs_f64() - exact).abs() <= exact * 0.1 + 1e-6,
                "{index} {due:?}"
            );
        }
        let rests = dues(
            Pace::new(start, Budget::Own(Some(200)), Rhythm::Rest(SECOND), 7),
            start,
        );
        assert_eq!(rests[0], Duration::ZERO);
        assert!(rests.iter().all(|rest| *rest <= SECOND));
        assert!(rests.iter().any(|rest| *rest > SECOND / 2));
    }
}
