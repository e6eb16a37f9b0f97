//! Asking a router without a network.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, header};
use dojo_kit::{Identity, Kit};
use tower::ServiceExt as _;

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// GETs a path.
pub(crate) async fn get(router: Router, path: &str) -> Answer {
    send(
        router,
        Request::get(path).body(Body::empty()).expect("a request"),
    )
    .await
}

/// POSTs a body.
pub(crate) async fn post(router: Router, path: &str, body: &str) -> Answer {
    send(
        router,
        Request::post(path)
            .body(Body::from(body.to_owned()))
            .expect("a request"),
    )
    .await
}

/// Sends any request.
pub(crate) async fn send(router: Router, request: Request<Body>) -> Answer {
    let response = router.oneshot(request).await.expect("routers do not fail");
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.expect("a whole body");
    Answer {
        status: parts.status.as_u16(),
        content_type: parts
            .headers
            .get(header::CONTENT_TYPE)
            .map_or("", |value| value.to_str().expect("text"))
            .to_owned(),
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).expect("text"),
    }
}

/// The kit of a service in a pod of this name.
pub(crate) fn kit(service: &'static str, pod: Option<&str>) -> Kit {
    let identity = Identity {
        service,
        version: "v1".into(),
        pod: pod.map(str::to_owned),
    };
    Kit::new(identity, None).expect("a client")
}

/// Serves a router on a free port of loopback for the rest of the test; returns the port.
pub(crate) async fn serve(router: Router) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(dojo_kit::server::serve(
        listener,
        router,
        std::future::pending(),
    ));
    port
}

/// A port of loopback that accepts connections and never answers.
pub(crate) async fn silence() -> u16 {
    serve(Router::new().fallback(std::future::pending::<()>)).await
}
