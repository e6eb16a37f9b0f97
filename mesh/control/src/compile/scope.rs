//! What a Sidecar resource lets the sidecars of some pods know.

use std::{collections::BTreeMap, sync::Arc};

use mesh_api::{
    Host, Resource, Sidecar, envoy_filter::PatchContext, sidecar::OutboundTrafficPolicyMode,
};
use mesh_config::{Locality, RouteConfiguration};

use super::{
    Labels, ScopeId,
    envoy_filter::{Filter, patch_routes},
    locality::Caller,
};

use crate::{
    ROOT_NAMESPACE,
    world::{OutboundPolicy, Pod, Service, World, selects},
};

/// The callers of a namespace, and the Sidecar that limits what they see.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// Of the callers.
    pub(crate) namespace: String,
    sidecar: Option<Arc<Resource<Sidecar>>>,
    filters: Vec<Filter>,
    gateway: bool,
    locality: Arc<Locality>,
    labels: Labels,
}

impl Scope {
    /// Of a namespace whose callers see everything that is exported to them: gateways.
    pub(crate) fn whole(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            sidecar: None,
            filters: Vec::new(),
            gateway: true,
            locality: Arc::default(),
            labels: Labels::new(),
        }
    }

    /// The same with the EnvoyFilters that are for a pod.
    pub(super) fn with_filters(mut self, all: &[Filter], pod: &Pod) -> Self {
        self.filters = all
            .iter()
            .filter(|filter| filter.selects(pod))
            .cloned()
            .collect();
        self
    }

    /// The same for callers where a pod is, and with its labels if they are asked for.
    pub(super) fn with_caller(mut self, pod: &Pod, asks_for_labels: bool) -> Self {
        self.locality = pod.locality.clone();
        if asks_for_labels {
            self.labels = pod.labels.clone();
        }
        self
    }

    /// Where the callers are, and their labels if they are asked for.
    pub(super) fn caller(&self) -> Caller<'_> {
        Caller {
            locality: &self.locality,
            labels: &self.labels,
        }
    }

    pub(super) fn filters(&self) -> &[Filter] {
        &self.filters
    }

    /// How EnvoyFilters call the traffic of these callers.
    pub(super) fn outbound(&self) -> PatchContext {
        if self.gateway {
            PatchContext::Gateway
        } else {
            PatchContext::SidecarOutbound
        }
    }

    /// Applies the EnvoyFilters to those route tables whose names pass.
    pub(super) fn patch_routes(
        &self,
        context: PatchContext,
        tables: &mut BTreeMap<String, Arc<RouteConfiguration>>,
        passes: impl Fn(&str) -> bool,
    ) {
        if self.filters.is_empty() {
            return;
        }
        for (_, table) in tables.iter_mut().filter(|(name, _)| passes(name)) {
            patch_routes(&self.filters, context, Arc::make_mut(table));
        }
    }

    /// Of a pod, `all` being the Sidecars, oldest first: the first Sidecar of its namespace that selects it, else the one there that selects
    /// no pods, else that of the root namespace.
    pub(crate) fn of(all: &[Arc<Resource<Sidecar>>], pod: &Pod) -> Self {
        let of_namespace = |name: &str| {
            let name = name.to_owned();
            all.iter()
                .filter(move |sidecar| sidecar.metadata.namespace == name)
        };
        let selecting = of_namespace(&pod.namespace).find(|sidecar| {
            let selector = sidecar.spec.workload_selector.as_ref();
            selector.is_some_and(|selector| selects(&selector.labels, &pod.labels))
        });
        let whole = |name: &str| {
            of_namespace(name).find(|sidecar| sidecar.spec.workload_selector.is_none())
        };
        let sidecar = selecting
            .or_else(|| whole(&pod.namespace))
            .or_else(|| whole(ROOT_NAMESPACE));
        Self {
            namespace: pod.namespace.clone(),
            sidecar: sidecar.cloned(),
            filters: Vec::new(),
            gateway: false,
            locality: Arc::default(),
            labels: Labels::new(),
        }
    }

    /// Callers of one namespace with equal ids see the same.
    pub(super) fn id(&self) -> ScopeId {
        let key = self.sidecar.as_ref().map(|sidecar| {
            let metadata = &sidecar.metadata;
            (metadata.namespace.clone(), metadata.name.clone())
        });
        let filters = self.filters.iter().map(|filter| {
            let metadata = &filter.resource.metadata;
            (metadata.namespace.clone(), metadata.name.clone())
        });
        let caller = (self.locality.clone(), self.labels.clone());
        (self.namespace.clone(), key, filters.collect(), caller)
    }

    /// The Sidecar in force.
    pub(crate) fn sidecar(&self) -> Option<&Sidecar> {
        self.sidecar.as_ref().map(|sidecar| &sidecar.spec)
    }

    /// What becomes of traffic to hosts that the callers do not know.
    pub(crate) fn outbound_policy(&self, world: &World) -> OutboundPolicy {
        let policy = self
            .sidecar()
            .and_then(|spec| spec.outbound_traffic_policy.as_ref());
        match policy.map(|policy| policy.mode.unwrap_or_default()) {
            Some(OutboundTrafficPolicyMode::AllowAny) => OutboundPolicy::AllowAny,
            Some(OutboundTrafficPolicyMode::RegistryOnly) => OutboundPolicy::RegistryOnly,
            None => world.settings.outbound,
        }
    }

    /// The part of a service that the callers see: `None` for nothing of it, or fewer ports where an
    /// egress listener is for one port only.
    pub(crate) fn view(&self, service: &Arc<Service>) -> Option<Arc<Service>> {
        let egress = self.sidecar().map_or(&[][..], |spec| &spec.egress);
        if egress.is_empty() {
            return Some(service.clone());
        }
        let admits = |hosts: &[String]| self.admits(hosts, &service.namespace, &service.host);
        let admitting: Vec<_> = egress
            .iter()
            .filter(|listener| admits(&listener.hosts))
            .collect();
        if admitting.is_empty() {
            return None;
        }
        if admitting.iter().any(|listener| listener.port.is_none()) {
            return Some(service.clone());
        }
        let mut part = (**service).clone();
        part.ports.retain(|port| {
            let is = |number: u32| number == u32::from(port.number);
            admitting
                .iter()
                .any(|listener| listener.port.as_ref().is_some_and(|p| is(p.number)))
        });
        (!part.ports.is_empty()).then(|| Arc::new(part))
    }

    /// The callers see the rules of a namespace for a host.
    pub(crate) fn sees_rule(&self, owner: &str, host: &Host) -> bool {
        let egress = self.sidecar().map_or(&[][..], |spec| &spec.egress);
        egress.is_empty()
            || egress
                .iter()
                .any(|listener| self.admits(&listener.hosts, owner, host))
    }

    /// `hosts` of an egress listener: NAMESPACE/HOST; a `~` in front leaves out again.
    fn admits(&self, hosts: &[String], namespace: &str, host: &Host) -> bool {
        let names = |entry: &str| {
            let (of, name) = entry.split_once('/').unwrap_or(("*", entry));
            let of = match of {
                "*" => true,
                "." => namespace == self.namespace,
                "~" => false,
                other => other == namespace,
            };
            let named = Host::resolve(name, "");
            of && (name == "*" || named.covers(host) || host.covers(&named))
        };
        let excluded = |entry: &String| match entry.strip_prefix('~') {
            Some(rest) if !rest.starts_with('/') => names(rest),
            _ => false,
        };
        !hosts.iter().any(excluded) && hosts.iter().any(|entry| names(entry))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scope(egress: serde_json::Value) -> Scope {
        let object =
            json!({"metadata": {"name": "s", "namespace": "here"}, "spec": {"egress": egress}});
        let parsed = mesh_api::parse("Sidecar", &object).unwrap();
        Scope {
            namespace: "here".into(),
            sidecar: Some(Arc::new(parsed.resource)),
            filters: Vec::new(),
            gateway: false,
            locality: Arc::default(),
            labels: Labels::new(),
        }
    }

    #[test]
    fn hosts_are_namespace_and_name() {
        let host = |name: &str, namespace: &str| Host::service(name, namespace);
        let sees = |hosts: serde_json::Value, name: &str, namespace: &str| {
            scope(json!([{ "hosts": hosts }])).sees_rule(namespace, &host(name, namespace))
        };
        assert!(sees(json!(["./*"]), "web", "here"));
        assert!(!sees(json!(["./*"]), "web", "there"));
        assert!(sees(json!(["there/*"]), "web", "there"));
        assert!(sees(
            json!(["*/web.there.svc.cluster.local"]),
            "web",
            "there"
        ));
        assert!(!sees(
            json!(["*/web.there.svc.cluster.local"]),
            "api",
            "there"
        ));
        assert!(!sees(json!(["~/*"]), "web", "here"));
        assert!(!sees(json!(["*/*", "~there/*"]), "web", "there"));
    }
}
