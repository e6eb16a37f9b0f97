//! What a proxy is told, in Envoy's nouns.
//!
//! The control plane compiles the world (Services, endpoints, Istio resources) into one
//! [`Snapshot`] per proxy; the proxy carries it out. Nothing else passes between the two, so this
//! crate is the whole contract:
//!
//! ```text
//! Listener ── FilterChain ── HttpConnectionManager ─ names ─► RouteConfiguration
//!                       └─── TcpProxy ─ names ─► Cluster        └ VirtualHost ─ Route ─ names ─► Cluster
//!                                                Cluster ─ same name ─► ClusterLoadAssignment ─ Endpoint
//! ```
//!
//! Names are Istio's: clusters `outbound|9080|v1|reviews.default.svc.cluster.local` and
//! `inbound|9080||`, route tables `9080`, `http.8080`, listeners `virtualOutbound`, `0.0.0.0_8080`.
//!
//! A snapshot travels as a sequence of [`Update`]s: the first complete, each later one only what
//! changed ([`Snapshot::diff`], [`Snapshot::apply`]). [`envoy`] prints a snapshot as Envoy v3 JSON,
//! which is what `/config_dump` answers and what a real Envoy can run.
//!
//! Every field here is carried out by the proxy: a feature that the proxy does not have has no
//! field, and the control plane reports it on the Istio resource instead.

mod authorization;
mod cluster;
mod duration;
pub mod envoy;
mod explanation;
mod listener;
mod node;
mod route;
mod snapshot;
mod table_step;
mod telemetry;
pub mod tls;

pub use authorization::{
    Authorization, Cidr, ExternalAuthorization, JwtProvider, Matcher, Policy, Rbac, Text,
};
pub use cluster::{
    CircuitBreakers, Cluster, ClusterLoadAssignment, ConnectionOptions, Discovery, Endpoint,
    HealthStatus, Http2Keepalive, LbPolicy, Locality, OutlierDetection, ProxyProtocol, RetryBudget,
    ServiceRef, SlowStart, TcpKeepalive, UpstreamProtocol,
};
pub use explanation::{
    ClusterState, Condition, EndpointState, Explanation, Outcome, Rule, Verdict,
};
pub use listener::{
    Accept, FilterChain, HttpConnectionManager, Listener, NetworkFilter, TcpCluster, TcpProxy,
    TrafficDirection,
};
pub use node::{Interception, Node, ProxyId, Role, Workload};
pub use route::{
    Abort, AbortStatus, Cors, Delay, DirectResponse, Fault, Forward, HashCookie, HashPolicy,
    HeaderMatch, HeaderMutation, Mirror, PathMatch, Percent, QueryMatch, Redirect, RedirectPath,
    RegexRewrite, RetryPolicy, Rewrite, Route, RouteAction, RouteConfiguration, RouteMatch,
    StringMatch, ValueMatch, VirtualHost, WeightedCluster,
};
pub use snapshot::{Changes, Snapshot, Update};
pub use table_step::{Piece, UnknownBase};
pub use telemetry::{
    AccessLogFormat, MetricOverride, Reporter, SpanProtocol, SpanTag, StatsMatcher, Tracing,
};
pub use tls::{
    CertificateValidation, ClientCertificate, DownstreamTlsContext, Secret, SignedCertificate,
    TlsVersion, Transport, TransportProtocol, UpstreamTlsContext,
};

/// Names of the clusters that exist without a service behind them.
pub mod names {
    /// Forwards to where the request wanted to go; unknown hosts under `ALLOW_ANY`.
    pub const PASSTHROUGH_CLUSTER: &str = "PassthroughCluster";
    /// Has no endpoints: unknown hosts under `REGISTRY_ONLY`.
    pub const BLACK_HOLE_CLUSTER: &str = "BlackHoleCluster";
    /// Inbound connections to a port that no Service declares.
    pub const INBOUND_PASSTHROUGH_CLUSTER: &str = "InboundPassthroughCluster";

    /// `outbound|PORT|SUBSET|FQDN`; an empty subset is the whole service.
    pub fn outbound(port: u16, subset: &str, host: &str) -> String {
        format!("outbound|{port}|{subset}|{host}")
    }

    /// `outbound_.PORT_.SUBSET_.FQDN`: the same cluster as a TLS server name, which mutual TLS of the
    /// mesh asks for and by which gateways with `AUTO_PASSTHROUGH` find it.
    pub fn sni_dnat(port: u16, subset: &str, host: &str) -> String {
        format!("outbound_.{port}_.{subset}_.{host}")
    }

    /// Where Istio's tools look for the resource behind a cluster (`destination-rule`) or a route
    /// (`virtual-service`): `/apis/networking.istio.io/v1/namespaces/NAMESPACE/KIND/NAME`.
    pub fn config(kind: &str, namespace: &str, name: &str) -> String {
        format!("/apis/networking.istio.io/v1/namespaces/{namespace}/{kind}/{name}")
    }

    /// `inbound|TARGETPORT||`.
    pub fn inbound(port: u16) -> String {
        format!("inbound|{port}||")
    }
}
