//! Asking a router without a network, and routers with one.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, header};
use dojo_kit::{Identity, Kit};
use tower::ServiceExt as _;

use crate::upstream::Upstream;

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// Checks that this is an error in its five fields.
    pub(crate) fn is_error(&self, status: u16, error: &str, message: &str, path: &str) {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.content_type, "application/json;charset=UTF-8");
        let json = self.json();
        let timestamp = json["timestamp"].as_str().expect("a text");
        let shape: String = timestamp
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000+0000");
        let rest = self.body.split_once(',').expect("fields").1;
        assert_eq!(
            rest,
            format!(
                r#""status":{status},"error":"{error}","message":"{message}","path":"{path}"}}"#
            )
        );
    }
}

/// GETs a path.
pub(crate) async fn get(router: &Router, path: &str) -> Answer {
    send(router, Method::GET, path, "", &[]).await
}

/// Sends any request.
pub(crate) async fn send(
    router: &Router,
    method: Method,
    path: &str,
    body: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Body::from(body.to_owned()))
        .expect("a request");
    let response = router
        .clone()
        .oneshot(request)
        .await
        .expect("routers do not fail");
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 22).await.expect("a whole body");
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

/// The kit of a service.
pub(crate) fn kit(service: &'static str) -> Kit {
    let identity = Identity {
        service,
        version: "v1".into(),
        pod: None,
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

/// The same, as an address to call.
pub(crate) async fn upstream(router: Router) -> Upstream {
    address(serve(router).await)
}

/// An address that nobody listens at.
pub(crate) async fn nobody() -> Upstream {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    address(listener.local_addr().expect("an address").port())
}

fn address(port: u16) -> Upstream {
    format!("http://127.0.0.1:{port}")
        .parse()
        .expect("an address")
}

/// A port of loopback that accepts connections and never answers.
pub(crate) async fn silence() -> u16 {
    serve(Router::new().fallback(std::future::pending::<()>)).await
}
