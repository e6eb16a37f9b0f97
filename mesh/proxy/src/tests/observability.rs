//! What an operator sees: access log, metrics, tracing headers, admin pages.

use std::sync::Arc;

use http::{Method, Request};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::harness::*;
use crate::admin::{self, Lifecycle};

async fn plain(direction: &str) -> (App, Mesh) {
    let app = App::start("web").await;
    let routes = json!([forward("outbound|80||web", json!({}))]);
    let clusters: &[(&str, &[_])] = &[("outbound|80||web", &[app.address])];
    let mesh = Mesh::start(snapshot(direction, routes, clusters));
    (app, mesh)
}

#[tokio::test]
async fn the_access_log_has_istios_fields_in_order() {
    let (app, mesh) = plain("outbound").await;
    let request = Request::get("/status/418?x=1").header("host", "web:80");
    let request = request
        .header("user-agent", "curl/8")
        .header("x-request-id", "id-1");
    mesh.send(request).await;
    let line = mesh.line();
    let (time, rest) = line.split_once("] ").unwrap();
    assert_eq!(time.len(), "[2026-08-01T10:20:30.123Z".len());
    assert!(time.ends_with('Z'));
    let words: Vec<&str> = rest.split_whitespace().collect();
    let upstream = format!("\"{}\"", app.address);
    let start = [
        "\"GET",
        "/status/418?x=1",
        "HTTP/1.1\"",
        "418",
        "-",
        "via_upstream",
        "-",
        "\"-\"",
        "0",
        "3",
    ];
    assert_eq!(words[..10], start);
    assert_eq!(
        words[12..18],
        [
            "\"-\"",
            "\"curl/8\"",
            "\"id-1\"",
            "\"web:80\"",
            &upstream,
            "outbound|80||web"
        ]
    );
    assert!(words[18].starts_with("127.0.0.1:"));
    assert_eq!(words[19], mesh.address("http").to_string());
    assert_eq!(words[21..], ["-", "default"]);
}

#[tokio::test]
async fn one_request_is_one_of_each_metric() {
    let (_app, mesh) = plain("outbound").await;
    mesh.get("/").await;
    mesh.line();
    let metrics = admin::prometheus::all(&mesh.proxy);
    let expected = "istio_requests_total{reporter=\"source\",source_workload=\"caller\",\
        source_canonical_service=\"caller\",source_canonical_revision=\"v1\",source_workload_namespace=\"default\",\
        source_principal=\"unknown\",source_app=\"caller\",source_version=\"v1\",source_cluster=\"Kubernetes\",\
        destination_workload=\"web-v1\",destination_workload_namespace=\"default\",destination_principal=\"unknown\",\
        destination_app=\"web\",destination_version=\"v1\",destination_service=\"web.default.svc.cluster.local\",\
        destination_canonical_service=\"web\",destination_canonical_revision=\"v1\",destination_service_name=\"web\",\
        destination_service_namespace=\"default\",destination_cluster=\"Kubernetes\",request_protocol=\"http\",\
        response_code=\"200\",grpc_response_status=\"\",response_flags=\"-\",connection_security_policy=\"unknown\"} 1";
    assert!(metrics.lines().any(|line| line == expected), "{metrics}");
    assert!(metrics.contains("# TYPE istio_request_duration_milliseconds histogram"));
    assert!(metrics.contains("connection_security_policy=\"unknown\",le=\"0.5\"}"));
    assert!(metrics.contains("envoy_cluster_upstream_rq_xx{cluster_name=\"outbound|80||web\",response_code_class=\"2\"} 1"));
    let families: Vec<_> = metrics
        .lines()
        .filter(|line| line.starts_with("# TYPE"))
        .collect();
    let unique: std::collections::BTreeSet<_> = families.iter().collect();
    assert_eq!(
        families.len(),
        unique.len(),
        "each family is announced once"
    );
}

/// What Telemetry resources change: metrics that are left out, labels that are removed or fixed.
/// Rows that become equal are one.
#[tokio::test]
async fn metrics_are_told_as_the_node_says() {
    let (_app, mut mesh) = plain("outbound").await;
    for path in ["/", "/status/404"] {
        mesh.get(path).await;
        mesh.line();
    }
    let mut config = mesh.proxy.config.snapshot.clone();
    std::sync::Arc::make_mut(&mut config.node).metrics = serde_json::from_value(json!([
        { "metric": "istio_request_bytes", "disabled": true },
        { "metric": "istio_requests_total", "reporter": "source",
          "labels": { "response_code": null, "source_app": "fixed", "new": "one" } },
        { "reporter": "destination", "disabled": true },
    ]))
    .unwrap();
    mesh.proxy.apply(config);
    let metrics = admin::prometheus::all(&mesh.proxy);
    let rows: Vec<_> = metrics
        .lines()
        .filter(|line| line.starts_with("istio_requests_total{"))
        .collect();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0].ends_with(",new=\"one\"} 2"), "{rows:?}");
    assert!(rows[0].contains("source_app=\"fixed\"") && !rows[0].contains("response_code"));
    assert!(!metrics.contains("istio_request_bytes"));
    assert!(metrics.contains("istio_response_bytes_count{"));
}

#[tokio::test]
async fn a_destination_learns_who_called() {
    let (_app, inbound) = plain("inbound").await;
    let node = mesh_config::Node {
        workload: mesh_config::Workload {
            name: "sleep".into(),
            app: "sleep".into(),
            ..Default::default()
        },
        ..Default::default()
    };
    let metadata = crate::metadata::protobuf::encode(&node);
    let request = Request::get("/").header("host", "web");
    inbound
        .send(request.header("x-envoy-peer-metadata", metadata))
        .await;
    inbound.line();
    let metrics = admin::prometheus::all(&inbound.proxy);
    let line = metrics
        .lines()
        .find(|line| line.starts_with("istio_requests_total{"))
        .unwrap();
    for label in [
        "reporter=\"destination\"",
        "source_workload=\"sleep\"",
        "source_canonical_revision=\"latest\"",
        "destination_workload=\"caller\"",
        "connection_security_policy=\"none\"",
    ] {
        assert!(line.contains(label), "{label} in {line}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_recorded() {
    let (app, mesh) = plain("outbound").await;
    let mut stream = tokio::net::TcpStream::connect(mesh.address("http"))
        .await
        .unwrap();
    stream
        .write_all(b"GET /delay/3000 HTTP/1.1\r\nhost: web\r\n\r\n")
        .await
        .unwrap();
    mesh.until(|| !app.seen().is_empty()).await;
    drop(stream);
    let line = mesh.line();
    assert!(
        line.contains("\" 0 DC downstream_remote_disconnect"),
        "{line}"
    );
    let metrics = admin::prometheus::all(&mesh.proxy);
    assert!(
        metrics.contains("response_code=\"0\",grpc_response_status=\"\",response_flags=\"DC\"")
    );
}

#[tokio::test]
async fn tracing_decisions_are_kept() {
    let app = App::start("web").await;
    let routes = json!([forward("web", json!({}))]);
    let mut always = snapshot("outbound", routes, &[("web", &[app.address])]);
    let mut node = (*always.node).clone();
    node.trace_sampling = mesh_config::Percent::HUNDRED;
    always.node = Arc::new(node);
    let mesh = Mesh::start(always);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = || Request::get("/").header("host", "web");
    mesh.send(request()).await;
    mesh.send(
        request()
            .header("x-b3-traceid", trace)
            .header("x-b3-spanid", "00f067aa0ba902b7")
            .header("x-b3-sampled", "0"),
    )
    .await;
    mesh.send(request().header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01")))
        .await;
    let [new, b3, w3c] = &app.seen()[..] else {
        panic!()
    };
    assert_eq!(new.header("x-b3-sampled"), Some("1"));
    assert_eq!(new.header("x-b3-traceid").map(str::len), Some(32));
    assert_eq!(new.header("x-request-id").unwrap().as_bytes()[14], b'9');
    assert_eq!(b3.header("x-b3-sampled"), Some("0"));
    assert_eq!(b3.header("x-b3-parentspanid"), Some("00f067aa0ba902b7"));
    assert_ne!(b3.header("x-b3-spanid"), Some("00f067aa0ba902b7"));
    assert_eq!(b3.header("x-request-id").unwrap().as_bytes()[14], b'4');
    let parent = w3c.header("traceparent").unwrap();
    assert!(
        parent.starts_with(&format!("00-{trace}-")) && parent.ends_with("-01"),
        "{parent}"
    );
    assert!(!parent.contains("00f067aa0ba902b7"));
    assert_eq!(w3c.header("x-b3-traceid"), None);
}

#[tokio::test]
async fn admin_pages_have_envoys_forms() {
    let (app, mut mesh) = plain("outbound").await;
    mesh.get("/").await;
    mesh.line();
    let lifecycle = Arc::new(Lifecycle::default());
    let address = app.address;
    let bound = mesh.address("http");
    let mut ask = |method: Method, target: &str| {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let page = admin::answer(&mut mesh.proxy, &lifecycle, &method, path, query);
        let (status, text) = page.parts();
        (status, text.to_owned())
    };
    assert_eq!(ask(Method::GET, "/ready"), (503, "INITIALIZING\n".into()));
    lifecycle
        .configured
        .store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(ask(Method::GET, "/ready"), (200, "LIVE\n".into()));
    let stats = ask(
        Method::GET,
        "/stats?filter=upstream_rq_(total|200)&usedonly",
    )
    .1;
    assert_eq!(
        stats,
        "cluster.outbound|80||web;.external.upstream_rq_200: 1\n\
         cluster.outbound|80||web;.upstream_rq_200: 1\ncluster.outbound|80||web;.upstream_rq_total: 1\n"
    );
    let times = ask(Method::GET, "/stats?filter=web;.upstream_rq_time$").1;
    assert!(times.contains("upstream_rq_time: P0(nan,"), "{times}");
    assert!(
        times.contains(" P99.9(nan,") && times.lines().count() == 1,
        "{times}"
    );
    let none = ask(
        Method::GET,
        "/stats?type=Histograms&filter=loopback;.upstream_rq_time",
    )
    .1;
    assert!(
        none.is_empty() || none.ends_with(": No recorded values\n"),
        "{none}"
    );
    assert_eq!(ask(Method::GET, "/stats?format=cats").0, 400);
    let prometheus = ask(
        Method::GET,
        "/stats?format=prometheus&filter=upstream_rq_time",
    )
    .1;
    let count = "envoy_cluster_upstream_rq_time_count{cluster_name=\"outbound|80||web\"} 1\n";
    assert!(prometheus.contains(count), "{prometheus}");
    assert!(!prometheus.contains("istio_"), "{prometheus}");
    let istio = ask(Method::GET, "/stats/prometheus?filter=^istio_requests").1;
    assert!(istio.contains("istio_requests_total{"), "{istio}");
    assert!(
        istio
            .lines()
            .all(|line| line.contains("istio_requests_total")),
        "{istio}"
    );
    assert!(ask(Method::GET, "/memory").1.contains("\"allocated\""));
    assert!(
        ask(Method::GET, "/init_dump")
            .1
            .contains("unready_targets_dumps")
    );
    assert!(ask(Method::GET, "/").1.contains("<a href=\"/stats\">"));
    assert_eq!(ask(Method::GET, "/logging").0, 405);
    let levels = ask(Method::POST, "/logging?router=debug").1;
    assert!(levels.starts_with("active loggers:\n") && levels.contains("  router: debug\n"));
    let filtered = ask(Method::GET, "/stats?format=json&filter=upstream_rq_200").1;
    assert!(filtered.contains("\"value\": 1"), "{filtered}");
    assert_eq!(ask(Method::GET, "/stats?filter=(").0, 400);
    let clusters = ask(Method::GET, "/clusters").1;
    for line in [
        "outbound|80||web::observability_name::outbound|80||web;".to_owned(),
        "outbound|80||web::added_via_api::true".into(),
        format!("outbound|80||web::{address}::rq_total::1"),
        format!("outbound|80||web::{address}::health_flags::healthy"),
    ] {
        assert!(
            clusters.lines().any(|have| have == line),
            "{line} in {clusters}"
        );
    }
    assert_eq!(ask(Method::GET, "/listeners").1, format!("http::{bound}\n"));
    assert!(
        ask(Method::GET, "/server_info")
            .1
            .contains("\"state\": \"LIVE\"")
    );
    assert!(
        ask(Method::GET, "/config_dump")
            .1
            .contains("outbound|80||web")
    );
    assert_eq!(ask(Method::GET, "/config_dump?resource=nonsense").0, 404);
    assert_eq!(ask(Method::GET, "/certs").0, 200);
    let refused = ask(Method::GET, "/reset_counters");
    assert_eq!(
        refused,
        (405, "Method GET not allowed, POST required.".into())
    );
    assert_eq!(ask(Method::POST, "/reset_counters"), (200, "OK\n".into()));
    assert_eq!(
        ask(Method::GET, "/stats?filter=upstream_rq_200&usedonly").1,
        ""
    );
    let (status, help) = ask(Method::GET, "/nonsense");
    assert!(status == 404 && help.contains("/config_dump"), "{help}");
    ask(Method::POST, "/healthcheck/fail");
    assert_eq!(ask(Method::GET, "/ready"), (503, "DRAINING\n".into()));
}
