//! A change costs and sends what it is about: the rest is the very same allocation as before.

use std::sync::Arc;

use mesh_config::{ProxyId, Snapshot};
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
    let (before, after) = changed(&mut world(), &[route]);
    let update = before.diff(&after);
    assert_eq!(update.routes.keys().collect::<Vec<_>>(), ["80"]);
    assert!(update.clusters.is_empty() && update.endpoints.is_empty());
    let rule = json!({"kind": "DestinationRule", "metadata": {"name": "d", "namespace": "ns"},
        "spec": {"host": "bb", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}});
    let (before, after) = changed(&mut world(), &[rule]);
    let update = before.diff(&after);
    assert_eq!(
        update.clusters.keys().collect::<Vec<_>>(),
        ["outbound|80|v1|bb.ns.svc.cluster.local"]
    );
    let other = json!({"kind": "Gateway", "metadata": {"name": "g", "namespace": "ns"}, "spec": {"servers": []}});
    let (before, after) = changed(&mut world(), &[other]);
    assert!(before.diff(&after).is_empty());
}
