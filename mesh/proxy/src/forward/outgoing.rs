//! A request as it stands before an attempt, and the requests made of it.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header, uri};
use tokio::sync::Notify;

use crate::request_body::{Replayed, RequestBody};

/// A request as it stands before an attempt.
pub(super) struct Outgoing {
    pub(super) method: http::Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Replayed>,
}

impl Outgoing {
    /// A copy, for an attempt that may be followed by another.
    pub(super) fn request(&self, http2: bool) -> Request<RequestBody> {
        let body = self.body.clone();
        Outgoing {
            method: self.method.clone(),
            uri: self.uri.clone(),
            headers: self.headers.clone(),
            body,
        }
        .into_request(http2)
    }

    pub(super) fn into_request(self, http2: bool) -> Request<RequestBody> {
        let mut promised = None;
        let body = match &self.body {
            Some(body) => {
                let mut body = body.attempt();
                if !http2 && self.headers.get(header::EXPECT).is_some_and(is_continue) {
                    let asked = Arc::new(Notify::new());
                    body.wait_for(asked.clone());
                    promised = Some(asked);
                }
                RequestBody::Replay(body)
            }
            None => RequestBody::Empty,
        };
        let mut request = Request::new(body);
        if let Some(asked) = promised {
            hyper::ext::on_informational(&mut request, move |response| {
                if response.status() == StatusCode::CONTINUE {
                    asked.notify_one();
                }
            });
        }
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        if http2 {
            absolute(&mut request);
        } else if matches!(request.body(), RequestBody::Empty)
            && is_usually_with_body(request.method())
        {
            request
                .headers_mut()
                .entry(header::CONTENT_LENGTH)
                .or_insert(0.into());
        }
        request
    }
}

/// Methods whose lack of a body Envoy says in so many words.
fn is_usually_with_body(method: &http::Method) -> bool {
    use http::Method;
    [Method::POST, Method::PUT, Method::PATCH, Method::OPTIONS].contains(method)
}

fn is_continue(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

/// HTTP/2 carries the host in `:authority` instead of `host`.
fn absolute(request: &mut Request<RequestBody>) {
    *request.version_mut() = http::Version::HTTP_2;
    let Some(host) = request.headers_mut().remove(header::HOST) else {
        return;
    };
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(uri::Scheme::HTTP);
    parts.authority = uri::Authority::try_from(host.as_bytes()).ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}
