//! Names, labels, annotations and owners: the same for every kind.

use serde_json::Value;

use super::{At, Errors, IMMUTABLE, entries, format, given, list, text};
use crate::gvk::Gvk;

/// Most bytes of all annotations of an object.
const ANNOTATIONS: usize = 256 * 1024;

pub(super) fn validate(gvk: &Gvk, old: Option<&Value>, new: &Value, errors: &mut Errors) {
    let at = At::root().key("metadata");
    let metadata = &new["metadata"];
    let named = match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Namespace" | "Service") => format::label,
        ("rbac.authorization.k8s.io", _) => format::path_segment,
        _ => format::subdomain,
    };
    if let Some(prefix) = given(metadata, "generateName").filter(|prefix| *prefix != "") {
        let stem = text(metadata, "generateName").trim_end_matches('-');
        errors.format(
            &at.key("generateName"),
            prefix,
            named(if stem.is_empty() { "-" } else { stem }),
        );
    }
    match given(metadata, "name") {
        Some(name @ Value::String(value)) if !value.is_empty() => {
            errors.format(&at.key("name"), name, named(value));
        }
        _ => errors.required_because(&at.key("name"), "name or generateName is required"),
    }
    labels(metadata, &at.key("labels"), errors);
    annotations(metadata, &at.key("annotations"), errors);
    for (index, owner) in list(metadata, "ownerReferences").iter().enumerate() {
        let at = at.key("ownerReferences").index(index);
        for (key, what) in [
            ("apiVersion", "version"),
            ("kind", "kind"),
            ("name", "name"),
            ("uid", "uid"),
        ] {
            if text(owner, key).is_empty() {
                errors.invalid(
                    &at.key(key),
                    &"".into(),
                    &format!("{what} must not be empty"),
                );
            }
        }
    }
    for (index, finalizer) in list(metadata, "finalizers").iter().enumerate() {
        let at = at.key("finalizers").index(index);
        errors.format(
            &at,
            finalizer,
            format::qualified_name(finalizer.as_str().unwrap_or("")),
        );
    }
    if let Some(old) = old.map(|old| &old["metadata"]) {
        for field in ["name", "namespace", "uid"] {
            if given(metadata, field).is_some() {
                errors.immutable(
                    &at.key(field),
                    old.get(field),
                    metadata.get(field),
                    IMMUTABLE,
                );
            }
        }
    }
}

/// The labels of an object or a template.
pub(super) fn labels(metadata: &Value, at: &At, errors: &mut Errors) {
    for (key, value) in entries(metadata, "labels") {
        errors.format(at, &key.as_str().into(), format::qualified_name(key));
        errors.format(at, value, format::label_value(value.as_str().unwrap_or("")));
    }
}

/// The annotations of an object or a template.
pub(super) fn annotations(metadata: &Value, at: &At, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in entries(metadata, "annotations") {
        errors.format(
            at,
            &key.as_str().into(),
            format::qualified_name(&key.to_lowercase()),
        );
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS {
        errors.too_long(at, ANNOTATIONS);
    }
}

/// A label selector: `matchLabels` and `matchExpressions`.
pub(super) fn selector(selector: &Value, at: &At, errors: &mut Errors) {
    for (key, value) in entries(selector, "matchLabels") {
        let at = at.key("matchLabels");
        errors.format(&at, &key.as_str().into(), format::qualified_name(key));
        errors.format(
            &at,
            value,
            format::label_value(value.as_str().unwrap_or("")),
        );
    }
    for (index, expression) in list(selector, "matchExpressions").iter().enumerate() {
        let at = at.key("matchExpressions").index(index);
        let values = list(expression, "values").len();
        match text(expression, "operator") {
            "In" | "NotIn" if values == 0 => errors.required_because(
                &at.key("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            ),
            "Exists" | "DoesNotExist" if values > 0 => errors.forbidden(
                &at.key("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(
                &at.key("operator"),
                &other.into(),
                "not a valid selector operator",
            ),
        }
        let key = text(expression, "key");
        errors.format(&at.key("key"), &key.into(), format::qualified_name(key));
    }
}

/// Whether a label selector selects these labels.
pub(super) fn selects(selector: &Value, labels: &Value) -> bool {
    entries(selector, "matchLabels").all(|(key, value)| labels.get(key) == Some(value))
        && list(selector, "matchExpressions").iter().all(|expression| {
            let value = labels.get(text(expression, "key"));
            let among = value.is_some_and(|value| list(expression, "values").contains(value));
            match text(expression, "operator") {
                "In" => among,
                "NotIn" => !among,
                "Exists" => value.is_some(),
                _ => value.is_none(),
            }
        })
}
