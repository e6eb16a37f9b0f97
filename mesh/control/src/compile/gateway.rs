//! A gateway: its listeners come from the Gateways that choose its pod, its routes from the
//! VirtualServices that bind to them.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use mesh_api::{Gateway, GatewayRef, Host, Resource, gateway::Server};
use mesh_config::{
    Accept, FilterChain, HttpConnectionManager, Listener, NetworkFilter, ProxyId, Redirect, Route,
    RouteAction, RouteConfiguration, Snapshot, TrafficDirection, Transport, VirtualHost,
};

use super::{
    Compiler, authorization,
    gateway_hosts::{bound, server_host, shared_hosts},
    gateway_tcp::{self, TcpServer},
    gateway_tls,
    matches::{Context, is_catch_all},
    routes::{forward, of_virtual_service},
};
use crate::world::{Pod, selects};

/// Adds a listener and a route table per port.
pub(super) fn gateway(compiler: &Compiler, proxy: &ProxyId, pod: &Pod, snapshot: &mut Snapshot) {
    let mut by_port: BTreeMap<u16, Vec<(&Resource<Gateway>, &Server)>> = BTreeMap::new();
    let mut chains: BTreeMap<u16, Vec<FilterChain>> = BTreeMap::new();
    for gateway in &compiler.gateways {
        if !selects(&gateway.spec.selector, &pod.labels) {
            continue;
        }
        for server in &gateway.spec.servers {
            let Some(port) = bound_port(compiler, pod, server) else {
                continue;
            };
            // Of plain HTTP and something else on one port the older has it.
            if is_plain_http(server) {
                if !chains.contains_key(&port) {
                    by_port.entry(port).or_default().push((gateway, server));
                }
            } else if !by_port.contains_key(&port) {
                let more = of_server(compiler, pod, port, gateway, server, snapshot);
                if !more.is_empty() {
                    chains.entry(port).or_default().extend(more);
                }
            }
        }
    }
    for (port, mut chains) in chains {
        gateway_tls::order(&mut chains);
        let listener = listener(proxy, port, chains);
        snapshot
            .listeners
            .insert(listener.name.clone(), Arc::new(listener));
    }
    for (port, servers) in by_port {
        let table = table(compiler, pod, format!("http.{port}"), port, &servers);
        let listener = listener(proxy, port, vec![http_chain(compiler, pod, port, &table)]);
        snapshot.routes.insert(table.name.clone(), Arc::new(table));
        snapshot
            .listeners
            .insert(listener.name.clone(), Arc::new(listener));
    }
    gateway_tls::secrets(compiler, &pod.namespace, snapshot);
}

/// The filter chains of a server that is not plain HTTP; an HTTPS server has a route table of its
/// own.
fn of_server(
    compiler: &Compiler,
    pod: &Pod,
    port: u16,
    gateway: &Resource<Gateway>,
    server: &Server,
    snapshot: &mut Snapshot,
) -> Vec<FilterChain> {
    let tcp = |kind| gateway_tcp::chains(compiler, pod, port, gateway, server, kind);
    let Some(context) = gateway_tls::context(server) else {
        return TcpServer::of(server).map_or_else(Vec::new, tcp);
    };
    if !server.port.protocol.eq_ignore_ascii_case("HTTPS") {
        let chains = tcp(TcpServer::Plain);
        let by_host = |chain| gateway_tls::by_host(gateway, server, &context, chain);
        return chains.iter().flat_map(by_host).collect();
    }
    let (name, metadata) = (&server.port.name, &gateway.metadata);
    let name = format!(
        "https.{port}.{name}.{}.{}",
        metadata.name, metadata.namespace
    );
    let table = table(compiler, pod, name, port, &[(gateway, server)]);
    let chain = http_chain(compiler, pod, port, &table);
    snapshot.routes.insert(table.name.clone(), Arc::new(table));
    gateway_tls::by_host(gateway, server, &context, &chain)
}

fn http_chain(
    compiler: &Compiler,
    pod: &Pod,
    port: u16,
    table: &RouteConfiguration,
) -> FilterChain {
    FilterChain {
        name: format!("0.0.0.0_{port}"),
        destination_port: None,
        destinations: Vec::new(),
        server_names: Vec::new(),
        transport: Transport::default(),
        filter: NetworkFilter::Http(HttpConnectionManager {
            stat_prefix: format!("outbound_0.0.0.0_{port}"),
            route_config: table.name.clone(),
            authorization: authorization::http(compiler, pod),
        }),
    }
}

fn listener(proxy: &ProxyId, port: u16, filter_chains: Vec<FilterChain>) -> Listener {
    Listener {
        name: format!("0.0.0.0_{port}"),
        address: SocketAddr::new(proxy.address, port),
        direction: TrafficDirection::Gateway,
        accept: Accept::Direct,
        filter_chains,
    }
}

/// The servers that are carried out; others are reported on the Gateway.
pub(crate) fn is_plain_http(server: &Server) -> bool {
    matches!(
        server.port.protocol.to_ascii_uppercase().as_str(),
        "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB"
    )
}

/// Servers name the port of the gateway's Service; the proxy binds the port behind it.
fn bound_port(compiler: &Compiler, pod: &Pod, server: &Server) -> Option<u16> {
    let number = u16::try_from(server.port.number).ok()?;
    let behind = compiler
        .services
        .of_pod(pod)
        .find_map(|service| service.port(number)?.target.on(pod));
    Some(behind.unwrap_or(number))
}

fn table(
    compiler: &Compiler,
    pod: &Pod,
    name: String,
    port: u16,
    servers: &[(&Resource<Gateway>, &Server)],
) -> RouteConfiguration {
    // By domain, in the order in which they appear.
    let mut hosts: Vec<(Host, Vec<Route>)> = Vec::new();
    for (gateway, server) in servers {
        let redirect = server.tls.as_ref().is_some_and(|tls| tls.https_redirect);
        if redirect {
            for (_, host) in server.hosts.iter().map(|text| server_host(text, gateway)) {
                of_host(&mut hosts, &host).push(https_redirect());
            }
            continue;
        }
        let gateway_ref = GatewayRef::Named {
            namespace: gateway.metadata.namespace.clone(),
            name: gateway.metadata.name.clone(),
        };
        let number = u16::try_from(server.port.number).unwrap_or(port);
        let context = Context {
            gateway: &gateway_ref,
            port: number,
            labels: &pod.labels,
            namespace: &pod.namespace,
        };
        for resource in bound(compiler, &gateway_ref) {
            for domain in shared_hosts(gateway, server, resource) {
                of_host(&mut hosts, &domain)
                    .extend(of_virtual_service(compiler, resource, &context));
            }
        }
    }
    let mut virtual_hosts: Vec<Arc<VirtualHost>> = hosts
        .into_iter()
        .map(|(host, mut routes)| {
            // Catch-alls of one VirtualService must not hide the routes of a younger one.
            routes.sort_by_key(|route| is_catch_all(&route.matches));
            Arc::new(VirtualHost {
                name: format!("{host}:{port}"),
                domains: vec![host.to_string()],
                routes,
            })
        })
        .collect();
    if virtual_hosts.is_empty() {
        let name = format!("blackhole:{port}");
        virtual_hosts.push(Arc::new(VirtualHost {
            name,
            domains: vec!["*".into()],
            routes: Vec::new(),
        }));
    }
    RouteConfiguration {
        name,
        virtual_hosts,
    }
}

fn of_host<'a>(hosts: &'a mut Vec<(Host, Vec<Route>)>, host: &Host) -> &'a mut Vec<Route> {
    let index = hosts
        .iter()
        .position(|(other, _)| other == host)
        .unwrap_or_else(|| {
            hosts.push((host.clone(), Vec::new()));
            hosts.len() - 1
        });
    &mut hosts[index].1
}

fn https_redirect() -> Route {
    let redirect = Redirect {
        status: 301,
        path: None,
        authority: None,
        scheme: Some("https".into()),
        port: None,
    };
    Route {
        action: RouteAction::Redirect(redirect),
        ..forward("", "", None)
    }
}
