//! Listeners: which filter chain takes a connection or, behind a door, a request.

mod before;
mod place;

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use mesh_config as model;

use super::{
    Cluster, Clusters, RouteTable,
    gate::{self, Gate, Gates},
    route::by_weight,
};
use crate::{
    rbac::Rbac,
    sni::Hello,
    stats::{HttpStats, Registry, TcpStats},
    tls::{Secrets, ServerTls},
};
use before::Before;
pub(crate) use before::GRACE;
use place::{Place, among};

/// Envoy's, of TCP connections.
const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// A listener at one moment.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) direction: model::TrafficDirection,
    pub(crate) accept: model::Accept,
    pub(crate) address: SocketAddr,
    chains: Arc<Vec<Chain>>,
    /// Until its clients have heard of a change.
    before: Option<Before>,
}

/// Conditions on a connection, and what takes it.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) name: Box<str>,
    port: Option<u16>,
    destinations: Vec<Place>,
    server_names: Vec<Place>,
    protocol: Option<model::TransportProtocol>,
    application_protocols: Vec<Box<[u8]>>,
    pub(crate) tls: Option<Arc<ServerTls>>,
    pub(crate) filter: Filter,
}

/// What takes a connection.
#[derive(Debug)]
pub(crate) enum Filter {
    Http(Http),
    Tcp(Tcp),
    Sniff(Http, Tcp),
}

/// HTTP on a filter chain.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    pub(crate) stats: Arc<HttpStats>,
    /// `None`: the table is not known, 404 NR.
    pub(crate) table: Option<Arc<RouteTable>>,
    /// What requests must pass.
    pub(crate) gate: Option<Arc<Gate>>,
}

/// Bytes to a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Tcp {
    pub(crate) stats: Arc<TcpStats>,
    /// With their weights.
    pub(crate) clusters: Vec<(Arc<Cluster>, u32)>,
    /// What connections must pass.
    pub(crate) rbac: Arc<Rbac>,
    /// How long a connection may be silent, and how long it may last.
    pub(crate) idle_timeout: Duration,
    pub(crate) max_duration: Option<Duration>,
    /// Its host is that of the client's address, where the cluster balances by hash.
    pub(crate) hash_source_ip: bool,
    /// A client of a door may still speak HTTP to it: this sends it on unchanged.
    http: Http,
}

/// Where a connection or a proxied request wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    /// Lower-case name or an address without brackets.
    pub(crate) host: Box<str>,
    pub(crate) port: u16,
}

impl From<SocketAddr> for Destination {
    fn from(address: SocketAddr) -> Self {
        Self {
            host: address.ip().to_string().into(),
            port: address.port(),
        }
    }
}

impl Listener {
    pub(crate) fn compile(
        listener: &model::Listener,
        tables: &HashMap<String, Arc<RouteTable>>,
        clusters: &mut Clusters,
        registry: &Registry,
        secrets: &Arc<Secrets>,
        gates: &mut Gates,
    ) -> Self {
        let mut http = |manager: &model::HttpConnectionManager, clusters: &mut Clusters| Http {
            gate: manager
                .authorization
                .as_ref()
                .map(|from| gates.gate(from, clusters)),
            stats: registry.http(&manager.stat_prefix),
            table: tables.get(&manager.route_config).cloned(),
        };
        let tcp = |proxy: &model::TcpProxy, clusters: &mut Clusters| {
            let named = |to: &model::TcpCluster| (clusters.named(&to.name), to.weight);
            let split = proxy.clusters.iter().map(named).collect();
            Tcp {
                rbac: Arc::new(gate::of_tcp(&proxy.rbac)),
                idle_timeout: proxy.idle_timeout.unwrap_or(TCP_IDLE_TIMEOUT),
                max_duration: proxy.max_connection_duration,
                hash_source_ip: proxy.hash_source_ip,
                ..Tcp::new(&proxy.stat_prefix, split, registry)
            }
        };
        // Chains of one listener mostly end TLS in the same way.
        let mut contexts: Vec<(&model::DownstreamTlsContext, Arc<ServerTls>)> = Vec::new();
        let mut tls = |context| {
            if let Some((_, known)) = contexts.iter().find(|(known, _)| *known == context) {
                return Some(known.clone());
            }
            let compiled = match ServerTls::compile(context, secrets) {
                Ok(compiled) => Arc::new(compiled),
                Err(error) => {
                    tracing::error!("listener {}: {error}; such connections fail", listener.name);
                    return None;
                }
            };
            contexts.push((context, compiled.clone()));
            Some(compiled)
        };
        let chains = listener
            .filter_chains
            .iter()
            .filter_map(|chain| {
                // A chain whose TLS cannot be had takes nothing: never plain text instead.
                let tls = match &chain.transport.tls {
                    Some(context) => Some(tls(context)?),
                    None => None,
                };
                Some(Chain {
                    name: chain.name.as_str().into(),
                    port: chain.destination_port,
                    destinations: chain
                        .destinations
                        .iter()
                        .map(|text| Place::parse(text))
                        .collect(),
                    server_names: chain
                        .server_names
                        .iter()
                        .map(|text| Place::parse(text))
                        .collect(),
                    protocol: chain.transport.protocol,
                    application_protocols: chain
                        .transport
                        .application_protocols
                        .iter()
                        .map(|name| name.as_bytes().into())
                        .collect(),
                    tls,
                    filter: match &chain.filter {
                        model::NetworkFilter::Http(manager) => {
                            Filter::Http(http(manager, clusters))
                        }
                        model::NetworkFilter::Tcp(proxy) => Filter::Tcp(tcp(proxy, clusters)),
                        model::NetworkFilter::Sniff {
                            http: manager,
                            tcp: proxy,
                        } => Filter::Sniff(http(manager, clusters), tcp(proxy, clusters)),
                    },
                })
            })
            .collect();
        Self {
            direction: listener.direction,
            accept: listener.accept,
            address: listener.address,
            chains: Arc::new(chains),
            before: None,
        }
    }

    /// No chain was left out for want of its certificates.
    pub(crate) fn is_whole(&self, from: &model::Listener) -> bool {
        self.chains.len() == from.filter_chains.len()
    }

    /// The first chain whose conditions hold. `None` as the destination of a connection: that is
    /// the listener itself. `hello` is how the client began, if it has been seen.
    pub(crate) fn find(
        &self,
        destination: Option<&Destination>,
        hello: Option<&Hello>,
    ) -> Option<&Chain> {
        let first = |to: &Destination| self.chains.iter().find(|chain| chain.takes(to, hello));
        match (&self.chains[..], destination) {
            (_, Some(to)) => first(to),
            ([only], None) if only.takes_all() => Some(only),
            _ => first(&self.address.into()),
        }
    }

    /// What takes a connection.
    pub(crate) fn chain_of(
        &self,
        destination: Option<&Destination>,
        hello: Option<&Hello>,
    ) -> Option<&Filter> {
        let chain = self.find(destination, hello).or_else(|| {
            self.just_before()?;
            self.going_to(destination)
        });
        Some(&chain?.filter)
    }

    /// What takes a request. A connection that was accepted stays, even when new ones like it are
    /// not accepted any more.
    pub(crate) fn of_request(
        &self,
        destination: Option<&Destination>,
        hello: Option<&Hello>,
    ) -> Option<&Http> {
        let chain = self.find(destination, hello);
        let chain = chain.or_else(|| self.going_to(destination));
        chain.map(|chain| chain.filter.http())
    }

    /// The first chain for a destination, however one has to speak there.
    fn going_to(&self, destination: Option<&Destination>) -> Option<&Chain> {
        let own = Destination::from(self.address);
        let to = destination.unwrap_or(&own);
        let mut chains = self.chains.iter();
        chains.find(|chain| chain.server_names.is_empty() && chain.goes_to(to))
    }

    /// The TLS that ends with a chain; the outer `None`: no chain takes the connection.
    pub(crate) fn transport_of(
        &self,
        destination: Option<&Destination>,
        hello: &Hello,
    ) -> Option<Option<&Arc<ServerTls>>> {
        let chain = self.find(destination, Some(hello));
        let before = self.taken_before(destination, hello, chain);
        before.or_else(|| Some(chain?.tls.as_ref()))
    }

    /// Whether a connection is TLS must be known before anything else.
    pub(crate) fn inspects_tls(&self) -> bool {
        let chains = self.just_before().into_iter().flatten();
        chains
            .chain(self.chains.iter())
            .any(|chain| chain.protocol.is_some() || chain.tls.is_some())
    }

    /// Which chain takes a connection may depend on its TLS greeting.
    pub(crate) fn asks_hello(&self, destination: Option<&Destination>) -> bool {
        let mut chains = self
            .chains
            .iter()
            .filter(|chain| !chain.server_names.is_empty());
        let own = || Destination::from(self.address);
        chains.next().is_some_and(|first| {
            let to = destination.cloned().unwrap_or_else(own);
            std::iter::once(first)
                .chain(chains)
                .any(|chain| chain.goes_to(&to))
        })
    }
}

impl Filter {
    /// What takes an HTTP request.
    pub(crate) fn http(&self) -> &Http {
        match self {
            Self::Http(http) | Self::Sniff(http, _) => http,
            Self::Tcp(tcp) => &tcp.http,
        }
    }
}

impl Http {
    /// Sends every request to one cluster.
    pub(crate) fn plain(prefix: &str, cluster: Arc<Cluster>, registry: &Registry) -> Self {
        Self {
            stats: registry.http(prefix),
            table: Some(Arc::new(RouteTable::plain(&[(cluster, 1)]))),
            gate: None,
        }
    }
}

impl Tcp {
    pub(crate) fn plain(prefix: &str, cluster: Arc<Cluster>, registry: &Registry) -> Self {
        Self::new(prefix, vec![(cluster, 1)], registry)
    }

    fn new(prefix: &str, clusters: Vec<(Arc<Cluster>, u32)>, registry: &Registry) -> Self {
        Self {
            rbac: Arc::default(),
            idle_timeout: TCP_IDLE_TIMEOUT,
            max_duration: None,
            hash_source_ip: false,
            stats: registry.tcp(prefix),
            http: Http {
                stats: registry.http(prefix),
                table: Some(Arc::new(RouteTable::plain(&clusters))),
                gate: None,
            },
            clusters,
        }
    }

    /// The cluster that a draw, uniform over all of `u32`, falls on; `None`: there is none at all.
    pub(crate) fn cluster(&self, draw: u32) -> Option<&Arc<Cluster>> {
        let index = by_weight(self.clusters.iter().map(|(_, weight)| *weight), draw);
        self.clusters.get(index).map(|(cluster, _)| cluster)
    }
}

impl Chain {
    fn takes(&self, destination: &Destination, hello: Option<&Hello>) -> bool {
        let greeting = hello.filter(|hello| hello.tls);
        let protocol = match self.protocol {
            None => true,
            Some(model::TransportProtocol::Tls) => greeting.is_some(),
            Some(model::TransportProtocol::RawBuffer) => greeting.is_none(),
        };
        let offered = |name: &[u8]| {
            let mut ours = self.application_protocols.iter();
            ours.any(|own| **own == *name)
        };
        protocol
            && self.goes_to(destination)
            && (self.server_names.is_empty()
                || greeting.is_some_and(|hello| among(&self.server_names, &hello.server_name)))
            && (self.application_protocols.is_empty()
                || greeting.is_some_and(|hello| hello.alpn.iter().any(|name| offered(name))))
    }

    fn takes_all(&self) -> bool {
        self.port.is_none()
            && self.destinations.is_empty()
            && self.server_names.is_empty()
            && self.protocol.is_none()
    }

    fn goes_to(&self, destination: &Destination) -> bool {
        self.port.is_none_or(|wanted| wanted == destination.port)
            && (self.destinations.is_empty() || among(&self.destinations, &destination.host))
    }
}
