//! The arithmetic of a rollout: how many replicas each ReplicaSet should have next.
//!
//! The rules are those of the Kubernetes documentation of Deployments: never more than
//! `replicas + maxSurge` pods, never fewer than `replicas - maxUnavailable` available ones; pods
//! of old ReplicaSets that are not available are removed first.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// One ReplicaSet as the arithmetic sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set {
    /// `spec.replicas`.
    pub replicas: i32,
    /// `status.availableReplicas`.
    pub available: i32,
}

/// The bounds of a rollout, in pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How many pods there may be above `replicas`.
    pub surge: i32,
    /// How many of `replicas` may be missing.
    pub unavailable: i32,
}

fn resolve(value: Option<&IntOrString>, replicas: i32, round_up: bool) -> i32 {
    match value {
        Some(IntOrString::Int(n)) => (*n).max(0),
        Some(IntOrString::String(percent)) => {
            // validation has refused what is not a percentage
            let percent: i32 = percent.trim_end_matches('%').parse().unwrap_or(0);
            let scaled = i64::from(replicas) * i64::from(percent.max(0));
            let rounded = if round_up {
                (scaled + 99) / 100
            } else {
                scaled / 100
            };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
        None => 0,
    }
}

impl Bounds {
    /// The bounds for `replicas`: a percentage is rounded up for the surge and down for the
    /// unavailable; when both come out as 0, one pod may be unavailable, or nothing could move.
    pub fn new(
        surge: Option<&IntOrString>,
        unavailable: Option<&IntOrString>,
        replicas: i32,
    ) -> Self {
        let surge = resolve(surge, replicas, true);
        let unavailable = resolve(unavailable, replicas, false);
        if surge == 0 && unavailable == 0 {
            return Self {
                surge,
                unavailable: 1,
            };
        }
        Self {
            surge,
            unavailable: unavailable.min(replicas),
        }
    }
}

/// The next size of the new ReplicaSet in a rolling update.
pub fn next_new(wanted: i32, bounds: Bounds, new: Set, old: &[Set]) -> i32 {
    if new.replicas >= wanted {
        return wanted;
    }
    let total: i32 = new.replicas + old.iter().map(|s| s.replicas).sum::<i32>();
    let room = (wanted + bounds.surge - total).max(0);
    new.replicas + room.min(wanted - new.replicas)
}

/// The next sizes of the old ReplicaSets (oldest first) in a rolling update.
pub fn next_old(wanted: i32, bounds: Bounds, new: Set, old: &[Set]) -> Vec<i32> {
    let mut sizes: Vec<i32> = old.iter().map(|s| s.replicas).collect();
    let total = new.replicas + sizes.iter().sum::<i32>();
    let minimum = wanted - bounds.unavailable;
    let new_unavailable = (new.replicas - new.available).max(0);
    let mut spare = total - minimum - new_unavailable;
    if spare <= 0 {
        return sizes;
    }
    // those that serve nobody go first
    for (size, set) in sizes.iter_mut().zip(old) {
        let down = spare.min((*size - set.available).max(0));
        *size -= down;
        spare -= down;
    }
    // then as many as are available beyond the minimum
    let available = new.available + old.iter().map(|s| s.available).sum::<i32>();
    let mut surplus = (available - minimum).max(0);
    for size in &mut sizes {
        let down = surplus.min(*size);
        *size -= down;
        surplus -= down;
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: Bounds = Bounds {
        surge: 1,
        unavailable: 0,
    };

    fn set(replicas: i32, available: i32) -> Set {
        Set {
            replicas,
            available,
        }
    }

    #[test]
    fn percentages_round_as_documented() {
        let quarter = IntOrString::String("25%".into());
        assert_eq!(
            Bounds::new(Some(&quarter), Some(&quarter), 2),
            Bounds {
                surge: 1,
                unavailable: 0
            }
        );
        assert_eq!(
            Bounds::new(Some(&quarter), Some(&quarter), 10),
            Bounds {
                surge: 3,
                unavailable: 2
            }
        );
        let zero = IntOrString::Int(0);
        assert_eq!(Bounds::new(Some(&zero), Some(&zero), 3).unavailable, 1);
    }

    #[test]
    fn surges_by_one_and_waits_for_it() {
        assert_eq!(next_new(2, DEFAULT, set(0, 0), &[set(2, 2)]), 1);
        assert_eq!(next_new(2, DEFAULT, set(1, 0), &[set(2, 2)]), 1);
        assert_eq!(next_old(2, DEFAULT, set(1, 0), &[set(2, 2)]), [2]);
        assert_eq!(next_old(2, DEFAULT, set(1, 1), &[set(2, 2)]), [1]);
        assert_eq!(next_new(2, DEFAULT, set(1, 1), &[set(1, 1)]), 2);
        assert_eq!(next_old(2, DEFAULT, set(2, 2), &[set(1, 1)]), [0]);
    }

    #[test]
    fn broken_old_pods_go_first() {
        assert_eq!(
            next_old(2, DEFAULT, set(0, 0), &[set(1, 0), set(2, 2)]),
            [0, 2]
        );
    }

    #[test]
    fn a_broken_new_version_takes_nothing_away() {
        assert_eq!(next_old(2, DEFAULT, set(1, 0), &[set(2, 2)]), [2]);
    }

    #[test]
    fn always_ends_within_the_bounds() {
        for wanted in 1..8 {
            for surge in 0..3 {
                for unavailable in 0..3 {
                    let bounds = Bounds {
                        surge,
                        unavailable: if surge == 0 {
                            unavailable.max(1)
                        } else {
                            unavailable
                        },
                    };
                    let mut new = set(0, 0);
                    let mut old = set(wanted, wanted);
                    for _ in 0..100 {
                        new.replicas = next_new(wanted, bounds, new, &[old]);
                        assert!(new.replicas + old.replicas <= wanted + bounds.surge);
                        old.replicas = next_old(wanted, bounds, new, &[old])[0];
                        old.available = old.available.min(old.replicas);
                        assert!(new.available + old.available >= wanted - bounds.unavailable);
                        new.available = new.replicas;
                    }
                    assert_eq!((new, old.replicas), (set(wanted, wanted), 0));
                }
            }
        }
    }
}
