//! The outbound side of a sidecar: one listener, a filter chain for each port of the services.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use mesh_api::GatewayRef;
use mesh_config::{
    Accept, FilterChain, HttpConnectionManager, Interception, Listener, NetworkFilter, ProxyId,
    RouteConfiguration, Snapshot, TcpProxy, TrafficDirection, Transport, names,
};

use super::{
    Compiler, RouteView, Tables,
    matches::Context,
    scope::Scope,
    tcp_routes::{self, Place},
    virtual_hosts::{catch_all, domains, egress_cluster, has_other_hosts, speaker, table},
};
use crate::world::{OutboundPolicy, Pod, Protocol, Service, ServicePort};

/// Istio's port of outbound traffic.
const OUTBOUND_PORT: u16 = 15001;

/// Route table of ports that no service has.
const UNKNOWN_PORTS: &str = "allow_any";

/// Adds the outbound listener and the route tables behind it.
pub(super) fn outbound(
    compiler: &Compiler,
    scope: &Scope,
    proxy: &ProxyId,
    pod: &Pod,
    snapshot: &mut Snapshot,
) {
    let (address, accept) = match proxy.interception {
        Interception::Door { loopback } => (loopback, Accept::HttpProxy),
        Interception::Redirect => (IpAddr::from([0, 0, 0, 0]), Accept::Redirected),
        Interception::None => return,
    };
    let view = compiler.route_view(scope, pod);
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

/// What sidecars of one namespace (and, where rules ask for labels, of the same labels) share; `kept`
/// are the tables of the version before.
pub(super) fn shared(
    compiler: &Compiler,
    scope: &Scope,
    pod: &Pod,
    kept: Option<&Tables>,
) -> RouteView {
    let seen: Vec<Arc<Service>> = compiler.seen(scope);
    let mut anywhere = Vec::new();
    let mut chains = Vec::new();
    let mut routes = BTreeMap::new();
    let mut add =
        |table: RouteConfiguration| _ = routes.insert(table.name.clone(), Arc::new(table));

    // Services that are told apart by where the client wants to go.
    for service in &seen {
        if service.ports.iter().all(is_http) {
            continue;
        }
        let rules = speaker(&compiler.on_mesh_tcp, scope, &service.host);
        let mut destinations = domains(service, &pod.namespace);
        destinations.extend(service.ranges().cloned());
        let host = service.host.to_string();
        let by_name_alone = service.of_entry && service.addresses.is_empty();
        for port in &service.ports {
            let name = format!("{}:{}", service.host, port.number);
            let place = Place {
                name: &name,
                port: Some(port.number),
                destinations: &destinations,
            };
            let context = Context {
                gateway: &GatewayRef::Mesh,
                port: port.number,
                labels: &pod.labels,
                namespace: &pod.namespace,
            };
            let own = TcpProxy::to(&names::outbound(port.number, "", service.host.as_str()));
            match port.protocol {
                Protocol::Http | Protocol::Http2 => {}
                Protocol::Tls => {
                    let of_rules = rules.map(|resource| {
                        tcp_routes::tls(compiler, resource, &context, &place, |_| true)
                    });
                    match of_rules.filter(|chains| !chains.is_empty()) {
                        Some(of_rules) => chains.extend(of_rules),
                        None => {
                            let filter = NetworkFilter::Tcp(own);
                            if by_name_alone {
                                // Callers that do not say the name of where they go say it here.
                                let mut chain = place.chain(vec![host.clone()], filter.clone());
                                chain.destinations.clear();
                                chains.push(chain);
                            }
                            chains.push(place.chain(Vec::new(), filter));
                        }
                    }
                }
                Protocol::Tcp => {
                    let of_rules =
                        rules.map(|resource| tcp_routes::tcp(compiler, resource, &context, &place));
                    let (of_rules, all) = of_rules.unwrap_or_default();
                    chains.extend(of_rules);
                    if !all {
                        let chain = place.chain(Vec::new(), NetworkFilter::Tcp(own));
                        if by_name_alone {
                            // Without a name or an address the port is all there is.
                            let destinations = Vec::new();
                            anywhere.push(FilterChain {
                                destinations,
                                ..chain.clone()
                            });
                        }
                        chains.push(chain);
                    }
                }
                Protocol::Sniff => {
                    add(table(
                        compiler,
                        scope,
                        pod,
                        kept,
                        name.clone(),
                        port.number,
                        std::iter::once(service),
                    ));
                    let http = HttpConnectionManager {
                        stat_prefix: stat_prefix(port.number),
                        route_config: name.clone(),
                        authorization: None,
                    };
                    let of_rules =
                        rules.map(|resource| tcp_routes::tcp(compiler, resource, &context, &place));
                    let (mut of_rules, all) = of_rules.unwrap_or_default();
                    if !all {
                        of_rules.push(place.chain(Vec::new(), NetworkFilter::Tcp(own)));
                    }
                    for chain in &mut of_rules {
                        if let NetworkFilter::Tcp(tcp) = &chain.filter {
                            let (http, tcp) = (http.clone(), tcp.clone());
                            chain.filter = NetworkFilter::Sniff { http, tcp };
                        }
                    }
                    chains.extend(of_rules);
                }
            }
        }
    }

    // HTTP ports are shared: the Host header alone decides.
    let mut ports: BTreeSet<u16> = seen
        .iter()
        .flat_map(|service| service.ports.iter().filter(|port| is_http(port)))
        .map(|port| port.number)
        .collect();
    if has_other_hosts(compiler, scope, pod) {
        ports.insert(80);
    }
    for number in ports {
        let services = seen
            .iter()
            .filter(|service| service.port(number).is_some_and(is_http));
        add(table(
            compiler,
            scope,
            pod,
            kept,
            number.to_string(),
            number,
            services,
        ));
        chains.push(FilterChain {
            name: format!("0.0.0.0_{number}"),
            destination_port: Some(number),
            destinations: Vec::new(),
            server_names: Vec::new(),
            transport: Transport::default(),
            filter: NetworkFilter::Http(HttpConnectionManager {
                stat_prefix: stat_prefix(number),
                route_config: number.to_string(),
                authorization: None,
            }),
        });
    }

    chains.extend(anywhere);
    add(RouteConfiguration {
        name: UNKNOWN_PORTS.into(),
        virtual_hosts: vec![Arc::new(catch_all(compiler, scope))],
    });
    chains.push(unknown_ports(compiler, scope));
    RouteView { routes, chains }
}

/// Such ports are shared by all services.
fn is_http(port: &ServicePort) -> bool {
    matches!(port.protocol, Protocol::Http | Protocol::Http2)
}

fn stat_prefix(port: u16) -> String {
    format!("outbound_0.0.0.0_{port}")
}

fn unknown_ports(compiler: &Compiler, scope: &Scope) -> FilterChain {
    let cluster = match scope.outbound_policy(&compiler.world) {
        OutboundPolicy::AllowAny => egress_cluster(compiler, scope, 0),
        OutboundPolicy::RegistryOnly => names::BLACK_HOLE_CLUSTER.into(),
    };
    FilterChain {
        name: "virtualOutbound-catchall-tcp".into(),
        destination_port: None,
        destinations: Vec::new(),
        server_names: Vec::new(),
        transport: Transport::default(),
        filter: NetworkFilter::Sniff {
            http: HttpConnectionManager {
                stat_prefix: "outbound_catchall".into(),
                route_config: UNKNOWN_PORTS.into(),
                authorization: None,
            },
            tcp: TcpProxy::to(&cluster),
        },
    }
}
