//! Asking a router without a network.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use dojo_kit::{Identity, Kit};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::{Bin, Style};

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("text"))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

/// The routes in the Go style.
pub(crate) fn go() -> Router {
    router(Style::Go)
}

/// The routes in the Python style.
pub(crate) fn python() -> Router {
    router(Style::Python)
}

fn router(style: Style) -> Router {
    let identity = Identity {
        service: "httpbin",
        version: "v1".into(),
        pod: Some("httpbin-1".into()),
    };
    let kit = Kit::new(identity, None).expect("a client");
    let bin = Bin {
        style,
        max_body: 1024 * 1024,
        max_duration: Duration::from_secs(10),
        real_hostname: true,
    };
    crate::router(&kit, bin)
}

/// GETs a path.
pub(crate) async fn get(path: &str) -> Answer {
    send(&go(), "GET", path, &[], "").await
}

/// Sends a request with a text.
pub(crate) async fn send(
    router: &Router,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    ask(router, method, path, headers, body.as_bytes().to_vec()).await
}

/// Sends any request.
pub(crate) async fn ask(
    router: &Router,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Answer {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "bin:8000");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body)).expect("a request");
    let response = router.clone().oneshot(request).await.expect("an answer");
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, 16 << 20).await.expect("a body").to_vec();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: String::from_utf8_lossy(&bytes).into_owned(),
        bytes,
    }
}
