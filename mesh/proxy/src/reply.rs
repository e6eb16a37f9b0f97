//! Answers that the proxy gives itself: failures in Envoy's words, redirects, direct responses.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use crate::{
    flags::Flags,
    upstream_error::{UpstreamError, is_stream_reset},
};

/// Says that a circuit breaker refused the request.
const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");

/// A local reply before the headers that every answer gets.
#[derive(Debug)]
pub(crate) struct LocalReply {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    pub(crate) flags: Flags,
    pub(crate) details: Cow<'static, str>,
    /// Beyond those that every local reply has.
    pub(crate) headers: Box<HeaderMap>,
}

impl LocalReply {
    pub(crate) fn new(
        status: StatusCode,
        body: &'static str,
        flags: Flags,
        details: &'static str,
    ) -> Self {
        Self {
            status,
            body: Bytes::from_static(body.as_bytes()),
            flags,
            details: Cow::Borrowed(details),
            headers: Box::default(),
        }
    }

    pub(crate) fn no_route() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "",
            Flags::NO_ROUTE,
            "route_not_found",
        )
    }

    pub(crate) fn no_cluster() -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "", Flags::NO_CLUSTER, "cluster_not_found")
    }

    pub(crate) fn no_healthy_upstream() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no healthy upstream",
            Flags::NO_HEALTHY_UPSTREAM,
            "no_healthy_upstream",
        )
    }

    pub(crate) fn request_timeout() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "upstream request timeout",
            Flags::UPSTREAM_TIMEOUT,
            "response_timeout",
        )
    }

    pub(crate) fn fault_abort(status: StatusCode) -> Self {
        let flag = Flags::FAULT_INJECTED;
        Self::new(status, "fault filter abort", flag, "fault_filter_abort")
    }

    pub(crate) fn bad_request(details: &'static str) -> Self {
        let flag = Flags::DOWNSTREAM_PROTOCOL_ERROR;
        Self::new(StatusCode::BAD_REQUEST, "", flag, details)
    }

    /// The bytes of a request break HTTP's rules; nothing more can be read on its connection.
    pub(crate) fn malformed(status: StatusCode, details: &'static str) -> Self {
        let mut reply = Self {
            status,
            ..Self::bad_request(details)
        };
        reply.body = Bytes::from_static(reason(status).as_bytes());
        let close = HeaderValue::from_static("close");
        reply.headers.insert(header::CONNECTION, close);
        reply
    }

    /// Nobody reads this; it is for the record.
    pub(crate) fn client_gone() -> Self {
        let flag = Flags::DOWNSTREAM_CONNECTION_TERMINATION;
        let details = "downstream_remote_disconnect";
        Self::new(StatusCode::BAD_REQUEST, "", flag, details)
    }

    pub(crate) fn bad_path() -> Self {
        let status = StatusCode::BAD_REQUEST;
        Self::new(status, "", Flags::default(), "path_normalization_failed")
    }

    pub(crate) fn upgrade_required() -> Self {
        Self::new(
            StatusCode::UPGRADE_REQUIRED,
            "Upgrade Required",
            Flags::DOWNSTREAM_PROTOCOL_ERROR,
            "low_version",
        )
    }

    /// The upstream gave no answer. `retried`: this was not the first attempt.
    pub(crate) fn upstream_failed(error: &UpstreamError, retried: bool) -> Self {
        tracing::debug!(target: "mesh_proxy::forward", "upstream reset: {error}");
        let (flag, reason, cause) = match error {
            UpstreamError::PerTryTimeout => {
                return Self {
                    details: Cow::Borrowed("upstream_per_try_timeout"),
                    ..Self::request_timeout()
                };
            }
            UpstreamError::Overflow => (Flags::UPSTREAM_OVERFLOW, "overflow", None),
            UpstreamError::Connect(_) => (
                Flags::UPSTREAM_CONNECTION_FAILURE,
                "remote connection failure",
                Some("delayed_connect_error:_Connection_refused"),
            ),
            UpstreamError::ConnectTimeout => (
                Flags::UPSTREAM_CONNECTION_FAILURE,
                "connection timeout",
                None,
            ),
            UpstreamError::Request(error) if error.is_parse() => {
                (Flags::UPSTREAM_PROTOCOL_ERROR, "protocol error", None)
            }
            UpstreamError::Request(error) if is_stream_reset(error) => {
                (Flags::UPSTREAM_REMOTE_RESET, "remote reset", None)
            }
            UpstreamError::Request(_) => (
                Flags::UPSTREAM_CONNECTION_TERMINATION,
                "connection termination",
                None,
            ),
        };
        let status = if flag == Flags::UPSTREAM_PROTOCOL_ERROR {
            StatusCode::BAD_GATEWAY
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let latest = if retried {
            "retried and the latest reset reason"
        } else {
            "reset reason"
        };
        let body = format!(
            "upstream connect error or disconnect/reset before headers. {latest}: {reason}"
        );
        let cause = match (error, cause) {
            (UpstreamError::Connect(error), Some(_))
                if error.kind() != std::io::ErrorKind::ConnectionRefused =>
            {
                format!("|{}", error.to_string().replace(' ', "_"))
            }
            (_, Some(cause)) => format!("|{cause}"),
            (_, None) => String::new(),
        };
        let mut headers = Box::<HeaderMap>::default();
        if matches!(error, UpstreamError::Overflow) {
            headers.insert(OVERLOADED, HeaderValue::from_static("true"));
        }
        let details = format!(
            "upstream_reset_before_response_started{{{}{cause}}}",
            reason.replace(' ', "_")
        );
        Self {
            status,
            body: body.into(),
            flags: flag,
            details: Cow::Owned(details),
            headers,
        }
    }

    /// The response head and body, without `date` (the codec adds it) and `server`. gRPC callers
    /// get their status in a header of a 200.
    pub(crate) fn into_parts(self, grpc: bool, abort: Option<u32>) -> (Response<()>, Bytes) {
        let mut response = Response::new(());
        *response.headers_mut() = *self.headers;
        let headers = response.headers_mut();
        if grpc {
            let code = abort.unwrap_or_else(|| grpc_status(self.status));
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/grpc"),
            );
            headers.insert("grpc-status", HeaderValue::from(code));
            if let Ok(message) = HeaderValue::from_bytes(&self.body)
                && !message.is_empty()
            {
                headers.insert("grpc-message", message);
            }
            return (response, Bytes::new());
        }
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        if !self.body.is_empty() {
            headers
                .entry(header::CONTENT_TYPE)
                .or_insert(HeaderValue::from_static("text/plain"));
        }
        *response.status_mut() = self.status;
        (response, self.body)
    }
}

/// The gRPC status for an HTTP status, as gRPC's own mapping has it.
fn grpc_status(status: StatusCode) -> u32 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// The body of an answer that only says its status.
pub(crate) fn reason(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Bad Request")
}
