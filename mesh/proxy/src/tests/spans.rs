//! Spans, as a collector gets them.

use std::sync::Arc;

use http::Request;
use mesh_config::{Percent, SpanProtocol, SpanTag, Tracing};
use serde_json::{Value, json};
use tokio::task::LocalSet;

use super::harness::*;
use crate::spans;

/// The body that a collector got for one request with `headers`.
async fn told(protocol: SpanProtocol, path: &str, headers: &[(&str, &str)]) -> Value {
    let collector = App::start("collector").await;
    let app = App::start("web").await;
    let routes = json!([forward("outbound|80||web", json!({}))]);
    let clusters: &[(&str, &[_])] = &[("outbound|80||web", &[app.address])];
    let mut traced = snapshot("outbound", routes, clusters);
    let mut node = (*traced.node).clone();
    node.trace_sampling = Percent::HUNDRED;
    node.tracing = Some(Tracing {
        collector: format!("http://{}/v1/traces", collector.address),
        protocol,
        tags: [
            ("team".to_owned(), SpanTag::Literal("a".into())),
            (
                "who".to_owned(),
                SpanTag::Header {
                    name: "x-who".into(),
                    default_value: String::new(),
                },
            ),
        ]
        .into(),
    });
    traced.node = Arc::new(node);
    let mut mesh = Mesh::start(traced);
    let received = mesh.proxy.spans.take().unwrap();
    let shared = mesh.proxy.shared.clone();
    LocalSet::new()
        .run_until(async {
            tokio::task::spawn_local(spans::export::export(shared, received));
            let mut request = Request::get(path)
                .header("host", "web")
                .header("user-agent", "curl/8");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            mesh.send(request).await;
            mesh.until(|| mesh.stat("server.spans_sent") == 1).await;
        })
        .await;
    let seen = collector.seen();
    assert_eq!(seen[0].header("content-type"), Some("application/json"));
    serde_json::from_str(&seen[0].body).unwrap()
}

#[tokio::test]
async fn a_collector_of_opentelemetry_gets_istios_tags() {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let told = told(
        SpanProtocol::Otlp,
        "/status/503?a=b",
        &[("traceparent", &parent), ("x-who", "me")],
    )
    .await;
    let resource = &told["resourceSpans"][0];
    assert_eq!(
        resource["resource"]["attributes"][0]["value"]["stringValue"],
        "caller.default"
    );
    let span = &resource["scopeSpans"][0]["spans"][0];
    assert_eq!(span["traceId"], trace);
    assert_eq!(span["parentSpanId"], "00f067aa0ba902b7");
    assert_eq!(
        (&span["name"], &span["kind"]),
        (&json!("web:80/*"), &json!(3))
    );
    assert_eq!(span["status"]["code"], 2);
    let tag = |key: &str| {
        let all = span["attributes"].as_array().unwrap();
        let found = all.iter().find(|attribute| attribute["key"] == key);
        found.map_or("none", |found| {
            found["value"]["stringValue"].as_str().unwrap()
        })
    };
    for (key, value) in [
        ("component", "proxy"),
        ("node_id", "sidecar~me"),
        ("http.method", "GET"),
        ("http.url", "http://web/status/503?a=b"),
        ("http.protocol", "HTTP/1.1"),
        ("http.status_code", "503"),
        ("response_flags", "-"),
        ("response_size", "3"),
        ("upstream_cluster", "outbound|80||web"),
        ("upstream_cluster.name", "outbound|80||web;"),
        ("user_agent", "curl/8"),
        ("peer.address", "127.0.0.1"),
        ("istio.canonical_service", "caller"),
        ("istio.canonical_revision", "v1"),
        ("istio.namespace", "default"),
        ("error", "true"),
        ("team", "a"),
        ("who", "me"),
    ] {
        assert_eq!(tag(key), value, "{key}");
    }
    assert_eq!(tag("guid:x-request-id").len(), 36);
}

#[tokio::test]
async fn a_collector_of_zipkin_gets_the_same() {
    let told = told(SpanProtocol::Zipkin, "/", &[]).await;
    let span = &told[0];
    assert_eq!(
        (&span["kind"], &span["name"]),
        (&json!("CLIENT"), &json!("web:80/*"))
    );
    assert_eq!(span["localEndpoint"]["serviceName"], "caller.default");
    assert_eq!(span["traceId"].as_str().unwrap().len(), 32);
    assert!(span["parentId"].is_null() && span["duration"].as_u64().unwrap() > 0);
    assert_eq!(span["tags"]["http.status_code"], "200");
}
