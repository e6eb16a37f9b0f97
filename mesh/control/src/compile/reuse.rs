//! What of the last version's views still holds, so that the cost of a change grows with what
//! changed and not with the mesh.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::services::Services;
use crate::world::{Key, Objects, Pod, World, selects};

/// How a version of the world differs from the one before, as far as views ask.
#[derive(Debug, Default)]
pub(super) struct Reuse {
    /// Route tables and filter chains hold.
    pub(super) routes: bool,
    /// Clusters and endpoints hold but for these services, by namespace and name; `None`: nothing does.
    pub(super) all_clusters_but: Option<HashSet<Key>>,
}

impl Reuse {
    pub(super) fn between(before: &World, now: &World, services: &Services) -> Self {
        // Without `..`, so that whoever adds a kind is asked here what depends on it.
        let World {
            settings,
            services: _,
            slices,
            pods,
            virtual_services,
            destination_rules,
            gateways: _,
            service_entries,
            workload_entries,
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
        } = before;
        let rules = Arc::ptr_eq(settings, &now.settings)
            && same(&before.services, &now.services)
            && same(destination_rules, &now.destination_rules)
            && same(service_entries, &now.service_entries)
            && same(workload_entries, &now.workload_entries)
            && same(sidecars, &now.sidecars)
            && same(envoy_filters, &now.envoy_filters)
            && same(peer_authentications, &now.peer_authentications);
        if !rules {
            return Self::default();
        }
        let mut touched = HashSet::new();
        for (_, slice) in differing(slices, &now.slices) {
            touched.insert((slice.namespace.clone(), slice.service.clone()));
        }
        for (_, pod) in differing(pods, &now.pods) {
            touched.extend(served_by(pod, before, now, services));
        }
        Self {
            routes: same(virtual_services, &now.virtual_services),
            all_clusters_but: Some(touched),
        }
    }
}

/// The services that a pod is an endpoint of.
fn served_by(pod: &Pod, before: &World, now: &World, services: &Services) -> Vec<Key> {
    let of_selectors = services.all().iter().filter(|service| {
        service.namespace == pod.namespace
            && !service.selector.is_empty()
            && selects(&service.selector, &pod.labels)
    });
    let mut found: Vec<Key> = of_selectors
        .map(|service| (service.namespace.clone(), service.name.clone()))
        .collect();
    for slices in [&before.slices, &now.slices] {
        let naming = slices.values().filter(|slice| {
            slice.endpoints.iter().any(|endpoint| {
                endpoint.address == pod.address
                    || (slice.namespace == pod.namespace
                        && endpoint.pod.as_ref() == Some(&pod.name))
            })
        });
        found.extend(naming.map(|slice| (slice.namespace.clone(), slice.service.clone())));
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
