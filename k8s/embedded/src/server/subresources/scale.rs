//! `scale`: replicas of anything that has them, in one form.

use crate::gvk::Gvk;
use crate::server::{Call, answer, body, read, update, write};
use crate::status::{ApiError, Cause};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

/// Attempts to scale an object that others change.
const ATTEMPTS: usize = 10;

pub(super) async fn run(call: &Call<'_>, verb: &str, body: Bytes) -> Result<Response, ApiError> {
    for attempt in 1.. {
        let (stored, live) = read::stored(call)?;
        let scale = of(call, &live);
        if verb == "get" {
            return Ok(answer::json(StatusCode::OK, &scale));
        }
        let mut wanted = match (verb, call.media_type) {
            ("update", media_type) => body::object(media_type, &body)?,
            (_, "application/json-patch+json") => {
                crate::patch::json(&scale, &body::json(&body)?)
                    .map_err(|error| ApiError::bad_request(error.to_string()))?
            }
            (_, "application/apply-patch+yaml") => crate::patch::merge(&scale, &body::yaml(&body)?),
            _ => crate::patch::merge(&scale, &body::json(&body)?),
        };
        write::check_gvk(&kind(), &mut wanted)?;
        let replicas = replicas(call, &wanted)?;
        let version = wanted["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default();
        let conditional = body_names_version(&body);
        let current = live["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default();
        if conditional && !version.is_empty() && version != current {
            return Err(ApiError::modified(
                &call.target.resource,
                call.target.name(),
            ));
        }
        let mut object = live.clone();
        let path = path(call, "specReplicasPath", "/spec/replicas");
        set(&mut object, &path, replicas.into());
        match update::change(call, &live, object, stored.revision, None, Some("scale")).await {
            Err(error) if error.reason == "Conflict" && !conditional && attempt < ATTEMPTS => {}
            result => {
                let (object, _) = result?;
                return Ok(answer::json(StatusCode::OK, &of(call, &object)));
            }
        }
    }
    unreachable!("the loop returns at the last attempt")
}

fn kind() -> Gvk {
    Gvk::new("autoscaling", "v1", "Scale")
}

fn body_names_version(body: &Bytes) -> bool {
    serde_json::from_slice::<Value>(body)
        .is_ok_and(|body| body["metadata"]["resourceVersion"].is_string())
}

/// Where a custom resource keeps a figure, as a JSON pointer.
fn path(call: &Call<'_>, key: &str, builtin: &str) -> String {
    match call
        .target
        .resource
        .custom()
        .and_then(|kind| kind.scale.as_ref())
    {
        Some(scale) => scale[key].as_str().unwrap_or_default().replace('.', "/"),
        None => builtin.to_owned(),
    }
}

fn set(object: &mut Value, pointer: &str, value: Value) {
    let mut place = object;
    for key in pointer.split('/').skip(1) {
        place = &mut place[key];
    }
    *place = value;
}

fn replicas(call: &Call<'_>, scale: &Value) -> Result<i64, ApiError> {
    let replicas = match &scale["spec"]["replicas"] {
        Value::Null => 0,
        value => value.as_i64().ok_or_else(|| {
            ApiError::bad_request(
                "Scale in version \"v1\" cannot be handled as a Scale: spec.replicas is not an integer",
            )
        })?,
    };
    if replicas < 0 {
        let cause = Cause {
            reason: "FieldValueInvalid".into(),
            message: format!("Invalid value: {replicas}: must be greater than or equal to 0"),
            field: "spec.replicas".into(),
        };
        return Err(ApiError::invalid(&kind(), call.target.name(), vec![cause]));
    }
    Ok(replicas)
}

/// The Scale of an object.
fn of(call: &Call<'_>, object: &Value) -> Value {
    let at = |key: &str, builtin: &str| {
        object
            .pointer(&path(call, key, builtin))
            .and_then(Value::as_i64)
            .unwrap_or(0)
    };
    let metadata = &object["metadata"];
    let selector = match call.target.resource.custom() {
        Some(_) => object
            .pointer(&path(call, "labelSelectorPath", ""))
            .and_then(Value::as_str)
            .map(str::to_owned),
        None => Some(selector(&object["spec"]["selector"])),
    };
    let mut status = json!({"replicas": at("statusReplicasPath", "/status/replicas")});
    if let Some(selector) = selector.filter(|selector| !selector.is_empty()) {
        status["selector"] = selector.into();
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {"replicas": at("specReplicasPath", "/spec/replicas")},
        "status": status,
    })
}

/// A label selector as text.
fn selector(selector: &Value) -> String {
    let mut parts: Vec<String> = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    for expression in selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let key = expression["key"].as_str().unwrap_or_default();
        let values: Vec<&str> = expression["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let values = values.join(",");
        parts.push(match expression["operator"].as_str() {
            Some("In") => format!("{key} in ({values})"),
            Some("NotIn") => format!("{key} notin ({values})"),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    parts.join(",")
}
