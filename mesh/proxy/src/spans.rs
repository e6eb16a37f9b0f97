//! Spans: what a traced request was, told to a collector in OpenTelemetry's or Zipkin's JSON.
//!
//! A worker hands finished spans to the control thread; when that does not keep up they are dropped
//! and counted rather than holding requests up.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, Method, header, request};
use http_body_util::Full;
use mesh_config::{Node, SpanProtocol, SpanTag, Tracing, TrafficDirection};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::timeout,
};

use crate::{
    access_log::protocol,
    client::{self, Confidence},
    conventions::X_REQUEST_ID,
    exchange::Exchange,
    proxy::Shared,
    trace_context::Ids,
};

/// Spans that wait for the control thread.
const WAITING: usize = 2_048;
/// Spans told in one request.
const BATCH: usize = 512;
/// The longest that a span waits for others.
const GATHER: Duration = Duration::from_millis(500);
/// A collector answers within this.
const PATIENCE: Duration = Duration::from_secs(5);

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

/// The workers' side and the exporter's.
pub(crate) fn queue() -> (Sender<Span>, Receiver<Span>) {
    channel(WAITING)
}

impl Span {
    /// Begins with what is known of the request. `authority` and `path` are as routed.
    pub(crate) fn begin(
        ids: Ids,
        shared: &Shared,
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
        let node = shared.node.load();
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
    pub(crate) fn finish(mut self, exchange: &Exchange, sizes: (u64, u64)) -> Self {
        self.end = SystemTime::now();
        self.client = exchange.direction() == TrafficDirection::Outbound;
        self.error = exchange.status >= 500 || exchange.status == 0;
        self.tag("http.status_code", exchange.status.to_string());
        self.tag("request_size", sizes.0.to_string());
        self.tag("response_size", sizes.1.to_string());
        self.tag("response_flags", exchange.flags.to_string());
        if let Some(status) = exchange.grpc_status {
            self.tag("grpc.status_code", status.to_string());
        }
        if let Some(cluster) = &exchange.cluster {
            self.tag("upstream_cluster", &*cluster.name);
            self.tag("upstream_cluster.name", format!("{};", cluster.name));
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

/// Tells spans to the collector of the configuration in effect, for as long as there are workers.
pub(crate) async fn export(shared: Arc<Shared>, mut spans: Receiver<Span>) {
    let through = client::through();
    let mut batch = Vec::new();
    while spans.recv_many(&mut batch, BATCH).await > 0 {
        if batch.len() < BATCH {
            tokio::time::sleep(GATHER).await;
            while batch.len() < BATCH
                && let Ok(span) = spans.try_recv()
            {
                batch.push(span);
            }
        }
        let node = shared.node.load_full();
        let Some(tracing) = &node.tracing else {
            batch.clear();
            continue;
        };
        let body = match tracing.protocol {
            SpanProtocol::Otlp => otlp(&batch, &node),
            SpanProtocol::Zipkin => zipkin(&batch, &node),
        };
        let count = batch.len() as u64;
        batch.clear();
        let server = &shared.registry.server;
        let sending = timeout(PATIENCE, send(tracing, through.as_deref(), &body)).await;
        let outcome = sending.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in time")));
        match outcome {
            Ok(()) => server.spans_sent.add(count),
            Err(error) => {
                server.spans_dropped.add(count);
                tracing::warn!(
                    "{count} spans for {} are lost: {error:#}",
                    tracing.collector
                );
            }
        }
    }
}

async fn send(tracing: &Tracing, through: Option<&str>, body: &Value) -> anyhow::Result<()> {
    let body = Full::new(bytes::Bytes::from(body.to_string()));
    let (mut sender, mut request) =
        client::open(&tracing.collector, through, Confidence::Open, body).await?;
    *request.method_mut() = Method::POST;
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, json);
    let status = sender.send_request(request).await?.status();
    anyhow::ensure!(status.is_success(), "it answers {status}");
    Ok(())
}

fn service(node: &Node) -> String {
    format!(
        "{}.{}",
        node.workload.canonical_name, node.workload.namespace
    )
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// An `ExportTraceServiceRequest` in JSON.
fn otlp(spans: &[Span], node: &Node) -> Value {
    let attribute =
        |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    let nanos = |time| since_epoch(time).as_nanos().to_string();
    let spans: Vec<Value> = spans
        .iter()
        .map(|span| {
            json!({
                "traceId": span.ids.trace,
                "spanId": span.ids.span,
                "parentSpanId": span.ids.parent.as_deref().unwrap_or(""),
                "name": span.name,
                "kind": if span.client { 3 } else { 2 },
                "startTimeUnixNano": nanos(span.start),
                "endTimeUnixNano": nanos(span.end),
                "attributes": span.tags.iter().map(|(k, v)| attribute(k, v)).collect::<Vec<_>>(),
                "status": if span.error { json!({ "code": 2 }) } else { json!({}) },
            })
        })
        .collect();
    json!({ "resourceSpans": [{
        "resource": { "attributes": [attribute("service.name", &service(node))] },
        "scopeSpans": [{ "scope": { "name": "mesh-proxy" }, "spans": spans }],
    }] })
}

/// A list of Zipkin's version 2.
fn zipkin(spans: &[Span], node: &Node) -> Value {
    let micros = |duration: Duration| duration.as_micros() as u64;
    spans
        .iter()
        .map(|span| {
            let tags: BTreeMap<&str, &str> = span
                .tags
                .iter()
                .map(|(k, v)| (k.as_str(), v.as_str()))
                .collect();
            let took = span.end.duration_since(span.start).unwrap_or_default();
            let mut told = json!({
                "traceId": span.ids.trace,
                "id": span.ids.span,
                "name": span.name,
                "kind": if span.client { "CLIENT" } else { "SERVER" },
                "timestamp": micros(since_epoch(span.start)),
                "duration": micros(took).max(1),
                "localEndpoint": { "serviceName": service(node) },
                "tags": tags,
            });
            if let Some(parent) = &span.ids.parent {
                told["parentId"] = parent.as_str().into();
            }
            told
        })
        .collect()
}
