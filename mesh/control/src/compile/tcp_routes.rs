//! Connections that are not HTTP: the `tcp` and `tls` rules of VirtualServices, as filter chains.

use mesh_api::{
    Resource, VirtualService,
    virtual_service::{L4MatchAttributes, RouteDestination, TlsMatchAttributes},
};
use mesh_config::{FilterChain, NetworkFilter, TcpCluster, TcpProxy};

use super::{
    Compiler,
    matches::{Conditions, Context},
    routes::destination_cluster,
};

/// Where a chain takes connections to, whatever the rules say.
pub(super) struct Place<'a> {
    /// Name of the chains.
    pub(super) name: &'a str,
    /// Port of the connection; `None` at a gateway, whose listener has one port only.
    pub(super) port: Option<u16>,
    /// Names and addresses of the service; empty: anywhere.
    pub(super) destinations: &'a [String],
}

impl Place<'_> {
    /// A chain to a proxy.
    pub(super) fn chain(&self, server_names: Vec<String>, filter: NetworkFilter) -> FilterChain {
        FilterChain {
            name: self.name.to_owned(),
            destination_port: self.port,
            destinations: self.destinations.to_vec(),
            server_names,
            transport: mesh_config::Transport::default(),
            filter,
        }
    }

    fn to_subnets(&self, subnets: &[String], names: Vec<String>, tcp: TcpProxy) -> FilterChain {
        let mut chain = self.chain(names, NetworkFilter::Tcp(tcp));
        if !subnets.is_empty() {
            chain.destinations = subnets.to_vec();
        }
        chain
    }
}

/// The chains of the `tcp` rules; the flag says that the last takes everything.
pub(super) fn tcp(
    compiler: &Compiler,
    resource: &Resource<VirtualService>,
    context: &Context<'_>,
    place: &Place<'_>,
) -> (Vec<FilterChain>, bool) {
    let owner = &resource.metadata.namespace;
    let mut chains = Vec::new();
    for rule in &resource.spec.tcp {
        let proxy = || tcp_proxy(compiler, place, &rule.route, owner, context.port);
        if rule.r#match.is_empty() {
            chains.push(place.to_subnets(&[], Vec::new(), proxy()));
            return (chains, true);
        }
        for block in rule
            .r#match
            .iter()
            .filter(|block| context.admits(&of_tcp(block), owner))
        {
            chains.push(place.to_subnets(&block.destination_subnets, Vec::new(), proxy()));
            if block.destination_subnets.is_empty() {
                return (chains, true);
            }
        }
    }
    (chains, false)
}

/// The chains of the `tls` rules; `allowed` says which server names may be used here.
pub(super) fn tls(
    compiler: &Compiler,
    resource: &Resource<VirtualService>,
    context: &Context<'_>,
    place: &Place<'_>,
    allowed: impl Fn(&str) -> bool,
) -> Vec<FilterChain> {
    let owner = &resource.metadata.namespace;
    let mut chains = Vec::new();
    for rule in &resource.spec.tls {
        for block in rule
            .r#match
            .iter()
            .filter(|block| context.admits(&of_tls(block), owner))
        {
            let names: Vec<_> = block
                .sni_hosts
                .iter()
                .map(|name| name.to_ascii_lowercase())
                .filter(|name| allowed(name))
                .collect();
            if !names.is_empty() {
                let proxy = tcp_proxy(compiler, place, &rule.route, owner, context.port);
                chains.push(place.to_subnets(&block.destination_subnets, names, proxy));
            }
        }
    }
    chains
}

fn tcp_proxy(
    compiler: &Compiler,
    place: &Place<'_>,
    route: &[RouteDestination],
    owner: &str,
    port: u16,
) -> TcpProxy {
    let single = route.len() == 1;
    let weight = |to: &RouteDestination| u32::try_from(to.weight.unwrap_or_default()).unwrap_or(0);
    let clusters: Vec<_> = route
        .iter()
        .filter(|to| single || weight(to) > 0)
        .map(|to| TcpCluster {
            name: destination_cluster(compiler, &to.destination, owner, port),
            weight: if single { 1 } else { weight(to) },
        })
        .collect();
    let stat_prefix = match clusters.as_slice() {
        [only] => only.name.clone(),
        _ => place.name.to_owned(),
    };
    TcpProxy {
        stat_prefix,
        clusters,
        ..TcpProxy::default()
    }
}

fn of_tcp(block: &L4MatchAttributes) -> Conditions<'_> {
    Conditions {
        port: block.port,
        gateways: &block.gateways,
        source_labels: &block.source_labels,
        source_namespace: &block.source_namespace,
    }
}

fn of_tls(block: &TlsMatchAttributes) -> Conditions<'_> {
    Conditions {
        port: block.port,
        gateways: &block.gateways,
        source_labels: &block.source_labels,
        source_namespace: &block.source_namespace,
    }
}
