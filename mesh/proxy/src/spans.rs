//! Spans: what a traced request was, told to a collector in OpenTelemetry's or Zipkin's JSON.
//!
//! A worker hands finished spans to the control thread; when that does not keep up they are dropped
//! and counted rather than holding requests up.

pub(crate) mod export;

use std::{collections::BTreeMap, time::SystemTime};

use http::{HeaderMap, HeaderValue, Method, header, request};
use mesh_config::{Node, SpanTag, Tracing, TrafficDirection};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::{access_log::protocol, flags::Flags, headers::X_REQUEST_ID};

/// Spans that wait for the control thread.
const WAITING: usize = 2_048;

/// Of a hop's span, in lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    /// 32 digits.
    pub(crate) trace: String,
    /// 16 digits.
    pub(crate) span: String,
    /// The caller's span.
    pub(crate) parent: Option<String>,
}

/// One hop of a traced request.
#[derive(Debug)]
pub(crate) struct Span {
    ids: Ids,
    /// Of the route: `reviews.default.svc.cluster.local:9080/*`.
    name: String,
    /// A caller's side, not that of the called.
    client: bool,
    start: SystemTime,
    end: SystemTime,
    tags: Vec<(String, String)>,
    error: bool,
}

/// What a span says of the answer.
pub(crate) struct End<'a> {
    pub(crate) direction: TrafficDirection,
    /// 0: none was sent.
    pub(crate) status: u16,
    pub(crate) grpc_status: Option<u8>,
    pub(crate) flags: Flags,
    pub(crate) cluster: Option<&'a str>,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
}

/// The workers' side and the exporter's.
pub(crate) fn queue() -> (Sender<Span>, Receiver<Span>) {
    channel(WAITING)
}

impl Span {
    /// Begins with what is known of the request. `authority` and `path` are as routed.
    pub(crate) fn begin(
        ids: Ids,
        node: &Node,
        tracing: &Tracing,
        parts: &request::Parts,
        authority: &str,
        path_and_query: &str,
    ) -> Box<Self> {
        let now = SystemTime::now();
        let mut span = Box::new(Self {
            ids,
            name: authority.to_owned(),
            client: false,
            start: now,
            end: now,
            tags: Vec::with_capacity(24),
            error: false,
        });
        let header = |name| text(parts.headers.get(name));
        span.tag("component", "proxy");
        span.tag("node_id", &node.id);
        span.tag("guid:x-request-id", header(X_REQUEST_ID));
        span.tag("http.method", parts.method.as_str());
        span.tag("http.url", format!("http://{authority}{path_and_query}"));
        span.tag("http.protocol", protocol(parts.version));
        span.tag("user_agent", header(header::USER_AGENT));
        let workload = &node.workload;
        span.tag("downstream_cluster", "-");
        span.tag("istio.canonical_service", &workload.canonical_name);
        span.tag("istio.canonical_revision", &workload.canonical_revision);
        span.tag("istio.mesh_id", "cluster.local");
        span.tag("istio.namespace", &workload.namespace);
        span.tag("istio.cluster_id", &node.cluster_id);
        span.custom(&tracing.tags, &parts.headers);
        debug_assert!(parts.method != Method::CONNECT, "tunnels are no requests");
        span
    }

    fn custom(&mut self, tags: &BTreeMap<String, SpanTag>, headers: &HeaderMap) {
        for (tag, source) in tags {
            let value = match source {
                SpanTag::Literal(value) => value.clone(),
                SpanTag::Environment {
                    name,
                    default_value,
                } => std::env::var(name).unwrap_or_else(|_| default_value.clone()),
                SpanTag::Header {
                    name,
                    default_value,
                } => match headers.get(name) {
                    Some(value) => text(Some(value)).to_owned(),
                    None => default_value.clone(),
                },
            };
            if !value.is_empty() {
                self.tag(tag, value);
            }
        }
    }

    /// The operation of the route, and who asked.
    pub(crate) fn routed(&mut self, operation: Option<&HeaderValue>, peer: std::net::IpAddr) {
        if let Some(operation) = operation {
            self.name = text(Some(operation)).to_owned();
        }
        self.tag("peer.address", peer.to_string());
    }

    /// Ends with the answer.
    pub(crate) fn finish(mut self, end: &End<'_>) -> Self {
        self.end = SystemTime::now();
        self.client = end.direction == TrafficDirection::Outbound;
        self.error = end.status >= 500 || end.status == 0;
        self.tag("http.status_code", end.status.to_string());
        self.tag("request_size", end.request_bytes.to_string());
        self.tag("response_size", end.response_bytes.to_string());
        self.tag("response_flags", end.flags.to_string());
        if let Some(status) = end.grpc_status {
            self.tag("grpc.status_code", status.to_string());
        }
        if let Some(cluster) = end.cluster {
            self.tag("upstream_cluster", cluster);
            self.tag("upstream_cluster.name", format!("{cluster};"));
        }
        if self.error {
            self.tag("error", "true");
        }
        self
    }

    fn tag(&mut self, name: &str, value: impl Into<String>) {
        self.tags.push((name.to_owned(), value.into()));
    }
}

fn text(value: Option<&HeaderValue>) -> &str {
    value.and_then(|value| value.to_str().ok()).unwrap_or("-")
}
