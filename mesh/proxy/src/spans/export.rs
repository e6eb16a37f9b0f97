//! Spans on their way to the collector, in OpenTelemetry's or Zipkin's JSON.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderValue, Method, header};
use http_body_util::Full;
use mesh_config::{Node, SpanProtocol, Tracing};
use serde_json::{Value, json};
use tokio::{sync::mpsc::Receiver, time::timeout};

use super::Span;
use crate::{
    client::{self, Confidence},
    shared::Shared,
};

/// Spans told in one request.
const BATCH: usize = 512;
/// The longest that a span waits for others.
const GATHER: Duration = Duration::from_millis(500);
/// A collector answers within this.
const PATIENCE: Duration = Duration::from_secs(5);

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
