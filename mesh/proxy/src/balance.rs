//! Which endpoint of a cluster takes an attempt.

use std::sync::Arc;

use mesh_config::LbPolicy;

use crate::config::{Cluster, Host, Members};

/// Picks again when the host has already failed this request, this often.
const REPICKS: usize = 5;

/// One of the hosts that may be chosen; `avoid` holds the ids of those that failed this request,
/// which are taken only when no other is found. `None`: there is no host.
pub(crate) fn choose<'a>(
    cluster: &Cluster,
    members: &'a Members,
    avoid: &[u32],
    mut draw: impl FnMut() -> u32,
) -> Option<&'a Arc<Host>> {
    let hosts = &members.eligible[..];
    if let [] | [_] = hosts {
        return hosts.first();
    }
    let mut host = pick(cluster, members.config.lb_policy, hosts, &mut draw);
    for _ in 0..REPICKS {
        if !avoid.contains(&host.id) {
            break;
        }
        host = pick(cluster, members.config.lb_policy, hosts, &mut draw);
    }
    Some(host)
}

fn pick<'a>(
    cluster: &Cluster,
    policy: LbPolicy,
    hosts: &'a [Arc<Host>],
    draw: &mut impl FnMut() -> u32,
) -> &'a Arc<Host> {
    let mut random = || &hosts[((u64::from(draw()) * hosts.len() as u64) >> 32) as usize];
    match policy {
        LbPolicy::RoundRobin => &hosts[cluster.turn() % hosts.len()],
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
