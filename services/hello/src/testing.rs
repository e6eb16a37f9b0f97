//! Asking a router without a network.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use dojo_kit::{Identity, Kit};
use tower::ServiceExt as _;

/// Sends a request without a body; the status, the content type and the body of the answer.
pub(crate) async fn ask(router: &Router, method: &str, path: &str) -> (u16, String, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(Body::empty())
        .expect("a request");
    let response = router.clone().oneshot(request).await.expect("an answer");
    let (parts, body) = response.into_parts();
    let kind = parts
        .headers
        .get("content-type")
        .map_or("", |value| value.to_str().expect("text"))
        .to_owned();
    let body = to_bytes(body, 1 << 20).await.expect("a body");
    (
        parts.status.as_u16(),
        kind,
        String::from_utf8(body.to_vec()).expect("text"),
    )
}

/// The kit of a service in a pod of this name.
pub(crate) fn kit(service: &'static str, version: &str, pod: Option<&str>) -> Kit {
    let identity = Identity {
        service,
        version: version.to_owned(),
        pod: pod.map(str::to_owned),
    };
    Kit::new(identity, None).expect("a client")
}
