//! Errors in the shape of Spring Boot 2.1: `timestamp`, `status`, `error`, `message`, `path`.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use serde_json::json;

use crate::JSON;

/// The largest body, in bytes.
pub const MAX_BODY: usize = 16 * 1024;

/// Why a request is not served. It becomes JSON in [`dress`], where the path is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The status of the answer.
    pub status: StatusCode,
    /// The `message` of the answer.
    pub message: String,
}

impl Problem {
    /// A problem with this status and message.
    #[must_use]
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// A resource that is not there.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "No message available")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Middleware that writes every error answer in Spring's shape: problems of handlers, and what the
/// router itself refuses (unknown path, wrong method, too large a body).
pub async fn dress(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let response = if announces_too_much(request.headers()) {
        StatusCode::PAYLOAD_TOO_LARGE.into_response()
    } else {
        next.run(request).await
    };
    let status = response.status();
    let message = match response.extensions().get::<Problem>() {
        Some(problem) => problem.message.clone(),
        None => match status {
            StatusCode::METHOD_NOT_ALLOWED => format!("Request method '{method}' not supported"),
            StatusCode::PAYLOAD_TOO_LARGE => "The body is too large".to_owned(),
            StatusCode::NOT_FOUND => "No message available".to_owned(),
            _ => return response,
        },
    };
    let document = json!({
        "timestamp": timestamp(),
        "status": status.as_u16(),
        "error": status.canonical_reason().unwrap_or("None"),
        "message": message,
        "path": path,
    });
    let allow = response.headers().get(ALLOW).cloned();
    let mut dressed = (status, [(CONTENT_TYPE, JSON)], document.to_string()).into_response();
    if let Some(allow) = allow {
        dressed.headers_mut().insert(ALLOW, allow);
    }
    dressed
}

/// Whether a body is known to be too large before any of it is read: a client that asks first
/// (`Expect: 100-continue`) then need not send it.
fn announces_too_much(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
        .is_some_and(|length| length > MAX_BODY as u64)
}

/// Now, as Spring Boot 2.1 writes it: `2023-11-13T05:31:22.565+0000`.
#[must_use]
pub fn timestamp() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S.%3f+0000")
        .to_string()
}

#[cfg(test)]
mod tests {
    #[test]
    fn time_stamps_have_milliseconds_and_a_zone_without_colon() {
        let text = super::timestamp();
        assert_eq!(text.len(), "2023-11-13T05:31:22.565+0000".len(), "{text}");
        assert_eq!((&text[10..11], &text[19..20]), ("T", "."), "{text}");
        assert!(text.ends_with("+0000"), "{text}");
    }
}
