//! Whether a webhook concerns a request: its rules and selectors.

use super::Review;
use crate::label_selector;
use serde_json::Value;

/// The labels of the namespace that a request is about; `None` for other cluster-scoped objects.
pub(super) fn namespace_labels(review: &Review<'_>, object: Option<&Value>) -> Option<Value> {
    if review.resource.gvk.kind == "Namespace" && review.resource.gvk.group.is_empty() {
        return object.map(|object| object["metadata"]["labels"].clone());
    }
    if review.namespace.is_empty() {
        return None;
    }
    let namespace = review
        .store
        .get("core/namespaces", "", review.namespace)
        .map(|namespace| namespace.value());
    Some(namespace.map_or(Value::Null, |namespace| {
        namespace["metadata"]["labels"].clone()
    }))
}

pub(super) fn concerns(
    webhook: &Value,
    review: &Review<'_>,
    old: Option<&Value>,
    object: Option<&Value>,
    namespace_labels: Option<&Value>,
) -> bool {
    let by_rule = webhook["rules"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|rule| rule_matches(rule, review));
    let by_namespace = namespace_labels
        .is_none_or(|labels| label_selector::matches(&webhook["namespaceSelector"], labels));
    let labels_match = |object: &Value| {
        label_selector::matches(&webhook["objectSelector"], &object["metadata"]["labels"])
    };
    let by_object = object.is_some_and(labels_match) || old.is_some_and(labels_match);
    by_rule && by_namespace && by_object
}

fn rule_matches(rule: &Value, review: &Review<'_>) -> bool {
    let among = |key: &str, value: &str| {
        rule[key]
            .as_array()
            .into_iter()
            .flatten()
            .any(|item| item == "*" || item == value)
    };
    let scope = match rule["scope"].as_str() {
        Some("Namespaced") => review.resource.namespaced,
        Some("Cluster") => !review.resource.namespaced,
        _ => true,
    };
    scope
        && among("operations", review.operation)
        && among("apiGroups", &review.resource.gvk.group)
        && among("apiVersions", &review.resource.gvk.version)
        && rule["resources"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .any(|pattern| resource_matches(pattern, review))
}

/// `pods`, `pods/status`, `pods/*`, `*`, `*/status`, `*/*`.
fn resource_matches(pattern: &str, review: &Review<'_>) -> bool {
    let (resource, subresource) = match pattern.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource)),
        None => (pattern, None),
    };
    let same_resource = resource == "*" || resource == review.resource.plural;
    let same_subresource = match (subresource, review.subresource) {
        (None, None) | (Some("*"), _) => true,
        (Some(wanted), Some(found)) => wanted == found,
        _ => false,
    };
    same_resource && same_subresource
}
