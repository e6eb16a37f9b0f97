//! EndpointSlices: which addresses serve a Service.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1 as discovery;
use mesh_config::HealthStatus;

/// An EndpointSlice, trimmed.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointSlice {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub service: String,
    /// Ports by the name of the Service's port.
    pub ports: Vec<(String, u16)>,
    /// The addresses.
    pub endpoints: Vec<SliceEndpoint>,
}

/// One address of a slice.
#[derive(Clone, Debug, PartialEq)]
pub struct SliceEndpoint {
    /// Where it is.
    pub address: IpAddr,
    /// Name of the pod, in the namespace of the slice.
    pub pod: Option<String>,
    /// Whether it may be used.
    pub health: HealthStatus,
}

impl EndpointSlice {
    /// From the API object; `None` without a Service.
    pub fn read(from: &discovery::EndpointSlice) -> Option<Self> {
        let service = from
            .metadata
            .labels
            .as_ref()?
            .get("kubernetes.io/service-name")?
            .clone();
        let ports = from.ports.iter().flatten();
        Some(Self {
            namespace: from.metadata.namespace.clone()?,
            service,
            ports: ports
                .filter_map(|port| {
                    let number = u16::try_from(port.port?).ok()?;
                    Some((port.name.clone().unwrap_or_default(), number))
                })
                .collect(),
            endpoints: from
                .endpoints
                .iter()
                .flatten()
                .flat_map(endpoints)
                .collect(),
        })
    }
}

fn endpoints(from: &discovery::Endpoint) -> impl Iterator<Item = SliceEndpoint> {
    let conditions = from.conditions.clone().unwrap_or_default();
    // Absent conditions mean ready and not terminating, says the Kubernetes API.
    let health = if conditions.terminating == Some(true) {
        HealthStatus::Draining
    } else if conditions.ready.unwrap_or(true) {
        HealthStatus::Healthy
    } else {
        HealthStatus::Unhealthy
    };
    let pod = from
        .target_ref
        .as_ref()
        .filter(|target| target.kind.as_deref() == Some("Pod"));
    let pod = pod.and_then(|target| target.name.clone());
    from.addresses
        .iter()
        .filter_map(|address| address.parse().ok())
        .map(move |address| SliceEndpoint {
            address,
            pod: pod.clone(),
            health,
        })
}
