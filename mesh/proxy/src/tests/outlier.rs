//! Outlier detection: who is left out, for how long, and what is shown of it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::harness::*;

const BAD: &[u8] = b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n";

fn mesh(detection: Value, endpoints: &[SocketAddr]) -> Mesh {
    let mut all =
        json!({ "interval": "0.100s", "baseEjectionTime": "0.300s", "maxEjectionPercent": 100 });
    for (key, value) in detection.as_object().unwrap() {
        all[key] = value.clone();
    }
    let mut snapshot = snapshot("outbound", json!([forward("web", json!({}))]), &[]);
    let fields = json!({ "outlierDetection": all });
    add_cluster(&mut snapshot, "web", endpoints, fields);
    Mesh::start(snapshot)
}

fn stat(mesh: &Mesh, name: &str) -> u64 {
    mesh.stat(&format!("cluster.web;.outlier_detection.{name}"))
}

#[tokio::test]
async fn a_failing_host_is_left_out_and_comes_back() {
    let good = App::start("good").await;
    let bad = raw(BAD).await;
    let mesh = mesh(
        json!({ "consecutive5xx": 1, "baseEjectionTime": "30s" }),
        &[good.address, bad],
    );
    let mut failures = 0;
    for _ in 0..20 {
        failures += u32::from(mesh.get("/").await.status == 503);
    }
    assert_eq!(failures, 1);
    assert_eq!(stat(&mesh, "ejections_active"), 1);
    assert_eq!(stat(&mesh, "ejections_enforced_consecutive_5xx"), 1);
    assert_eq!(mesh.stat("cluster.web;.membership_healthy"), 1);
    let clusters = crate::admin::clusters::text(&mesh.proxy);
    assert!(
        clusters.contains(&format!(
            "web::{bad}::health_flags::/failed_outlier_check\n"
        )),
        "{clusters}"
    );
    assert!(clusters.contains(&format!("web::{}::health_flags::healthy\n", good.address)));
}

#[tokio::test]
async fn when_all_are_left_out_there_is_no_healthy_upstream_until_one_returns() {
    let bad = raw(BAD).await;
    let mesh = mesh(json!({ "consecutive5xx": 1 }), &[bad]);
    let ejected = Instant::now();
    assert_eq!(mesh.get("/").await.status, 503);
    mesh.line();
    let answer = mesh.get("/").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (503, "no healthy upstream")
    );
    assert_eq!(mesh.flags(), "UH no_healthy_upstream");
    while mesh.get("/").await.body == "no healthy upstream" {
        assert!(ejected.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(
        ejected.elapsed() >= Duration::from_millis(250),
        "{:?}",
        ejected.elapsed()
    );
    assert_eq!(stat(&mesh, "ejections_total"), 2, "it failed again at once");
}

#[tokio::test]
async fn at_most_the_given_share_is_left_out() {
    for (percent, ejected) in [(10, 0), (34, 1), (100, 3)] {
        let hosts = [raw(BAD).await, raw(BAD).await, raw(BAD).await];
        let detection = json!({ "consecutive5xx": 1, "maxEjectionPercent": percent, "baseEjectionTime": "30s" });
        let mesh = mesh(detection, &hosts);
        for _ in 0..9 {
            mesh.get("/").await;
        }
        assert_eq!(stat(&mesh, "ejections_active"), ejected, "{percent} %");
        assert_eq!(stat(&mesh, "ejections_overflow") > 0, ejected < 3);
    }
}

#[tokio::test]
async fn a_success_between_failures_is_a_new_start() {
    let app = App::start("web").await;
    let mesh = mesh(json!({ "consecutive5xx": 3 }), &[app.address]);
    for status in [500, 500, 200, 500, 500] {
        mesh.get(&format!("/status/{status}")).await;
    }
    assert_eq!(stat(&mesh, "ejections_active"), 0);
    mesh.get("/status/500").await;
    assert_eq!(stat(&mesh, "ejections_active"), 1);
}

#[tokio::test]
async fn refused_connections_count_unless_they_are_split_off() {
    let refused = refusing().await;
    let counted = mesh(json!({ "consecutive5xx": 2 }), &[refused]);
    counted.get("/").await;
    counted.get("/").await;
    assert_eq!(stat(&counted, "ejections_active"), 1);
    let split = mesh(
        json!({ "consecutive5xx": 1, "splitExternalLocalOriginErrors": true, "consecutiveLocalOriginFailure": 2 }),
        &[refused],
    );
    split.get("/").await;
    assert_eq!(stat(&split, "ejections_active"), 0);
    split.get("/").await;
    assert_eq!(
        stat(
            &split,
            "ejections_enforced_consecutive_local_origin_failure"
        ),
        1
    );
}

#[tokio::test]
async fn an_update_of_the_endpoints_keeps_who_is_left_out() {
    let (bad, other) = (raw(BAD).await, App::start("web").await);
    let mut mesh = mesh(
        json!({ "consecutive5xx": 1, "baseEjectionTime": "30s" }),
        &[bad],
    );
    mesh.get("/").await;
    assert_eq!(stat(&mesh, "ejections_active"), 1);
    let mut snapshot = mesh.proxy.config.snapshot.clone();
    let mut endpoints = (*snapshot.endpoints["web"]).clone();
    endpoints.endpoints.push(mesh_config::Endpoint {
        address: other.address,
        ..endpoints.endpoints[0].clone()
    });
    snapshot.endpoints.insert("web".into(), endpoints.into());
    mesh.proxy.apply(snapshot);
    for _ in 0..5 {
        assert_eq!(mesh.get("/").await.status, 200);
    }
}
