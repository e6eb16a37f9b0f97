//! How many wrong PINs are borne.

use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant},
};

/// For so long a wrong PIN counts.
const WINDOW: Duration = Duration::from_secs(60);
/// So many from one address.
const OF_ONE: usize = 5;
/// So many from all: a PIN of six digits then lasts for weeks.
const OF_ALL: usize = 30;

/// The wrong PINs of the last minute; never more than [`OF_ALL`].
#[derive(Debug, Default)]
pub(super) struct Limit {
    wrong: VecDeque<(Instant, IpAddr)>,
}

impl Limit {
    /// Whether another PIN is looked at.
    pub(super) fn allows(&mut self, from: IpAddr, now: Instant) -> bool {
        while let Some((at, _)) = self.wrong.front()
            && now.duration_since(*at) >= WINDOW
        {
            self.wrong.pop_front();
        }
        let of_one = self.wrong.iter().filter(|(_, ip)| *ip == from).count();
        of_one < OF_ONE && self.wrong.len() < OF_ALL
    }

    /// Notes a wrong one.
    pub(super) fn note(&mut self, from: IpAddr, now: Instant) {
        self.wrong.push_back((now, from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_pins_are_borne_for_a_while() {
        let address = |n: u8| IpAddr::from([127, 0, 0, n]);
        let start = Instant::now();
        let mut limit = Limit::default();
        for _ in 0..OF_ONE {
            assert!(limit.allows(address(1), start));
            limit.note(address(1), start);
        }
        assert!(!limit.allows(address(1), start));
        assert!(limit.allows(address(2), start), "another is not punished");
        for n in 0..25 {
            limit.note(address(10 + n), start);
        }
        assert!(
            !limit.allows(address(2), start),
            "unless there are too many"
        );
        assert!(limit.allows(address(1), start + WINDOW));
    }
}
