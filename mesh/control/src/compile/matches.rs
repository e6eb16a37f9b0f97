//! Conditions of a VirtualService: those that the control plane decides, and those on requests.

use std::collections::BTreeMap;

use mesh_api::{
    GatewayRef,
    virtual_service::{HttpMatchRequest, StringMatch},
};
use mesh_config::{self as config, HeaderMatch, PathMatch, QueryMatch, RouteMatch, ValueMatch};

use super::Labels;
use crate::world::selects;

/// For whom and where routes are compiled.
pub(super) struct Context<'a> {
    /// The mesh, or the Gateway that the proxy serves.
    pub(super) gateway: &'a GatewayRef,
    /// Port of the service, or of the Gateway's server.
    pub(super) port: u16,
    /// Labels of the calling pod, or of the gateway pod.
    pub(super) labels: &'a Labels,
    /// Its namespace.
    pub(super) namespace: &'a str,
}

/// What a matching block of any protocol says of the caller and the port.
pub(super) struct Conditions<'a> {
    pub(super) port: Option<u32>,
    pub(super) gateways: &'a [String],
    pub(super) source_labels: &'a Labels,
    pub(super) source_namespace: &'a str,
}

impl<'a> From<&'a HttpMatchRequest> for Conditions<'a> {
    fn from(block: &'a HttpMatchRequest) -> Self {
        Self {
            port: block.port,
            gateways: &block.gateways,
            source_labels: &block.source_labels,
            source_namespace: &block.source_namespace,
        }
    }
}

impl Context<'_> {
    /// The block is for this proxy and port at all. When it names gateways, the caller's labels and
    /// namespace are not looked at.
    pub(super) fn admits(&self, block: &Conditions<'_>, owner: &str) -> bool {
        if block.port.is_some_and(|port| port != u32::from(self.port)) {
            return false;
        }
        if !block.gateways.is_empty() {
            return block
                .gateways
                .iter()
                .any(|name| GatewayRef::resolve(name, owner) == *self.gateway);
        }
        selects(block.source_labels, self.labels)
            && (block.source_namespace.is_empty() || block.source_namespace == self.namespace)
    }
}

/// The conditions on requests.
pub(super) fn route_match(block: &HttpMatchRequest) -> RouteMatch {
    let mut headers = Vec::new();
    for (name, condition) in [
        (":method", &block.method),
        (":authority", &block.authority),
        (":scheme", &block.scheme),
    ] {
        if let Some(condition) = condition {
            headers.push(header(name, condition, false));
        }
    }
    let named = |from: &BTreeMap<String, StringMatch>, invert: bool| -> Vec<HeaderMatch> {
        from.iter()
            .map(
                |(name, condition)| match name.starts_with("@request.auth.") {
                    // Claims are not headers: their case counts.
                    true => header(name, condition, invert),
                    false => header(&name.to_ascii_lowercase(), condition, invert),
                },
            )
            .collect()
    };
    headers.extend(named(&block.headers, false));
    headers.extend(named(&block.without_headers, true));
    RouteMatch {
        path: block
            .uri
            .as_ref()
            .map_or_else(|| PathMatch::Prefix("/".into()), path),
        ignore_path_case: block.ignore_uri_case,
        headers,
        query: block
            .query_params
            .iter()
            .map(|(name, condition)| QueryMatch {
                name: name.clone(),
                value: value(condition),
            })
            .collect(),
    }
}

/// Matches every request, so that what follows is never reached.
pub(super) fn is_catch_all(matches: &RouteMatch) -> bool {
    let every_path = match &matches.path {
        PathMatch::Prefix(prefix) => prefix == "/",
        PathMatch::Regex(regex) => regex == ".*",
        PathMatch::Exact(_) => false,
    };
    every_path && matches.headers.is_empty() && matches.query.is_empty()
}

fn path(condition: &StringMatch) -> PathMatch {
    match condition {
        StringMatch {
            exact: Some(exact), ..
        } => PathMatch::Exact(exact.clone()),
        StringMatch {
            regex: Some(regex), ..
        } => PathMatch::Regex(regex.clone()),
        StringMatch {
            prefix: Some(prefix),
            ..
        } => PathMatch::Prefix(prefix.clone()),
        _ => PathMatch::Prefix("/".into()),
    }
}

fn header(name: &str, condition: &StringMatch, invert: bool) -> HeaderMatch {
    HeaderMatch {
        name: name.into(),
        value: value(condition),
        invert,
    }
}

/// An empty condition, and the expression `*`, ask for presence alone.
fn value(condition: &StringMatch) -> ValueMatch {
    match string_match(condition) {
        Some(config::StringMatch::Regex(regex)) if regex == "*" => ValueMatch::Present,
        Some(condition) => ValueMatch::Value(condition),
        None => ValueMatch::Present,
    }
}

/// A condition on a text; `None`: there is none.
pub(super) fn string_match(condition: &StringMatch) -> Option<config::StringMatch> {
    let StringMatch {
        exact,
        prefix,
        regex,
    } = condition.clone();
    exact
        .map(config::StringMatch::Exact)
        .or(prefix.map(config::StringMatch::Prefix))
        .or(regex.map(config::StringMatch::Regex))
}
