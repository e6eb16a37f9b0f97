//! Which host names a route table knows, and which VirtualService speaks for each.

use std::{collections::BTreeSet, sync::Arc};

use mesh_api::{GatewayRef, Host, Resource, VirtualService};
use mesh_config::{DirectResponse, Route, RouteAction, RouteConfiguration, VirtualHost, names};

use super::{
    Compiler, Tables, by_name,
    host_index::HostIndex,
    matches::Context,
    routes::{default_route, destination_cluster, forward, of_virtual_service},
    scope::Scope,
    visibility::visible,
};
use crate::world::{OutboundPolicy, Pod, Service};

/// Istio routes hosts that are no service on this port only.
const PORT_OF_OTHER_HOSTS: u16 = 80;

/// The hosts for which a VirtualService has HTTP rules for sidecars.
pub(super) fn mesh_hosts(spec: &VirtualService) -> Vec<&str> {
    on_mesh(spec, !spec.http.is_empty())
}

/// The hosts for which it has `tcp` or `tls` rules for sidecars.
pub(super) fn mesh_tcp_hosts(spec: &VirtualService) -> Vec<&str> {
    on_mesh(spec, !(spec.tcp.is_empty() && spec.tls.is_empty()))
}

fn on_mesh(spec: &VirtualService, has_rules: bool) -> Vec<&str> {
    let on_mesh = spec.gateways.is_empty() || spec.gateways.iter().any(|gateway| gateway == "mesh");
    let hosts = spec.hosts.iter().filter(|_| on_mesh && has_rules);
    hosts.map(String::as_str).collect()
}

/// The VirtualService that speaks for a service: of those that name it most specifically the oldest.
pub(super) fn speaker<'a>(
    rules: &'a HostIndex<VirtualService>,
    scope: &Scope,
    host: &'a Host,
) -> Option<&'a Arc<Resource<VirtualService>>> {
    let mut best = None;
    let mut best_rank = (false, 0);
    for (named, resource) in rules.covering(host) {
        let rank = (!named.is_wildcard(), named.as_str().len());
        let seen = visible(
            &resource.spec.export_to,
            &resource.metadata.namespace,
            &scope.namespace,
        ) && scope.sees_rule(&resource.metadata.namespace, host);
        if seen && (best.is_none() || rank > best_rank) {
            best = Some(resource);
            best_rank = rank;
        }
    }
    best
}

/// The route table of an outbound HTTP port; `kept` is where virtual hosts are taken from that
/// nothing has touched since.
pub(super) fn table<'a>(
    compiler: &Compiler,
    scope: &Scope,
    pod: &Pod,
    kept: Option<&Tables>,
    name: String,
    port: u16,
    services: impl Iterator<Item = &'a Arc<Service>>,
) -> RouteConfiguration {
    let kept = kept.and_then(|tables| tables.get(&name));
    let kept = kept.map(|table| by_name(table)).unwrap_or_default();
    let context = Context {
        gateway: &GatewayRef::Mesh,
        port,
        labels: &pod.labels,
        namespace: &pod.namespace,
    };
    let host = |service: &Arc<Service>| {
        let name = format!("{}:{port}", service.host);
        let kept = kept.get(name.as_str());
        if let Some(kept) = kept.filter(|_| !compiler.reuse.routes.has(&service.host)) {
            return Arc::clone(kept);
        }
        Arc::new(VirtualHost {
            name,
            domains: domains(service, &pod.namespace),
            routes: match speaker(&compiler.on_mesh, scope, &service.host) {
                Some(resource) => of_virtual_service(compiler, resource, &context),
                None => vec![default_route(compiler, &service.host, port)],
            },
        })
    };
    let mut hosts: Vec<_> = services.map(host).collect();
    if name == PORT_OF_OTHER_HOSTS.to_string() {
        let others = other_hosts(compiler, scope, &context);
        hosts.extend(others.into_iter().map(Arc::new));
    }
    hosts.push(Arc::new(catch_all(compiler, scope)));
    RouteConfiguration {
        name,
        virtual_hosts: hosts,
    }
}

/// Hosts of VirtualServices that are no service: on port 80 alone.
fn other_hosts(compiler: &Compiler, scope: &Scope, context: &Context<'_>) -> Vec<VirtualHost> {
    let mut seen = BTreeSet::new();
    let mut hosts = Vec::new();
    for resource in &compiler.virtual_services {
        if !visible(
            &resource.spec.export_to,
            &resource.metadata.namespace,
            context.namespace,
        ) {
            continue;
        }
        for name in mesh_hosts(&resource.spec) {
            let host = Host::resolve(name, &resource.metadata.namespace);
            let services = compiler.services();
            let known = services.get(&host, context.namespace).is_some()
                || (host.is_wildcard()
                    && services
                        .all()
                        .iter()
                        .any(|service| host.covers(&service.host)));
            let seen_here = scope.sees_rule(&resource.metadata.namespace, &host);
            if !known && seen_here && seen.insert(host.clone()) {
                hosts.push(VirtualHost {
                    name: format!("{host}:{}", context.port),
                    domains: vec![host.to_string()],
                    routes: of_virtual_service(compiler, resource, context),
                });
            }
        }
    }
    hosts
}

/// Whether sidecars of a namespace need the table of port 80 though no service has that port.
pub(super) fn has_other_hosts(compiler: &Compiler, scope: &Scope, pod: &Pod) -> bool {
    let context = Context {
        gateway: &GatewayRef::Mesh,
        port: PORT_OF_OTHER_HOSTS,
        labels: &pod.labels,
        namespace: &pod.namespace,
    };
    !other_hosts(compiler, scope, &context).is_empty()
}

/// Host names without a virtual host of their own.
pub(super) fn catch_all(compiler: &Compiler, scope: &Scope) -> VirtualHost {
    let (name, route) = match scope.outbound_policy(&compiler.world) {
        OutboundPolicy::AllowAny => (
            "allow_any",
            forward(
                "allow_any",
                &egress_cluster(compiler, scope, PORT_OF_OTHER_HOSTS),
                None,
            ),
        ),
        OutboundPolicy::RegistryOnly => {
            let refuse = RouteAction::DirectResponse(DirectResponse {
                status: 502,
                body: String::new(),
                base64: false,
            });
            (
                "block_all",
                Route {
                    action: refuse,
                    ..forward("block_all", "", None)
                },
            )
        }
    };
    VirtualHost {
        name: name.into(),
        domains: vec!["*".into()],
        routes: vec![route],
    }
}

/// Where traffic to unknown hosts goes that may leave.
pub(super) fn egress_cluster(compiler: &Compiler, scope: &Scope, port: u16) -> String {
    let policy = scope
        .sidecar()
        .and_then(|spec| spec.outbound_traffic_policy.as_ref());
    match policy.and_then(|policy| policy.egress_proxy.as_ref()) {
        Some(to) => destination_cluster(compiler, to, &scope.namespace, port),
        None => names::PASSTHROUGH_CLUSTER.into(),
    }
}

/// Every name under which callers of a namespace know a service, and its addresses.
pub(super) fn domains(service: &Service, caller: &str) -> Vec<String> {
    let host = &service.host;
    let mut names = vec![host.to_string()];
    if !service.of_entry {
        names = names_of(&service.name, &service.namespace, caller);
    }
    for (name, namespace) in &service.aliases {
        names.extend(names_of(name, namespace, caller));
    }
    if service.headless {
        let each: Vec<_> = names.iter().map(|name| format!("*.{name}")).collect();
        names.extend(each);
    }
    let addresses = service.addresses.iter().filter(|text| !text.contains('/'));
    names.extend(addresses.cloned());
    names
}

fn names_of(name: &str, namespace: &str, caller: &str) -> Vec<String> {
    let host = Host::service(name, namespace);
    let mut names = vec![host.to_string(), format!("{host}.")];
    if namespace == caller {
        names.push(name.to_owned());
    }
    names.extend([
        format!("{name}.{namespace}.svc"),
        format!("{name}.{namespace}"),
    ]);
    names
}
