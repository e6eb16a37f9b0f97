//! Pods: who answers at an address, and for whom a proxy works.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::api::core::v1 as core;
use mesh_config::{Locality, StatsMatcher, Workload};

/// A pod, trimmed.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its address.
    pub address: IpAddr,
    /// ServiceAccount that it runs as.
    pub service_account: String,
    /// TCP ports that its containers declare, with their names; not those of the proxy.
    pub ports: Vec<(String, u16)>,
    /// What telemetry says of it.
    pub workload: Arc<Workload>,
    /// A proxy of the mesh stands before it.
    pub in_mesh: bool,
    /// The node that it runs on.
    pub node: String,
    /// Where that is: as its own labels say, else those of the node, which
    /// [`World::located`](super::World::located) looks up.
    pub locality: Arc<Locality>,
    /// Which statistics its proxy shows: annotations `sidecar.istio.io/statsInclusion...`.
    pub stats_inclusion: StatsMatcher,
}

/// Name of the proxy's container.
pub(crate) const PROXY_CONTAINER: &str = "istio-proxy";

impl Pod {
    /// From the API object; `None` without an address or when it has ended.
    pub fn read(from: &core::Pod) -> Option<Self> {
        let (spec, status) = (from.spec.as_ref()?, from.status.as_ref()?);
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return None;
        }
        let address = status.pod_ip.as_ref()?.parse().ok()?;
        let (name, namespace) = (
            from.metadata.name.clone()?,
            from.metadata.namespace.clone()?,
        );
        let labels = from.metadata.labels.clone().unwrap_or_default();
        let service_account = spec
            .service_account_name
            .clone()
            .unwrap_or_else(|| "default".into());
        let sidecars = spec
            .init_containers
            .iter()
            .flatten()
            .filter(|c| c.restart_policy.as_deref() == Some("Always"));
        let containers = || spec.containers.iter().chain(sidecars.clone());
        let ports = containers()
            .filter(|container| container.name != PROXY_CONTAINER)
            .flat_map(|c| c.ports.iter().flatten());
        Some(Self {
            ports: ports
                .filter(|port| matches!(port.protocol.as_deref(), None | Some("TCP")))
                .filter_map(|port| {
                    Some((
                        port.name.clone().unwrap_or_default(),
                        u16::try_from(port.container_port).ok()?,
                    ))
                })
                .collect(),
            workload: Arc::new(workload(
                &from.metadata,
                &labels,
                &namespace,
                &service_account,
            )),
            in_mesh: containers().any(|container| container.name == PROXY_CONTAINER),
            stats_inclusion: stats_inclusion(from.metadata.annotations.as_ref()),
            node: spec.node_name.clone().unwrap_or_default(),
            locality: Arc::new(locality(&labels)),
            name,
            namespace,
            labels,
            address,
            service_account,
        })
    }
}

/// Where a node is.
pub(crate) fn of_node(from: &core::Node) -> Locality {
    from.metadata
        .labels
        .as_ref()
        .map(locality)
        .unwrap_or_default()
}

/// Istio's own label `istio-locality` (region.zone.subzone) before those of the topology, which newer
/// Kubernetes copies from the node to its pods.
pub(super) fn locality(labels: &BTreeMap<String, String>) -> Locality {
    if let Some(place) = labels.get("istio-locality") {
        let separator = if place.contains('/') { '/' } else { '.' };
        let mut parts = place.split(separator).map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        return Locality {
            region: next(),
            zone: next(),
            sub_zone: next(),
        };
    }
    let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
    Locality {
        region: label("topology.kubernetes.io/region"),
        zone: label("topology.kubernetes.io/zone"),
        sub_zone: label("topology.istio.io/subzone"),
    }
}

fn workload(
    metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    labels: &BTreeMap<String, String>,
    namespace: &str,
    service_account: &str,
) -> Workload {
    let name = owner(metadata, labels);
    let first = |names: &[&str]| names.iter().find_map(|name| labels.get(*name)).cloned();
    Workload {
        app: first(&["app"]).unwrap_or_default(),
        version: first(&["version"]).unwrap_or_default(),
        canonical_name: first(&[
            "service.istio.io/canonical-name",
            "app.kubernetes.io/name",
            "app",
        ])
        .unwrap_or_else(|| name.clone()),
        canonical_revision: first(&[
            "service.istio.io/canonical-revision",
            "app.kubernetes.io/version",
            "version",
        ])
        .unwrap_or_else(|| "latest".into()),
        identity: crate::identity(namespace, service_account),
        namespace: namespace.to_owned(),
        name,
    }
}

/// Name of what made the pod: a ReplicaSet stands for its Deployment, whose name it extends by the
/// hash of the template.
pub(crate) fn owner(
    metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    labels: &BTreeMap<String, String>,
) -> String {
    let owners = metadata.owner_references.iter().flatten();
    let Some(owner) = owners
        .clone()
        .find(|owner| owner.controller == Some(true))
        .or_else(|| owners.clone().next())
    else {
        let generated = metadata
            .generate_name
            .as_deref()
            .map(|name| name.trim_end_matches('-').to_owned());
        return metadata.name.clone().or(generated).unwrap_or_default();
    };
    let hash = labels
        .get("pod-template-hash")
        .filter(|_| owner.kind == "ReplicaSet");
    let deployment = hash.and_then(|hash| owner.name.strip_suffix(hash)?.strip_suffix('-'));
    deployment.unwrap_or(&owner.name).to_owned()
}

/// Istio's three annotations, each a list with commas.
fn stats_inclusion(annotations: Option<&BTreeMap<String, String>>) -> StatsMatcher {
    let list = |kind: &str| {
        let name = format!("sidecar.istio.io/statsInclusion{kind}");
        let text = annotations.and_then(|all| all.get(&name));
        let parts = text.iter().flat_map(|text| text.split(',')).map(str::trim);
        parts
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    };
    StatsMatcher {
        prefixes: list("Prefixes"),
        suffixes: list("Suffixes"),
        regexps: list("Regexps"),
    }
}
