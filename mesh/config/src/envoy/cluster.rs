//! `envoy.config.cluster.v3.Cluster` and `envoy.config.endpoint.v3.ClusterLoadAssignment`.

use serde_json::{Value, json};

use super::socket_address;
use crate::{
    Cluster, ClusterLoadAssignment, Discovery, Endpoint, HealthStatus, LbPolicy, UpstreamProtocol,
    duration,
};

/// A cluster that learns its endpoints from the control plane.
pub fn cluster(cluster: &Cluster) -> Value {
    let mut message = json!({ "name": cluster.name });
    match cluster.discovery {
        Discovery::Eds => {
            message["type"] = "EDS".into();
            message["eds_cluster_config"] =
                json!({ "eds_config": { "ads": {}, "resource_api_version": "V3" } });
            message["lb_policy"] = match cluster.lb_policy {
                LbPolicy::LeastRequest => "LEAST_REQUEST",
                LbPolicy::RoundRobin => "ROUND_ROBIN",
                LbPolicy::Random => "RANDOM",
            }
            .into();
        }
        Discovery::OriginalDst => {
            message["type"] = "ORIGINAL_DST".into();
            message["lb_policy"] = "CLUSTER_PROVIDED".into();
        }
    }
    message["connect_timeout"] = duration::format(cluster.connect_timeout).into();
    let protocol = match cluster.protocol {
        UpstreamProtocol::Http1 => {
            json!({ "explicit_http_config": { "http_protocol_options": {} } })
        }
        UpstreamProtocol::Http2 => {
            json!({ "explicit_http_config": { "http2_protocol_options": {} } })
        }
        UpstreamProtocol::UseDownstream => {
            json!({ "use_downstream_protocol_config": { "http_protocol_options": {}, "http2_protocol_options": {} } })
        }
    };
    const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    message["typed_extension_protocol_options"] = json!({ OPTIONS: super::any(OPTIONS, protocol) });
    if let Some(service) = &cluster.service {
        message["metadata"] = json!({ "filter_metadata": { "istio": { "services": [service] } } });
    }
    message
}

/// A cluster with its endpoints written into it, for an Envoy without a control plane.
pub(super) fn with_endpoints_inline(
    of: &Cluster,
    endpoints: Option<&ClusterLoadAssignment>,
) -> Value {
    let mut message = cluster(of);
    if of.discovery == Discovery::Eds {
        message["type"] = "STATIC".into();
        let none = ClusterLoadAssignment {
            cluster_name: of.name.clone(),
            endpoints: Vec::new(),
        };
        message["load_assignment"] = load_assignment(endpoints.unwrap_or(&none));
        if let Some(fields) = message.as_object_mut() {
            fields.remove("eds_cluster_config");
        }
    }
    message
}

/// The endpoints of a cluster.
pub fn load_assignment(assignment: &ClusterLoadAssignment) -> Value {
    json!({
        "cluster_name": assignment.cluster_name,
        "endpoints": [{
            "locality": {},
            "lb_endpoints": assignment.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        }],
    })
}

fn endpoint(endpoint: &Endpoint) -> Value {
    let health = match endpoint.health {
        HealthStatus::Healthy => "HEALTHY",
        HealthStatus::Unhealthy => "UNHEALTHY",
        HealthStatus::Draining => "DRAINING",
    };
    json!({
        "endpoint": { "address": socket_address(endpoint.address) },
        "health_status": health,
        "metadata": { "filter_metadata": { "istio": {
            "workload": format!("{};{};{};{};Kubernetes",
                endpoint.workload.name, endpoint.workload.namespace,
                endpoint.workload.canonical_name, endpoint.workload.canonical_revision),
        } } },
        "load_balancing_weight": 1,
    })
}
