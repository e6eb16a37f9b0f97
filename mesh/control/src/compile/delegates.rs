//! VirtualServices that hand a part of their rules to others: the rules of both become one.

use std::{collections::BTreeMap, sync::Arc};

use mesh_api::{
    Host, Resource, VirtualService,
    virtual_service::{Destination, HttpMatchRequest, HttpRoute, StringMatch},
};

use super::{oldest_first, visibility::visible};
use crate::world::World;

/// All VirtualServices, oldest first, with the rules of delegates in the place of what names them.
pub(super) fn expanded(world: &World) -> Vec<Arc<Resource<VirtualService>>> {
    let mut all = oldest_first(&world.virtual_services);
    let default = &world.settings.virtual_service_export_to;
    for resource in &mut all {
        if resource.spec.export_to.is_empty() && !default.is_empty() {
            Arc::make_mut(resource).spec.export_to.clone_from(default);
        }
        let rules = &resource.spec.http;
        if resource.spec.hosts.is_empty() || rules.iter().all(|rule| rule.delegate.is_none()) {
            continue;
        }
        let http = rules
            .iter()
            .flat_map(|rule| match rule.delegate {
                None => vec![rule.clone()],
                Some(_) => of_delegate(world, rule, &resource.metadata.namespace),
            })
            .collect();
        let resource = Arc::make_mut(resource);
        resource.spec.http = http;
    }
    all
}

/// The VirtualService that a rule of a namespace delegates to.
pub(crate) fn target<'a>(
    world: &'a World,
    rule: &HttpRoute,
    owner: &str,
) -> Option<&'a Arc<Resource<VirtualService>>> {
    let named = rule.delegate.as_ref()?;
    let namespace = match named.namespace.as_str() {
        "" => owner,
        other => other,
    };
    let key = (namespace.to_owned(), named.name.clone());
    let found = world.virtual_services.get(&key)?;
    let usable = found.spec.hosts.is_empty()
        && found.spec.gateways.is_empty()
        && visible(&found.spec.export_to, namespace, owner);
    usable.then_some(found)
}

/// The rules of a delegate, each narrowed to what the root rule matches. Without a delegate the
/// rule disappears.
fn of_delegate(world: &World, root: &HttpRoute, owner: &str) -> Vec<HttpRoute> {
    let Some(delegate) = target(world, root, owner) else {
        return Vec::new();
    };
    let namespace = &delegate.metadata.namespace;
    let merged = |rule: &HttpRoute| {
        let blocks = merged_matches(&root.r#match, &rule.r#match)?;
        Some(merged_rule(root, rule, blocks, namespace))
    };
    // Delegates cannot delegate.
    let rules = delegate
        .spec
        .http
        .iter()
        .filter(|rule| rule.delegate.is_none());
    rules.filter_map(merged).collect()
}

fn merged_rule(
    root: &HttpRoute,
    rule: &HttpRoute,
    blocks: Vec<HttpMatchRequest>,
    namespace: &str,
) -> HttpRoute {
    let mut merged = rule.clone();
    merged.name = joined(&root.name, &rule.name);
    merged.r#match = blocks;
    if merged.rewrite.is_none() && merged.redirect.is_none() {
        merged.rewrite = root.rewrite.clone();
    }
    merged.timeout = merged.timeout.or(root.timeout);
    merged.retries = merged.retries.or_else(|| root.retries.clone());
    merged.fault = merged.fault.or_else(|| root.fault.clone());
    merged.cors_policy = merged.cors_policy.or_else(|| root.cors_policy.clone());
    merged.headers = merged.headers.or_else(|| root.headers.clone());
    let mut of_root = Vec::new();
    if merged.mirror.is_none() && merged.mirrors.is_empty() {
        merged.mirror_percentage = root.mirror_percentage.clone();
        merged.mirror_percent = root.mirror_percent;
        of_root = root.mirrors.clone();
    }
    // Short names are those of the namespace in which they were written.
    let complete = |to: &mut Destination| {
        to.host = Host::resolve(&to.host, namespace).to_string();
    };
    merged
        .route
        .iter_mut()
        .for_each(|to| complete(&mut to.destination));
    merged
        .mirrors
        .iter_mut()
        .for_each(|to| complete(&mut to.destination));
    match &mut merged.mirror {
        Some(mirror) => complete(mirror),
        None if merged.mirrors.is_empty() => merged.mirror = root.mirror.clone(),
        None => {}
    }
    merged.mirrors.extend(of_root);
    merged
}

/// Each block of the delegate within each block of the root that admits it. `None`: one of the
/// delegate's lies within none, which makes the whole rule void.
fn merged_matches(
    root: &[HttpMatchRequest],
    delegate: &[HttpMatchRequest],
) -> Option<Vec<HttpMatchRequest>> {
    if root.is_empty() {
        return Some(delegate.to_vec());
    }
    if delegate.is_empty() {
        return Some(root.to_vec());
    }
    let mut merged = Vec::new();
    for inner in delegate {
        let before = merged.len();
        let admitting = root.iter().filter(|outer| admits(outer, inner));
        merged.extend(admitting.map(|outer| within(outer, inner)));
        if merged.len() == before {
            return None;
        }
    }
    Some(merged)
}

/// What a block of the delegate asks for can hold together with a block of the root.
fn admits(outer: &HttpMatchRequest, inner: &HttpMatchRequest) -> bool {
    let texts = [
        (&outer.uri, &inner.uri),
        (&outer.scheme, &inner.scheme),
        (&outer.method, &inner.method),
        (&outer.authority, &inner.authority),
    ];
    let same_key = |outer: &BTreeMap<String, StringMatch>,
                    inner: &BTreeMap<String, StringMatch>| {
        inner.iter().all(|(name, inner)| {
            let outer = outer.get(name);
            outer.is_none_or(|outer| narrower(outer, inner))
        })
    };
    let both = |outer: &str, inner: &str| outer.is_empty() || inner.is_empty() || outer == inner;
    texts
        .into_iter()
        .all(|(outer, inner)| match (outer, inner) {
            (Some(outer), Some(inner)) => narrower(outer, inner),
            _ => true,
        })
        && same_key(&outer.headers, &inner.headers)
        && same_key(&outer.without_headers, &inner.without_headers)
        && same_key(&outer.query_params, &inner.query_params)
        && (outer.uri.is_none()
            || inner.uri.is_none()
            || outer.ignore_uri_case == inner.ignore_uri_case)
        && (outer.port.is_none() || inner.port.is_none() || outer.port == inner.port)
        && both(&outer.source_namespace, &inner.source_namespace)
        && inner
            .source_labels
            .iter()
            .all(|(name, value)| outer.source_labels.get(name).is_none_or(|own| own == value))
        && (outer.gateways.is_empty()
            || inner
                .gateways
                .iter()
                .all(|name| outer.gateways.contains(name)))
}

/// The delegate's condition holds only where the root's does; expressions cannot be compared.
fn narrower(outer: &StringMatch, inner: &StringMatch) -> bool {
    if outer.is_empty() || inner.is_empty() {
        return true;
    }
    match (outer, inner) {
        (
            StringMatch {
                exact: Some(outer), ..
            },
            StringMatch {
                exact: Some(inner), ..
            },
        ) => outer == inner,
        (
            StringMatch {
                prefix: Some(outer),
                ..
            },
            StringMatch {
                exact: Some(inner), ..
            }
            | StringMatch {
                prefix: Some(inner),
                ..
            },
        ) => inner.starts_with(outer.as_str()),
        _ => false,
    }
}

fn within(outer: &HttpMatchRequest, inner: &HttpMatchRequest) -> HttpMatchRequest {
    let mut merged = inner.clone();
    merged.name = joined(&outer.name, &inner.name);
    if merged.uri.is_none() {
        merged.uri = outer.uri.clone();
        merged.ignore_uri_case = outer.ignore_uri_case;
    }
    merged.scheme = merged.scheme.or_else(|| outer.scheme.clone());
    merged.method = merged.method.or_else(|| outer.method.clone());
    merged.authority = merged.authority.or_else(|| outer.authority.clone());
    merged.port = merged.port.or(outer.port);
    for (mine, theirs) in [
        (&mut merged.headers, &outer.headers),
        (&mut merged.without_headers, &outer.without_headers),
        (&mut merged.query_params, &outer.query_params),
    ] {
        for (name, condition) in theirs {
            mine.entry(name.clone())
                .or_insert_with(|| condition.clone());
        }
    }
    for (name, value) in &outer.source_labels {
        let own = merged.source_labels.entry(name.clone());
        own.or_insert_with(|| value.clone());
    }
    if merged.gateways.is_empty() {
        merged.gateways = outer.gateways.clone();
    }
    if merged.source_namespace.is_empty() {
        merged.source_namespace = outer.source_namespace.clone();
    }
    if merged.stat_prefix.is_empty() {
        merged.stat_prefix = outer.stat_prefix.clone();
    }
    merged
}

fn joined(root: &str, delegate: &str) -> String {
    match (root, delegate) {
        ("", name) | (name, "") => name.to_owned(),
        (root, delegate) => format!("{root}-{delegate}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn blocks(blocks: Value) -> Vec<HttpMatchRequest> {
        serde_json::from_value(blocks).unwrap()
    }

    #[test]
    fn a_delegates_blocks_lie_within_the_roots() {
        let root = blocks(
            json!([{"name": "r", "uri": {"prefix": "/shop"}, "headers": {"a": {"exact": "1"}}}]),
        );
        let inner = blocks(
            json!([{"name": "d", "uri": {"exact": "/shop/cart"}, "method": {"exact": "GET"}}]),
        );
        let merged = merged_matches(&root, &inner).unwrap();
        assert_eq!(merged[0].name, "r-d");
        assert_eq!(
            merged[0].uri.as_ref().unwrap().exact.as_deref(),
            Some("/shop/cart")
        );
        assert!(merged[0].headers.contains_key("a") && merged[0].method.is_some());
        assert_eq!(merged_matches(&root, &[]).unwrap(), root);
        assert_eq!(merged_matches(&[], &inner).unwrap(), inner);
    }

    #[test]
    fn what_lies_outside_is_void() {
        let root = blocks(json!([{"uri": {"prefix": "/shop"}}]));
        for outside in [
            json!({"uri": {"prefix": "/"}}),
            json!({"uri": {"exact": "/other"}}),
            json!({"uri": {"regex": "/shop.*"}}),
        ] {
            let inner = blocks(json!([{"uri": {"prefix": "/shop/a"}}, outside]));
            assert_eq!(merged_matches(&root, &inner), None);
        }
        let root = blocks(json!([{"headers": {"a": {"exact": "1"}}}]));
        assert_eq!(
            merged_matches(&root, &blocks(json!([{"headers": {"a": {"exact": "2"}}}]))),
            None
        );
    }
}
