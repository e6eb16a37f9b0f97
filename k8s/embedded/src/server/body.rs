//! Bodies of requests: bounded, decoded from JSON, YAML or Kubernetes' protobuf.

use super::BODY_LIMIT;
use super::answer::MEDIA_TYPES;
use crate::status::ApiError;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

/// Reads a body of at most [`BODY_LIMIT`] bytes.
pub(super) async fn read(body: Body) -> Result<Bytes, ApiError> {
    match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::too_large(BODY_LIMIT)),
        Err(error) => Err(ApiError::bad_request(format!(
            "the body could not be read: {error}"
        ))),
    }
}

/// The media type of a body, without parameters.
pub(super) fn media_type(headers: &HeaderMap) -> &str {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map_or("", str::trim)
}

/// Decodes an object.
pub(super) fn object(media_type: &str, body: &Bytes) -> Result<Value, ApiError> {
    let object = match media_type {
        "" | "application/json" => json(body)?,
        "application/yaml" => yaml(body)?,
        "application/vnd.kubernetes.protobuf" => protobuf(body)?,
        other => return Err(ApiError::unsupported_media_type(other, MEDIA_TYPES)),
    };
    if !object.is_object() {
        return Err(ApiError::bad_request(
            "the object provided is unrecognized (must be of type object)",
        ));
    }
    Ok(object)
}

/// Decodes JSON.
pub(super) fn json(body: &Bytes) -> Result<Value, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("the body is not valid JSON: {error}")))
}

/// Decodes YAML, of which JSON is a part.
pub(super) fn yaml(body: &Bytes) -> Result<Value, ApiError> {
    if body.first() == Some(&b'{') {
        return json(body);
    }
    serde_norway::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("error decoding YAML: {error}")))
}

fn protobuf(body: &Bytes) -> Result<Value, ApiError> {
    crate::protobuf::decode(body).map_err(|error| ApiError::bad_request(error.to_string()))
}
