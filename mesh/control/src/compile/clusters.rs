//! Clusters and endpoints of every service that a namespace sees.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use mesh_api::destination_rule::Subset;
use mesh_config::{
    Cluster, ClusterLoadAssignment, Discovery, Endpoint, ServiceRef, UpstreamProtocol, Workload,
    names,
};

use super::{Compiler, destination_rules::lookup, visibility::visible};
use crate::world::{Protocol, Service, ServicePort, World, selects};

/// What all proxies of a namespace share of clusters.
pub(crate) struct ClusterView {
    pub(crate) clusters: BTreeMap<String, Arc<Cluster>>,
    pub(crate) endpoints: BTreeMap<String, Arc<ClusterLoadAssignment>>,
}

/// A cluster for each service, port and subset, and those that stand for no service.
pub(super) fn outbound(compiler: &Compiler, namespace: &str) -> ClusterView {
    let mut view = ClusterView {
        clusters: BTreeMap::new(),
        endpoints: BTreeMap::new(),
    };
    for (name, discovery) in [
        (names::PASSTHROUGH_CLUSTER, Discovery::OriginalDst),
        (names::BLACK_HOLE_CLUSTER, Discovery::Eds),
    ] {
        view.clusters
            .insert(name.into(), Arc::new(serviceless(name, discovery)));
    }
    for service in compiler.world.services.values() {
        if !visible(&service.export_to, &service.namespace, namespace) {
            continue;
        }
        let rule = lookup(
            &compiler.destination_rules,
            namespace,
            &service.host,
            &service.namespace,
        );
        for port in &service.ports {
            for subset in [None]
                .into_iter()
                .chain(rule.subsets.iter().copied().map(Some))
            {
                let (lb_policy, connect_timeout) = rule.settings(port.number, subset);
                let subset_name = subset.map_or("", |subset| &subset.name);
                let name = names::outbound(port.number, subset_name, service.host.as_str());
                let cluster = Cluster {
                    lb_policy,
                    protocol: upstream_protocol(port.protocol),
                    connect_timeout,
                    service: Some(service_ref(service)),
                    ..Cluster::new(&name, Discovery::Eds)
                };
                view.clusters.insert(name.clone(), Arc::new(cluster));
                let endpoints = endpoints(&compiler.world, service, port, subset);
                let assignment = ClusterLoadAssignment {
                    cluster_name: name.clone(),
                    endpoints,
                };
                view.endpoints.insert(name, Arc::new(assignment));
            }
        }
    }
    view
}

pub(super) fn serviceless(name: &str, discovery: Discovery) -> Cluster {
    Cluster {
        protocol: UpstreamProtocol::UseDownstream,
        ..Cluster::new(name, discovery)
    }
}

pub(super) fn service_ref(service: &Service) -> ServiceRef {
    ServiceRef {
        host: service.host.to_string(),
        name: service.name.clone(),
        namespace: service.namespace.clone(),
    }
}

pub(super) fn upstream_protocol(protocol: Protocol) -> UpstreamProtocol {
    match protocol {
        Protocol::Http | Protocol::Tcp | Protocol::Tls => UpstreamProtocol::Http1,
        Protocol::Http2 => UpstreamProtocol::Http2,
        Protocol::Sniff => UpstreamProtocol::UseDownstream,
    }
}

fn endpoints(
    world: &World,
    service: &Service,
    port: &ServicePort,
    subset: Option<&Subset>,
) -> Vec<Endpoint> {
    let slices = world
        .slices
        .range((service.namespace.clone(), String::new())..)
        .take_while(|((namespace, _), _)| *namespace == service.namespace)
        .map(|(_, slice)| slice)
        .filter(|slice| slice.service == service.name);
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for slice in slices {
        let Some((_, number)) = slice.ports.iter().find(|(name, _)| *name == port.name) else {
            continue;
        };
        for endpoint in &slice.endpoints {
            let pod = match &endpoint.pod {
                Some(name) => world.pod(&slice.namespace, name),
                None => world.pod_at(endpoint.address),
            };
            let chosen = subset.is_none_or(|subset| {
                pod.map_or(subset.labels.is_empty(), |pod| {
                    selects(&subset.labels, &pod.labels)
                })
            });
            if chosen {
                let workload =
                    pod.map_or_else(|| Arc::new(Workload::default()), |pod| pod.workload.clone());
                endpoints.push(Endpoint {
                    health: endpoint.health,
                    in_mesh: pod.is_some_and(|pod| pod.in_mesh),
                    ..Endpoint::new(SocketAddr::new(endpoint.address, *number), workload)
                });
            }
        }
    }
    endpoints.sort_by_key(|endpoint| endpoint.address);
    endpoints.dedup_by_key(|endpoint| endpoint.address);
    endpoints
}
