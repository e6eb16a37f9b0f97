//! Clusters and endpoints of every service that a namespace sees.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use mesh_api::{Host, destination_rule::Subset};
use mesh_config::{
    Cluster, ClusterLoadAssignment, Discovery, Endpoint, ServiceRef, UpstreamProtocol,
    UpstreamTlsContext, names,
};

use super::{
    Compiler, locality, peer_authentication::offers_mutual_tls, scope::Scope, services::Instance,
    traffic_policy::Policy, upstream_tls,
};
use crate::world::{Protocol, Resolution, Service, ServicePort, selects};

/// What all proxies of a namespace share of clusters.
pub(crate) struct ClusterView {
    pub(crate) clusters: BTreeMap<String, Arc<Cluster>>,
    pub(crate) endpoints: BTreeMap<String, Arc<ClusterLoadAssignment>>,
}

impl ClusterView {
    /// Takes the clusters of some services from another view.
    pub(super) fn keep(&mut self, of: &ClusterView, kept: impl Fn(&Host) -> bool) {
        for (name, cluster) in &of.clusters {
            let service = cluster.service.as_ref();
            let host = service.map(|service| Host::resolve(&service.host, &service.namespace));
            if !host.is_some_and(|host| kept(&host)) {
                continue;
            }
            self.clusters.insert(name.clone(), cluster.clone());
            if let Some(assignment) = of.endpoints.get(name) {
                self.endpoints.insert(name.clone(), assignment.clone());
            }
        }
    }
}

/// A cluster for each wanted service, port and subset, and those that stand for no service.
pub(super) fn outbound(
    compiler: &Compiler,
    scope: &Scope,
    wanted: impl Fn(&Service) -> bool,
) -> ClusterView {
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
    for service in compiler
        .seen(scope)
        .iter()
        .filter(|service| wanted(service))
    {
        let rule = compiler.rule_for(scope, service);
        let config = rule.config();
        for port in &service.ports {
            let instances = compiler.services.instances(&compiler.world, service, port);
            let identities = upstream_tls::identities(instances.iter().map(|it| &*it.workload));
            for subset in [None]
                .into_iter()
                .chain(rule.subsets.iter().copied().map(Some))
            {
                let subset_name = subset.map_or("", |subset| &subset.name);
                let name = names::outbound(port.number, subset_name, service.host.as_str());
                let policy = rule.policy(port.number, subset);
                let mut cluster = Cluster {
                    protocol: upstream_protocol(port.protocol),
                    service: Some(service_ref(service)),
                    config: config.clone(),
                    tls: upstream_tls::of(policy.tls, service, port, subset, &identities)
                        .filter(|tls| !tls.where_offered || compiler.world.settings.auto_mtls),
                    ..Cluster::new(&name, discovery(service))
                };
                if let Some(limit) = compiler.world.settings.connect_timeout {
                    cluster.connect_timeout = limit;
                }
                policy.apply(&mut cluster);
                if service.resolution == Resolution::Passthrough {
                    view.clusters.insert(name, Arc::new(cluster));
                    continue;
                }
                let mut endpoints = endpoints(
                    compiler,
                    scope,
                    service,
                    port,
                    subset,
                    &policy,
                    &mut cluster,
                );
                if policy.passes_through() {
                    pass_through(service, port, &mut cluster, &mut endpoints);
                }
                view.clusters.insert(name.clone(), Arc::new(cluster));
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

/// Nobody is chosen: connections go to the address that the client has of the service, which leads
/// to any pod. So it is TLS for all of them or for none.
fn pass_through(
    service: &Service,
    port: &ServicePort,
    cluster: &mut Cluster,
    endpoints: &mut Vec<Endpoint>,
) {
    cluster.discovery = Discovery::OriginalDst;
    if let Some(tls) = cluster.tls.take() {
        let all = !endpoints.is_empty() && endpoints.iter().all(|endpoint| endpoint.mutual_tls);
        cluster.tls = (!tls.where_offered || all).then_some(UpstreamTlsContext {
            where_offered: false,
            ..tls
        });
    }
    let own = service
        .addresses
        .iter()
        .filter_map(|text| text.parse().ok());
    let own: Vec<Endpoint> = own
        .map(|ip| Endpoint::new(SocketAddr::new(ip, port.number), Arc::default()))
        .collect();
    // A name without an address of its own stands for the pods themselves.
    if !own.is_empty() {
        *endpoints = own;
    }
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

fn discovery(service: &Service) -> Discovery {
    match service.resolution {
        Resolution::Slices | Resolution::Static => Discovery::Eds,
        Resolution::Dns => Discovery::StrictDns,
        Resolution::DnsRoundRobin => Discovery::LogicalDns,
        Resolution::Passthrough => Discovery::OriginalDst,
    }
}

/// The endpoints of a cluster, as near as they are to the callers.
fn endpoints(
    compiler: &Compiler,
    scope: &Scope,
    service: &Service,
    port: &ServicePort,
    subset: Option<&Subset>,
    policy: &Policy<'_>,
    cluster: &mut Cluster,
) -> Vec<Endpoint> {
    let none = BTreeMap::new();
    let chosen = |instance: &Instance<'_>| {
        let labels = instance.labels.unwrap_or(&none);
        subset.is_none_or(|subset| selects(&subset.labels, labels))
    };
    let mut instances = compiler.services.instances(&compiler.world, service, port);
    instances.retain(chosen);
    let labels: HashMap<SocketAddr, _> = instances
        .iter()
        .map(|instance| (instance.address, instance.labels))
        .collect();
    let mut endpoints: Vec<Endpoint> = instances
        .into_iter()
        .map(|instance| Endpoint {
            health: instance.health,
            in_mesh: instance.pod.is_some_and(|pod| pod.in_mesh),
            mutual_tls: instance
                .pod
                .is_some_and(|pod| offers_mutual_tls(compiler, pod, instance.address.port())),
            hostname: instance.hostname,
            weight: instance.weight,
            locality: instance.locality.unwrap_or_default(),
            ..Endpoint::new(instance.address, instance.workload)
        })
        .collect();
    let of_rule = policy
        .load_balancer
        .and_then(|lb| lb.locality_lb_setting.as_ref());
    let of_mesh = compiler.world.settings.locality_lb.as_ref();
    if let Some(setting) = locality::in_force(of_rule, of_mesh) {
        let ejects = cluster.outlier_detection.is_some();
        let labels_of = |endpoint: &Endpoint| {
            let labels = labels.get(&endpoint.address).copied().flatten();
            labels.cloned().unwrap_or_default()
        };
        cluster.locality_weighted =
            locality::arrange(&setting, scope.caller(), ejects, &mut endpoints, labels_of);
    }
    endpoints
}
