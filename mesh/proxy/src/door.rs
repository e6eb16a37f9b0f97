//! The door: requests that name their destination, as clients do that speak to an HTTP proxy.

use std::{cell::OnceCell, rc::Rc};

use bytes::Bytes;
use http::{Request, Response, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use mesh_config::Accept;

use crate::{
    body::ResponseBody,
    codec,
    config::{Destination, Http, Listener, without_port},
    request::Downstream,
    stats::istio::PrincipalId,
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

/// Answers `CONNECT` and treats what follows as a connection to the destination.
pub(crate) fn tunnel(
    connection: &Rc<Downstream>,
    destination: Destination,
    request: &mut Request<Incoming>,
) -> Response<ResponseBody> {
    let upgrade = hyper::upgrade::on(request);
    let inner = Rc::new(Downstream {
        worker: connection.worker.clone(),
        listener: connection.listener.clone(),
        remote: connection.remote,
        local: connection.local,
        destination: Some(destination),
        hello: OnceCell::new(),
        peer: None,
        principal: PrincipalId::NONE,
        encrypted: false,
    });
    tokio::task::spawn_local(async move {
        if let Ok(upgraded) = upgrade.await {
            codec::serve(TokioIo::new(upgraded), inner).await;
        }
    });
    Response::new(ResponseBody::detached(Bytes::new()))
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
