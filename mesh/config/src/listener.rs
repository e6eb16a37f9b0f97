//! Where connections are accepted, and what is done with them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Authorization, Rbac, Transport};

/// On which side of the workload the traffic of a listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TrafficDirection {
    /// To the workload; reported with `reporter="destination"`.
    Inbound,
    /// From the workload; `reporter="source"`.
    Outbound,
    /// Through a gateway; `reporter="source"`, and headers are treated as a front proxy treats them.
    Gateway,
}

/// How a connection tells where it wanted to go. The destination chooses the [`FilterChain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Accept {
    /// The destination is the listener's own address.
    Direct,
    /// The client speaks to an HTTP proxy: the destination is the authority of the absolute-form
    /// request line, or of `CONNECT`, whose tunnel is then sniffed for HTTP. An origin-form request
    /// takes its `Host`.
    HttpProxy,
    /// The kernel redirected the connection: the destination is `SO_ORIGINAL_DST`.
    Redirected,
}

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// `virtualOutbound`, `virtualInbound_9080`, `0.0.0.0_8080`.
    pub name: String,
    /// Where it binds.
    pub address: SocketAddr,
    /// Side of the workload.
    pub direction: TrafficDirection,
    /// How the destination of a connection is known.
    pub accept: Accept,
    /// Tried in order; the first whose conditions all hold takes the connection (or, with
    /// [`Accept::HttpProxy`], the request). None: the connection is closed (flag NR).
    pub filter_chains: Vec<FilterChain>,
}

/// Conditions on the destination, and what to do with the connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterChain {
    /// For logs and `/config_dump`.
    pub name: String,
    /// Destination port; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    /// Where the connection goes: names (`*.suffix` among them), addresses and ranges of addresses
    /// (`10.0.0.0/8`), lower-case, without ports; empty: anywhere. TCP services are told apart by
    /// these, HTTP services by the `Host` header.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<String>,
    /// The connection begins with a TLS greeting for one of these names, lower-case (`*.suffix`
    /// covers names that end so, `*` every name); empty: no such condition. The greeting is looked
    /// at, not taken: what [`filter`](Self::filter) gets still begins with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_names: Vec<String>,
    /// What the connection begins with, and the TLS that ends here.
    #[serde(default, skip_serializing_if = "Transport::is_any")]
    pub transport: Transport,
    /// What takes the connection.
    pub filter: NetworkFilter,
}

/// The protocol spoken on a filter chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NetworkFilter {
    /// HTTP/1.1 or HTTP/2, as the client's first bytes say.
    Http(HttpConnectionManager),
    /// Bytes both ways.
    Tcp(TcpProxy),
    /// Istio's protocol sniffing for ports without a declared protocol: HTTP when the first bytes
    /// look like it, else TCP.
    Sniff {
        /// When it is HTTP.
        http: HttpConnectionManager,
        /// When it is not.
        tcp: TcpProxy,
    },
}

/// HTTP on a filter chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpConnectionManager {
    /// Prefix of its statistics: `http.<stat_prefix>.downstream_rq_total`. Istio's names:
    /// `outbound_0.0.0.0_9080`, `inbound_0.0.0.0_9080`.
    pub stat_prefix: String,
    /// Name of the [`RouteConfiguration`](crate::RouteConfiguration) to use. Unknown: 404 NR.
    pub route_config: String,
    /// What requests must pass; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Arc<Authorization>>,
}

/// Raw bytes to a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TcpProxy {
    /// Prefix of its statistics: `tcp.<stat_prefix>.downstream_cx_total`.
    pub stat_prefix: String,
    /// One is drawn by weight for each connection. A name without a cluster closes it (flag NC).
    pub clusters: Vec<TcpCluster>,
    /// What connections must pass.
    #[serde(default, skip_serializing_if = "Rbac::is_empty")]
    pub rbac: Rbac,
    /// A connection without traffic is closed after this; absent: Envoy's 1 h.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::duration::option"
    )]
    pub idle_timeout: Option<Duration>,
    /// A connection is closed after this, whatever passes over it (flag DT); absent: never.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::duration::option"
    )]
    pub max_connection_duration: Option<Duration>,
    /// Clusters that balance by hash choose by the address of the client.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hash_source_ip: bool,
}

impl TcpProxy {
    /// Every connection to one cluster, whose name is also the prefix of the statistics.
    pub fn to(cluster: &str) -> Self {
        Self {
            stat_prefix: cluster.into(),
            clusters: vec![TcpCluster {
                name: cluster.into(),
                weight: 1,
            }],
            ..Self::default()
        }
    }
}

/// A destination of connections and its share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TcpCluster {
    /// Name of the cluster.
    pub name: String,
    /// Relative to the sum of all; never 0 when there are several.
    pub weight: u32,
}
