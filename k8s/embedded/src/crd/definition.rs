//! CustomResourceDefinitions themselves: what is checked, defaulted and accepted.

use crate::status::Cause;
use serde_json::{Value, json};

/// Keeps a definition until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Fills in names and the conversion strategy.
pub fn default(definition: &mut Value) {
    let spec = &mut definition["spec"];
    if spec["conversion"].is_null() {
        spec["conversion"] = json!({"strategy": "None"});
    }
    let names = &mut spec["names"];
    let kind = names["kind"].as_str().unwrap_or_default().to_owned();
    if names["singular"].as_str().is_none_or(str::is_empty) {
        names["singular"] = kind.to_lowercase().into();
    }
    if names["listKind"].as_str().is_none_or(str::is_empty) {
        names["listKind"] = format!("{kind}List").into();
    }
}

/// What is wrong with a definition. `taken` says whether another definition has a plural name in
/// the group.
pub fn validate(definition: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut wrong = |reason: &str, field: &str, message: String| {
        causes.push(Cause {
            reason: reason.into(),
            message,
            field: field.into(),
        });
    };
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    let name = text(&definition["metadata"]["name"]);
    if name != format!("{plural}.{group}") {
        wrong(
            "FieldValueInvalid",
            "metadata.name",
            format!("Invalid value: {name:?}: must be spec.names.plural+\".\"+spec.group"),
        );
    }
    if !group.contains('.') {
        wrong(
            "FieldValueInvalid",
            "spec.group",
            format!("Invalid value: {group:?}: should be a domain with at least one dot"),
        );
    }
    if !matches!(text(&spec["scope"]).as_str(), "Namespaced" | "Cluster") {
        wrong(
            "FieldValueNotSupported",
            "spec.scope",
            format!(
                "Unsupported value: {}: supported values: \"Cluster\", \"Namespaced\"",
                spec["scope"]
            ),
        );
    }
    for key in ["plural", "kind"] {
        if text(&spec["names"][key]).is_empty() {
            let field = format!("spec.names.{key}");
            wrong("FieldValueRequired", &field, "Required value".into());
        }
    }
    let versions = spec["versions"].as_array().map_or(&[][..], Vec::as_slice);
    let storage = versions.iter().filter(|v| v["storage"] == true).count();
    if storage != 1 {
        wrong(
            "FieldValueInvalid",
            "spec.versions",
            format!(
                "Invalid value: {}: must have exactly one version marked as storage version",
                spec["versions"]
            ),
        );
    }
    for (index, version) in versions.iter().enumerate() {
        if !version["schema"]["openAPIV3Schema"].is_object() {
            let field = format!("spec.versions[{index}].schema.openAPIV3Schema");
            wrong(
                "FieldValueRequired",
                &field,
                "Required value: schemas are required".into(),
            );
        }
    }
    if spec["conversion"]["strategy"] == "Webhook" {
        wrong(
            "FieldValueNotSupported",
            "spec.conversion.strategy",
            "Unsupported value: \"Webhook\": supported values: \"None\"".into(),
        );
    }
    causes
}

/// Warnings about what the embedded cluster does not do with a definition.
pub fn warnings(definition: &Value) -> Vec<String> {
    let name = definition["metadata"]["name"].as_str().unwrap_or_default();
    let rules = definition
        .to_string()
        .contains("\"x-kubernetes-validations\":[");
    rules
        .then(|| format!("{name}: x-kubernetes-validations (CEL rules) are stored and not evaluated by this cluster"))
        .into_iter()
        .collect()
}

/// The status of a definition that is served. `taken` names another definition that has the same
/// kind or names, if there is one.
pub fn status(definition: &Value, taken: Option<&str>, now: &str) -> Value {
    let spec = &definition["spec"];
    let condition = |kind: &str, ok: bool, reason: &str, message: &str| {
        json!({
            "type": kind,
            "status": if ok { "True" } else { "False" },
            "lastTransitionTime": now,
            "reason": reason,
            "message": message,
        })
    };
    let storage: Vec<&Value> = spec["versions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|version| version["storage"] == true)
        .map(|version| &version["name"])
        .collect();
    let conditions = match taken {
        None => json!([
            condition("NamesAccepted", true, "NoConflicts", "no conflicts found"),
            condition(
                "Established",
                true,
                "InitialNamesAccepted",
                "the initial names have been accepted"
            ),
        ]),
        Some(other) => {
            let message = format!("the names are in use by {other}");
            json!([
                condition("NamesAccepted", false, "KindConflict", &message),
                condition(
                    "Established",
                    false,
                    "NotAccepted",
                    "not all names are accepted"
                ),
            ])
        }
    };
    let accepted = match taken {
        None => spec["names"].clone(),
        Some(_) => json!({"plural": "", "kind": ""}),
    };
    json!({"conditions": conditions, "acceptedNames": accepted, "storedVersions": storage})
}

/// Whether the definition's resources are served.
pub fn is_established(definition: &Value) -> bool {
    definition["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Established" && condition["status"] == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition() -> Value {
        json!({"metadata": {"name": "things.example.com"}, "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}]}})
    }

    #[test]
    fn a_definition_is_defaulted_and_established() {
        let mut definition = definition();
        default(&mut definition);
        assert!(validate(&definition).is_empty());
        assert_eq!(definition["spec"]["names"]["listKind"], "ThingList");
        definition["status"] = status(&definition, None, "2026-01-01T00:00:00Z");
        assert!(is_established(&definition));
        assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));
    }

    #[test]
    fn a_bad_definition_is_refused() {
        let mut bad = definition();
        bad["metadata"]["name"] = "thing".into();
        bad["spec"]["versions"][0]["storage"] = false.into();
        bad["spec"]["conversion"] = json!({"strategy": "Webhook"});
        let fields: Vec<String> = validate(&bad).into_iter().map(|c| c.field).collect();
        assert_eq!(
            fields,
            ["metadata.name", "spec.versions", "spec.conversion.strategy"]
        );
    }
}
