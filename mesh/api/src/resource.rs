//! Reading resources: metadata, and a typed spec from JSON in either spelling of its fields.

use std::{collections::BTreeMap, sync::OnceLock};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{
    kind::{KINDS, Kind, kind},
    schema,
};

/// What the control plane needs of an object's metadata.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// Name of the object.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// When it was created; the epoch when unknown.
    pub created: Timestamp,
    /// Grows with each change of the spec.
    pub generation: i64,
    /// Identity of the object, for events about it.
    pub uid: String,
    /// API version under which it was read.
    pub api_version: String,
    /// Annotation `istio.io/dry-run`: it shall only be seen what it would do.
    pub dry_run: bool,
}

impl Metadata {
    /// Istio's order of precedence: the oldest first, then by name, then by namespace.
    pub fn precedence(&self) -> (Timestamp, &str, &str) {
        (self.created, &self.name, &self.namespace)
    }
}

/// An Istio resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource<T> {
    /// Who it is.
    pub metadata: Metadata,
    /// What it says.
    pub spec: T,
}

/// Why an object cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// The kind is not Istio's.
    #[error("kind {0:?} is not one of Istio's")]
    UnknownKind(String),
    /// The spec does not fit the type.
    #[error("{kind} {namespace}/{name}: {source}")]
    Spec {
        /// Kind of the object.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What does not fit.
        source: serde_json::Error,
    },
}

/// A resource and the fields of its spec that are unknown.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed<T> {
    /// The resource.
    pub resource: Resource<T>,
    /// Paths of unknown fields: `spec.http[0].rout`.
    pub unknown: Vec<String>,
}

/// Reads an object of the named kind. The schema of the kind guides the spelling: a field in
/// snake_case is taken for its camelCase name, keys of maps (labels, headers) are left alone.
pub fn parse<T: DeserializeOwned>(
    kind_name: &str,
    object: &Value,
) -> Result<Parsed<T>, ParseError> {
    let kind = kind(kind_name).ok_or_else(|| ParseError::UnknownKind(kind_name.into()))?;
    let metadata = metadata(object);
    let mut unknown = Vec::new();
    let spec = spelled(&object["spec"], spec_schema(kind), "spec", &mut unknown);
    let spec = serde_json::from_value(spec).map_err(|source| ParseError::Spec {
        kind: kind.kind,
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        source,
    })?;
    Ok(Parsed {
        resource: Resource { metadata, spec },
        unknown,
    })
}

/// The metadata of an object.
pub fn metadata(object: &Value) -> Metadata {
    let from = &object["metadata"];
    let text = |field: &str| from[field].as_str().unwrap_or_default().to_owned();
    let created = serde_json::from_value::<Time>(from["creationTimestamp"].clone());
    Metadata {
        name: text("name"),
        namespace: text("namespace"),
        created: created.map(|time| time.0).unwrap_or_default(),
        generation: from["generation"].as_i64().unwrap_or_default(),
        uid: text("uid"),
        api_version: object["apiVersion"].as_str().unwrap_or_default().to_owned(),
        dry_run: from["annotations"]["istio.io/dry-run"] == "true",
    }
}

fn spec_schema(kind: &Kind) -> &'static Value {
    static SCHEMAS: OnceLock<BTreeMap<&'static str, OnceLock<Value>>> = OnceLock::new();
    static NONE: Value = Value::Null;
    let schemas = SCHEMAS.get_or_init(|| {
        KINDS
            .iter()
            .map(|kind| (kind.kind, OnceLock::new()))
            .collect()
    });
    schemas
        .get(kind.kind)
        .map_or(&NONE, |schema| schema.get_or_init(|| schema::spec(kind)))
}

/// `value` with its fields spelled as the schema spells them, without nulls.
fn spelled(value: &Value, schema: &Value, path: &str, unknown: &mut Vec<String>) -> Value {
    match value {
        Value::Null if path == "spec" => Value::Object(Map::new()),
        Value::Object(fields) => {
            let mut to = Map::new();
            for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                let at = format!("{path}.{name}");
                if let Some(values) = schema.get("additionalProperties") {
                    to.insert(name.clone(), spelled(value, values, &at, unknown));
                } else if let Some(properties) = schema.get("properties") {
                    let camel = if properties.get(name).is_some() {
                        name.clone()
                    } else {
                        camel_case(name)
                    };
                    match properties.get(&camel) {
                        Some(field) => _ = to.insert(camel, spelled(value, field, &at, unknown)),
                        None => unknown.push(at),
                    }
                } else {
                    to.insert(name.clone(), value.clone());
                }
            }
            Value::Object(to)
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                spelled(item, &schema["items"], &format!("{path}[{index}]"), unknown)
            })
            .collect(),
        other => other.clone(),
    }
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut to, word| {
        let mut letters = word.chars();
        to.extend(letters.next().map(|c| c.to_ascii_uppercase()));
        to.push_str(letters.as_str());
        to
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{DestinationRule, VirtualService};

    #[test]
    fn both_spellings_are_read_and_keys_of_maps_are_left_alone() {
        let object = json!({
            "metadata": {"name": "a", "namespace": "b", "creationTimestamp": "2026-01-02T03:04:05Z"},
            "spec": {"http": [{
                "match": [{"source_labels": {"my_label": "x"}, "queryParams": {"a_b": {}}}],
                "direct_response": {"status": 418},
            }]},
        });
        let parsed = parse::<VirtualService>("VirtualService", &object).unwrap();
        let rule = &parsed.resource.spec.http[0];
        assert_eq!(parsed.unknown, Vec::<String>::new());
        assert_eq!(rule.r#match[0].source_labels["my_label"], "x");
        assert!(rule.r#match[0].query_params["a_b"].is_empty());
        assert_eq!(rule.direct_response.as_ref().unwrap().status, 418);
        assert_eq!(
            parsed.resource.metadata.created.to_string(),
            "2026-01-02T03:04:05Z"
        );
    }

    #[test]
    fn unknown_fields_are_named() {
        let object = json!({"spec": {"host": "a", "subsets": [{"name": "v1", "lables": {}}]}});
        let parsed = parse::<DestinationRule>("DestinationRule", &object).unwrap();
        assert_eq!(parsed.unknown, ["spec.subsets[0].lables"]);
    }

    #[test]
    fn numbered_fields_keep_their_names() {
        let object = json!({"spec": {"host": "a", "trafficPolicy": {
            "outlierDetection": {"consecutive5xxErrors": 1},
            "connectionPool": {"http": {"http1MaxPendingRequests": 2}},
        }}});
        let policy = parse::<DestinationRule>("DestinationRule", &object)
            .unwrap()
            .resource
            .spec
            .traffic_policy
            .unwrap();
        assert_eq!(
            policy.outlier_detection.unwrap().consecutive_5xx_errors,
            Some(1)
        );
        assert_eq!(
            policy
                .connection_pool
                .unwrap()
                .http
                .unwrap()
                .http1_max_pending_requests,
            Some(2)
        );
    }

    #[test]
    fn a_wrong_type_is_an_error_that_names_the_object() {
        let object = json!({"metadata": {"name": "n", "namespace": "s"}, "spec": {"http": [{"timeout": "soon"}]}});
        let error = parse::<VirtualService>("VirtualService", &object)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("VirtualService s/n: invalid duration \"soon\""),
            "{error}"
        );
    }
}
