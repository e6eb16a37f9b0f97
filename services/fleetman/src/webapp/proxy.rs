//! The way to the gateway.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use dojo_kit::server::Connection;
use futures::StreamExt as _;
use futures::stream::{self, Stream};

use super::error_page;
use crate::upstream::{self, Upstream};

/// How long the gateway may be silent, before its answer or within it.
const READ_TIMEOUT: Duration = Duration::from_secs(90);
/// The largest body of a request, in bytes.
const MAX_BODY: usize = 1024 * 1024;

/// Headers of one connection, which are not passed on.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Forwards a request for `/api/...`. Bodies of answers stream; they are never held.
pub(super) async fn forward(
    client: &reqwest::Client,
    gateway: &Upstream,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let peer = parts
        .extensions
        .get::<Connection>()
        .and_then(Connection::peer);
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
        return error_page(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let target = target(
        gateway,
        parts.uri.path_and_query().map_or("", |path| path.as_str()),
    );
    let mut headers = outgoing(
        parts.headers,
        peer.map(|peer| peer.ip().to_string()).as_deref(),
    );
    if let Ok(host) = HeaderValue::from_str(gateway.host()) {
        headers.insert(header::HOST, host);
    }
    let sent = client
        .request(parts.method, &target)
        .headers(headers)
        .body(body)
        .send();
    match tokio::time::timeout(READ_TIMEOUT, sent).await {
        Ok(Ok(answer)) => pass_on(answer),
        Ok(Err(error)) => {
            tracing::error!("cannot ask {target}: {}", upstream::cause(&error));
            error_page(StatusCode::BAD_GATEWAY)
        }
        Err(_) => {
            tracing::error!(
                "no answer from {target} within {} s",
                READ_TIMEOUT.as_secs()
            );
            error_page(StatusCode::GATEWAY_TIMEOUT)
        }
    }
}

/// The gateway's address of a path. What follows `/api` is added to an address that ends in a slash
/// already: the double slash is what the upstream image sends, and labs see it in errors.
fn target(gateway: &Upstream, path: &str) -> String {
    let rest = path.strip_prefix("/api").unwrap_or(path);
    format!("{gateway}/{rest}")
}

/// The headers to send, given those that came and the address they came from.
fn outgoing(mut headers: HeaderMap, peer: Option<&str>) -> HeaderMap {
    drop_hop_by_hop(&mut headers);
    // The body has been read; the client writes its length anew.
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::EXPECT);
    let scheme = HeaderValue::from_static("http");
    headers.insert(HeaderName::from_static("x-forwarded-proto"), scheme);
    let Some(peer) = peer else { return headers };
    let forwarded_for = HeaderName::from_static("x-forwarded-for");
    let mut addresses: Vec<_> = headers
        .get_all(&forwarded_for)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    addresses.push(peer);
    // Addresses that came in a header, joined by what a header may have, and one of our own.
    if let (Ok(all), Ok(peer)) = (addresses.join(", ").parse(), peer.parse()) {
        headers.insert(forwarded_for, all);
        headers.insert(HeaderName::from_static("x-real-ip"), peer);
    }
    headers
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

fn pass_on(mut answer: reqwest::Response) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    drop_hop_by_hop(response.headers_mut());
    // The web server's own pod is put there instead.
    response.headers_mut().remove(dojo_kit::SERVED_BY);
    *response.body_mut() = Body::from_stream(timed(answer.bytes_stream()));
    response
}

/// The same pieces; an error when one is too long in coming.
fn timed(
    pieces: impl Stream<Item = reqwest::Result<Bytes>> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    stream::unfold(Some(Box::pin(pieces)), |pieces| async {
        let mut pieces = pieces?;
        match tokio::time::timeout(READ_TIMEOUT, pieces.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some(pieces))),
            Ok(Some(Err(error))) => Some((Err(std::io::Error::other(error)), None)),
            Err(late) => Some((Err(late.into()), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_goes_and_a_slash_stays() {
        let gateway: Upstream = "http://fleetman-api-gateway:8080"
            .parse()
            .expect("an address");
        for (path, expected) in [
            (
                "/api/vehicles/driver/City%20Truck",
                "//vehicles/driver/City%20Truck",
            ),
            ("/api/vehicles/?since=1", "//vehicles/?since=1"),
            ("/api/", "//"),
        ] {
            assert_eq!(
                target(&gateway, path),
                format!("http://fleetman-api-gateway:8080{expected}")
            );
        }
    }

    #[test]
    fn headers_of_the_connection_stay_and_addresses_are_added() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, x-private"),
            ("x-private", "1"),
            ("upgrade", "websocket"),
            ("content-length", "5"),
            ("x-my-header", "canary"),
            ("x-forwarded-for", "10.0.0.1"),
        ] {
            headers.append(name, value.parse().expect("a value"));
        }
        let sent = outgoing(headers, Some("10.0.0.2"));
        let mut names: Vec<_> = sent.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "x-forwarded-for",
                "x-forwarded-proto",
                "x-my-header",
                "x-real-ip"
            ]
        );
        assert_eq!(sent["x-forwarded-for"], "10.0.0.1, 10.0.0.2");
        assert_eq!(sent["x-real-ip"], "10.0.0.2");
        assert_eq!(sent["x-forwarded-proto"], "http");
    }
}
