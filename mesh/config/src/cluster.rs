//! Where requests go: clusters and their endpoints.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{UpstreamTlsContext, Workload};

/// How the endpoints of a cluster are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Discovery {
    /// The [`ClusterLoadAssignment`] of the same name. Envoy's type `EDS`.
    Eds,
    /// The destination that the connection or the proxy request named. A name, which only proxy
    /// requests have, stands for the cluster's endpoints if it has any, else for what the system's
    /// resolver says. Envoy's type `ORIGINAL_DST`.
    OriginalDst,
    /// As [`Eds`](Self::Eds), but the names of the endpoints are resolved again and again: every
    /// address is an endpoint. Envoy's type `STRICT_DNS`.
    StrictDns,
    /// The same, with only the first address of a name. Envoy's type `LOGICAL_DNS`.
    LogicalDns,
}

/// Which endpoint a request goes to. Istio's `trafficPolicy.loadBalancer`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum LbPolicy {
    /// Of two random endpoints, the one with fewer active requests. Istio's default.
    #[default]
    LeastRequest,
    /// Each in turn, from a random start.
    RoundRobin,
    /// Any, uniformly.
    Random,
    /// The same endpoint for the same hash, by a ring of virtual nodes.
    RingHash {
        /// Smallest number of virtual nodes; Istio's default is 1024.
        minimum_ring_size: u32,
    },
    /// The same endpoint for the same hash, by a table.
    Maglev {
        /// Size of the table, a prime; Envoy's default is 65537.
        table_size: u32,
    },
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
    #[serde(default)]
    pub lb_policy: LbPolicy,
    /// Protocol towards them.
    #[serde(default)]
    pub protocol: UpstreamProtocol,
    /// How long a new connection may take; Istio's default is 10 s.
    #[serde(with = "crate::duration")]
    pub connect_timeout: Duration,
    /// Addresses that connections to it leave from: the first of the family that is dialled, or what
    /// the system chooses. Sidecars reach their own workload from 127.0.0.6 and ::6, as Istio's do,
    /// which the kernel's redirection leaves alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_addresses: Vec<IpAddr>,
    /// The service it belongs to; absent for passthrough clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceRef>,
    /// The DestinationRule that shapes it: its path as [`names::config`](crate::names::config) writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Arc<str>>,
    /// When requests are refused rather than made to wait.
    #[serde(default, skip_serializing_if = "is_default")]
    pub circuit_breakers: CircuitBreakers,
    /// Life of connections.
    #[serde(default, skip_serializing_if = "is_default")]
    pub connections: ConnectionOptions,
    /// When a failing endpoint is left out for a while; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,
    /// Below this percentage of healthy endpoints all of them are used; 0: never.
    #[serde(default, skip_serializing_if = "is_default")]
    pub healthy_panic_threshold: u32,
    /// The weights of localities count.
    #[serde(default, skip_serializing_if = "is_default")]
    pub locality_weighted: bool,
    /// A new endpoint gets its full share only after a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<SlowStart>,
    /// TLS towards the endpoints; absent: plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTlsContext>,
    /// Connections begin with a header of the PROXY protocol, before TLS; absent: without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
}

impl Cluster {
    /// A cluster with Istio's defaults for everything that a DestinationRule may set.
    pub fn new(name: &str, discovery: Discovery) -> Self {
        Self {
            name: name.to_owned(),
            discovery,
            lb_policy: LbPolicy::default(),
            protocol: UpstreamProtocol::default(),
            connect_timeout: Duration::from_secs(10),
            source_addresses: Vec::new(),
            service: None,
            config: None,
            circuit_breakers: CircuitBreakers::default(),
            connections: ConnectionOptions::default(),
            outlier_detection: None,
            healthy_panic_threshold: 0,
            locality_weighted: false,
            slow_start: None,
            tls: None,
            proxy_protocol: None,
        }
    }
}

/// Form of the header that tells an endpoint whose connection it gets: that of the client for
/// connections that carry bytes, the proxy's own for those that carry requests of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Limits of a cluster, counted over all workers of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CircuitBreakers {
    /// Connections; a host without any may always have one.
    pub max_connections: u32,
    /// Requests that wait for a connection.
    pub max_pending_requests: u32,
    /// Requests on connections.
    pub max_requests: u32,
    /// Retries under way; `retry_budget` takes its place.
    pub max_retries: u32,
    /// Retries under way, relative to the requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_budget: Option<RetryBudget>,
}

impl Default for CircuitBreakers {
    /// No limits, as Istio sets them.
    fn default() -> Self {
        Self {
            max_connections: u32::MAX,
            max_pending_requests: u32::MAX,
            max_requests: u32::MAX,
            max_retries: u32::MAX,
            retry_budget: None,
        }
    }
}

/// How many retries may be under way for the requests that are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryBudget {
    /// Share of the active and pending requests, in hundredths of a percent.
    pub basis_points: u32,
    /// Always allowed.
    pub min_retry_concurrency: u32,
}

/// Life of the connections to a cluster's endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionOptions {
    /// An HTTP connection without requests is closed after this; absent: Envoy's 1 h.
    #[serde(
        skip_serializing_if = "Option::is_none",
        with = "crate::duration::option"
    )]
    pub idle_timeout: Option<Duration>,
    /// A connection takes no request after this.
    #[serde(
        skip_serializing_if = "Option::is_none",
        with = "crate::duration::option"
    )]
    pub max_connection_duration: Option<Duration>,
    /// Requests that a connection serves; absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests_per_connection: Option<u32>,
    /// Streams on one HTTP/2 connection at the same time; absent: as the endpoint says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrent_streams: Option<u32>,
    /// Probes of the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// HTTP/2 pings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http2_keepalive: Option<Http2Keepalive>,
}

/// Probes on connections that are silent; what is absent is as the system has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpKeepalive {
    /// Unanswered probes that end a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes: Option<u32>,
    /// Silence before the first probe.
    #[serde(
        skip_serializing_if = "Option::is_none",
        with = "crate::duration::option"
    )]
    pub time: Option<Duration>,
    /// Time between probes.
    #[serde(
        skip_serializing_if = "Option::is_none",
        with = "crate::duration::option"
    )]
    pub interval: Option<Duration>,
}

/// Pings on HTTP/2 connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Http2Keepalive {
    /// Time between pings.
    #[serde(with = "crate::duration")]
    pub interval: Duration,
    /// How long the answer may take.
    #[serde(with = "crate::duration")]
    pub timeout: Duration,
}

/// When a failing endpoint is left out for a while. A threshold that is absent is Envoy's 5.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutlierDetection {
    /// Answers of 500 to 599 in a row; 0: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_5xx: Option<u32>,
    /// Answers of 502, 503 or 504 in a row; absent: counted, but without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_gateway_failure: Option<u32>,
    /// Failures to get an answer in a row; counts only when they are split off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_local_origin_failure: Option<u32>,
    /// Failures to get an answer are counted apart from answers.
    #[serde(default)]
    pub split_external_local_origin_errors: bool,
    /// Time between two looks at the endpoints that are left out.
    #[serde(with = "crate::duration")]
    pub interval: Duration,
    /// How long an endpoint is left out, times how often it was lately.
    #[serde(with = "crate::duration")]
    pub base_ejection_time: Duration,
    /// Most endpoints that may be left out at the same time.
    pub max_ejection_percent: u32,
}

impl OutlierDetection {
    /// Longest time that an endpoint is left out, unless the base is longer.
    pub const MAX_EJECTION_TIME: Duration = Duration::from_secs(300);
}

impl Default for OutlierDetection {
    /// Envoy's defaults.
    fn default() -> Self {
        Self {
            consecutive_5xx: None,
            consecutive_gateway_failure: None,
            consecutive_local_origin_failure: None,
            split_external_local_origin_errors: false,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_percent: 10,
        }
    }
}

/// A new endpoint gets its full share only after a while.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlowStart {
    /// How long it takes.
    #[serde(with = "crate::duration")]
    pub window: Duration,
    /// Form of the ramp; 1 is linear, more rises faster at first.
    pub aggression: f64,
    /// Share at the beginning, in percent.
    pub min_weight_percent: f64,
}

/// Where an endpoint is. Empty parts are unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Locality {
    /// `us-west1`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// `us-west1-a`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// Part of a zone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sub_zone: String,
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
    /// A name to be resolved; of `address` then only the port counts. Only in clusters that are
    /// found by DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Arc<str>>,
    /// Relative to the other endpoints of its locality; 1 or more.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: u32,
    /// Where it is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub locality: Arc<Locality>,
    /// Endpoints of a higher number are used as far as those of a lower one are not healthy.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: u32,
    /// Share of its locality among those of its priority; absent: as many as its endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality_weight: Option<u32>,
    /// Takes mutual TLS of the mesh; the workload's identity is then proven.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mutual_tls: bool,
}

impl Endpoint {
    /// A healthy endpoint of an unknown locality.
    pub fn new(address: SocketAddr, workload: Arc<Workload>) -> Self {
        Self {
            address,
            health: HealthStatus::Healthy,
            workload,
            in_mesh: false,
            hostname: None,
            weight: 1,
            locality: Arc::default(),
            priority: 0,
            locality_weight: None,
            mutual_tls: false,
        }
    }
}

fn one() -> u32 {
    1
}

fn is_one(weight: &u32) -> bool {
    *weight == 1
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
