//! Pods and pod templates.

use serde_json::{Value, json};
use std::collections::HashSet;

use super::container::{self, Place};
use super::metadata::{annotations, labels};
use super::{At, Errors, format, given, list, text};

/// A Pod, and what may change of it.
pub(super) fn validate(old: Option<&Value>, new: &Value, errors: &mut Errors) {
    let at = At::root().key("spec");
    spec(&new["spec"], &at, errors);
    let Some(old) = old else {
        return;
    };
    if changeless(&old["spec"], &new["spec"]) != changeless(&new["spec"], &new["spec"]) {
        errors.forbidden(&at, UPDATE);
    }
    let tolerations = list(&new["spec"], "tolerations");
    if list(&old["spec"], "tolerations")
        .iter()
        .any(|old| !tolerations.contains(old))
    {
        errors.forbidden(&at, UPDATE);
    }
}

const UPDATE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A pod spec without what may change: images, deadline, tolerations, gates that are removed,
/// and a node for a pod that had none (binding).
fn changeless(spec: &Value, new: &Value) -> Value {
    let mut spec = spec.clone();
    let Some(fields) = spec.as_object_mut() else {
        return spec;
    };
    for field in [
        "activeDeadlineSeconds",
        "tolerations",
        "schedulingGates",
        "ephemeralContainers",
    ] {
        fields.shift_remove(field);
    }
    if fields
        .get("nodeName")
        .is_none_or(|node| node.is_null() || *node == "")
        && let Some(node) = given(new, "nodeName")
    {
        fields.insert("nodeName".into(), node.clone());
    }
    for list in ["containers", "initContainers"] {
        for container in fields
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if let Some(container) = container.as_object_mut() {
                container.shift_remove("image");
            }
        }
    }
    spec
}

/// A pod template.
pub(super) fn template(template: &Value, at: &At, errors: &mut Errors) {
    let metadata = &template["metadata"];
    labels(metadata, &at.key("metadata").key("labels"), errors);
    annotations(metadata, &at.key("metadata").key("annotations"), errors);
    spec(&template["spec"], &at.key("spec"), errors);
}

/// A pod spec.
fn spec(spec: &Value, at: &At, errors: &mut Errors) {
    let volumes = volumes(list(spec, "volumes"), &at.key("volumes"), errors);
    let mut names = HashSet::new();
    let containers = list(spec, "containers");
    if containers.is_empty() {
        errors.required(&at.key("containers"));
    }
    container::all(
        containers,
        &at.key("containers"),
        Place::Main,
        &mut names,
        &volumes,
        errors,
    );
    let init = list(spec, "initContainers");
    container::all(
        init,
        &at.key("initContainers"),
        Place::Init,
        &mut names,
        &volumes,
        errors,
    );
    errors.one_of(at, spec, "restartPolicy", &["Always", "Never", "OnFailure"]);
    errors.one_of(
        at,
        spec,
        "dnsPolicy",
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
    );
    for (key, value) in super::entries(spec, "nodeSelector") {
        let at = at.key("nodeSelector");
        errors.format(&at, &key.as_str().into(), format::qualified_name(key));
        errors.format(
            &at,
            value,
            format::label_value(value.as_str().unwrap_or("")),
        );
    }
    for (field, form) in [
        (
            "serviceAccountName",
            format::subdomain as fn(&str) -> Vec<String>,
        ),
        ("nodeName", format::subdomain),
        ("hostname", format::label),
        ("subdomain", format::label),
        ("priorityClassName", format::subdomain),
    ] {
        let value = text(spec, field);
        if !value.is_empty() {
            errors.format(&at.key(field), &value.into(), form(value));
        }
    }
    if let Some(deadline) = given(spec, "activeDeadlineSeconds")
        && deadline
            .as_i64()
            .is_some_and(|seconds| !(1..=i64::from(i32::MAX)).contains(&seconds))
    {
        errors.invalid(
            &at.key("activeDeadlineSeconds"),
            deadline,
            "must be between 1 and 2147483647, inclusive",
        );
    }
    errors.not_negative(at, spec, "terminationGracePeriodSeconds");
    for (index, toleration) in list(spec, "tolerations").iter().enumerate() {
        let at = at.key("tolerations").index(index);
        errors.one_of(&at, toleration, "operator", &["Equal", "Exists"]);
        errors.one_of(
            &at,
            toleration,
            "effect",
            &["NoExecute", "NoSchedule", "PreferNoSchedule"],
        );
        if text(toleration, "key").is_empty() && text(toleration, "operator") != "Exists" {
            let value = text(toleration, "operator");
            errors.invalid(&at.key("operator"), &value.into(), "operator must be Exists when `key` is empty, which means \"match all values and all keys\"");
        }
    }
}

/// Volumes; their names.
fn volumes<'v>(volumes: &'v [Value], at: &At, errors: &mut Errors) -> HashSet<&'v str> {
    let mut names = HashSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let at = at.index(index);
        let name = text(volume, "name");
        let sources: Vec<&String> = volume
            .as_object()
            .into_iter()
            .flat_map(|volume| volume.iter())
            .filter(|(key, value)| *key != "name" && !value.is_null())
            .map(|(key, _)| key)
            .collect();
        match sources.as_slice() {
            [] => errors.required_because(&at, "must specify a volume type"),
            [first, more @ ..] => {
                source(first, &volume[first.as_str()], &at.key(first), errors);
                for extra in more {
                    errors.forbidden(&at.key(extra), "may not specify more than 1 volume type");
                }
            }
        }
        if name.is_empty() {
            errors.required(&at.key("name"));
            continue;
        }
        errors.format(&at.key("name"), &name.into(), format::label(name));
        if !names.insert(name) {
            errors.duplicate(&at.key("name"), &name.into());
        }
    }
    names
}

fn source(kind: &str, source: &Value, at: &At, errors: &mut Errors) {
    let required = match kind {
        "configMap" => "name",
        "secret" => "secretName",
        "hostPath" => "path",
        "persistentVolumeClaim" => "claimName",
        _ => return,
    };
    if text(source, required).is_empty() {
        errors.required(&at.key(required));
    }
    if let Some(mode) = given(source, "defaultMode").filter(|mode| {
        mode.as_i64()
            .is_some_and(|mode| !(0..=0o777).contains(&mode))
    }) {
        errors.invalid(
            &at.key("defaultMode"),
            mode,
            "must be a number between 0 and 0777 (octal), both inclusive",
        );
    }
    for (index, item) in list(source, "items").iter().enumerate() {
        let at = at.key("items").index(index);
        for field in ["key", "path"] {
            if text(item, field).is_empty() {
                errors.required(&at.key(field));
            }
        }
        let path = text(item, "path");
        if path.starts_with('/') {
            errors.invalid(&at.key("path"), &json!(path), "must be a relative path");
        }
    }
}
