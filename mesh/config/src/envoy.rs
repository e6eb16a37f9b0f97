//! A snapshot in the words of Envoy's v3 API: each resource as the JSON form of its protobuf
//! message, with the field names that Envoy prints (snake case).
//!
//! [`discovery`] answers a real Envoy that polls the control plane. [`dump`] lays them out as `/config_dump` does. [`bootstrap`] makes them the static resources of
//! a real Envoy, which is how our own behaviour is compared with the original.

mod authorization;
mod cluster;
pub mod discovery;
pub mod dump;
mod listener;
mod route;
mod tls;

use serde_json::{Value, json};

pub use cluster::{cluster, load_assignment};
pub use listener::listener;
pub use route::route_configuration;
pub use tls::secret;

use crate::Snapshot;

const TYPE: &str = "type.googleapis.com/";

/// `{"@type": "type.googleapis.com/NAME", ...fields}`: protobuf's `Any`.
fn any(name: &str, fields: Value) -> Value {
    let mut message = json!({ "@type": format!("{TYPE}{name}") });
    if let (Some(into), Value::Object(fields)) = (message.as_object_mut(), fields) {
        into.extend(fields);
    }
    message
}

fn socket_address(address: std::net::SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

/// A bootstrap file for a real Envoy: every listener, cluster and route of the snapshot as static
/// resources, and its admin interface on `admin`. Secrets that it names and does not hold (the
/// workload's own certificate) are put into the snapshot by the caller.
pub fn bootstrap(snapshot: &Snapshot, admin: std::net::SocketAddr) -> Value {
    let mut bootstrap = json!({
        "node": { "id": snapshot.node.id, "cluster": snapshot.node.workload.canonical_name },
        "admin": { "address": socket_address(admin) },
        "static_resources": {
            "listeners": snapshot.listeners.values()
                .map(|l| listener::with_routes_inline(l, &snapshot.routes, &snapshot.node)).collect::<Vec<_>>(),
            "clusters": snapshot.clusters.values()
                .map(|c| cluster::with_endpoints_inline(c, snapshot.endpoints.get(&c.name).map(|e| &**e)))
                .collect::<Vec<_>>(),
            "secrets": snapshot.secrets.values().map(|s| tls::secret(s)).collect::<Vec<_>>(),
        },
    });
    secrets_inline(&mut bootstrap);
    bootstrap
}

/// A secret that is named without a source is one of the file's own.
fn secrets_inline(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("sds_config");
            fields.values_mut().for_each(secrets_inline);
        }
        Value::Array(members) => members.iter_mut().for_each(secrets_inline),
        _ => {}
    }
}
