//! An HTTP request on its way to an upstream, and the response back.

use super::dial::carry;
use bytes::Bytes;
use http::header::{
    CONNECTION, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use tokio::net::TcpStream;

pub(super) type Body = BoxBody<Bytes, hyper::Error>;

/// Headers that concern one connection only and are not sent on.
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// An answer of our own.
pub(super) fn answer(status: StatusCode, text: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("{text}\n")))
        .map_err(|never: Infallible| match never {})
        .boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// Why a request is not sent on.
pub(super) struct Refusal(pub(super) StatusCode, pub(super) String);

/// Sends a request on over a connection; upgrades are carried through. `to` names the upstream in
/// messages. `None`: the upstream ended the connection instead of answering.
pub(super) async fn pass(
    stream: TcpStream,
    mut request: Request<Incoming>,
    to: &str,
) -> Result<Option<Response<Body>>, Refusal> {
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
    let path = path
        .parse::<Uri>()
        .map_err(|error| Refusal(StatusCode::BAD_REQUEST, format!("bad path: {error}")))?;
    *request.uri_mut() = path;
    let upgrade = wants_upgrade(&request);
    strip(request.headers_mut(), upgrade);
    let failed = |error: hyper::Error| Refusal(StatusCode::BAD_GATEWAY, format!("{to}: {error}"));
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(64 << 10)
        .handshake::<_, Incoming>(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
    let client = upgrade.then(|| hyper::upgrade::on(&mut request));
    let mut response = match sender.send_request(request).await {
        Ok(response) => response,
        Err(error) if error.is_parse() || error.is_user() => return Err(failed(error)),
        Err(_) => return Ok(None),
    };
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if let (Some(client), true) = (client, switched) {
        let upstream = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            if let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) {
                // either side may end it at any time
                let _ = carry(&mut TokioIo::new(client), &mut TokioIo::new(upstream)).await;
            }
        });
    } else {
        strip(response.headers_mut(), false);
    }
    Ok(Some(response.map(BodyExt::boxed)))
}

fn wants_upgrade<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(UPGRADE)
        && request
            .headers()
            .get(CONNECTION)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| {
                v.split(',')
                    .any(|word| word.trim().eq_ignore_ascii_case("upgrade"))
            })
}

/// Takes off what concerns this connection only. Bodies are framed anew by hyper.
fn strip(headers: &mut http::HeaderMap, keep_upgrade: bool) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|word| word.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        if keep_upgrade && (*name == CONNECTION || *name == UPGRADE) {
            continue;
        }
        headers.remove(name);
    }
    headers.remove("proxy-connection");
    headers.remove("keep-alive");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_connection_stay_behind() {
        let mut headers = http::HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-private"),
            ("x-private", "1"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("x-request-id", "7"),
        ] {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        strip(&mut headers, false);
        assert_eq!(headers.len(), 1);
        assert!(headers.contains_key("x-request-id"));
    }
}
