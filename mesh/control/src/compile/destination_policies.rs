//! What the DestinationRule of a destination says not to its cluster but to what leads there: what
//! routes hash, and how long connections that carry bytes may last.

use std::sync::Arc;

use mesh_api::destination_rule::ConsistentHashLb;
use mesh_config::{FilterChain, HashCookie, HashPolicy, NetworkFilter, Route, RouteAction};

use super::{
    Compiler, Tables,
    scope::Scope,
    traffic_policy::{Policy, tcp_proxy},
};

/// Gives every route the hash policies of its destinations.
pub(super) fn hash(compiler: &Compiler, scope: &Scope, tables: &mut Tables) {
    let policies = |route: &Route| -> Vec<HashPolicy> {
        let RouteAction::Forward(forward) = &route.action else {
            return Vec::new();
        };
        let clusters = forward.clusters.iter();
        clusters
            .filter_map(|to| of_cluster(compiler, scope, &to.name))
            .collect()
    };
    for table in tables.values_mut() {
        for index in 0..table.virtual_hosts.len() {
            let mut routes = table.virtual_hosts[index].routes.iter();
            if routes.all(|route| policies(route).is_empty()) {
                continue;
            }
            let host = &mut Arc::make_mut(table).virtual_hosts[index];
            for route in &mut Arc::make_mut(host).routes {
                let policies = policies(route);
                if let RouteAction::Forward(forward) = &mut route.action {
                    forward.hash_policy = policies;
                    // Who is bound to a host stays with it.
                    if let (Some(retry), [_, ..]) = (&mut forward.retry, &forward.hash_policy[..]) {
                        retry.other_host = false;
                    }
                }
            }
        }
    }
}

/// Gives every TCP proxy the limits of its destinations; of several the first that sets one.
pub(super) fn limit(compiler: &Compiler, scope: &Scope, chains: &mut [FilterChain]) {
    for chain in chains {
        let (NetworkFilter::Tcp(tcp) | NetworkFilter::Sniff { tcp, .. }) = &mut chain.filter else {
            continue;
        };
        let names: Vec<_> = tcp.clusters.iter().map(|to| to.name.clone()).collect();
        for policy in names
            .iter()
            .filter_map(|name| in_force(compiler, scope, name))
        {
            tcp_proxy(&policy, tcp);
        }
    }
}

fn of_cluster(compiler: &Compiler, scope: &Scope, name: &str) -> Option<HashPolicy> {
    let balancer = in_force(compiler, scope, name)?.load_balancer?;
    policy(balancer.consistent_hash.as_ref()?)
}

/// What holds for a cluster.
fn in_force<'a>(compiler: &'a Compiler, scope: &Scope, name: &str) -> Option<Policy<'a>> {
    let mut parts = name.strip_prefix("outbound|")?.splitn(3, '|');
    let (port, subset, host) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
    let host = mesh_api::Host::resolve(host, &scope.namespace);
    let service = compiler.services.get(&host, &scope.namespace)?;
    let rule = compiler.rule_for(scope, service);
    let subset = rule
        .subsets
        .iter()
        .find(|known| known.name == subset)
        .copied();
    Some(rule.policy(port, subset))
}

fn policy(from: &ConsistentHashLb) -> Option<HashPolicy> {
    if let Some(name) = &from.http_header_name {
        return Some(HashPolicy::Header(name.to_ascii_lowercase()));
    }
    if let Some(cookie) = &from.http_cookie {
        let attributes = cookie.attributes.iter();
        return Some(HashPolicy::Cookie(HashCookie {
            name: cookie.name.clone(),
            ttl: cookie.ttl.map(|ttl| ttl.0),
            path: cookie.path.clone(),
            attributes: attributes
                .map(|attribute| (attribute.name.clone(), attribute.value.clone()))
                .collect(),
        }));
    }
    if let Some(name) = &from.http_query_parameter_name {
        return Some(HashPolicy::QueryParameter(name.clone()));
    }
    (from.use_source_ip == Some(true)).then_some(HashPolicy::SourceIp)
}
