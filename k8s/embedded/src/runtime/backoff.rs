//! Back-off of restarts: at once, then after 10 s, doubling up to 5 minutes, forgotten after a run
//! of 10 minutes. The same steps are used between looks for a missing image.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);
/// A run of this length makes earlier crashes forgotten.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// The pause before the restart after `crashes` earlier ones: none for the first.
pub fn delay(crashes: u32) -> Duration {
    match crashes {
        0 => Duration::ZERO,
        n => FIRST.saturating_mul(1 << (n - 1).min(5)).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_five_minutes() {
        let seconds: Vec<u64> = (0..8).map(|n| delay(n).as_secs()).collect();
        assert_eq!(seconds, [0, 10, 20, 40, 80, 160, 300, 300]);
    }
}
