//! Resources by the hosts they name, so that a service finds its own without looking at all.

use std::{collections::HashMap, sync::Arc};

use mesh_api::{Host, Resource};

/// Resources of one kind, in order of precedence.
pub(super) struct HostIndex<T> {
    exact: HashMap<Host, Vec<Arc<Resource<T>>>>,
    wildcards: Vec<(Host, Arc<Resource<T>>)>,
}

impl<T> HostIndex<T> {
    /// `hosts` tells which hosts a resource names; `resources` are oldest first.
    pub(super) fn new(resources: &[Arc<Resource<T>>], hosts: impl Fn(&T) -> Vec<&str>) -> Self {
        let mut index = Self {
            exact: HashMap::new(),
            wildcards: Vec::new(),
        };
        for resource in resources {
            for name in hosts(&resource.spec) {
                let host = Host::resolve(name, &resource.metadata.namespace);
                if host.is_wildcard() {
                    index.wildcards.push((host, resource.clone()));
                } else {
                    index.exact.entry(host).or_default().push(resource.clone());
                }
            }
        }
        index
    }

    /// Everything that names or covers `host`: exact names, then wildcards, each oldest first.
    pub(super) fn covering<'a>(
        &'a self,
        host: &'a Host,
    ) -> impl Iterator<Item = (&'a Host, &'a Arc<Resource<T>>)> {
        let exact = self.exact.get_key_value(host).into_iter();
        let exact = exact
            .flat_map(|(named, resources)| resources.iter().map(move |resource| (named, resource)));
        let wildcards = self
            .wildcards
            .iter()
            .filter(|(named, _)| named.covers(host));
        exact.chain(wildcards.map(|(named, resource)| (named, resource)))
    }
}
