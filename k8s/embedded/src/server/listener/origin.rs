//! Requests from web pages are refused: a page may make a browser speak to this server under a name
//! that the page's owner chose (DNS rebinding), or under ours with an origin that is not ours.

use crate::status::ApiError;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::uri::Authority;
use http::{StatusCode, header};
use std::net::IpAddr;

/// Names of this server besides loopback addresses.
const NAMES: [&str; 5] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

pub(super) async fn layer(request: Request, next: Next) -> Response {
    match stranger(&request) {
        None => next.run(request).await,
        Some((header, value)) => {
            let message = format!(
                "forbidden: header {header} names {value:?}: this API server answers under loopback addresses and the name localhost only"
            );
            ApiError::new(StatusCode::FORBIDDEN, "Forbidden", message).into_response()
        }
    }
}

/// The header by which a request shows that it was not meant for us.
fn stranger(request: &Request) -> Option<(&'static str, String)> {
    let text = |name| {
        let value = request.headers().get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let host = match request.uri().authority() {
        Some(authority) => authority.to_string(),
        None => text(header::HOST).unwrap_or_default(),
    };
    if !is_ours(&host) {
        return Some(("Host", host));
    }
    let origin = text(header::ORIGIN)?;
    let page = origin.split_once("://").map_or("", |(_, host)| host);
    (!is_ours(page)).then_some(("Origin", origin))
}

fn is_ours(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    match address.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => NAMES.iter().any(|name| host.eq_ignore_ascii_case(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_served() {
        for host in [
            "127.0.0.1:6443",
            "127.20.0.1",
            "[::1]:6443",
            "LocalHost:1",
            "kubernetes.default.svc",
        ] {
            assert!(is_ours(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example:6443",
            "10.0.0.1",
            "localhost.evil",
        ] {
            assert!(!is_ours(host), "{host}");
        }
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        let request = |origin: Option<&str>| {
            let mut request = http::Request::get("/api").header("host", "127.0.0.1:6443");
            if let Some(origin) = origin {
                request = request.header("origin", origin);
            }
            stranger(&request.body(axum::body::Body::empty()).unwrap())
        };
        assert_eq!(request(None), None);
        assert_eq!(request(Some("http://127.0.0.1:8080")), None);
        assert!(request(Some("https://evil.example")).is_some());
        assert!(request(Some("null")).is_some());
    }
}
