//! Where requests go: clusters and their endpoints.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::Workload;

/// How the endpoints of a cluster are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Discovery {
    /// The [`ClusterLoadAssignment`] of the same name. Envoy's type `EDS`.
    Eds,
    /// The destination that the connection or the proxy request named, host names resolved by the
    /// system's resolver. Envoy's type `ORIGINAL_DST`.
    OriginalDst,
}

/// Which endpoint a request goes to. Istio's `trafficPolicy.loadBalancer.simple`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LbPolicy {
    /// Of two random endpoints, the one with fewer active requests. Istio's default.
    #[default]
    LeastRequest,
    /// Each in turn, from a random start.
    RoundRobin,
    /// Any, uniformly.
    Random,
}

/// What is spoken to the endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UpstreamProtocol {
    /// HTTP/1.1, with keep-alive.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge: ports named `http2` or `grpc`.
    Http2,
    /// What the client spoke to us: sniffed ports.
    UseDownstream,
}

/// The Kubernetes Service that a cluster stands for; telemetry's `destination_service*` labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceRef {
    /// `reviews.default.svc.cluster.local`.
    pub host: String,
    /// `reviews`.
    pub name: String,
    /// `default`.
    pub namespace: String,
}

/// A named group of endpoints and how to talk to them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// `outbound|9080|v1|reviews.default.svc.cluster.local`.
    pub name: String,
    /// How its endpoints are known.
    pub discovery: Discovery,
    /// How one of them is chosen.
    pub lb_policy: LbPolicy,
    /// Protocol towards them.
    pub protocol: UpstreamProtocol,
    /// How long a new connection may take; Istio's default is 10 s.
    #[serde(with = "crate::duration")]
    pub connect_timeout: Duration,
    /// The service it belongs to; absent for passthrough clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceRef>,
}

/// Whether an endpoint may take requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum HealthStatus {
    /// Ready.
    #[default]
    Healthy,
    /// Its pod is not ready: listed, never chosen.
    Unhealthy,
    /// Its pod is going away: takes no new requests.
    Draining,
}

/// One address that serves a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Where to connect.
    pub address: SocketAddr,
    /// Whether it may be chosen.
    #[serde(default)]
    pub health: HealthStatus,
    /// Who answers there, for telemetry.
    pub workload: Arc<Workload>,
    /// The endpoint has a proxy of this mesh in front of it, which takes the peer metadata headers.
    #[serde(default)]
    pub in_mesh: bool,
}

/// The endpoints of one cluster. Sent apart from the cluster because they change far more often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterLoadAssignment {
    /// Name of the cluster.
    pub cluster_name: String,
    /// Its endpoints, sorted by address so that equal sets compare equal.
    pub endpoints: Vec<Endpoint>,
}
