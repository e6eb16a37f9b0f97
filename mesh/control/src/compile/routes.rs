//! Routes: the rules of a VirtualService for one proxy and port, or the default of a service.

use std::sync::Arc;

use mesh_api::{
    Host, Resource, VirtualService,
    virtual_service::{Destination, HttpRoute},
};
use mesh_config::{
    Forward, HeaderMutation, PathMatch, RetryPolicy, Route, RouteAction, RouteMatch,
    WeightedCluster, names,
};

use super::{
    Compiler,
    actions::{action, cors, fault, mutation, retry},
    matches::{Context, is_catch_all, route_match},
};

/// The routes of a VirtualService, in the written order. A catch-all ends the list.
pub(super) fn of_virtual_service(
    compiler: &Compiler,
    resource: &Resource<VirtualService>,
    context: &Context<'_>,
) -> Vec<Route> {
    let mut routes = Vec::new();
    let owner = &resource.metadata.namespace;
    let config = names::config("virtual-service", owner, &resource.metadata.name);
    let config: Arc<str> = config.into();
    for rule in &resource.spec.http {
        let cluster = |to: &Destination| destination_cluster(compiler, to, owner, context.port);
        let default_retry = compiler.world.settings.default_retry.as_ref();
        let Some(action) = action(rule, default_retry, cluster) else {
            continue;
        };
        let blocks: Vec<_> = if rule.r#match.is_empty() {
            vec![(rule.name.clone(), RouteMatch::any())]
        } else {
            let admitted = rule
                .r#match
                .iter()
                .filter(|block| context.admits(&(*block).into(), owner));
            admitted
                .map(|block| (joined(&rule.name, &block.name), route_match(block)))
                .collect()
        };
        for (name, matches) in blocks {
            let last = is_catch_all(&matches);
            let headers = rule.headers.as_ref();
            routes.push(Route {
                name,
                decorator: decorator(resource, rule, &matches, context.port),
                matches,
                action: action.clone(),
                fault: fault(rule),
                cors: cors(rule),
                request_headers: mutation(headers.and_then(|headers| headers.request.as_ref())),
                response_headers: mutation(headers.and_then(|headers| headers.response.as_ref())),
                config: Some(config.clone()),
            });
            if last {
                return routes;
            }
        }
    }
    routes
}

/// The only route of a service without a VirtualService.
pub(super) fn default_route(compiler: &Compiler, host: &Host, port: u16) -> Route {
    let retries = retry(compiler.world.settings.default_retry.as_ref());
    Route {
        name: "default".into(),
        decorator: format!("{host}:{port}/*"),
        ..forward(
            "default",
            &names::outbound(port, "", host.as_str()),
            retries,
        )
    }
}

/// Everything to one cluster.
pub(super) fn forward(name: &str, cluster: &str, retry: Option<RetryPolicy>) -> Route {
    Route {
        name: name.into(),
        matches: RouteMatch::any(),
        action: RouteAction::Forward(Forward {
            clusters: vec![WeightedCluster {
                name: cluster.into(),
                weight: 1,
                request_headers: HeaderMutation::default(),
                response_headers: HeaderMutation::default(),
            }],
            timeout: None,
            retry,
            rewrite: None,
            mirrors: Vec::new(),
            hash_policy: Vec::new(),
            hedge_on_per_try_timeout: false,
        }),
        fault: None,
        cors: None,
        request_headers: HeaderMutation::default(),
        response_headers: HeaderMutation::default(),
        decorator: String::new(),
        config: None,
    }
}

/// Cluster of a destination. Without a port: the only port of the service, else the listener's.
pub(super) fn destination_cluster(
    compiler: &Compiler,
    to: &Destination,
    owner: &str,
    listener_port: u16,
) -> String {
    let host = Host::resolve(&to.host, owner);
    let given = to
        .port
        .as_ref()
        .and_then(|port| u16::try_from(port.number).ok());
    let port = given.unwrap_or_else(|| {
        match compiler
            .services
            .get(&host, owner)
            .map(|service| service.ports.as_slice())
        {
            Some([only]) => only.number,
            _ => listener_port,
        }
    });
    names::outbound(port, &to.subset, host.as_str())
}

fn joined(rule: &str, block: &str) -> String {
    match (rule, block) {
        ("", _) => String::new(),
        (rule, "") => rule.to_owned(),
        (rule, block) => format!("{rule}.{block}"),
    }
}

/// Name of the span: the destination (the VirtualService when there are several) and the path.
fn decorator(
    resource: &Resource<VirtualService>,
    rule: &HttpRoute,
    matches: &RouteMatch,
    port: u16,
) -> String {
    let path = match &matches.path {
        PathMatch::Prefix(prefix) => format!("{prefix}*"),
        PathMatch::Exact(path) | PathMatch::Regex(path) => path.clone(),
    };
    let host = match rule.route.as_slice() {
        [only] => Host::resolve(&only.destination.host, &resource.metadata.namespace).to_string(),
        _ => resource.metadata.name.clone(),
    };
    format!("{host}:{port}{path}")
}
