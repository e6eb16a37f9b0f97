//! What all writes share: decoding against the kind, checks, and the way into the store.

use super::options::FieldValidation;
use super::{ApiError, Call, Cause};
use crate::discovery::{Origin, Resource};
use crate::gvk::Gvk;
use crate::types;
use crate::versions;
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value};

/// How a body reached the server: it decides how unknown fields are reported.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sent<'a> {
    /// A whole object: POST or PUT.
    Object,
    /// The result of this patch.
    Patch(&'a Value),
    /// A server-side apply.
    Apply,
    /// The server or a webhook made it: unknown fields are dropped.
    Made,
}

/// Whether the resource keeps `status` apart.
pub(super) fn has_status(resource: &Resource) -> bool {
    resource.subresource("status").is_some()
}

/// Whether `metadata.generation` counts the changes of a kind's spec.
pub(super) fn has_generation(resource: &Resource) -> bool {
    resource.custom().is_some()
        || matches!(
            resource.gvk.kind.as_str(),
            "CronJob"
                | "DaemonSet"
                | "Deployment"
                | "Job"
                | "ReplicaSet"
                | "StatefulSet"
                | "Pod"
                | "NetworkPolicy"
                | "PodDisruptionBudget"
                | "Ingress"
                | "IngressClass"
                | "EndpointSlice"
                | "MutatingWebhookConfiguration"
                | "ValidatingWebhookConfiguration"
                | "CustomResourceDefinition"
        )
}

/// `apiVersion` and `kind` of a body: those of the path, or absent.
pub(super) fn check_kind(resource: &Resource, object: &mut Value) -> Result<(), ApiError> {
    check_gvk(&resource.gvk, object)
}

/// As [`check_kind`], for the kind of a subresource.
pub(super) fn check_gvk(gvk: &Gvk, object: &mut Value) -> Result<(), ApiError> {
    let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let expected = gvk.api_version();
    if !api_version.is_empty() && api_version != expected {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({expected})"
        )));
    }
    if !kind.is_empty() && kind != gvk.kind {
        return Err(ApiError::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {}: no kind {kind:?} is registered for version {expected:?}",
            gvk.version, gvk.kind
        )));
    }
    if let Some(fields) = object.as_object_mut()
        && (api_version.is_empty() || kind.is_empty())
    {
        let mut typed = Map::new();
        typed.insert("kind".into(), gvk.kind.as_str().into());
        typed.insert("apiVersion".into(), expected.into());
        fields.retain(|key, _| key != "kind" && key != "apiVersion");
        typed.append(fields);
        *fields = typed;
    }
    if !object["metadata"].is_object() {
        if !object["metadata"].is_null() {
            return Err(ApiError::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: metadata is not an object",
                gvk.kind, gvk.version, gvk.kind
            )));
        }
        object["metadata"] = Value::Object(Map::new());
    }
    Ok(())
}

/// Reads an object as its kind: removes nulls and unknown fields, which are refused, warned about
/// or ignored as the request asks. Returns warnings.
pub(super) fn decode(
    call: &Call<'_>,
    object: &mut Value,
    sent: Sent<'_>,
) -> Result<Vec<String>, ApiError> {
    let resource = &call.target.resource;
    let unknown = match &resource.origin {
        Origin::Builtin(_) => decode_as(&resource.gvk, object)?,
        Origin::Custom(custom) => super::custom::prune(custom, object),
    };
    report(call, object, unknown, sent)
}

/// Reads an object as a built-in kind; removes and returns what the kind does not have.
fn decode_as(gvk: &Gvk, object: &mut Value) -> Result<Vec<String>, ApiError> {
    remove_nulls(object);
    // Kinds that are only read have no fields to be checked.
    let (Some(kind), Value::Object(fields)) = (types::of_kind(gvk), object) else {
        return Ok(Vec::new());
    };
    types::decode(kind, fields).map_err(|error| {
        ApiError::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {kind}: {error}",
            gvk.version,
            kind = gvk.kind
        ))
    })
}

fn report(
    call: &Call<'_>,
    object: &Value,
    unknown: Vec<String>,
    sent: Sent<'_>,
) -> Result<Vec<String>, ApiError> {
    let gvk = &call.target.resource.gvk;
    if unknown.is_empty() {
        return Ok(Vec::new());
    }
    let each: Vec<String> = unknown
        .iter()
        .map(|path| format!("unknown field {path:?}"))
        .collect();
    match (sent, call.options.field_validation) {
        // fields that apply does not know have no owner: always refused
        (Sent::Apply, _) => {
            let metadata = &object["metadata"];
            let namespace = metadata["namespace"].as_str().unwrap_or_default();
            let name = metadata["name"].as_str().unwrap_or_default();
            let fields: Vec<String> = unknown
                .iter()
                .map(|path| format!(".{path}: field not declared in schema"))
                .collect();
            Err(ApiError::unclassified(format!(
                "failed to create typed patch object ({namespace}/{name}; {}, Kind={}): {}",
                gvk.api_version(),
                gvk.kind,
                match fields.as_slice() {
                    [one] => one.clone(),
                    many => format!("errors:\n  {}", many.join("\n  ")),
                }
            )))
        }
        (Sent::Made, _) | (_, FieldValidation::Ignore) => Ok(Vec::new()),
        (_, FieldValidation::Warn) => Ok(each),
        (Sent::Object, FieldValidation::Strict) => Err(ApiError::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {kind}: strict decoding error: {}",
            gvk.version,
            each.join(", "),
            kind = gvk.kind,
        ))),
        (Sent::Patch(patch), FieldValidation::Strict) => {
            let message = format!(
                "Invalid value: {:?}: strict decoding error: {}",
                go_text(patch),
                each.join(", ")
            );
            let cause = Cause {
                reason: "FieldValueInvalid".into(),
                message: message.clone(),
                field: "patch".into(),
            };
            let mut error = ApiError::invalid(&Gvk::new("", "", ""), "", vec![cause]);
            error.message = format!(" \"\" is invalid: patch: {message}");
            Err(error)
        }
    }
}

/// A value as Go prints it, which is how Kubernetes quotes a patch: `map[data:map[a:b]]`.
fn go_text(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            let fields: Vec<String> = fields
                .into_iter()
                .map(|(key, value)| format!("{key}:{}", go_text(value)))
                .collect();
            format!("map[{}]", fields.join(" "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_text).collect();
            format!("[{}]", items.join(" "))
        }
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".into(),
        other => other.to_string(),
    }
}

/// Removes what is null: to Kubernetes the same as absent.
pub(super) fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

/// What is wrong with an object of a built-in kind, or with the metadata of any.
pub(super) fn validate(resource: &Resource, live: Option<&Value>, object: &Value) -> Vec<Cause> {
    crate::validate::object(&resource.gvk, live, object)
        .into_iter()
        .map(|error| Cause {
            reason: error.reason.to_owned(),
            message: error.message,
            field: error.field,
        })
        .collect()
}

/// Adds a `Warning` header.
pub(super) fn warn(response: &mut Response, text: &str) {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
    if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
        response
            .headers_mut()
            .append(HeaderName::from_static("warning"), value);
    }
}

/// The final answer of a write.
pub(super) fn respond(
    call: &Call<'_>,
    code: StatusCode,
    object: &Value,
    warnings: &[String],
) -> Response {
    let mut response = super::read::respond(call, code, object);
    for warning in warnings {
        warn(&mut response, warning);
    }
    response
}

/// Writes a new object and returns it as the path's version shows it.
pub(super) async fn insert(call: &Call<'_>, object: Value) -> Result<Value, ApiError> {
    let resource = &call.target.resource;
    let name = object["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let namespace = call.target.namespace();
    if call.options.dry_run {
        if call
            .api
            .store
            .get(&resource.storage, namespace, &name)
            .is_some()
        {
            return Err(ApiError::already_exists(resource, &name));
        }
        return Ok(object);
    }
    let stored = versions::store(resource, object);
    let written = call
        .api
        .store
        .create(&resource.storage, namespace, &name, stored)
        .await
        .map_err(|error| ApiError::of_store(error, resource, &name))?;
    super::custom::written(call.api, resource);
    Ok(versions::read(resource, &written.json))
}

/// Replaces an object whose revision is `expected`.
pub(super) async fn replace(
    call: &Call<'_>,
    expected: u64,
    object: Value,
) -> Result<Value, ApiError> {
    let resource = &call.target.resource;
    if call.options.dry_run {
        return Ok(object);
    }
    let (namespace, name) = (call.target.namespace(), call.target.name());
    let stored = versions::store(resource, object);
    let written = call
        .api
        .store
        .update(&resource.storage, namespace, name, expected, stored)
        .await
        .map_err(|error| ApiError::of_store(error, resource, name))?;
    super::custom::written(call.api, resource);
    Ok(versions::read(resource, &written.json))
}

/// Removes an object whose revision is `expected`; returns its last state.
pub(super) async fn remove_object(
    call: &Call<'_>,
    name: &str,
    namespace: &str,
    expected: u64,
) -> Result<(), ApiError> {
    let resource = &call.target.resource;
    if call.options.dry_run {
        return Ok(());
    }
    let removed = call.api.store.get(&resource.storage, namespace, name);
    call.api
        .store
        .delete(&resource.storage, namespace, name, expected)
        .await
        .map_err(|error| ApiError::of_store(error, resource, name))?;
    super::custom::written(call.api, resource);
    if let Some(removed) = removed {
        super::dependents::collect(call.api, &removed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patches_are_quoted_as_go_prints_them() {
        let patch = json!({"metadata": null, "dataa": {"a": [1, "b"]}});
        assert_eq!(go_text(&patch), "map[dataa:map[a:[1 b]] metadata:<nil>]");
    }

    #[test]
    fn null_is_absence() {
        let mut object = json!({"a": {"b": [{"d": 2}]}, "e": null, "f": [{"g": null}]});
        remove_nulls(&mut object);
        assert_eq!(object, json!({"a": {"b": [{"d": 2}]}, "f": [{}]}));
    }
}
