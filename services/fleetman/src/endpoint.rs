//! What the endpoints of the services have in common: how paths are read, and how errors look.
//!
//! Paths are matched segment by segment with empty segments left out, so that `//vehicles/` is
//! `/vehicles`: the web server in front of the gateway doubles slashes. Errors have the five fields
//! that labs look for.

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use crate::timestamp::Timestamp;

/// The content type of all JSON.
const JSON: &str = "application/json;charset=UTF-8";
/// The largest body of a request, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// A request, read to its end.
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// The path as the client wrote it.
    pub(crate) path: String,
    /// Its segments, decoded; empty ones are left out.
    pub(crate) segments: Vec<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Asked {
    /// Reads a request.
    ///
    /// # Errors
    /// The answer to give when it is too large, breaks off, or has a path that is no text.
    pub(crate) async fn read(request: Request) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let Some(segments) = segments(&path) else {
            let problem = "the path is not percent-encoded UTF-8";
            return Err(error(StatusCode::BAD_REQUEST, problem, &path));
        };
        let body = axum::body::to_bytes(body, MAX_BODY).await.map_err(|_| {
            let problem = format!("the body is larger than {MAX_BODY} bytes, or broke off");
            error(StatusCode::PAYLOAD_TOO_LARGE, &problem, &path)
        })?;
        Ok(Self {
            method: parts.method,
            path,
            segments,
            headers: parts.headers,
            body,
        })
    }

    /// The segments as a pattern can match them.
    pub(crate) fn segments(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }

    /// The answer to an error in this request.
    pub(crate) fn error(&self, status: StatusCode, message: &str) -> Response {
        error(status, message, &self.path)
    }

    /// The answer to a path that there is not.
    pub(crate) fn not_found(&self) -> Response {
        self.error(StatusCode::NOT_FOUND, "No message available")
    }

    /// The answer to a method that the path does not know; `allowed` are those it does.
    pub(crate) fn method_not_allowed(&self, allowed: &'static str) -> Response {
        let message = format!("Request method '{}' not supported", self.method);
        let mut response = self.error(StatusCode::METHOD_NOT_ALLOWED, &message);
        response
            .headers_mut()
            .insert(header::ALLOW, header::HeaderValue::from_static(allowed));
        response
    }

    /// Whether this is a GET, or a HEAD (whose answer loses its body on the way out).
    pub(crate) fn is_get(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }
}

/// `GET /health` of every service.
pub(crate) fn healthy() -> Response {
    json_text(r#"{"status":"UP"}"#)
}

/// 200 with this JSON.
pub(crate) fn json(value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => json_text(text),
        Err(problem) => error(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("the answer cannot be written: {problem}"),
            "",
        ),
    }
}

/// 200 with JSON that is text already.
pub(crate) fn json_text(text: impl Into<axum::body::Body>) -> Response {
    ([(header::CONTENT_TYPE, JSON)], text.into()).into_response()
}

/// An error, in its five fields.
pub(crate) fn error(status: StatusCode, message: &str, path: &str) -> Response {
    #[derive(Serialize)]
    struct Problem<'a> {
        timestamp: Timestamp,
        status: u16,
        error: &'a str,
        message: &'a str,
        path: &'a str,
    }
    let mut response = json(&Problem {
        timestamp: Timestamp::now(),
        status: status.as_u16(),
        error: status.canonical_reason().unwrap_or("Unknown"),
        message,
        path,
    });
    *response.status_mut() = status;
    response
}

/// The segments of a path, decoded; none when one is not UTF-8.
fn segments(path: &str) -> Option<Vec<String>> {
    path.split('/')
        .filter(|segment| !segment.is_empty())
        .map(decoded)
        .collect()
}

fn decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let byte = if *first == b'%' {
            let [high, low, tail @ ..] = rest else {
                return None;
            };
            rest = tail;
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?
        } else {
            *first
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_are_merged_and_segments_decoded() {
        assert_eq!(
            segments("//vehicles///driver/City%20Truck/"),
            Some(vec![
                "vehicles".into(),
                "driver".into(),
                "City Truck".into()
            ])
        );
        assert_eq!(segments("/"), Some(vec![]));
        assert_eq!(segments("/a%2Fb"), Some(vec!["a/b".into()]));
        for path in ["/%", "/%2", "/%zz", "/%ff"] {
            assert_eq!(segments(path), None, "{path}");
        }
    }

    #[tokio::test]
    async fn a_huge_body_is_refused() {
        let request = Request::post("/x")
            .body(vec![b' '; MAX_BODY + 1].into())
            .expect("a request");
        let Err(answer) = Asked::read(request).await else {
            panic!("too large");
        };
        assert_eq!(answer.status(), 413);
    }
}
