//! From the world to what each proxy is told: Istio's semantics, as pure functions.
//!
//! ```text
//! World ─► Compiler ─► per namespace of callers, once per push:
//!             │          clusters + endpoints     (clusters, destination_rules)
//!             │          route tables, chains     (virtual_hosts, routes, matches, actions)
//!             └────────► per proxy: its listeners (sidecar, inbound, gateway) + the above
//! ```
//!
//! What two proxies have in common is compiled once and shared, and a resource that is equal to
//! that of the push before is the very same allocation: comparing and keeping it costs nothing.

mod actions;
mod authorization;
mod clusters;
mod delegates;
mod destination_policies;
mod destination_rules;
mod envoy_filter;
mod gateway;
mod gateway_hosts;
mod gateway_tcp;
mod gateway_tls;
mod host_index;
mod inbound;
mod locality;
mod matches;
mod peer_authentication;
mod proxy_settings;
mod reuse;
mod routes;
mod scope;
mod services;
mod sidecar;
mod tcp_routes;
mod traffic_policy;
mod upstream_tls;
mod virtual_hosts;
mod visibility;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use mesh_api::{
    AuthorizationPolicy, DestinationRule, Gateway, Host, PeerAuthentication, RequestAuthentication,
    Resource, Sidecar, Telemetry, VirtualService, destination_rule::LocalityLbSetting,
    envoy_filter::PatchContext,
};
use mesh_config::{
    FilterChain, Locality, ProxyId, Role, RouteConfiguration, Snapshot, VirtualHost,
};

use crate::world::{Objects, Pod, World};
use host_index::HostIndex;
use reuse::Reuse;
use scope::Scope;
use services::Services;

pub(crate) use authorization::{is_condition, keys_of};
pub(crate) use clusters::ClusterView;
pub(crate) use envoy_filter::complaints as complaints_about_filter;
pub(crate) use gateway_hosts::shared_hosts;
pub(crate) use gateway_tls::context as ends_tls;
pub(crate) use peer_authentication::TLS_MODE_LABEL;
pub(crate) use proxy_settings::{PROMETHEUS, cel_text};

/// What a proxy is told; `None` while its pod is unknown. For one proxy alone: pushes use a
/// [`Compiler`] for all of them.
pub fn compile(world: &World, proxy: &ProxyId) -> Option<Snapshot> {
    Compiler::new(Arc::new(world.clone()), 1).snapshot(proxy)
}

/// Labels of the caller as far as routing asks for them.
type Labels = BTreeMap<String, String>;

/// Route tables by name.
type Tables = BTreeMap<String, Arc<RouteConfiguration>>;

/// The route tables and chains that the sidecars of a namespace share.
pub(crate) struct RouteView {
    routes: Tables,
    chains: Vec<FilterChain>,
}

/// Namespace of the callers, the Sidecar that limits what they see, the EnvoyFilters for them, where
/// they are, and their labels if some DestinationRule asks for them.
type ScopeId = (
    String,
    Option<crate::world::Key>,
    Vec<crate::world::Key>,
    (Arc<Locality>, Labels),
);

#[derive(Default)]
struct Views {
    clusters: HashMap<ScopeId, Arc<ClusterView>>,
    routes: HashMap<(ScopeId, Labels), Arc<RouteView>>,
}

/// Compiles one version of the world for any number of proxies.
pub struct Compiler {
    world: Arc<World>,
    version: u64,
    services: Services,
    virtual_services: Vec<Arc<Resource<VirtualService>>>,
    /// HTTP rules for sidecars.
    on_mesh: HostIndex<VirtualService>,
    /// TCP and TLS rules for sidecars.
    on_mesh_tcp: HostIndex<VirtualService>,
    destination_rules: HostIndex<DestinationRule>,
    gateways: Vec<Arc<Resource<Gateway>>>,
    sidecars: Vec<Arc<Resource<Sidecar>>>,
    envoy_filters: Vec<envoy_filter::Filter>,
    telemetries: Vec<Arc<Resource<Telemetry>>>,
    peer_authentications: Vec<Arc<Resource<PeerAuthentication>>>,
    authorization_policies: Vec<Arc<Resource<AuthorizationPolicy>>>,
    request_authentications: Vec<Arc<Resource<RequestAuthentication>>>,
    /// Some rule asks for the labels or the namespace of the caller.
    asks_for_labels: bool,
    /// Some DestinationRule does, or the order of priorities.
    rules_ask_for_labels: bool,
    /// Some DestinationRule balances by hash.
    hashes: bool,
    views: Mutex<Views>,
    previous: Views,
    /// What of `previous` still holds.
    reuse: Reuse,
}

impl Compiler {
    /// For the first version of the world.
    pub fn new(world: Arc<World>, version: u64) -> Self {
        let virtual_services = delegates::expanded(&world);
        let asks_for_labels = virtual_services
            .iter()
            .any(|service| asks_for_labels(&service.spec));
        let rules = destination_rules(&world);
        let by_label = |setting: &LocalityLbSetting| !setting.failover_priority.is_empty();
        let balancers = || rules.iter().flat_map(|rule| rule.spec.load_balancers());
        Self {
            rules_ask_for_labels: world.settings.locality_lb.as_ref().is_some_and(by_label)
                || rules
                    .iter()
                    .any(|rule| rule.spec.workload_selector.is_some())
                || balancers().any(|lb| lb.locality_lb_setting.as_ref().is_some_and(by_label)),
            hashes: balancers().any(|lb| lb.consistent_hash.is_some()),
            on_mesh: HostIndex::new(&virtual_services, virtual_hosts::mesh_hosts),
            on_mesh_tcp: HostIndex::new(&virtual_services, virtual_hosts::mesh_tcp_hosts),
            destination_rules: HostIndex::new(&rules, |rule| vec![&rule.host]),
            gateways: oldest_first(&world.gateways),
            sidecars: oldest_first(&world.sidecars),
            envoy_filters: envoy_filter::in_order(&world),
            telemetries: oldest_first(&world.telemetries),
            services: Services::new(&world),
            peer_authentications: oldest_first(&world.peer_authentications),
            authorization_policies: oldest_first(&world.authorization_policies),
            request_authentications: oldest_first(&world.request_authentications),
            virtual_services,
            asks_for_labels,
            world,
            version,
            views: Mutex::default(),
            previous: Views::default(),
            reuse: Reuse::nothing(),
        }
    }

    /// For the next version of the world; shares with `self` what stays equal.
    pub fn next(&self, world: Arc<World>) -> Self {
        let views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        let previous = Views {
            clusters: views.clusters.clone(),
            routes: views.routes.clone(),
        };
        let mut next = Self::new(world, self.version + 1);
        next.reuse = Reuse::between(self, &next);
        next.previous = previous;
        next
    }

    /// The world that is compiled.
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// Every service of the mesh.
    pub(crate) fn services(&self) -> &Services {
        &self.services
    }

    /// Grows with each push.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What a proxy is told; `None` while its pod is unknown.
    pub fn snapshot(&self, proxy: &ProxyId) -> Option<Snapshot> {
        let pod = self.world.pod(&proxy.namespace, &proxy.pod)?;
        let scope = match proxy.role {
            Role::Sidecar => Scope::of(&self.sidecars, pod),
            Role::Router => Scope::whole(&pod.namespace),
        };
        let scope = scope
            .with_filters(&self.envoy_filters, pod)
            .with_caller(pod, self.rules_ask_for_labels);
        let shared = self.cluster_view(&scope);
        let mut snapshot = Snapshot {
            version: self.version,
            node: Arc::new(proxy_settings::node(self, proxy, pod)),
            clusters: shared.clusters.clone(),
            endpoints: shared.endpoints.clone(),
            ..Snapshot::default()
        };
        match proxy.role {
            Role::Sidecar => {
                sidecar::outbound(self, &scope, proxy, pod, &mut snapshot);
                inbound::inbound(self, &scope, proxy, pod, &mut snapshot);
                let of_inbound = |name: &str| name.starts_with("inbound|");
                scope.patch_routes(
                    PatchContext::SidecarInbound,
                    &mut snapshot.routes,
                    of_inbound,
                );
            }
            Role::Router => {
                gateway::gateway(self, proxy, pod, &mut snapshot);
                if self.hashes {
                    destination_policies::hash(self, &scope, &mut snapshot.routes);
                }
                for listener in snapshot.listeners.values_mut() {
                    let chains = &mut Arc::make_mut(listener).filter_chains;
                    destination_policies::limit(self, &scope, chains);
                }
                scope.patch_routes(scope.outbound(), &mut snapshot.routes, |_| true);
            }
        }
        Some(snapshot)
    }

    /// The DestinationRule in force for a service.
    fn rule_for<'a>(
        &'a self,
        scope: &Scope,
        service: &'a crate::world::Service,
    ) -> destination_rules::Effective<'a> {
        let (rules, caller) = (&self.destination_rules, scope.namespace.as_str());
        destination_rules::selecting(rules, caller, scope.caller().labels, &service.host)
            .unwrap_or_else(|| {
                destination_rules::lookup(rules, caller, &service.host, &service.namespace)
            })
    }

    /// Callers of a namespace know this subset of a service.
    pub(crate) fn has_subset(
        &self,
        caller: &str,
        service: &crate::world::Service,
        subset: &str,
    ) -> bool {
        let rule = destination_rules::lookup(
            &self.destination_rules,
            caller,
            &service.host,
            &service.namespace,
        );
        rule.subsets.iter().any(|known| known.name == subset)
    }

    /// The subsets of a service that callers of a namespace know.
    fn subsets(&self, caller: &str, service: &crate::world::Service) -> Vec<String> {
        let rules = &self.destination_rules;
        let rule = destination_rules::lookup(rules, caller, &service.host, &service.namespace);
        rule.subsets
            .iter()
            .map(|known| known.name.clone())
            .collect()
    }

    /// The VirtualService that a rule of a namespace delegates to.
    pub(crate) fn delegate(
        &self,
        rule: &mesh_api::virtual_service::HttpRoute,
        owner: &str,
    ) -> Option<&Arc<Resource<VirtualService>>> {
        delegates::target(&self.world, rule, owner)
    }

    /// The services that callers see, one per host.
    fn seen(&self, scope: &Scope) -> Vec<Arc<crate::world::Service>> {
        let seen = self.services.seen_from(&scope.namespace);
        seen.filter_map(|service| scope.view(service)).collect()
    }

    fn cluster_view(&self, scope: &Scope) -> Arc<ClusterView> {
        let id = scope.id();
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        let view = views.clusters.entry(id).or_insert_with_key(|id| {
            let before = self.previous.clusters.get(id);
            if let Some(before) = before.filter(|_| self.reuse.clusters.is_empty()) {
                return before.clone();
            }
            let touched = |host: &Host| before.is_none() || self.reuse.clusters.has(host);
            let mut view = clusters::outbound(self, scope, |service| touched(&service.host));
            if !scope.filters().is_empty() {
                for cluster in view.clusters.values_mut() {
                    let cluster = Arc::make_mut(cluster);
                    envoy_filter::patch_cluster(scope.filters(), scope.outbound(), cluster);
                }
            }
            if let Some(before) = before {
                share(&mut view.clusters, &before.clusters);
                share(&mut view.endpoints, &before.endpoints);
                view.keep(before, |host| !touched(host));
            }
            Arc::new(view)
        });
        view.clone()
    }

    fn route_view(&self, scope: &Scope, pod: &Pod) -> Arc<RouteView> {
        let labels = if self.asks_for_labels {
            pod.labels.clone()
        } else {
            Labels::new()
        };
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (scope.id(), labels);
        let view = views.routes.entry(key).or_insert_with_key(|key| {
            let before = self.previous.routes.get(key);
            if let Some(before) = before.filter(|_| self.reuse.routes.is_empty()) {
                return before.clone();
            }
            // Not to be patched twice.
            let kept = before.filter(|_| scope.filters().is_empty());
            let mut view = sidecar::shared(self, scope, pod, kept.map(|kept| &kept.routes));
            if self.hashes {
                destination_policies::hash(self, scope, &mut view.routes);
            }
            destination_policies::limit(self, scope, &mut view.chains);
            scope.patch_routes(scope.outbound(), &mut view.routes, |_| true);
            if let Some(before) = before {
                share_tables(&mut view.routes, &before.routes);
            }
            Arc::new(view)
        });
        view.clone()
    }
}

pub(crate) fn oldest_first<T>(objects: &Objects<Resource<T>>) -> Vec<Arc<Resource<T>>> {
    let mut sorted: Vec<_> = objects.values().cloned().collect();
    sorted.sort_by(|a, b| a.metadata.precedence().cmp(&b.metadata.precedence()));
    sorted
}

fn destination_rules(world: &World) -> Vec<Arc<Resource<DestinationRule>>> {
    let mut rules = oldest_first(&world.destination_rules);
    let default = &world.settings.destination_rule_export_to;
    for rule in rules.iter_mut().filter(|_| !default.is_empty()) {
        if rule.spec.export_to.is_empty() {
            Arc::make_mut(rule).spec.export_to.clone_from(default);
        }
    }
    rules
}

/// Some block of the rules asks for the labels of the caller.
fn asks_for_labels(spec: &VirtualService) -> bool {
    let http = spec.http.iter().flat_map(|rule| &rule.r#match);
    let tls = spec.tls.iter().flat_map(|rule| &rule.r#match);
    let tcp = spec.tcp.iter().flat_map(|rule| &rule.r#match);
    http.map(|block| &block.source_labels)
        .chain(tls.map(|block| &block.source_labels))
        .chain(tcp.map(|block| &block.source_labels))
        .any(|labels| !labels.is_empty())
}

/// Takes the allocations of `before` for what is equal.
fn share<T: PartialEq>(now: &mut BTreeMap<String, Arc<T>>, before: &BTreeMap<String, Arc<T>>) {
    for (name, value) in now {
        if let Some(before) = before.get(name).filter(|before| same(before, value)) {
            *value = before.clone();
        }
    }
}

/// The same for route tables and each of their virtual hosts.
fn share_tables(now: &mut Tables, before: &Tables) {
    for (name, table) in now.iter_mut() {
        let Some(before) = before.get(name) else {
            continue;
        };
        let known = by_name(before);
        for host in &mut Arc::make_mut(table).virtual_hosts {
            let known = known.get(host.name.as_str());
            if let Some(before) = known.filter(|before| same(before, host)) {
                *host = Arc::clone(before);
            }
        }
        let (old, new) = (&before.virtual_hosts, &table.virtual_hosts);
        if old.len() == new.len() && old.iter().zip(new).all(|(old, new)| Arc::ptr_eq(old, new)) {
            *table = before.clone();
        }
    }
}

/// The virtual hosts of a table.
fn by_name(table: &RouteConfiguration) -> HashMap<&str, &Arc<VirtualHost>> {
    let hosts = table.virtual_hosts.iter();
    hosts.map(|host| (host.name.as_str(), host)).collect()
}

/// Equal, which shared values show without being looked at.
fn same<T: PartialEq>(one: &Arc<T>, other: &Arc<T>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}
