//! A server for the tools' tests, on a free port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect};
use axum::routing::{any, get};
use tokio::net::TcpListener;

/// Listens in the background as long as the test's runtime lives.
///
/// `/` answers with what was asked, `/odd` refuses every second request, `/slow` takes a minute,
/// `/fail` is always 500, `/moved` leads to `/`.
pub(crate) async fn start() -> SocketAddr {
    let count = Arc::new(AtomicUsize::new(0));
    let router = Router::new()
        .route("/odd", any(odd))
        .route("/slow", any(|| tokio::time::sleep(Duration::from_secs(60))))
        .route(
            "/fail",
            any(|| async { (StatusCode::INTERNAL_SERVER_ERROR, "broken") }),
        )
        .route("/moved", get(|| async { Redirect::to("/?moved") }))
        .fallback(tell)
        .with_state(count);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, service).await.expect("serving");
    });
    address
}

async fn odd(State(count): State<Arc<AtomicUsize>>) -> StatusCode {
    match count.fetch_add(1, Ordering::Relaxed) % 2 {
        0 => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn tell(
    axum::extract::ConnectInfo(peer): axum::extract::ConnectInfo<SocketAddr>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> impl IntoResponse {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let text = format!(
        "{{\"method\":\"{method}\",\"uri\":\"{uri}\",\"host\":\"{host}\",\"peer\":\"{}\",\"body\":{}}}",
        peer.ip(),
        if body.is_empty() { "null" } else { &body }
    );
    ([(header::CONTENT_TYPE, "application/json")], text)
}
