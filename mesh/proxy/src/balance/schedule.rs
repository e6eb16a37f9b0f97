//! Turns by weight: pure.

/// Longest cycle of turns; weights that need a longer one are rounded.
const LONGEST: u64 = 1024;

/// A cycle in which each index occurs as often as its weight says, spread out evenly.
#[derive(Debug)]
pub(super) struct Schedule {
    count: usize,
    /// Empty: all weights are equal.
    cycle: Vec<u16>,
}

impl Schedule {
    pub(super) fn new(weights: &[u32]) -> Self {
        let count = weights.len();
        let equal = weights.windows(2).all(|pair| pair[0] == pair[1]);
        let cycle = if equal || count > usize::from(u16::MAX) {
            Vec::new()
        } else {
            smooth(weights)
        };
        Self { count, cycle }
    }

    /// Whose turn the nth is.
    pub(super) fn at(&self, turn: usize) -> usize {
        if self.cycle.is_empty() {
            turn % self.count
        } else {
            self.cycle[turn % self.cycle.len()].into()
        }
    }

    /// Any index, as often as its weight says, for a draw over all of `u32`.
    pub(super) fn random(&self, draw: u32) -> usize {
        let length = if self.cycle.is_empty() {
            self.count
        } else {
            self.cycle.len()
        };
        self.at(((u64::from(draw) * length as u64) >> 32) as usize)
    }
}

/// Smooth weighted round robin: the index that is most behind its due is next.
fn smooth(weights: &[u32]) -> Vec<u16> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let mut weights: Vec<i64> = weights
        .iter()
        .map(|weight| i64::from(weight / divisor))
        .collect();
    let sum: i64 = weights.iter().sum();
    if sum as u64 > LONGEST {
        for weight in weights.iter_mut().filter(|weight| **weight > 0) {
            *weight = (*weight * LONGEST as i64 / sum).max(1);
        }
    }
    let sum: i64 = weights.iter().sum();
    let mut due = vec![0; weights.len()];
    (0..sum)
        .map(|_| {
            let mut best = 0;
            for index in 0..weights.len() {
                due[index] += weights[index];
                if due[index] > due[best] {
                    best = index;
                }
            }
            due[best] -= sum;
            best as u16
        })
        .collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(weights: &[u32], count: usize) -> Vec<usize> {
        let schedule = Schedule::new(weights);
        (0..count).map(|turn| schedule.at(turn)).collect()
    }

    #[test]
    fn equal_weights_take_turns() {
        assert_eq!(turns(&[7, 7, 7], 4), [0, 1, 2, 0]);
    }

    #[test]
    fn a_heavier_one_comes_more_often_but_not_in_a_row() {
        assert_eq!(turns(&[2, 1], 6), [0, 1, 0, 0, 1, 0]);
        assert_eq!(
            turns(&[1, 3], 8)
                .iter()
                .filter(|index| **index == 1)
                .count(),
            6
        );
        assert_eq!(turns(&[0, 3], 3), [1, 1, 1]);
    }

    #[test]
    fn shares_are_kept_whatever_the_numbers() {
        let schedule = Schedule::new(&[7_000, 3_000]);
        let first = (0..1000).filter(|turn| schedule.at(*turn) == 0).count();
        assert_eq!(first, 700);
        let schedule = Schedule::new(&[1_000_003, 7]);
        assert!(schedule.cycle.len() as u64 <= LONGEST + 1);
        assert!((0..LONGEST as usize + 1).any(|turn| schedule.at(turn) == 1));
    }

    #[test]
    fn draws_follow_the_weights() {
        let schedule = Schedule::new(&[1, 3]);
        assert_eq!(schedule.random(0), schedule.at(0));
        assert_eq!(schedule.random(u32::MAX), schedule.at(3));
    }
}
