//! Servers of a gateway that do not speak HTTP: plain TCP, and TLS that is passed through.

use std::sync::Arc;

use mesh_api::{
    Gateway, GatewayRef, Resource,
    gateway::{Server, ServerTlsMode},
};
use mesh_config::{FilterChain, NetworkFilter, TcpProxy, names};

use super::{
    Compiler,
    gateway_hosts::{bound, server_host, shared_hosts},
    matches::Context,
    tcp_routes::{self, Place},
};
use crate::world::{Pod, Service};

/// What becomes of the connections of a server that is carried out here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TcpServer {
    /// By the `tcp` rules.
    Plain,
    /// By the `tls` rules.
    Passthrough,
    /// To the service that the server name names.
    AutoPassthrough,
}

impl TcpServer {
    /// `None`: the server speaks HTTP, or ends TLS.
    pub(crate) fn of(server: &Server) -> Option<Self> {
        let mode = server.tls.as_ref().and_then(|tls| tls.mode);
        match server.port.protocol.to_ascii_uppercase().as_str() {
            "TCP" | "MONGO" | "REDIS" | "MYSQL" if server.tls.is_none() => Some(Self::Plain),
            "TLS" | "HTTPS" => match mode.unwrap_or_default() {
                ServerTlsMode::Passthrough if server.tls.is_some() => Some(Self::Passthrough),
                ServerTlsMode::AutoPassthrough => Some(Self::AutoPassthrough),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The filter chains of one server.
pub(super) fn chains(
    compiler: &Compiler,
    pod: &Pod,
    port: u16,
    gateway: &Resource<Gateway>,
    server: &Server,
    kind: TcpServer,
) -> Vec<FilterChain> {
    if kind == TcpServer::AutoPassthrough {
        return by_server_name(compiler, pod, gateway, server);
    }
    let gateway_ref = GatewayRef::Named {
        namespace: gateway.metadata.namespace.clone(),
        name: gateway.metadata.name.clone(),
    };
    let context = Context {
        gateway: &gateway_ref,
        port: u16::try_from(server.port.number).unwrap_or(port),
        labels: &pod.labels,
        namespace: &pod.namespace,
    };
    let name = format!("0.0.0.0_{port}");
    let place = Place {
        name: &name,
        port: None,
        destinations: &[],
    };
    let mut chains = Vec::new();
    for resource in bound(compiler, &gateway_ref) {
        let shared = shared_hosts(gateway, server, resource);
        if shared.is_empty() {
            continue;
        }
        match kind {
            TcpServer::Plain => {
                let (found, all) = tcp_routes::tcp(compiler, resource, &context, &place);
                chains.extend(found);
                if all {
                    return chains;
                }
            }
            _ => {
                let allowed = |name: &str| {
                    shared
                        .iter()
                        .any(|host| mesh_api::host_matches(host.as_str(), name))
                };
                chains.extend(tcp_routes::tls(
                    compiler, resource, &context, &place, allowed,
                ));
            }
        }
    }
    chains
}

/// A chain per cluster of the services that a server admits.
fn by_server_name(
    compiler: &Compiler,
    pod: &Pod,
    gateway: &Resource<Gateway>,
    server: &Server,
) -> Vec<FilterChain> {
    let hosts: Vec<_> = server
        .hosts
        .iter()
        .map(|text| server_host(text, gateway))
        .collect();
    let admitted = |service: &&Arc<Service>| {
        hosts.iter().any(|(namespace, host)| {
            let admits = |only: &String| *only == service.namespace;
            namespace.as_ref().is_none_or(admits) && host.covers(&service.host)
        })
    };
    let mut chains = Vec::new();
    for service in compiler.services.seen_from(&pod.namespace).filter(admitted) {
        for port in &service.ports {
            for subset in [String::new()]
                .into_iter()
                .chain(compiler.subsets(&pod.namespace, service))
            {
                let host = service.host.as_str();
                chains.push(FilterChain {
                    name: names::sni_dnat(port.number, &subset, host),
                    destination_port: None,
                    destinations: Vec::new(),
                    server_names: vec![names::sni_dnat(port.number, &subset, host)],
                    transport: mesh_config::Transport::default(),
                    filter: NetworkFilter::Tcp(TcpProxy::to(&names::outbound(
                        port.number,
                        &subset,
                        host,
                    ))),
                });
            }
        }
    }
    chains
}
