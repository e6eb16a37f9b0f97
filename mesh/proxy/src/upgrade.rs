//! Leaving HTTP: after a 101 both connections carry bytes.

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use crate::{body::ResponseBody, exchange::Exchange, pool::Lease, request::Upgrade};

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
