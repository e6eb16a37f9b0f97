//! Owner references and label selectors: who belongs to whom.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference,
};
use kube::Resource;
use std::collections::BTreeMap;

/// Labels, as objects carry them.
pub type Labels = BTreeMap<String, String>;

/// The reference that makes `owner` the controller of an object.
pub fn controller_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The controller of an object, if it has one.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
}

/// Whether the object with uid `uid` controls the one with `meta`.
pub fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller_of(meta).is_some_and(|owner| owner.uid == uid)
}

/// Whether `labels` satisfy the selector. An empty selector selects nothing here, as in a
/// Deployment, whose selector may not be empty.
pub fn selects(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let empty = Labels::new();
    let labels = labels.unwrap_or(&empty);
    let exact = selector.match_labels.iter().flatten();
    let expressions = selector.match_expressions.iter().flatten();
    if exact.clone().next().is_none() && expressions.clone().next().is_none() {
        return false;
    }
    exact
        .into_iter()
        .all(|(key, value)| labels.get(key) == Some(value))
        && expressions.into_iter().all(|e| satisfies(e, labels))
}

fn satisfies(requirement: &LabelSelectorRequirement, labels: &Labels) -> bool {
    let value = labels.get(&requirement.key);
    let listed = value.is_some_and(|v| requirement.values.iter().flatten().any(|x| x == v));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        // refused by validation; selecting nothing is the safe answer
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(selector: serde_json::Value, labels: serde_json::Value) -> bool {
        let selector: LabelSelector = serde_json::from_value(selector).unwrap();
        let labels: Labels = serde_json::from_value(labels).unwrap();
        selects(&selector, Some(&labels))
    }

    #[test]
    fn selectors_match_as_documented() {
        assert!(check(
            json!({"matchLabels": {"a": "1"}}),
            json!({"a": "1", "b": "2"})
        ));
        assert!(!check(
            json!({"matchLabels": {"a": "1"}}),
            json!({"a": "2"})
        ));
        assert!(!check(json!({}), json!({"a": "2"})));
        let not_in =
            json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]});
        assert!(check(not_in.clone(), json!({})));
        assert!(!check(not_in, json!({"a": "1"})));
        let exists = json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]});
        assert!(check(exists.clone(), json!({"a": ""})));
        assert!(!check(exists, json!({"b": ""})));
    }
}
