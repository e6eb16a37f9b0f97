//! Kubernetes `Status` answers: every way in which a request can fail.
//!
//! Those that name a resource are in [`crate::discovery`].

use crate::gvk::{Gvk, qualified};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

/// A failed request: becomes a `Status` object.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// HTTP status code.
    pub code: StatusCode,
    /// Machine-readable reason, e.g. `NotFound`; empty when Kubernetes gives none.
    pub reason: String,
    /// What a person reads.
    pub message: String,
    /// The object and the causes.
    pub details: Option<Box<Value>>,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
}

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, ...
    pub reason: String,
    /// What is wrong, with the value: `Invalid value: -1: must be greater than or equal to 0`.
    pub message: String,
    /// The field's path.
    pub field: String,
}

impl ApiError {
    /// An error with a code, a reason and a message.
    pub fn new(code: StatusCode, reason: &str, message: impl Into<String>) -> Self {
        ApiError {
            code,
            reason: reason.to_owned(),
            message: message.into(),
            details: None,
            retry_after: None,
        }
    }

    /// The object that it is about; empty parts are left out.
    pub(crate) fn about(mut self, name: &str, group: &str, kind: &str) -> Self {
        let mut details = Map::new();
        for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
            if !value.is_empty() {
                details.insert(key.into(), value.into());
            }
        }
        self.details = Some(Box::new(Value::Object(details)));
        self
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        ApiError::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    /// 404 of a namespace in which something was to be created.
    pub fn no_namespace(name: &str) -> Self {
        let message = format!("namespaces {name:?} not found");
        ApiError::new(StatusCode::NOT_FOUND, "NotFound", message).about(name, "", "namespaces")
    }

    /// 404 of a path below an object, or of a resource.
    pub fn no_resource() -> Self {
        let message = "the server could not find the requested resource";
        ApiError::new(StatusCode::NOT_FOUND, "NotFound", message).about("", "", "")
    }

    /// 501 of what Kubernetes has and this cluster has not.
    pub fn not_served(what: &str) -> Self {
        let message = format!("the embedded cluster does not serve {what} yet");
        ApiError::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message).about("", "", "")
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message).about("", "", "")
    }

    /// 406.
    pub fn not_acceptable(types: &str) -> Self {
        let message = format!("only the following media types are accepted: {types}");
        ApiError::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    /// 410: list again.
    pub fn expired(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::GONE, "Expired", message)
    }

    /// 413.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            message,
        )
    }

    /// 415.
    pub fn unsupported_media_type(found: &str, accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        );
        let _ = found;
        ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            message,
        )
    }

    /// 422 with the fields that are wrong. `name` may be empty (strict patches).
    pub fn invalid(gvk: &Gvk, name: &str, causes: Vec<Cause>) -> Self {
        let each: Vec<String> = causes
            .iter()
            .map(|cause| match cause.field.as_str() {
                "" => cause.message.clone(),
                field => format!("{field}: {}", cause.message),
            })
            .collect();
        let list = match each.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = match gvk.kind.as_str() {
            "" => format!("{name:?} is invalid: {list}"),
            kind => format!(
                "{} {name:?} is invalid: {list}",
                qualified(kind, &gvk.group)
            ),
        };
        let mut error = ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
            .about(name, &gvk.group, &gvk.kind);
        let causes: Vec<Value> = causes
            .into_iter()
            .map(|cause| json!({"reason": cause.reason, "message": cause.message, "field": cause.field}))
            .collect();
        if let Some(details) = &mut error.details {
            details["causes"] = Value::Array(causes);
        }
        error
    }

    /// 500 with a reason.
    pub fn internal(message: impl Into<String>) -> Self {
        let message = message.into();
        let mut error = ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            format!("Internal error occurred: {message}"),
        );
        error.details = Some(Box::new(json!({"causes": [{"message": message}]})));
        error
    }

    /// 500 without a reason: what Kubernetes answers to errors that it has not classified.
    pub fn unclassified(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "", message)
    }

    /// The `Status` object.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.as_str().into();
        }
        if let Some(details) = &self.details {
            status["details"] = Value::clone(details);
        }
        if let Some(seconds) = self.retry_after {
            status["details"]["retryAfterSeconds"] = seconds.into();
        }
        status["code"] = self.code.as_u16().into();
        status
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        // maps with string keys and plain values always serialize
        let mut body = serde_json::to_vec(&self.status()).unwrap_or_default();
        body.push(b'\n');
        let mut response = (self.code, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-cache, private"),
        );
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Now, in the form of `creationTimestamp`.
pub(crate) fn timestamp() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}
