//! The inbound side of a sidecar: the ports of its workload.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use mesh_api::sidecar::IstioIngressListener;
use mesh_config::{
    Accept, Authorization, Cluster, ClusterLoadAssignment, Discovery, Endpoint, FilterChain,
    HttpConnectionManager, Interception, LbPolicy, Listener, NetworkFilter, ProxyId, RetryPolicy,
    Route, RouteAction, RouteConfiguration, Snapshot, TcpProxy, TrafficDirection, Transport,
    VirtualHost, names,
};

use super::{
    Compiler, authorization,
    clusters::{service_ref, serviceless, upstream_protocol},
    destination_rules::lookup,
    peer_authentication::{self, Chain, transports},
    routes::forward,
    scope::Scope,
    traffic_policy::{Policy, tcp_proxy},
};
use crate::world::{Pod, Protocol, Service, ServicePort};

/// Istio's port of redirected inbound traffic.
const INBOUND_PORT: u16 = 15006;

/// Where a sidecar's connections to its own workload leave from: addresses of the loopback interface
/// by which the kernel knows not to redirect them again.
const OWN_SOURCES: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6)),
    IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6)),
];

/// The proxy's own ports, which are never the workload's.
const OWN_PORTS: [u16; 7] = [15000, 15001, 15004, 15006, 15020, 15021, 15090];

/// A port of the workload: what is spoken there, and the service that leads to it.
struct Port<'a> {
    protocol: Protocol,
    /// Where the workload listens, when that is another port.
    at: Option<u16>,
    service: Option<(&'a Service, &'a ServicePort)>,
}

/// Adds a listener per port of the workload (or one that takes redirected connections), and the
/// cluster that leads to the workload.
pub(super) fn inbound(
    compiler: &Compiler,
    scope: &Scope,
    proxy: &ProxyId,
    pod: &Pod,
    snapshot: &mut Snapshot,
) {
    let workload_at = match proxy.interception {
        Interception::Door { loopback } => loopback,
        Interception::Redirect => proxy.address,
        Interception::None => return,
    };
    let redirected = proxy.interception == Interception::Redirect;
    let sources = if redirected {
        OWN_SOURCES.into()
    } else {
        Vec::new()
    };
    let authorization = authorization::http(compiler, pod);
    let rbac = authorization::tcp(compiler, pod);
    let passed_on = |cluster: &str| TcpProxy {
        rbac: rbac.clone(),
        ..TcpProxy::to(cluster)
    };
    let mut chains = Vec::new();
    for (number, port) in declared(scope).unwrap_or_else(|| ports(compiler, pod)) {
        let policy = policy(compiler, &port, pod);
        let mut tcp = passed_on(&names::inbound(number));
        tcp_proxy(&policy, &mut tcp);
        let cluster = Cluster {
            source_addresses: sources.clone(),
            ..to_workload(&policy, number, &port)
        };
        let address = SocketAddr::new(workload_at, port.at.unwrap_or(number));
        add_cluster(
            cluster,
            Endpoint::new(address, pod.workload.clone()),
            snapshot,
        );
        let filter = add_routes(number, &port, &authorization, &tcp, snapshot);
        let mode = peer_authentication::mode(compiler, pod, number);
        let of_port: Vec<FilterChain> = transports(mode, port.protocol)
            .into_iter()
            .map(|(transport, chain)| FilterChain {
                name: format!("0.0.0.0_{number}"),
                destination_port: Some(number),
                destinations: Vec::new(),
                server_names: Vec::new(),
                transport,
                filter: match chain {
                    Chain::Port => filter.clone(),
                    Chain::Bytes => NetworkFilter::Tcp(tcp.clone()),
                },
            })
            .collect();
        chains.push((number, of_port));
    }
    let mut add =
        |name: String, address: SocketAddr, accept: Accept, filter_chains: Vec<FilterChain>| {
            let direction = TrafficDirection::Inbound;
            let listener = Listener {
                name: name.clone(),
                address,
                direction,
                accept,
                filter_chains,
            };
            snapshot.listeners.insert(name, Arc::new(listener));
        };
    if redirected {
        let name = names::INBOUND_PASSTHROUGH_CLUSTER;
        let mut chains: Vec<_> = chains.into_iter().flat_map(|(_, chains)| chains).collect();
        chains.push(FilterChain {
            name: "virtualInbound-catchall".into(),
            destination_port: None,
            destinations: Vec::new(),
            server_names: Vec::new(),
            transport: Transport::default(),
            filter: NetworkFilter::Tcp(passed_on(name)),
        });
        add(
            "virtualInbound".into(),
            SocketAddr::new([0, 0, 0, 0].into(), INBOUND_PORT),
            Accept::Redirected,
            chains,
        );
        snapshot.clusters.insert(
            name.into(),
            Arc::new(Cluster {
                source_addresses: sources,
                ..serviceless(name, Discovery::OriginalDst)
            }),
        );
    } else {
        for (number, chains) in chains {
            let address = SocketAddr::new(proxy.address, number);
            add(
                format!("virtualInbound_{number}"),
                address,
                Accept::Direct,
                chains,
            );
        }
    }
}

/// The ports that a Sidecar declares, which are then all.
fn declared<'a>(scope: &Scope) -> Option<BTreeMap<u16, Port<'a>>> {
    let ingress = &scope.sidecar()?.ingress;
    let port = |listener: &IstioIngressListener| {
        let number = u16::try_from(listener.port.number).ok()?;
        let word = listener.port.protocol.to_ascii_lowercase();
        let word = (!word.is_empty()).then_some(word);
        let at = listener.default_endpoint.rsplit_once(':');
        let port = Port {
            protocol: Protocol::of(word.as_deref(), &listener.port.name, number),
            at: at.and_then(|(_, port)| port.parse().ok()),
            service: None,
        };
        Some((number, port))
    };
    (!ingress.is_empty()).then(|| ingress.iter().filter_map(port).collect())
}

/// Target ports of the services of a pod and, where no service leads, the ports that its
/// containers declare.
fn ports<'a>(compiler: &'a Compiler, pod: &'a Pod) -> BTreeMap<u16, Port<'a>> {
    let mut ports = BTreeMap::new();
    for service in compiler.services.of_pod(pod) {
        for port in &service.ports {
            if let Some(number) = port.target.on(pod) {
                let value = Port {
                    protocol: port.protocol,
                    at: None,
                    service: Some((&**service, port)),
                };
                ports.entry(number).or_insert(value);
            }
        }
    }
    for (name, number) in &pod.ports {
        let protocol = Protocol::of(None, name, *number);
        ports.entry(*number).or_insert(Port {
            protocol,
            at: None,
            service: None,
        });
    }
    ports.retain(|number, _| !OWN_PORTS.contains(number));
    ports
}

/// The limits that callers keep to hold on the server's side too.
fn policy<'a>(compiler: &'a Compiler, port: &Port<'a>, pod: &Pod) -> Policy<'a> {
    let Some((service, port)) = port.service else {
        return Policy::default();
    };
    let rules = &compiler.destination_rules;
    let rule = lookup(rules, &pod.namespace, &service.host, &service.namespace);
    Policy {
        connection_pool: rule.policy(port.number, None).connection_pool,
        ..Policy::default()
    }
}

fn to_workload(policy: &Policy<'_>, number: u16, port: &Port<'_>) -> Cluster {
    let spoken = upstream_protocol(port.protocol);
    let mut cluster = Cluster {
        lb_policy: LbPolicy::RoundRobin,
        protocol: spoken,
        service: port.service.map(|(service, _)| service_ref(service)),
        ..Cluster::new(&names::inbound(number), Discovery::Eds)
    };
    policy.apply(&mut cluster);
    // What the workload speaks is not for its callers to change.
    cluster.protocol = spoken;
    cluster
}

fn add_cluster(cluster: Cluster, workload: Endpoint, snapshot: &mut Snapshot) {
    let name = cluster.name.clone();
    let assignment = ClusterLoadAssignment {
        cluster_name: name.clone(),
        endpoints: vec![workload],
    };
    snapshot.clusters.insert(name.clone(), Arc::new(cluster));
    snapshot.endpoints.insert(name, Arc::new(assignment));
}

fn add_routes(
    number: u16,
    port: &Port<'_>,
    authorization: &Option<Arc<Authorization>>,
    tcp: &TcpProxy,
    snapshot: &mut Snapshot,
) -> NetworkFilter {
    let name = names::inbound(number);
    let stat_prefix = format!("inbound_0.0.0.0_{number}");
    if matches!(port.protocol, Protocol::Tcp | Protocol::Tls) {
        return NetworkFilter::Tcp(tcp.clone());
    }
    let decorator = port
        .service
        .map(|(service, port)| format!("{}:{}/*", service.host, port.number));
    let mut route = Route {
        decorator: decorator.unwrap_or_default(),
        ..forward("default", &name, None)
    };
    if let RouteAction::Forward(forward) = &mut route.action {
        forward.retry = inbound_retry(port.protocol);
    }
    let host = VirtualHost {
        name: format!("inbound|http|{number}"),
        domains: vec!["*".into()],
        routes: vec![route],
    };
    let table = RouteConfiguration {
        name: name.clone(),
        virtual_hosts: vec![Arc::new(host)],
    };
    snapshot.routes.insert(name.clone(), Arc::new(table));
    let http = HttpConnectionManager {
        stat_prefix,
        route_config: name,
        authorization: authorization.clone(),
    };
    match port.protocol {
        Protocol::Sniff => NetworkFilter::Sniff {
            http,
            tcp: tcp.clone(),
        },
        _ => NetworkFilter::Http(http),
    }
}

/// The server's sidecar makes up for connections that the workload closed while idle: safe, because
/// nothing of the request had been sent. Not for gRPC.
fn inbound_retry(protocol: Protocol) -> Option<RetryPolicy> {
    (protocol != Protocol::Http2).then(|| RetryPolicy {
        retry_on: vec!["reset-before-request".into()],
        num_retries: 2,
        ..RetryPolicy::default()
    })
}
