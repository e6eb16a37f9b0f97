//! Consistent hashing: the DestinationRule of a destination says what its routes hash.

use std::{collections::BTreeMap, sync::Arc};

use mesh_api::destination_rule::ConsistentHashLb;
use mesh_config::{HashCookie, HashPolicy, RouteAction, RouteConfiguration};

use super::{Compiler, scope::Scope};

/// Gives every route the hash policies of its destinations.
pub(super) fn apply(
    compiler: &Compiler,
    scope: &Scope,
    tables: &mut BTreeMap<String, Arc<RouteConfiguration>>,
) {
    for table in tables.values_mut() {
        let hosts = table.virtual_hosts.iter();
        let routes = hosts.flat_map(|host| &host.routes);
        let hashed = routes.into_iter().any(|route| match &route.action {
            RouteAction::Forward(forward) => {
                let mut clusters = forward.clusters.iter();
                clusters.any(|to| of_cluster(compiler, scope, &to.name).is_some())
            }
            _ => false,
        });
        if !hashed {
            continue;
        }
        let hosts = Arc::make_mut(table).virtual_hosts.iter_mut();
        for route in hosts.flat_map(|host| &mut host.routes) {
            if let RouteAction::Forward(forward) = &mut route.action {
                forward.hash_policy = forward
                    .clusters
                    .iter()
                    .filter_map(|to| of_cluster(compiler, scope, &to.name))
                    .collect();
                // Who is bound to a host stays with it.
                if let (Some(retry), [_, ..]) = (&mut forward.retry, &forward.hash_policy[..]) {
                    retry.other_host = false;
                }
            }
        }
    }
}

fn of_cluster(compiler: &Compiler, scope: &Scope, name: &str) -> Option<HashPolicy> {
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
    let balancer = rule.policy(port, subset).load_balancer?;
    policy(balancer.consistent_hash.as_ref()?)
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
