//! The outbound side of a sidecar: one listener, a filter chain for each port of the services.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use mesh_config::{
    Accept, FilterChain, HttpConnectionManager, Interception, Listener, NetworkFilter, ProxyId,
    RouteConfiguration, Snapshot, TcpProxy, TrafficDirection, names,
};

use super::{
    Compiler, RouteView,
    virtual_hosts::{catch_all, domains, has_other_hosts, table},
    visibility::visible,
};
use crate::world::{OutboundPolicy, Pod, Protocol, Service, ServicePort};

/// Istio's port of outbound traffic.
const OUTBOUND_PORT: u16 = 15001;

/// Route table of ports that no service has.
const UNKNOWN_PORTS: &str = "allow_any";

/// Adds the outbound listener and the route tables behind it.
pub(super) fn outbound(compiler: &Compiler, proxy: &ProxyId, pod: &Pod, snapshot: &mut Snapshot) {
    let (address, accept) = match proxy.interception {
        Interception::Door { loopback } => (loopback, Accept::HttpProxy),
        Interception::Redirect => (IpAddr::from([0, 0, 0, 0]), Accept::Redirected),
        Interception::None => return,
    };
    let view = compiler.route_view(pod);
    snapshot.routes.extend(view.routes.clone());
    let listener = Listener {
        name: "virtualOutbound".into(),
        address: SocketAddr::new(address, OUTBOUND_PORT),
        direction: TrafficDirection::Outbound,
        accept,
        filter_chains: view.chains.clone(),
    };
    snapshot
        .listeners
        .insert(listener.name.clone(), Arc::new(listener));
}

/// What sidecars of one namespace (and, where rules ask for labels, of the same labels) share.
pub(super) fn shared(compiler: &Compiler, pod: &Pod) -> RouteView {
    let seen: Vec<&Arc<Service>> = compiler
        .world
        .services
        .values()
        .filter(|service| visible(&service.export_to, &service.namespace, &pod.namespace))
        .collect();
    let mut chains = Vec::new();
    let mut routes = BTreeMap::new();
    let mut add =
        |table: RouteConfiguration| _ = routes.insert(table.name.clone(), Arc::new(table));

    // Services that are told apart by where the client wants to go.
    for service in &seen {
        for port in &service.ports {
            let tcp = TcpProxy {
                stat_prefix: names::outbound(port.number, "", service.host.as_str()),
                cluster: names::outbound(port.number, "", service.host.as_str()),
            };
            let filter = match port.protocol {
                Protocol::Http | Protocol::Http2 => continue,
                Protocol::Tcp => NetworkFilter::Tcp(tcp),
                Protocol::Sniff => {
                    let name = format!("{}:{}", service.host, port.number);
                    add(table(
                        compiler,
                        pod,
                        name.clone(),
                        port.number,
                        std::iter::once(*service),
                    ));
                    let http = HttpConnectionManager {
                        stat_prefix: stat_prefix(port.number),
                        route_config: name,
                    };
                    NetworkFilter::Sniff { http, tcp }
                }
            };
            chains.push(FilterChain {
                name: format!("{}:{}", service.host, port.number),
                destination_port: Some(port.number),
                destinations: domains(service, &pod.namespace),
                filter,
            });
        }
    }

    // HTTP ports are shared: the Host header alone decides.
    let is_http = |port: &&ServicePort| matches!(port.protocol, Protocol::Http | Protocol::Http2);
    let mut ports: BTreeSet<u16> = seen
        .iter()
        .flat_map(|service| service.ports.iter().filter(is_http))
        .map(|port| port.number)
        .collect();
    if has_other_hosts(compiler, pod) {
        ports.insert(80);
    }
    for number in ports {
        let services = seen
            .iter()
            .copied()
            .filter(|service| service.port(number).as_ref().is_some_and(is_http));
        add(table(compiler, pod, number.to_string(), number, services));
        chains.push(FilterChain {
            name: format!("0.0.0.0_{number}"),
            destination_port: Some(number),
            destinations: Vec::new(),
            filter: NetworkFilter::Http(HttpConnectionManager {
                stat_prefix: stat_prefix(number),
                route_config: number.to_string(),
            }),
        });
    }

    add(RouteConfiguration {
        name: UNKNOWN_PORTS.into(),
        virtual_hosts: vec![catch_all(compiler)],
    });
    chains.push(unknown_ports(compiler));
    RouteView { routes, chains }
}

fn stat_prefix(port: u16) -> String {
    format!("outbound_0.0.0.0_{port}")
}

fn unknown_ports(compiler: &Compiler) -> FilterChain {
    let cluster = match compiler.world.settings.outbound {
        OutboundPolicy::AllowAny => names::PASSTHROUGH_CLUSTER,
        OutboundPolicy::RegistryOnly => names::BLACK_HOLE_CLUSTER,
    };
    FilterChain {
        name: "virtualOutbound-catchall-tcp".into(),
        destination_port: None,
        destinations: Vec::new(),
        filter: NetworkFilter::Sniff {
            http: HttpConnectionManager {
                stat_prefix: "outbound_catchall".into(),
                route_config: UNKNOWN_PORTS.into(),
            },
            tcp: TcpProxy {
                stat_prefix: cluster.into(),
                cluster: cluster.into(),
            },
        },
    }
}
