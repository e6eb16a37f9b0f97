//! The same configuration for a real Envoy, which polls it: `POST /v3/discovery:listeners`,
//! `:routes`, `:clusters`, `:endpoints` with a `DiscoveryRequest` as JSON, and the same bearer token
//! as on the stream.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::post,
};
use http::{HeaderMap, StatusCode};
use mesh_config::{
    Interception, ProxyId, Role,
    envoy::discovery::{Kind, response},
};
use serde::Deserialize;

use crate::push::{Hub, admit};

pub(crate) fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/v3/{service}", post(discover))
        .with_state(hub)
}

/// Envoy's `DiscoveryRequest`, as far as it is needed.
#[derive(Deserialize)]
struct DiscoveryRequest {
    /// Version that the Envoy has; empty at first.
    #[serde(default)]
    version_info: String,
    node: Node,
    /// Empty: all.
    #[serde(default)]
    resource_names: Vec<String>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
struct Metadata {
    /// The pod's localhost, where connections are not redirected.
    #[serde(rename = "LOOPBACK")]
    loopback: Option<IpAddr>,
}

async fn discover(
    State(hub): State<Arc<Hub>>,
    Path(service): Path<String>,
    headers: HeaderMap,
    Json(request): Json<DiscoveryRequest>,
) -> Response {
    let Some(kind) = Kind::of_path(&service) else {
        return (StatusCode::NOT_FOUND, "no such discovery service\n").into_response();
    };
    let Some(proxy) = proxy_of(&request.node) else {
        let text =
            "node.id is not ROLE~ADDRESS~POD.NAMESPACE~DOMAIN with the role sidecar or router\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    let versions = match admit(&hub, &proxy, &headers).await {
        Ok(versions) => versions,
        Err(refusal) => return refusal,
    };
    let version = versions.borrow().clone();
    if request.version_info == version.compiler.version().to_string() {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    match version.compiler.snapshot(&proxy) {
        Some(snapshot) => Json(response(&snapshot, kind, &request.resource_names)).into_response(),
        // The pod has just gone; the Envoy keeps what it has.
        None => StatusCode::NOT_MODIFIED.into_response(),
    }
}

/// Istio's node id: `sidecar~127.16.0.5~reviews-v1-abc.default~default.svc.cluster.local`.
fn proxy_of(node: &Node) -> Option<ProxyId> {
    let mut parts = node.id.split('~');
    let role = match parts.next()? {
        "sidecar" => Role::Sidecar,
        "router" => Role::Router,
        _ => return None,
    };
    let address = parts.next()?.parse().ok()?;
    let (pod, namespace) = parts.next()?.rsplit_once('.')?;
    let interception = match (role, node.metadata.loopback) {
        (Role::Router, _) => Interception::None,
        (Role::Sidecar, Some(loopback)) => Interception::Door { loopback },
        (Role::Sidecar, None) => Interception::Redirect,
    };
    Some(ProxyId {
        role,
        pod: pod.into(),
        namespace: namespace.into(),
        address,
        interception,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_names_the_pod() {
        let node = |id: &str, loopback: Option<&str>| Node {
            id: id.into(),
            metadata: Metadata {
                loopback: loopback.map(|ip| ip.parse().unwrap()),
            },
        };
        let id = "sidecar~127.16.0.5~web.v1.ns~ns.svc.cluster.local";
        let proxy = proxy_of(&node(id, Some("127.16.192.5"))).unwrap();
        assert_eq!(
            (proxy.pod.as_str(), proxy.namespace.as_str()),
            ("web.v1", "ns")
        );
        assert!(matches!(proxy.interception, Interception::Door { .. }));
        let redirected = proxy_of(&node(id, None)).unwrap();
        assert_eq!(redirected.interception, Interception::Redirect);
        assert_eq!(redirected.node_id(), id);
        for bad in [
            "",
            "sidecar",
            "sidecar~x~a.b~d",
            "ztunnel~127.0.0.1~a.b~d",
            "router~127.0.0.1~a~d",
        ] {
            assert!(proxy_of(&node(bad, None)).is_none(), "{bad}");
        }
    }
}
