//! An outside judge: asked over HTTP with the head of the request. Envoy's `ext_authz`.

use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header, request};
use http_body_util::{BodyExt, Limited};
use tokio::time::timeout;

use crate::{
    balance::{self, Ask},
    config::gate::Judge,
    context::RequestContext,
    flags::Flags,
    reply::LocalReply,
    request_body::RequestBody,
    stats::HttpStats,
};

/// Longest explanation that is passed on.
const BODY_BYTES: usize = 64 * 1024;

impl Judge {
    /// Asks; a pass may add headers to the request.
    pub(super) async fn ask(
        &self,
        context: &RequestContext<'_>,
        parts: &mut request::Parts,
        stats: &HttpStats,
    ) -> Result<(), LocalReply> {
        let asking = self.answer(context, parts);
        match timeout(self.config.timeout, asking).await {
            Ok(Some((StatusCode::OK, headers, _))) => {
                stats.ext_authz_ok.add(1);
                copy(
                    &headers,
                    &self.config.headers_to_upstream,
                    &mut parts.headers,
                );
                Ok(())
            }
            Ok(Some((status, headers, body))) => {
                stats.ext_authz_denied.add(1);
                Err(self.refusal(status, &headers, body))
            }
            Ok(None) | Err(_) => {
                stats.ext_authz_error.add(1);
                if self.config.fail_open {
                    return Ok(());
                }
                let status = StatusCode::from_u16(self.config.status_on_error);
                let status = status.unwrap_or(StatusCode::FORBIDDEN);
                let flags = Flags::UNAUTHORIZED_EXTERNAL;
                Err(LocalReply::new(status, "", flags, "ext_authz_error"))
            }
        }
    }

    /// `None`: there is no answer.
    async fn answer(
        &self,
        context: &RequestContext<'_>,
        parts: &request::Parts,
    ) -> Option<(StatusCode, HeaderMap, bytes::Bytes)> {
        let worker = &context.connection.worker;
        let members = self.cluster.members.load_full()?;
        let host =
            balance::choose(&self.cluster, &members, Ask::default(), || worker.draw())?.clone();
        let mut request = Request::new(RequestBody::Empty);
        *request.method_mut() = parts.method.clone();
        let mut path = format!("{}{}", self.config.path_prefix, context.path);
        if !context.query.is_empty() {
            path = format!("{path}?{}", context.query);
        }
        *request.uri_mut() = path.parse().ok()?;
        let headers = request.headers_mut();
        copy(&parts.headers, &self.config.headers, headers);
        if let Some(token) = parts.headers.get(header::AUTHORIZATION) {
            headers.insert(header::AUTHORIZATION, token.clone());
        }
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
        headers.insert(
            header::HOST,
            HeaderValue::from_str(&context.authority).ok()?,
        );
        let mut request = Some(request);
        let sent = worker
            .pool
            .send(&self.cluster, &host, false, &members.config, &mut request)
            .await;
        let (response, lease) = sent.ok()?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, BODY_BYTES)
            .collect()
            .await
            .ok()?
            .to_bytes();
        lease.release();
        Some((head.status, head.headers, body))
    }

    fn refusal(&self, status: StatusCode, headers: &HeaderMap, body: bytes::Bytes) -> LocalReply {
        let flags = Flags::UNAUTHORIZED_EXTERNAL;
        let mut reply = LocalReply::new(status, "", flags, "ext_authz_denied");
        reply.body = body;
        let all = ["*".to_owned()];
        let shown = match self.config.headers_to_downstream.as_slice() {
            [] => &all[..],
            names => names,
        };
        copy(headers, shown, &mut reply.headers);
        for own in [
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
            header::CONNECTION,
        ] {
            reply.headers.remove(own);
        }
        reply
    }
}

/// Copies the headers of these names (`x-*`: all that begin so), in place of what was there.
fn copy(from: &HeaderMap, names: &[String], to: &mut HeaderMap) {
    let wanted = |name: &HeaderName| {
        names.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => name.as_str().starts_with(&prefix.to_ascii_lowercase()),
            None => name.as_str().eq_ignore_ascii_case(pattern),
        })
    };
    for name in from.keys().filter(|name| wanted(name)) {
        to.remove(name);
        for value in from.get_all(name) {
            to.append(name, value.clone());
        }
    }
}
