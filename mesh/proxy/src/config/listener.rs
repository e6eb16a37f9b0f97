//! Listeners: which filter chain takes a connection or, behind a door, a request.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use mesh_config as model;

use super::{Cluster, Clusters, RouteTable, route::by_weight};
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
    destinations: Vec<Place>,
    server_names: Vec<Place>,
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

/// Bytes to a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Tcp {
    pub(crate) stats: Arc<TcpStats>,
    /// With their weights.
    clusters: Vec<(Arc<Cluster>, u32)>,
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
            let named = |to: &model::TcpCluster| (clusters.named(&to.name), to.weight);
            Tcp::new(
                &proxy.stat_prefix,
                proxy.clusters.iter().map(named).collect(),
                registry,
            )
        };
        let chains = listener
            .filter_chains
            .iter()
            .map(|chain| Chain {
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

    /// The first chain whose conditions hold; `server_name` is that of the connection's TLS
    /// greeting (empty: a greeting without one), if it has been seen.
    pub(crate) fn chain(
        &self,
        destination: &Destination,
        server_name: Option<&str>,
    ) -> Option<&Filter> {
        self.chains
            .iter()
            .find(|chain| chain.takes(destination, server_name))
            .map(|chain| &chain.filter)
    }

    /// The chain of a connection; `None` as its destination: that is the listener itself.
    pub(crate) fn chain_of(
        &self,
        destination: Option<&Destination>,
        server_name: Option<&str>,
    ) -> Option<&Filter> {
        match (&self.chains[..], destination) {
            (_, Some(to)) => self.chain(to, server_name),
            ([only], None) if only.takes_all() => Some(&only.filter),
            _ => self.chain(&self.address.into(), server_name),
        }
    }

    /// Which chain takes a connection may depend on the name in its TLS greeting.
    pub(crate) fn asks_server_name(&self, destination: Option<&Destination>) -> bool {
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
        }
    }
}

impl Tcp {
    pub(crate) fn plain(prefix: &str, cluster: Arc<Cluster>, registry: &Registry) -> Self {
        Self::new(prefix, vec![(cluster, 1)], registry)
    }

    fn new(prefix: &str, clusters: Vec<(Arc<Cluster>, u32)>, registry: &Registry) -> Self {
        Self {
            stats: registry.tcp(prefix),
            http: Http {
                stats: registry.http(prefix),
                table: Some(Arc::new(RouteTable::plain(&clusters))),
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

/// One of the destinations of a chain.
#[derive(Debug)]
enum Place {
    /// A name or an address.
    Exact(Box<str>),
    /// Names that end so.
    Suffix(Box<str>),
    /// Addresses whose first bits are these.
    Range(IpAddr, u8),
}

impl Place {
    fn parse(text: &str) -> Self {
        if let Some(suffix) = text.strip_prefix('*') {
            return Self::Suffix(suffix.into());
        }
        let range = text
            .split_once('/')
            .and_then(|(ip, bits)| Some(Self::Range(ip.parse().ok()?, bits.parse().ok()?)));
        range.unwrap_or_else(|| Self::Exact(text.into()))
    }

    fn covers(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => &**name == host,
            Self::Suffix(suffix) => {
                suffix.is_empty() || (host.len() > suffix.len() && host.ends_with(&**suffix))
            }
            Self::Range(network, bits) => match (network, host.parse()) {
                (IpAddr::V4(network), Ok(IpAddr::V4(host))) => {
                    let differ = u32::from(*network) ^ u32::from(host);
                    differ.leading_zeros() >= u32::from(*bits)
                }
                (IpAddr::V6(network), Ok(IpAddr::V6(host))) => {
                    let differ = u128::from(*network) ^ u128::from(host);
                    differ.leading_zeros() >= u32::from(*bits)
                }
                _ => false,
            },
        }
    }
}

impl Chain {
    fn takes(&self, destination: &Destination, server_name: Option<&str>) -> bool {
        self.goes_to(destination)
            && (self.server_names.is_empty()
                || server_name.is_some_and(|name| among(&self.server_names, name)))
    }

    fn takes_all(&self) -> bool {
        self.port.is_none() && self.destinations.is_empty() && self.server_names.is_empty()
    }

    fn goes_to(&self, destination: &Destination) -> bool {
        self.port.is_none_or(|wanted| wanted == destination.port)
            && (self.destinations.is_empty() || among(&self.destinations, &destination.host))
    }
}

fn among(places: &[Place], name: &str) -> bool {
    places.iter().any(|place| place.covers(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_names_suffixes_addresses_and_ranges() {
        for (text, host, covers) in [
            ("web", "web", true),
            ("*.wiki.test", "en.wiki.test", true),
            ("*.wiki.test", "wiki.test", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "web", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("fd00::/8", "fd12::1", true),
        ] {
            assert_eq!(Place::parse(text).covers(host), covers, "{text} {host}");
        }
    }
}
