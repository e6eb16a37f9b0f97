//! How long the control plane takes from a change to what every proxy has applied: 1,000 services
//! with 10 endpoints each, 200 sidecars in 10 namespaces, everything on one thread.
//!
//! `cargo run --release -p mesh-control --example scale`

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_config::{ProxyId, Snapshot, Update};
use mesh_control::{compile::Compiler, world::World};
use serde_json::{Value, json};

const SERVICES: usize = 1_000;
const ENDPOINTS: usize = 10;
const PROXIES: usize = 200;
const NAMESPACES: usize = 10;

fn main() {
    let mut world = World::default();
    for object in (0..SERVICES).flat_map(service) {
        insert(&mut world, &object);
    }
    let proxies: Vec<ProxyId> = (0..PROXIES).map(proxy).collect();
    for proxy in &proxies {
        insert(
            &mut world,
            &pod(
                &proxy.pod,
                &proxy.namespace,
                &proxy.address.to_string(),
                "client",
            ),
        );
    }
    let mut receivers = vec![Snapshot::default(); PROXIES];

    let started = Instant::now();
    let mut compiler = Compiler::new(Arc::new(world.clone()), 1);
    let bytes = push(&compiler, &proxies, &mut receivers);
    row("everything, to all", started.elapsed(), bytes);

    let mut step = |name: &str, object: Value| {
        insert(&mut world, &object);
        let started = Instant::now();
        compiler = compiler.next(Arc::new(world.clone()));
        let bytes = push(&compiler, &proxies, &mut receivers);
        row(name, started.elapsed(), bytes);
    };
    step("an endpoint is not ready", slice(7, false));
    step("an endpoint is ready again", slice(7, true));
    step("a VirtualService is made", virtual_service(1));
    step("a VirtualService is changed", virtual_service(2));
    step("a DestinationRule is made", destination_rule());
    step("nothing that a proxy sees", gateway());
}

/// Compiles, compares, writes lines, and applies them at the other end. Tells the bytes.
fn push(compiler: &Compiler, proxies: &[ProxyId], receivers: &mut [Snapshot]) -> usize {
    let mut bytes = 0;
    for (proxy, receiver) in proxies.iter().zip(receivers) {
        let snapshot = compiler.snapshot(proxy).expect("its pod is in the world");
        let update = receiver.diff(&snapshot);
        if !update.is_empty() {
            let line = serde_json::to_vec(&update).expect("updates are JSON");
            bytes += line.len();
            let received: Update = serde_json::from_slice(&line).expect("and are read back");
            assert_eq!(received.version, compiler.version());
        }
        // What the control plane remembers as sent, which shares its resources.
        *receiver = snapshot;
    }
    bytes
}

fn row(what: &str, took: Duration, bytes: usize) {
    println!(
        "{what:<32} {:>9.1} ms {bytes:>12} bytes",
        took.as_secs_f64() * 1000.0
    );
}

fn insert(world: &mut World, object: &Value) {
    world.insert(object).expect("the object is well formed");
}

fn namespace(index: usize) -> String {
    format!("ns-{}", index % NAMESPACES)
}

fn address(service: usize, endpoint: usize) -> String {
    format!("10.{}.{}.{}", service / 250, service % 250, endpoint + 1)
}

fn service(index: usize) -> Vec<Value> {
    let (name, namespace) = (format!("service-{index}"), namespace(index));
    let mut objects = vec![json!({
        "kind": "Service", "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": format!("172.16.{}.{}", index / 250, index % 250), "selector": {"app": name},
            "ports": [{"name": "http", "port": 8080}]},
    })];
    objects.push(slice(index, true));
    objects.extend((0..ENDPOINTS).map(|endpoint| {
        pod(
            &format!("{name}-{endpoint}"),
            &namespace,
            &address(index, endpoint),
            &name,
        )
    }));
    objects
}

fn slice(index: usize, ready: bool) -> Value {
    let name = format!("service-{index}");
    let endpoints: Vec<Value> = (0..ENDPOINTS)
        .map(|endpoint| {
            json!({"addresses": [address(index, endpoint)], "conditions": {"ready": ready || endpoint > 0},
                "targetRef": {"kind": "Pod", "name": format!("{name}-{endpoint}")}})
        })
        .collect();
    json!({
        "kind": "EndpointSlice", "metadata": {"name": name, "namespace": namespace(index),
            "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints,
    })
}

fn pod(name: &str, namespace: &str, address: &str, app: &str) -> Value {
    json!({
        "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": {"app": app, "version": "v1"}},
        "spec": {"containers": [{"name": "istio-proxy"}]}, "status": {"podIP": address, "phase": "Running"},
    })
}

fn proxy(index: usize) -> ProxyId {
    serde_json::from_value(json!({
        "role": "sidecar", "pod": format!("client-{index}"), "namespace": namespace(index),
        "address": format!("10.200.0.{index}"), "interception": {"mode": "redirect"},
    }))
    .expect("a proxy's identity")
}

fn virtual_service(seconds: u32) -> Value {
    json!({
        "kind": "VirtualService", "metadata": {"name": "one", "namespace": "ns-3"},
        "spec": {"hosts": ["service-3"], "http": [{"timeout": format!("{seconds}s"),
            "route": [{"destination": {"host": "service-3"}}]}]},
    })
}

fn destination_rule() -> Value {
    json!({
        "kind": "DestinationRule", "metadata": {"name": "one", "namespace": "ns-3"},
        "spec": {"host": "service-3", "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 7}}}},
    })
}

fn gateway() -> Value {
    json!({
        "kind": "Gateway", "metadata": {"name": "one", "namespace": "ns-3"},
        "spec": {"selector": {"istio": "nobody"}, "servers": []},
    })
}
