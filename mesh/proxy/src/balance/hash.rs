//! Consistent hashing: the same hash finds the same host as long as it is there. Both tables are
//! Envoy's, down to the hash function, so that a client keeps its host when proxies change.

use std::sync::Arc;

use mesh_config::LbPolicy;
use twox_hash::XxHash64;

use crate::config::Host;

/// Envoy's bound of a ring.
const LARGEST_RING: usize = 8 * 1024 * 1024;

/// From hashes to hosts.
#[derive(Debug)]
pub(super) enum Table {
    /// Virtual nodes in the order of their hashes.
    Ring(Vec<(u64, Arc<Host>)>),
    /// A host per slot.
    Maglev {
        hosts: Vec<Arc<Host>>,
        slots: Vec<u32>,
    },
}

impl Table {
    /// For hosts, of which there is at least one; `None` when the policy is not about hashes.
    pub(super) fn new(policy: LbPolicy, hosts: &[Arc<Host>]) -> Option<Self> {
        let names: Vec<String> = hosts.iter().map(|host| host.address.to_string()).collect();
        let weights: Vec<u32> = hosts.iter().map(|host| host.weight).collect();
        match policy {
            LbPolicy::RingHash { minimum_ring_size } => {
                let ring = ring(&names, &weights, minimum_ring_size as usize);
                let ring = ring
                    .into_iter()
                    .map(|(hash, host)| (hash, hosts[host].clone()));
                Some(Self::Ring(ring.collect()))
            }
            LbPolicy::Maglev { table_size } => Some(Self::Maglev {
                hosts: hosts.to_vec(),
                slots: maglev(&names, &weights, table_size as usize),
            }),
            _ => None,
        }
    }

    /// The host of a hash; further attempts find further hosts.
    pub(super) fn host(&self, hash: u64, attempt: u32) -> &Arc<Host> {
        match self {
            Self::Ring(ring) => {
                let found = ring.partition_point(|(of, _)| *of < hash);
                &ring[(found % ring.len() + attempt as usize) % ring.len()].1
            }
            Self::Maglev { hosts, slots } => {
                let hash = match attempt {
                    0 => hash,
                    n => hash ^ (u64::MAX - u64::from(n) + 1),
                };
                &hosts[slots[(hash % slots.len() as u64) as usize] as usize]
            }
        }
    }
}

/// Each host has virtual nodes in proportion to its weight, named by its address and a number.
fn ring(names: &[String], weights: &[u32], minimum: usize) -> Vec<(u64, usize)> {
    let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    let normal = |weight: u32| f64::from(weight) / sum;
    let least = weights.iter().copied().min().map_or(1.0, normal);
    let scale = ((least * minimum as f64).ceil() / least).min(LARGEST_RING as f64);
    let mut ring = Vec::with_capacity(scale.ceil() as usize);
    let (mut current, mut target) = (0.0, 0.0);
    for (index, name) in names.iter().enumerate() {
        target += scale * normal(weights[index]);
        let mut node = 0;
        while current < target {
            ring.push((
                XxHash64::oneshot(0, format!("{name}_{node}").as_bytes()),
                index,
            ));
            node += 1;
            current += 1.0;
        }
    }
    ring.sort_unstable();
    ring
}

/// Every host fills slots in an order of its own, heavier hosts more often.
fn maglev(names: &[String], weights: &[u32], size: usize) -> Vec<u32> {
    const FREE: u32 = u32::MAX;
    let size = size.max(2);
    let heaviest = f64::from(weights.iter().copied().max().unwrap_or(1).max(1));
    struct Filler {
        at: usize,
        skip: usize,
        weight: f64,
        due: f64,
    }
    let mut fillers: Vec<Filler> = names
        .iter()
        .zip(weights)
        .map(|(name, weight)| Filler {
            at: (XxHash64::oneshot(0, name.as_bytes()) % size as u64) as usize,
            skip: (XxHash64::oneshot(1, name.as_bytes()) % (size as u64 - 1)) as usize + 1,
            weight: f64::from(*weight),
            due: 0.0,
        })
        .collect();
    let mut slots = vec![FREE; size];
    let mut filled = 0;
    let mut round = 1.0;
    while filled < size {
        for (index, filler) in fillers.iter_mut().enumerate() {
            if filled == size {
                break;
            }
            if round * filler.weight < filler.due {
                continue;
            }
            filler.due += heaviest;
            while slots[filler.at] != FREE {
                filler.at = (filler.at + filler.skip) % size;
            }
            slots[filler.at] = index as u32;
            filler.at = (filler.at + filler.skip) % size;
            filled += 1;
        }
        round += 1.0;
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("10.0.0.{n}:80")).collect()
    }

    #[test]
    fn a_ring_has_its_size_and_every_host_its_share() {
        let ring = ring(&names(4), &[1, 1, 1, 1], 1024);
        assert_eq!(ring.len(), 1024);
        assert!(ring.windows(2).all(|pair| pair[0].0 <= pair[1].0));
        for host in 0..4 {
            assert_eq!(ring.iter().filter(|(_, of)| *of == host).count(), 256);
        }
    }

    #[test]
    fn weights_count_in_both_tables() {
        let ring = ring(&names(2), &[1, 3], 1024);
        assert_eq!(ring.iter().filter(|(_, host)| *host == 1).count(), 768);
        let slots = maglev(&names(2), &[1, 3], 65_537);
        let second = slots.iter().filter(|host| **host == 1).count();
        assert!((48_900..49_400).contains(&second), "{second}");
    }

    #[test]
    fn a_table_is_full_and_even() {
        let slots = maglev(&names(3), &[1, 1, 1], 65_537);
        for host in 0..3 {
            let count = slots.iter().filter(|of| **of == host).count();
            assert!((21_845..=21_846).contains(&count));
        }
    }

    #[test]
    fn losing_a_host_moves_few_others() {
        let weights = [1; 5];
        let before = maglev(&names(5), &weights, 65_537);
        let after = maglev(&names(4), &weights[..4], 65_537);
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(a, b)| **a != 4 && a != b)
            .count();
        assert!(moved < 65_537 / 10, "{moved}");
    }
}
