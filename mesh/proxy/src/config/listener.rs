//! Listeners: which filter chain takes a connection or, behind a door, a request.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use mesh_config as model;

use super::{Cluster, Clusters, RouteTable};
use crate::stats::{HttpStats, Registry, TcpStats};

/// A listener at one moment.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) direction: model::TrafficDirection,
    pub(crate) accept: model::Accept,
    pub(crate) address: SocketAddr,
    chains: Vec<Chain>,
}

#[derive(Debug)]
struct Chain {
    port: Option<u16>,
    destinations: Vec<Box<str>>,
    filter: Filter,
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
}

/// Bytes to one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Tcp {
    pub(crate) stats: Arc<TcpStats>,
    pub(crate) cluster: Arc<Cluster>,
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
    ) -> Self {
        let http = |manager: &model::HttpConnectionManager| Http {
            stats: registry.http(&manager.stat_prefix),
            table: tables.get(&manager.route_config).cloned(),
        };
        let mut tcp = |proxy: &model::TcpProxy| {
            Tcp::plain(&proxy.stat_prefix, clusters.named(&proxy.cluster), registry)
        };
        let chains = listener
            .filter_chains
            .iter()
            .map(|chain| Chain {
                port: chain.destination_port,
                destinations: chain
                    .destinations
                    .iter()
                    .map(|d| d.as_str().into())
                    .collect(),
                filter: match &chain.filter {
                    model::NetworkFilter::Http(manager) => Filter::Http(http(manager)),
                    model::NetworkFilter::Tcp(proxy) => Filter::Tcp(tcp(proxy)),
                    model::NetworkFilter::Sniff {
                        http: manager,
                        tcp: proxy,
                    } => Filter::Sniff(http(manager), tcp(proxy)),
                },
            })
            .collect();
        Self {
            direction: listener.direction,
            accept: listener.accept,
            address: listener.address,
            chains,
        }
    }

    /// The first chain whose conditions hold.
    pub(crate) fn chain(&self, destination: &Destination) -> Option<&Filter> {
        self.chains
            .iter()
            .find(|chain| chain.takes(&destination.host, destination.port))
            .map(|chain| &chain.filter)
    }

    /// The chain for connections whose destination is the listener itself.
    pub(crate) fn own_chain(&self) -> Option<&Filter> {
        match &self.chains[..] {
            [only] if only.port.is_none() && only.destinations.is_empty() => Some(&only.filter),
            _ => self.chain(&self.address.into()),
        }
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
            table: Some(Arc::new(RouteTable::plain(cluster))),
        }
    }
}

impl Tcp {
    pub(crate) fn plain(prefix: &str, cluster: Arc<Cluster>, registry: &Registry) -> Self {
        Self {
            stats: registry.tcp(prefix),
            http: Http::plain(prefix, cluster.clone(), registry),
            cluster,
        }
    }
}

impl Chain {
    fn takes(&self, host: &str, port: u16) -> bool {
        self.port.is_none_or(|wanted| wanted == port)
            && (self.destinations.is_empty()
                || self
                    .destinations
                    .iter()
                    .any(|destination| &**destination == host))
    }
}
