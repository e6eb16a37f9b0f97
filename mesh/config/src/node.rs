//! Who a proxy is, and the workload it stands beside.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What kind of proxy asks for configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Beside a workload, for its inbound and outbound traffic.
    Sidecar,
    /// Stands alone: the ingress gateway. Istio calls this node type `router`.
    Router,
}

/// How the connections of a workload come to its sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "mode")]
pub enum Interception {
    /// The sidecar owns the pod's address and the workload listens on `loopback`; outbound traffic
    /// reaches the sidecar because `http_proxy` names it. This needs no privilege, so it is how
    /// the embedded cluster does it.
    #[serde(rename_all = "camelCase")]
    Door {
        /// The address that is "localhost" for the containers of the pod.
        loopback: IpAddr,
    },
    /// Connections are redirected to 15001 and 15006 by the kernel and carry their original
    /// destination: Istio's way on a real cluster.
    Redirect,
    /// Nothing is intercepted: gateways.
    None,
}

/// The identity under which a proxy asks the control plane for its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyId {
    /// Sidecar or gateway.
    pub role: Role,
    /// Name of the pod.
    pub pod: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// The pod's address.
    pub address: IpAddr,
    /// How its traffic is intercepted.
    pub interception: Interception,
}

impl ProxyId {
    /// Istio's node id: `sidecar~127.16.0.5~reviews-v1-abc.default~default.svc.cluster.local`.
    pub fn node_id(&self) -> String {
        let role = match self.role {
            Role::Sidecar => "sidecar",
            Role::Router => "router",
        };
        let Self {
            pod,
            namespace,
            address,
            ..
        } = self;
        format!("{role}~{address}~{pod}.{namespace}~{namespace}.svc.cluster.local")
    }
}

/// What telemetry says of a workload: the values of Istio's `source_*` and `destination_*` labels.
/// An empty string stands for what is not known and is printed as `unknown`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Workload {
    /// Name of the owner: the Deployment of a pod.
    pub name: String,
    /// Namespace of the workload.
    pub namespace: String,
    /// Label `app`.
    pub app: String,
    /// Label `version`.
    pub version: String,
    /// Label `service.istio.io/canonical-name`, else `app.kubernetes.io/name`, else `app`, else
    /// the workload's name.
    pub canonical_name: String,
    /// Label `service.istio.io/canonical-revision`, else `app.kubernetes.io/version`, else
    /// `version`, else `latest`.
    pub canonical_revision: String,
    /// SPIFFE identity, `spiffe://cluster.local/ns/NS/sa/SA`. Only reported where mutual TLS proved it.
    pub identity: String,
}

/// The proxy's own place in the mesh, told to it by the control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Node {
    /// Istio's node id.
    pub id: String,
    /// Istio's cluster id, `Kubernetes` in a mesh of one cluster.
    pub cluster_id: String,
    /// The workload beside the proxy, or the gateway itself.
    pub workload: Workload,
    /// Write an access log line per request to standard output (Istio's `accessLogFile: /dev/stdout`).
    pub access_log: bool,
    /// Form of its lines; absent: Istio's default text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log_format: Option<crate::AccessLogFormat>,
    /// Share of requests without an incoming decision that are traced.
    pub trace_sampling: crate::Percent,
    /// Where spans go; absent: trace headers are passed on, but no span is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<crate::Tracing>,
    /// Which statistics are shown; empty: all.
    #[serde(skip_serializing_if = "crate::StatsMatcher::is_empty")]
    pub stats_inclusion: crate::StatsMatcher,
    /// Changes of Istio's metrics, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<crate::MetricOverride>,
}
