//! A change costs and sends what it is about: the rest is the very same allocation as before.

use std::sync::Arc;

use mesh_config::{Piece, ProxyId, Snapshot, Update};
use mesh_control::{compile::Compiler, world::World};
use serde_json::{Value, json};

fn service(name: &str, ready: bool) -> [Value; 3] {
    let address = format!("10.0.0.{}", name.len());
    [
        json!({"kind": "Service", "metadata": {"name": name, "namespace": "ns"},
            "spec": {"clusterIP": "172.16.0.1", "selector": {"app": name}, "ports": [{"name": "http", "port": 80}]}}),
        json!({"kind": "Pod", "metadata": {"name": name, "namespace": "ns", "labels": {"app": name}},
            "spec": {"containers": []}, "status": {"podIP": address}}),
        json!({"kind": "EndpointSlice", "metadata": {"name": name, "namespace": "ns", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": 80}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": ready}}]}),
    ]
}

fn changed(world: &mut World, objects: &[Value]) -> (Snapshot, Snapshot) {
    let proxy: ProxyId =
        serde_json::from_value(json!({"role": "sidecar", "pod": "a", "namespace": "ns",
        "address": "10.0.0.1", "interception": {"mode": "redirect"}}))
        .unwrap();
    let compiler = Compiler::new(Arc::new(world.clone()), 1);
    let before = compiler.snapshot(&proxy).unwrap();
    for object in objects {
        world.insert(object).unwrap();
    }
    let next = compiler.next(Arc::new(world.clone()));
    let after = next.snapshot(&proxy).unwrap();
    // What is reused is what would have been made.
    let anew = Compiler::new(Arc::new(world.clone()), 2).snapshot(&proxy);
    assert_eq!(anew.as_ref(), Some(&after));
    (before, after)
}

/// The virtual hosts that an update brings, by route table.
fn told(update: &Update) -> Vec<(&str, Vec<&str>)> {
    let tables = update.routes.iter();
    tables
        .map(|(name, pieces)| {
            let hosts = pieces.iter().flatten().filter_map(|piece| match piece {
                Piece::Host(host) => Some(host.name.as_str()),
                Piece::Keep(..) => None,
            });
            (name.as_str(), hosts.collect())
        })
        .collect()
}

fn world() -> World {
    let mut world = World::default();
    for object in ["a", "bb", "ccc"]
        .into_iter()
        .flat_map(|name| service(name, true))
    {
        world.insert(&object).unwrap();
    }
    world
}

#[test]
fn an_endpoint_touches_its_own_services_alone() {
    let (before, after) = changed(&mut world(), &service("bb", false)[2..]);
    let update = before.diff(&after);
    let named: Vec<_> = update.endpoints.keys().collect();
    assert_eq!(named, ["outbound|80||bb.ns.svc.cluster.local"]);
    assert!(update.clusters.is_empty() && update.routes.is_empty());
    for (name, table) in before
        .routes
        .iter()
        .filter(|(name, _)| !name.starts_with("inbound"))
    {
        assert!(Arc::ptr_eq(table, &after.routes[name]), "{name}");
    }
}

#[test]
fn a_pod_touches_the_services_that_it_serves() {
    let mut moved = service("bb", true)[1].clone();
    moved["metadata"]["labels"]["version"] = json!("v2");
    let (before, after) = changed(&mut world(), &[moved]);
    let update = before.diff(&after);
    let named: Vec<_> = update.endpoints.keys().collect();
    assert_eq!(named, ["outbound|80||bb.ns.svc.cluster.local"]);
}

#[test]
fn rules_touch_what_they_say() {
    let route = json!({"kind": "VirtualService", "metadata": {"name": "v", "namespace": "ns"},
        "spec": {"hosts": ["bb"], "http": [{"timeout": "1s", "route": [{"destination": {"host": "bb"}}]}]}});
    let mut ruled = world();
    let (before, after) = changed(&mut ruled, std::slice::from_ref(&route));
    let update = before.diff(&after);
    assert_eq!(told(&update), [("80", vec!["bb.ns.svc.cluster.local:80"])]);
    assert!(update.clusters.is_empty() && update.endpoints.is_empty());
    assert_eq!(before.apply(update).unwrap(), after);
    for (old, new) in before.routes["80"]
        .virtual_hosts
        .iter()
        .zip(&after.routes["80"].virtual_hosts)
    {
        assert_eq!(
            Arc::ptr_eq(old, new),
            !old.name.starts_with("bb"),
            "{}",
            old.name
        );
    }
    let rule = json!({"kind": "DestinationRule", "metadata": {"name": "d", "namespace": "ns"},
        "spec": {"host": "bb", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}});
    let (before, after) = changed(&mut world(), &[rule]);
    let update = before.diff(&after);
    // A service's own cluster names the rule that is about it, as Istio's does.
    assert_eq!(
        update.clusters.keys().collect::<Vec<_>>(),
        [
            "outbound|80|v1|bb.ns.svc.cluster.local",
            "outbound|80||bb.ns.svc.cluster.local"
        ]
    );
    for (name, cluster) in before
        .clusters
        .iter()
        .filter(|(name, _)| name.starts_with("outbound") && !name.contains("||bb."))
    {
        assert!(Arc::ptr_eq(cluster, &after.clusters[name]), "{name}");
    }
    let other = json!({"kind": "Gateway", "metadata": {"name": "g", "namespace": "ns"}, "spec": {"servers": []}});
    let (before, after) = changed(&mut world(), &[other]);
    assert!(before.diff(&after).is_empty());
}

#[test]
fn a_service_touches_its_own_clusters_and_virtual_hosts() {
    let (before, after) = changed(&mut world(), &service("dddd", true));
    let update = before.diff(&after);
    assert_eq!(
        told(&update),
        [("80", vec!["dddd.ns.svc.cluster.local:80"])]
    );
    assert_eq!(
        update.clusters.keys().collect::<Vec<_>>(),
        ["outbound|80||dddd.ns.svc.cluster.local"]
    );
}

/// A destination without a port means the only port of its service.
#[test]
fn a_service_touches_the_rules_that_lead_to_it() {
    let mut world = world();
    let route = json!({"kind": "VirtualService", "metadata": {"name": "v", "namespace": "ns"},
        "spec": {"hosts": ["a"], "http": [{"route": [{"destination": {"host": "bb"}}]}]}});
    world.insert(&route).unwrap();
    let mut moved = service("bb", true)[0].clone();
    moved["spec"]["ports"][0]["port"] = json!(81);
    let (before, after) = changed(&mut world, &[moved]);
    let hosts = ["a.ns.svc.cluster.local:80"];
    let of_81 = ["bb.ns.svc.cluster.local:81", "allow_any"];
    assert_eq!(
        told(&before.diff(&after)),
        [("80", hosts.to_vec()), ("81", of_81.to_vec())]
    );
}

/// What routes hash stands in a rule of their destination.
#[test]
fn a_rule_touches_the_routes_that_hash() {
    let hash = |header: &str| {
        json!({"kind": "DestinationRule", "metadata": {"name": "d", "namespace": "ns"},
        "spec": {"host": "*.ns.svc.cluster.local", "trafficPolicy": {"loadBalancer": {"consistentHash": {"httpHeaderName": header}}}}})
    };
    let mut world = world();
    let (before, after) = changed(&mut world, &[hash("one")]);
    assert_eq!(told(&before.diff(&after))[0].1.len(), 3);
    let (before, after) = changed(&mut world, &[hash("two")]);
    assert_eq!(told(&before.diff(&after))[0].1.len(), 3);
    let route = json!({"kind": "VirtualService", "metadata": {"name": "v", "namespace": "ns"},
        "spec": {"hosts": ["bb"], "http": [{"timeout": "1s", "route": [{"destination": {"host": "ccc"}}]}]}});
    let (before, after) = changed(&mut world, &[route]);
    assert_eq!(
        told(&before.diff(&after)),
        [("80", vec!["bb.ns.svc.cluster.local:80"])]
    );
}
