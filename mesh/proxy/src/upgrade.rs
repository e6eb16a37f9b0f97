//! Leaving HTTP: who may, and after a 101 both connections carry bytes.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Version, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use crate::{exchange::Exchange, pool::Lease, response_body::ResponseBody};

/// The client asks to leave HTTP.
pub(crate) struct Upgrade {
    pub(crate) protocol: HeaderValue,
    pub(crate) downstream: hyper::upgrade::OnUpgrade,
}

/// Takes the means to leave HTTP out of a request that asks for it.
pub(crate) fn take(request: &mut Request<Incoming>) -> Option<Upgrade> {
    let protocol = asked(request.version(), request.headers())?;
    if !is_websocket(protocol) {
        return None;
    }
    let protocol = protocol.clone();
    let downstream = hyper::upgrade::on(request);
    Some(Upgrade {
        protocol,
        downstream,
    })
}

/// The client asks for something else than a WebSocket.
pub(crate) fn is_refused(version: Version, headers: &HeaderMap) -> bool {
    asked(version, headers).is_some_and(|protocol| !is_websocket(protocol))
}

fn is_websocket(protocol: &HeaderValue) -> bool {
    protocol.as_bytes().eq_ignore_ascii_case(b"websocket")
}

/// What a client wants to speak instead of HTTP/1.1. HTTP/2 asked for in this way is not given, but
/// the request is answered.
fn asked(version: Version, headers: &HeaderMap) -> Option<&HeaderValue> {
    let protocol = headers.get(header::UPGRADE)?;
    let listed = headers.get(header::CONNECTION)?.to_str().ok()?;
    let asked = listed
        .split(',')
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    let h2c = protocol.as_bytes().eq_ignore_ascii_case(b"h2c");
    (version == Version::HTTP_11 && asked && !h2c).then_some(protocol)
}

/// Passes the upstream's 101 on and joins the two connections. The exchange ends with them.
pub(crate) fn switch(
    mut response: Response<Incoming>,
    upgrade: Upgrade,
    lease: Lease,
    mut exchange: Box<Exchange>,
) -> Response<ResponseBody> {
    let upstream = hyper::upgrade::on(&mut response);
    exchange.http().downstream_cx_upgrades_total.add(1);
    tokio::task::spawn_local(async move {
        // Held so that the connection is not taken for idle.
        let _lease = lease;
        if let (Ok(downstream), Ok(upstream)) = tokio::join!(upgrade.downstream, upstream) {
            let (mut downstream, mut upstream) = (TokioIo::new(downstream), TokioIo::new(upstream));
            let copied = tokio::io::copy_bidirectional(&mut downstream, &mut upstream).await;
            // Either side may close as it likes.
            if let Ok((_, sent)) = copied {
                exchange.response_body_bytes = sent;
            }
        }
        exchange.complete = true;
    });
    let (mut parts, _) = response.into_parts();
    parts.headers.insert(header::UPGRADE, upgrade.protocol);
    let connection = HeaderValue::from_static("upgrade");
    parts.headers.insert(header::CONNECTION, connection);
    Response::from_parts(parts, ResponseBody::detached(Bytes::new()))
}
