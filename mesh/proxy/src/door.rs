//! The door: requests that name their destination, as clients do that speak to an HTTP proxy.

use http::{Method, Request, header};
use hyper::body::Incoming;
use mesh_config::Accept;

use crate::{
    config::{Destination, Http, Listener, without_port},
    downstream::Downstream,
    worker::Worker,
};

/// Where a request wants to go, if not simply to its listener.
pub(crate) fn destination(
    listener: &Listener,
    connection: &Downstream,
    request: &Request<Incoming>,
) -> Option<Destination> {
    if connection.destination.is_some() || listener.accept != Accept::HttpProxy {
        return connection.destination.clone();
    }
    let host = request.headers().get(header::HOST);
    let authority = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => host?.to_str().ok()?,
    };
    parse(authority, 80)
}

/// Where a `CONNECT` through the door wants to be brought.
pub(crate) fn tunnel(connection: &Downstream, request: &Request<Incoming>) -> Option<Destination> {
    if request.method() != Method::CONNECT || connection.destination.is_some() {
        return None;
    }
    destination(&connection.listener.load(), connection, request)
}

pub(crate) fn parse(authority: &str, default_port: u16) -> Option<Destination> {
    let authority = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = without_port(authority);
    let port = match authority[host.len()..].strip_prefix(':') {
        Some(port) => port.parse().ok()?,
        None => default_port,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some(Destination {
        host: host.to_ascii_lowercase().into(),
        port,
    })
}

/// The destination is the pod itself, which no mesh intercepts.
pub(crate) fn is_loopback(destination: &Destination) -> bool {
    matches!(&*destination.host, "localhost" | "127.0.0.1" | "::1")
}

/// Takes requests to the pod's own localhost.
pub(crate) fn loopback<'a>(worker: &'a Worker, destination: &Destination) -> Option<&'a Http> {
    is_loopback(destination).then_some(&worker.shared.loopback_http)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_become_destinations() {
        for (authority, host, port) in [
            ("reviews:9080", "reviews", 9080),
            ("Reviews", "reviews", 80),
            ("[::1]:15000", "::1", 15000),
            ("user@web:8000", "web", 8000),
            ("127.16.0.5:9080", "127.16.0.5", 9080),
        ] {
            let destination = parse(authority, 80).unwrap();
            assert_eq!((&*destination.host, destination.port), (host, port));
        }
        assert_eq!(parse("web:99999", 80), None);
    }
}
