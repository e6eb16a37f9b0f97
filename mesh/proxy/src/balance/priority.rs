//! How traffic is divided between priorities: pure.

/// A priority counts as fully able while this share of its hosts, in percent of all, is healthy:
/// below 100 / 1.4 percent, the next priority takes over what is missing.
const OVERPROVISIONING: usize = 140;

/// What falls to one priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// How much of the traffic its healthy hosts can take, in percent.
    pub(super) availability: u32,
    /// Its part of the traffic, in percent.
    pub(super) share: u32,
    /// All of its hosts are used, healthy or not.
    pub(super) panic: bool,
}

/// From healthy and all hosts of each priority. `threshold`: a priority with less than this
/// percentage of healthy hosts panics when all priorities together cannot take the traffic.
pub(super) fn loads(health: &[(usize, usize)], threshold: u32) -> Vec<Load> {
    let availability: Vec<u32> = health
        .iter()
        .map(|(healthy, total)| available(*healthy, *total))
        .collect();
    let short = availability.iter().sum::<u32>() < 100;
    let panics = |(healthy, total): &(usize, usize)| {
        short && *total > 0 && 100 * healthy < threshold as usize * total
    };
    let all: usize = health.iter().map(|(_, total)| total).sum();
    let shares = if health.iter().all(panics) && all > 0 {
        let by_size = health
            .iter()
            .map(|(_, total)| (100 * total).div_ceil(all) as u32);
        by_size.collect()
    } else {
        shares(&availability)
    };
    let of = |((health, availability), share)| Load {
        availability,
        share,
        panic: panics(health),
    };
    health
        .iter()
        .zip(availability)
        .zip(shares)
        .map(of)
        .collect()
}

/// From the first on, each takes what it can; together they take everything.
pub(super) fn shares(availability: &[u32]) -> Vec<u32> {
    let sum = availability.iter().sum::<u32>().min(100);
    let mut left = 100;
    let mut shares: Vec<u32> = availability
        .iter()
        .map(|available| {
            let share = (available * 100).checked_div(sum).unwrap_or(0).min(left);
            left -= share;
            share
        })
        .collect();
    // What rounding left over.
    if let Some(first) = shares.iter_mut().find(|share| **share > 0) {
        *first += left;
    }
    shares
}

fn available(healthy: usize, total: usize) -> u32 {
    (OVERPROVISIONING * healthy)
        .checked_div(total)
        .unwrap_or(0)
        .min(100) as u32
}

/// The weight of a locality, which falls as its hosts do; in hundredths.
pub(super) fn locality_weight(weight: u32, healthy: usize, total: usize) -> u32 {
    weight.saturating_mul(available(healthy, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(health: &[(usize, usize)]) -> Vec<u32> {
        loads(health, 0).iter().map(|load| load.share).collect()
    }

    #[test]
    fn what_a_priority_cannot_take_spills_over() {
        assert_eq!(parts(&[(2, 2), (2, 2)]), [100, 0]);
        assert_eq!(parts(&[(1, 2), (2, 2)]), [70, 30]);
        assert_eq!(parts(&[(3, 4), (1, 1)]), [100, 0]);
        assert_eq!(parts(&[(0, 2), (2, 2)]), [0, 100]);
        assert_eq!(parts(&[(0, 1), (1, 2), (1, 1)]), [0, 70, 30]);
        // Too few hosts everywhere: shares grow in proportion.
        assert_eq!(parts(&[(1, 4), (1, 4)]), [50, 50]);
        assert_eq!(parts(&[(0, 4), (0, 4)]), [0, 0]);
        assert!(parts(&[]).is_empty());
    }

    #[test]
    fn too_few_healthy_hosts_are_a_panic_only_with_a_threshold() {
        assert!(!loads(&[(0, 2)], 0)[0].panic);
        assert!(loads(&[(0, 2)], 1)[0].panic);
        assert!(loads(&[(1, 4)], 50)[0].panic);
        assert!(!loads(&[(2, 4)], 50)[0].panic);
        // Others can take the traffic.
        assert!(!loads(&[(0, 2), (1, 1)], 50)[0].panic);
        assert_eq!(
            loads(&[(0, 1), (0, 3)], 50)
                .iter()
                .map(|load| load.share)
                .collect::<Vec<_>>(),
            [25, 75]
        );
    }
}
