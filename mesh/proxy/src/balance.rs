//! Which endpoint of a cluster takes an attempt: first a priority, then a locality, then a host.
//!
//! A [`Balancer`] is made anew whenever a host comes, goes, or changes its health, so that choosing
//! reads prepared lists and takes no lock.

mod hash;
mod priority;
mod schedule;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use mesh_config::{LbPolicy, Locality, SlowStart};

use crate::config::{Cluster, Host, Members, by_weight};
use hash::Table;
use schedule::Schedule;

/// Picks again when the host has already failed this request, this often.
const REPICKS: u32 = 5;

/// The hosts of a cluster as they may be chosen.
#[derive(Debug, Default)]
pub(crate) struct Balancer {
    priorities: Vec<Priority>,
    /// No host is in its slow start after this.
    warm_at: Option<Instant>,
}

/// Hosts that are used before those of the next priority.
#[derive(Debug)]
struct Priority {
    number: u32,
    /// How much of the traffic its healthy hosts can take, in percent.
    availability: u32,
    /// Its part of the traffic, in percent.
    share: u32,
    /// So few hosts are healthy that all are used.
    panic: bool,
    localities: Vec<Group>,
    turns: Turns,
    by_hash: Option<Table>,
}

/// Hosts of one locality; of all, where localities do not count.
#[derive(Debug)]
struct Group {
    hosts: Vec<Arc<Host>>,
    turns: Turns,
}

/// Whose turn it is. Starts at random so that proxies do not march in step.
#[derive(Debug)]
struct Turns {
    next: AtomicUsize,
    schedule: Schedule,
}

impl Turns {
    fn new(weights: &[u32]) -> Self {
        Self {
            next: AtomicUsize::new(rand::random::<u16>().into()),
            schedule: Schedule::new(weights),
        }
    }

    fn next(&self) -> usize {
        self.schedule.at(self.next.fetch_add(1, Relaxed))
    }

    fn random(&self, draw: u32) -> usize {
        self.schedule.random(draw)
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ask<'a> {
    /// Ids of hosts that failed this request, which are taken only when no other is found.
    pub(crate) avoid: &'a [u32],
    /// Priorities that are left out, as long as others have hosts.
    pub(crate) skip: &'a [u32],
    /// For clusters that balance by hash; absent: any host.
    pub(crate) hash: Option<u64>,
}

/// One of the hosts that may be chosen; `None`: there is no host. `draw` is uniform over all of
/// `u32`.
pub(crate) fn choose<'a>(
    cluster: &Cluster,
    members: &'a Members,
    ask: Ask<'_>,
    mut draw: impl FnMut() -> u32,
) -> Option<&'a Arc<Host>> {
    let balancer = &members.balancer;
    let mut host = None;
    for attempt in 0..=REPICKS {
        let priority = balancer.priority(ask.skip, &mut draw)?;
        if priority.panic && attempt == 0 {
            cluster.stats.lb_healthy_panic.add(1);
        }
        let picked = match (&priority.by_hash, ask.hash) {
            (Some(table), Some(hash)) => table.host(hash, attempt),
            _ => priority.pick(balancer, members, &mut draw),
        };
        if !ask.avoid.contains(&picked.id) {
            return Some(picked);
        }
        host = Some(picked);
    }
    host
}

impl Balancer {
    /// Prepares the choice among `hosts`.
    pub(crate) fn new(config: &mesh_config::Cluster, hosts: &[Arc<Host>]) -> Self {
        let mut by_priority: BTreeMap<u32, Vec<&Arc<Host>>> = BTreeMap::new();
        for host in hosts {
            by_priority.entry(host.priority).or_default().push(host);
        }
        let health = by_priority.values().map(|hosts| {
            let healthy = hosts.iter().filter(|host| host.is_healthy()).count();
            (healthy, hosts.len())
        });
        let health: Vec<(usize, usize)> = health.collect();
        let loads = priority::loads(&health, config.healthy_panic_threshold);
        let priorities = by_priority.into_iter().zip(loads);
        let warm_at = config.slow_start.and_then(|slow_start| {
            let since = hosts.iter().map(|host| host.since).max()?;
            since.checked_add(slow_start.window)
        });
        Self {
            priorities: priorities
                .filter_map(|((number, hosts), load)| Priority::new(config, number, &hosts, load))
                .collect(),
            warm_at,
        }
    }

    fn priority(&self, skip: &[u32], draw: &mut impl FnMut() -> u32) -> Option<&Priority> {
        if let [] | [_] = &self.priorities[..] {
            return self.priorities.first();
        }
        let skipped = |priority: &Priority| skip.contains(&priority.number);
        let by_share = || self.priorities.iter().map(|priority| priority.share);
        let chosen = if skip.is_empty() || self.priorities.iter().all(skipped) {
            by_weight(by_share(), draw())
        } else {
            let available = self
                .priorities
                .iter()
                .map(|priority| match skipped(priority) {
                    true => 0,
                    false => priority.availability,
                });
            let shares = priority::shares(&available.collect::<Vec<_>>());
            by_weight(shares.iter().copied(), draw())
        };
        self.priorities.get(chosen)
    }
}

impl Priority {
    /// `None`: it has no host that may be chosen.
    fn new(
        config: &mesh_config::Cluster,
        number: u32,
        hosts: &[&Arc<Host>],
        load: priority::Load,
    ) -> Option<Self> {
        let usable = |host: &&&Arc<Host>| load.panic || host.is_healthy();
        let chosen: Vec<Arc<Host>> = hosts
            .iter()
            .filter(usable)
            .map(|host| (*host).clone())
            .collect();
        if chosen.is_empty() {
            return None;
        }
        let by_hash = Table::new(config.lb_policy, &chosen);
        let mut groups: BTreeMap<&Locality, Vec<Arc<Host>>> = BTreeMap::new();
        let nowhere = Locality::default();
        for host in &chosen {
            let locality = if config.locality_weighted {
                &*host.locality
            } else {
                &nowhere
            };
            groups.entry(locality).or_default().push(host.clone());
        }
        let weights: Vec<u32> = groups
            .iter()
            .map(|(locality, group)| {
                let of_locality = hosts.iter().filter(|host| *host.locality == **locality);
                let sum: u32 = group.iter().map(|host| host.weight).sum();
                let weight = group[0].locality_weight.unwrap_or(sum);
                priority::locality_weight(weight, group.len(), of_locality.count().max(group.len()))
            })
            .collect();
        let localities = groups.into_values().map(|hosts| Group {
            turns: Turns::new(&hosts.iter().map(|host| host.weight).collect::<Vec<_>>()),
            hosts,
        });
        Some(Self {
            number,
            availability: load.availability,
            share: load.share,
            panic: load.panic,
            localities: localities.collect(),
            turns: Turns::new(&weights),
            by_hash,
        })
    }

    fn pick(
        &self,
        balancer: &Balancer,
        members: &Members,
        draw: &mut impl FnMut() -> u32,
    ) -> &Arc<Host> {
        let group = match &self.localities[..] {
            [only] => only,
            several => &several[self.turns.next()],
        };
        if let [only] = &group.hosts[..] {
            return only;
        }
        let slow_start = match (members.config.slow_start, balancer.warm_at) {
            (Some(slow_start), Some(warm_at)) => {
                let now = Instant::now();
                (now < warm_at).then_some((slow_start, now))
            }
            _ => None,
        };
        let policy = members.config.lb_policy;
        let Some((slow_start, now)) = slow_start else {
            return group.pick(policy, draw);
        };
        // A host that is warming up is passed over as often as its share is short of a whole.
        for _ in 0..4 * group.hosts.len() {
            let host = group.pick(policy, draw);
            let share = warmth(
                &slow_start,
                now.saturating_duration_since(host.since).as_secs_f64(),
            );
            if f64::from(draw()) / f64::from(u32::MAX) <= share {
                return host;
            }
        }
        group.pick(policy, draw)
    }
}

impl Group {
    fn pick(&self, policy: LbPolicy, draw: &mut impl FnMut() -> u32) -> &Arc<Host> {
        let mut random = || &self.hosts[self.turns.random(draw())];
        match policy {
            LbPolicy::RoundRobin => &self.hosts[self.turns.next()],
            LbPolicy::Random | LbPolicy::RingHash { .. } | LbPolicy::Maglev { .. } => random(),
            LbPolicy::LeastRequest => {
                let (one, other) = (random(), random());
                if other.stats.rq_active.get() < one.stats.rq_active.get() {
                    other
                } else {
                    one
                }
            }
        }
    }
}

/// The part of its share that a host of an age (in seconds) gets.
fn warmth(slow_start: &SlowStart, age: f64) -> f64 {
    let window = slow_start.window.as_secs_f64();
    if age >= window {
        return 1.0;
    }
    let risen = (age / window)
        .max(0.0)
        .powf(1.0 / slow_start.aggression.max(0.01));
    risen.max(slow_start.min_weight_percent / 100.0)
}

#[cfg(test)]
mod tests;
