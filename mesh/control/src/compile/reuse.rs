//! What of the last version's views still holds, so that the cost of a change grows with what
//! changed and not with the mesh.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use mesh_api::{Host, Resource, VirtualService, virtual_service::Destination};

use super::Compiler;
use crate::world::{Key, Objects, Pod, World};

/// How a version of the world differs from the one before, as far as views ask.
#[derive(Debug)]
pub(super) struct Reuse {
    /// Whose clusters and endpoints may differ.
    pub(super) clusters: Hosts,
    /// Whose virtual hosts and filter chains may differ.
    pub(super) routes: Hosts,
}

/// Hosts of services, and wildcards.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts {
    exact: HashSet<Host>,
    wildcards: Vec<Host>,
}

impl Hosts {
    fn all() -> Self {
        Self::from_iter([Host::resolve("*", "")])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty()
    }

    /// `host` is among them, or covered by one.
    pub(super) fn has(&self, host: &Host) -> bool {
        self.exact.contains(host) || self.wildcards.iter().any(|wildcard| wildcard.covers(host))
    }
}

impl Extend<Host> for Hosts {
    fn extend<I: IntoIterator<Item = Host>>(&mut self, hosts: I) {
        for host in hosts {
            match host.is_wildcard() {
                true => self.wildcards.push(host),
                false => _ = self.exact.insert(host),
            }
        }
    }
}

impl FromIterator<Host> for Hosts {
    fn from_iter<I: IntoIterator<Item = Host>>(hosts: I) -> Self {
        let mut found = Self::default();
        found.extend(hosts);
        found
    }
}

impl Reuse {
    /// Everything may differ.
    pub(super) fn nothing() -> Self {
        Self {
            clusters: Hosts::all(),
            routes: Hosts::all(),
        }
    }

    pub(super) fn between(before: &Compiler, now: &Compiler) -> Self {
        let (old, new) = (&*before.world, &*now.world);
        // Without `..`, so that whoever adds a kind is asked here what depends on it.
        let World {
            settings,
            // These four make the services, which are compared as such.
            services: _,
            service_entries: _,
            workload_entries: _,
            slices,
            pods,
            // Stand in the pods.
            nodes: _,
            virtual_services: _,
            destination_rules,
            gateways: _,
            sidecars,
            telemetries: _,
            proxy_configs: _,
            envoy_filters,
            // Decides which endpoints take mutual TLS.
            peer_authentications,
            authorization_policies: _,
            request_authentications: _,
            secrets: _,
            jwks: _,
            jwks_missing: _,
        } = old;
        let comparable = Arc::ptr_eq(settings, &new.settings)
            && same(sidecars, &new.sidecars)
            && same(envoy_filters, &new.envoy_filters)
            && same(peer_authentications, &new.peer_authentications);
        if !comparable {
            return Self::nothing();
        }
        let mut clusters = Hosts::from_iter(before.services.differing(&now.services));
        let mut routes = clusters.clone();
        routes.extend(hosts_of_others(before, now));
        routes.extend(hosts_of_others(now, before));
        if !clusters.is_empty() {
            // A destination without a port is the only port of its service.
            for resource in &now.virtual_services {
                let owner = &resource.metadata.namespace;
                let mut to = destinations(&resource.spec);
                if to.any(|to| clusters.has(&Host::resolve(&to.host, owner))) {
                    routes.extend(named(&resource.spec.hosts, owner));
                }
            }
        }
        let policies = differing(destination_rules, &new.destination_rules);
        let policies =
            policies.map(|(_, rule)| Host::resolve(&rule.spec.host, &rule.metadata.namespace));
        let policies: Vec<Host> = policies.collect();
        // How long TCP connections last, and what routes hash, stands in DestinationRules.
        routes.extend(policies.iter().cloned());
        if (before.hashes || now.hashes) && !(policies.is_empty() && clusters.is_empty()) {
            routes = Hosts::all();
        }
        clusters.extend(policies);
        let slices = differing(slices, &new.slices);
        clusters.extend(slices.map(|(_, slice)| Host::service(&slice.service, &slice.namespace)));
        for (_, pod) in differing(pods, &new.pods) {
            clusters.extend(served_by(pod, before, now));
        }
        Self { clusters, routes }
    }
}

/// The hosts of those VirtualServices, with what they delegate to, that `other` does not have so.
fn hosts_of_others(one: &Compiler, other: &Compiler) -> Vec<Host> {
    let key = |resource: &Resource<VirtualService>| {
        let metadata = &resource.metadata;
        (metadata.namespace.clone(), metadata.name.clone())
    };
    let known = other.virtual_services.iter();
    let known: HashMap<Key, _> = known.map(|resource| (key(resource), resource)).collect();
    let others = one.virtual_services.iter().filter(|resource| {
        let before = known.get(&key(resource));
        !before.is_some_and(|before| super::same(before, resource))
    });
    others
        .flat_map(|resource| named(&resource.spec.hosts, &resource.metadata.namespace))
        .collect()
}

fn named(hosts: &[String], owner: &str) -> Vec<Host> {
    hosts
        .iter()
        .map(|host| Host::resolve(host, owner))
        .collect()
}

fn destinations(spec: &VirtualService) -> impl Iterator<Item = &Destination> {
    spec.http.iter().flat_map(|rule| {
        let mirrors = rule.mirrors.iter().map(|mirror| &mirror.destination);
        let routes = rule.route.iter().map(|route| &route.destination);
        routes.chain(&rule.mirror).chain(mirrors)
    })
}

/// The services that a pod is an endpoint of.
fn served_by(pod: &Pod, before: &Compiler, now: &Compiler) -> Vec<Host> {
    let of_selectors = now.services.of_pod(pod);
    let mut found: Vec<Host> = of_selectors.map(|service| service.host.clone()).collect();
    for slices in [&before.world.slices, &now.world.slices] {
        let naming = slices.values().filter(|slice| {
            slice.endpoints.iter().any(|endpoint| {
                endpoint.address == pod.address
                    || (slice.namespace == pod.namespace
                        && endpoint.pod.as_ref() == Some(&pod.name))
            })
        });
        found.extend(naming.map(|slice| Host::service(&slice.service, &slice.namespace)));
    }
    found
}

fn same<T>(before: &Objects<T>, now: &Objects<T>) -> bool {
    before.len() == now.len()
        && before
            .iter()
            .zip(now)
            .all(|((k, x), (l, y))| Arc::ptr_eq(x, y) && k == l)
}

/// What is in one of them only or differs between them, in both of its forms.
fn differing<'a, T>(
    before: &'a Objects<T>,
    now: &'a Objects<T>,
) -> impl Iterator<Item = (&'a Key, &'a Arc<T>)> {
    fn alone<'a, T>(
        one: &'a BTreeMap<Key, Arc<T>>,
        other: &'a BTreeMap<Key, Arc<T>>,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<T>)> {
        one.iter()
            .filter(|(key, value)| !other.get(*key).is_some_and(|same| Arc::ptr_eq(same, value)))
    }
    alone(before, now).chain(alone(now, before))
}
