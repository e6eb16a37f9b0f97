//! Requests per second, with as many at once.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// A bucket of tokens: each request takes one, and they come back at a rate.
pub struct RateLimit {
    rate: f64,
    state: Mutex<(f64, Instant)>,
}

impl RateLimit {
    /// So many requests per second, and as many at once (one at least); 0: no limit.
    #[must_use]
    pub fn new(rate: f64) -> Self {
        Self {
            rate,
            state: Mutex::new((rate.max(1.0), Instant::now())),
        }
    }

    /// Whether a request may go on now.
    #[must_use]
    pub fn admits(&self) -> bool {
        if self.rate == 0.0 {
            return true;
        }
        // Both numbers are set together, so a panic elsewhere leaves them right.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let back = now.duration_since(state.1).as_secs_f64() * self.rate;
        let tokens = (state.0 + back).min(self.rate.max(1.0));
        let admitted = tokens >= 1.0;
        *state = (if admitted { tokens - 1.0 } else { tokens }, now);
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_burst_and_then_the_rate() {
        let limit = RateLimit::new(5.0);
        let admitted = |limit: &RateLimit| (0..20).filter(|_| limit.admits()).count();
        assert_eq!(admitted(&limit), 5);
        tokio::time::advance(Duration::from_millis(400)).await;
        assert_eq!(admitted(&limit), 2);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(admitted(&limit), 5);
        assert_eq!(admitted(&RateLimit::new(0.0)), 20);
    }
}
