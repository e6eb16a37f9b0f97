//! `pods/log`: asked of the node.

use super::container;
use crate::node::LogOptions;
use crate::server::{Call, answer, read};
use crate::status::{ApiError, Cause};
use axum::body::Body;
use axum::response::Response;
use http::StatusCode;

pub(super) async fn run(call: &Call<'_>) -> Result<Response, ApiError> {
    let (_, pod) = read::stored(call)?;
    let options = options(call)?;
    let container = container::choose(&pod, call.options.get("container"))?;
    let (namespace, name) = (call.target.namespace(), call.target.name());
    let Some(node) = call.api.node.get() else {
        return Err(ApiError::internal("this cluster has no node"));
    };
    let stream = node
        .logs(namespace, name, &container, options)
        .await
        .map_err(super::of_node)?;
    Ok(answer::text(StatusCode::OK, Body::from_stream(stream)))
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
