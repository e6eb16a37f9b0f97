//! `pods/log`: asked of the node.

use crate::node::{LogOptions, NodeError};
use crate::server::{ApiError, Call, Cause, answer, read};
use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use serde_json::Value;

pub(super) async fn run(call: &Call<'_>) -> Result<Response, ApiError> {
    let (_, pod) = read::stored(call)?;
    let options = options(call)?;
    let container = container(&pod, call.options.get("container"))?;
    let (namespace, name) = (call.target.namespace(), call.target.name());
    let Some(node) = call.api.node.get() else {
        return Err(ApiError::internal("this cluster has no node"));
    };
    let stream = node
        .logs(namespace, name, &container, options)
        .await
        .map_err(|error| match error {
            NodeError::BadRequest(message) => ApiError::bad_request(message),
            NodeError::NotFound(message) => {
                ApiError::new(StatusCode::NOT_FOUND, "NotFound", message)
            }
            NodeError::Internal(message) => ApiError::internal(message),
        })?;
    Ok(answer::text(StatusCode::OK, Body::from_stream(stream)))
}

/// The container whose log is wanted; the only one when none is named.
fn container(pod: &Value, wanted: Option<&str>) -> Result<String, ApiError> {
    let names = |list: &str| -> Vec<String> {
        pod["spec"][list]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|container| container["name"].as_str().map(str::to_owned))
            .collect()
    };
    let (containers, init) = (names("containers"), names("initContainers"));
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    match wanted {
        Some(wanted) => {
            let exists = containers
                .iter()
                .chain(&init)
                .chain(&names("ephemeralContainers"))
                .any(|container| container == wanted);
            match exists {
                true => Ok(wanted.to_owned()),
                false => Err(ApiError::bad_request(format!(
                    "container {wanted} is not valid for pod {name}"
                ))),
            }
        }
        None if containers.len() == 1 => Ok(containers[0].clone()),
        None => {
            let mut choice = format!("choose one of: [{}]", containers.join(" "));
            if !init.is_empty() {
                choice.push_str(&format!(
                    " or one of the init containers: [{}]",
                    init.join(" ")
                ));
            }
            Err(ApiError::bad_request(format!(
                "a container name must be specified for pod {name}, {choice}"
            )))
        }
    }
}

fn options(call: &Call<'_>) -> Result<LogOptions, ApiError> {
    let query = call.options;
    let mut causes = Vec::new();
    let mut number = |name: &str, least: i64| -> Result<Option<i64>, ApiError> {
        let value = query.number(name)?;
        if let Some(value) = value.filter(|value| *value < least) {
            let bound = match least {
                0 => "must be greater than or equal to 0".to_owned(),
                least => format!("must be greater than or equal to {least}"),
            };
            causes.push(Cause {
                reason: "FieldValueInvalid".into(),
                message: format!("Invalid value: {value}: {bound}"),
                field: name.into(),
            });
        }
        Ok(value)
    };
    let since_seconds = number("sinceSeconds", 1)?;
    let tail_lines = number("tailLines", 0)?;
    let limit_bytes = number("limitBytes", 1)?;
    let since_time = query
        .get("sinceTime")
        .map(|text| {
            text.parse::<jiff::Timestamp>()
                .map_err(|error| ApiError::bad_request(format!("sinceTime: {error}")))
        })
        .transpose()?;
    if !causes.is_empty() {
        let kind = crate::gvk::Gvk::new("", "v1", "PodLogOptions");
        return Err(ApiError::invalid(&kind, call.target.name(), causes));
    }
    Ok(LogOptions {
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        timestamps: query.flag("timestamps"),
        since_seconds,
        since_time,
        tail_lines: tail_lines.and_then(|lines| u64::try_from(lines).ok()),
        limit_bytes: limit_bytes.and_then(|bytes| u64::try_from(bytes).ok()),
    })
}
