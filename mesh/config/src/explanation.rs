//! How a proxy would route a request: the answer of its admin page `/explain`.

use std::{net::SocketAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{Cluster, Endpoint, Route, TcpCluster};

/// What becomes of a request, step by step. Nothing is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Name of the listener that the connection comes to.
    pub listener: String,
    /// Its address.
    pub address: SocketAddr,
    /// Name of the filter chain that takes the connection; absent: none does, and it is closed (flag NR).
    pub filter_chain: Option<String>,
    /// Policies are asked before the request goes anywhere. What they would say is not told.
    pub guarded: bool,
    /// What the chain does.
    pub outcome: Outcome,
    /// The clusters that the outcome names, as they are now.
    pub clusters: Vec<ClusterState>,
}

/// What a filter chain does with a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// Closes it: nothing takes it, or HTTP is expected and TLS comes.
    Closed,
    /// Passes bytes on; one cluster is drawn by weight.
    Tcp(Vec<TcpCluster>),
    /// Routes HTTP requests.
    Http {
        /// Name of the route table; absent: it is not known, 404 NR.
        route_table: Option<String>,
        /// Name of the virtual host; absent: none has the host name, 404 NR.
        virtual_host: Option<String>,
        /// Its domains.
        domains: Vec<String>,
        /// Its routes in their order; none matches: 404 NR.
        rules: Vec<Rule>,
    },
}

/// A route, and whether it is the request's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// The route.
    pub route: Route,
    /// Whether it is the one.
    pub verdict: Verdict,
}

/// What came of a route's conditions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Verdict {
    /// All hold: this route acts.
    Matched,
    /// One does not hold; those after it were not looked at.
    Failed {
        /// Which.
        condition: Condition,
        /// What the request has in its place; absent: nothing.
        seen: Option<String>,
    },
    /// A route before it matched.
    NotReached,
}

/// A condition of a [`RouteMatch`](crate::RouteMatch), in the order in which they are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Condition {
    /// That on the path.
    Path,
    /// Index among those on headers.
    Header(usize),
    /// Index among those on query parameters.
    Query(usize),
}

/// A cluster at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterState {
    /// Its name.
    pub name: String,
    /// How it is configured; absent: there is no such cluster, 503 NC.
    pub cluster: Option<Arc<Cluster>>,
    /// Its endpoints.
    pub endpoints: Vec<EndpointState>,
}

/// An endpoint at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointState {
    /// As configured; of one that was found by DNS, the address is that of now.
    #[serde(flatten)]
    pub endpoint: Endpoint,
    /// Outlier detection has put it out for a while.
    pub ejected: bool,
}
