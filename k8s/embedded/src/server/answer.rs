//! Forms of an answer: JSON, Tables, metadata alone.

use crate::status::ApiError;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

/// What a client asked for in `Accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The object itself.
    Object,
    /// `meta.k8s.io/v1` Table: what `kubectl get` prints.
    Table,
    /// The metadata of an object or of each item.
    Metadata,
}

/// The media types that this server speaks, as messages name them.
pub(super) const MEDIA_TYPES: &str =
    "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// The first form in `Accept` that this server has. Protobuf is never answered: every client that
/// asks for it takes JSON too.
pub(super) fn form(headers: &HeaderMap) -> Result<Form, ApiError> {
    let Some(accept) = headers.get(header::ACCEPT) else {
        return Ok(Form::Object);
    };
    let accept = accept.to_str().unwrap_or_default();
    for part in accept.split(',') {
        let mut parameters = part.split(';').map(str::trim);
        let media_type = parameters.next().unwrap_or_default();
        if !matches!(
            media_type,
            "application/json" | "application/*" | "*/*" | ""
        ) {
            continue;
        }
        let (mut form, mut known) = (Form::Object, true);
        for parameter in parameters {
            match parameter.split_once('=') {
                Some(("as", "Table")) => form = Form::Table,
                Some(("as", "PartialObjectMetadata" | "PartialObjectMetadataList")) => {
                    form = Form::Metadata;
                }
                Some(("as", _)) => known = false,
                Some(("v", version)) => known &= version == "v1",
                Some(("g", group)) => known &= group == "meta.k8s.io",
                _ => {}
            }
        }
        if known {
            return Ok(form);
        }
    }
    Err(ApiError::not_acceptable(MEDIA_TYPES))
}

/// A JSON answer: compact, with a final newline.
pub(super) fn json(code: StatusCode, value: &Value) -> Response {
    // maps with string keys and plain values always serialize
    let mut body = serde_json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    raw(code, body)
}

/// An answer that is JSON already.
pub(super) fn raw(code: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    response
}

/// A plain text answer.
pub(super) fn text(code: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// The metadata of an object.
pub(super) fn metadata_only(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}
