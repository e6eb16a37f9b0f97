use std::{sync::Arc, time::Duration};

use mesh_config::{Cluster as Config, Discovery, Endpoint};

use super::*;
use crate::stats::istio::Labels;

fn endpoint(port: u16) -> Endpoint {
    Endpoint::new(([127, 0, 0, 1], port).into(), Arc::default())
}

fn cluster(config: Config, endpoints: &[Endpoint]) -> Cluster {
    let cluster = Cluster::new(&config.name, Default::default());
    cluster.update(Arc::new(config), endpoints, &Labels::default());
    cluster
}

fn with_policy(lb_policy: LbPolicy) -> Config {
    Config {
        lb_policy,
        ..Config::new("web", Discovery::Eds)
    }
}

/// How often each port is chosen.
fn counts(cluster: &Cluster, rounds: u32, ask: Ask<'_>) -> BTreeMap<u16, u32> {
    let members = cluster.members.load_full().unwrap();
    // Every draw once: a low-discrepancy sequence over all of u32.
    let mut state = 0_u32;
    let mut draw = || {
        state = state.wrapping_add(0x9E37_79B9);
        state
    };
    let mut counts = BTreeMap::new();
    for _ in 0..rounds {
        let host = choose(cluster, &members, ask, &mut draw).unwrap();
        *counts.entry(host.address.port()).or_default() += 1;
    }
    counts
}

#[test]
fn round_robin_is_exact_and_honours_weights() {
    let three = cluster(with_policy(LbPolicy::RoundRobin), &[1, 2, 3].map(endpoint));
    assert_eq!(
        counts(&three, 300, Ask::default())
            .into_values()
            .collect::<Vec<_>>(),
        [100; 3]
    );
    let heavy = Endpoint {
        weight: 3,
        ..endpoint(2)
    };
    let two = cluster(with_policy(LbPolicy::RoundRobin), &[endpoint(1), heavy]);
    assert_eq!(
        counts(&two, 400, Ask::default())
            .into_values()
            .collect::<Vec<_>>(),
        [100, 300]
    );
}

#[test]
fn least_request_prefers_the_idle() {
    let two = cluster(with_policy(LbPolicy::LeastRequest), &[1, 2].map(endpoint));
    let members = two.members.load_full().unwrap();
    members.hosts[0].stats.rq_active.add(5);
    let counts = counts(&two, 1000, Ask::default());
    assert!(counts[&1] < 350 && counts[&2] > 650, "{counts:?}");
}

#[test]
fn a_hash_keeps_its_host_and_retries_move_on() {
    for policy in [
        LbPolicy::RingHash {
            minimum_ring_size: 1024,
        },
        LbPolicy::Maglev { table_size: 65_537 },
    ] {
        let three = cluster(with_policy(policy), &[1, 2, 3].map(endpoint));
        let members = three.members.load_full().unwrap();
        let ask = Ask {
            hash: Some(0x1234_5678_9abc_def0),
            ..Ask::default()
        };
        assert_eq!(counts(&three, 50, ask).len(), 1);
        let first = choose(&three, &members, ask, || 0).unwrap();
        let other = choose(
            &three,
            &members,
            Ask {
                avoid: &[first.id],
                ..ask
            },
            || 0,
        )
        .unwrap();
        assert_ne!(first.id, other.id);
        assert_eq!(counts(&three, 300, Ask::default()).len(), 3, "no hash: any");
    }
}

#[test]
fn priorities_spill_and_can_be_skipped() {
    let far = |port| Endpoint {
        priority: 1,
        ..endpoint(port)
    };
    let sick = Endpoint {
        health: mesh_config::HealthStatus::Unhealthy,
        ..endpoint(2)
    };
    let config = with_policy(LbPolicy::RoundRobin);
    let healthy = cluster(config.clone(), &[endpoint(1), endpoint(2), far(3)]);
    assert!(!counts(&healthy, 100, Ask::default()).contains_key(&3));
    let skip = Ask {
        skip: &[0],
        ..Ask::default()
    };
    assert_eq!(counts(&healthy, 100, skip), BTreeMap::from([(3, 100)]));
    assert_eq!(
        counts(
            &healthy,
            100,
            Ask {
                skip: &[0, 1],
                ..Ask::default()
            }
        )
        .len(),
        2
    );
    let half = cluster(config, &[endpoint(1), sick, far(3)]);
    let counts = counts(&half, 1000, Ask::default());
    assert!((690..=710).contains(&counts[&1]), "{counts:?}");
}

#[test]
fn localities_share_by_weight() {
    let at = |port, zone: &str, weight| Endpoint {
        locality: Arc::new(Locality {
            zone: zone.into(),
            ..Locality::default()
        }),
        locality_weight: Some(weight),
        ..endpoint(port)
    };
    let config = Config {
        locality_weighted: true,
        ..with_policy(LbPolicy::LeastRequest)
    };
    let split = cluster(config, &[at(1, "a", 70), at(2, "b", 30), at(3, "b", 30)]);
    let counts = counts(&split, 1000, Ask::default());
    assert_eq!(counts[&1], 700);
    assert_eq!(counts[&2] + counts[&3], 300);
}

#[test]
fn a_new_host_warms_up() {
    let slow_start = SlowStart {
        window: Duration::from_secs(100),
        aggression: 1.0,
        min_weight_percent: 10.0,
    };
    assert_eq!(warmth(&slow_start, 0.0), 0.1);
    assert_eq!(warmth(&slow_start, 50.0), 0.5);
    assert_eq!(warmth(&slow_start, 100.0), 1.0);
    let faster = SlowStart {
        aggression: 2.0,
        ..slow_start
    };
    assert!(warmth(&faster, 25.0) > 0.49);
}
