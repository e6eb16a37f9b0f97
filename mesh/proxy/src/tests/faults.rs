//! Faults on purpose.

use std::time::{Duration, Instant};

use http::Request;
use serde_json::json;

use super::harness::*;

#[tokio::test]
async fn an_abort_answers_instead_of_the_application_and_is_not_retried() {
    let app = App::start("web").await;
    let retry = json!({ "retry": { "retryOn": ["5xx"], "numRetries": 3 } });
    let fault = json!({ "abort": { "status": { "http": 555 }, "percent": 1000000 } });
    let routes = json!([with_fault(forward("web", retry), fault)]);
    let mesh = Mesh::start(snapshot("outbound", routes, &[("web", &[app.address])]));
    let answer = mesh.get("/").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (555, "fault filter abort")
    );
    assert_eq!(mesh.flags(), "FI fault_filter_abort");
    assert_eq!(mesh.stat("http.test.fault.aborts_injected"), 1);
    assert!(app.seen().is_empty());
}

#[tokio::test]
async fn half_of_the_calls_fail() {
    let app = App::start("web").await;
    let fault = json!({ "abort": { "status": { "http": 500 }, "percent": 500000 } });
    let routes = json!([with_fault(forward("web", json!({})), fault)]);
    let mesh = Mesh::start(snapshot("outbound", routes, &[("web", &[app.address])]));
    let mut failed = 0;
    for _ in 0..300 {
        failed += usize::from(mesh.get("/").await.status == 500);
    }
    assert!((110..=190).contains(&failed), "{failed} of 300");
}

#[tokio::test]
async fn a_delay_is_not_part_of_the_timeout() {
    let app = App::start("web").await;
    let fault = json!({ "delay": { "fixed": "0.300s", "percent": 1000000 } });
    let routes = json!([with_fault(
        forward("web", json!({ "timeout": "0.200s" })),
        fault
    )]);
    let mesh = Mesh::start(snapshot("outbound", routes, &[("web", &[app.address])]));
    let started = Instant::now();
    assert_eq!(mesh.get("/").await.status, 200);
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(mesh.flags(), "DI via_upstream");
}

#[tokio::test]
async fn delay_and_abort_are_both_flagged() {
    let fault = json!({
        "delay": { "fixed": "0.050s", "percent": 1000000 },
        "abort": { "status": { "http": 503 }, "percent": 1000000 },
    });
    let routes = json!([with_fault(forward("web", json!({})), fault)]);
    let mesh = Mesh::start(snapshot("outbound", routes, &[]));
    assert_eq!(mesh.get("/").await.status, 503);
    assert_eq!(mesh.flags(), "DI,FI fault_filter_abort");
}

#[tokio::test]
async fn a_grpc_abort_is_a_200_and_a_header_for_grpc_alone() {
    let fault = json!({ "abort": { "status": { "grpc": 14 }, "percent": 1000000 } });
    let routes = json!([with_fault(forward("web", json!({})), fault)]);
    let mesh = Mesh::start(snapshot("outbound", routes, &[]));
    let plain = mesh.get("/").await;
    assert_eq!((plain.status, plain.header("grpc-status")), (200, None));
    let request = Request::get("/").header("host", "web");
    let grpc = mesh
        .send(request.header("content-type", "application/grpc"))
        .await;
    assert_eq!((grpc.status, grpc.header("grpc-status")), (200, Some("14")));
    assert_eq!(grpc.header("grpc-message"), Some("fault filter abort"));
}

#[tokio::test]
async fn a_percentage_of_zero_never_hits() {
    let app = App::start("web").await;
    let fault = json!({ "abort": { "status": { "http": 500 }, "percent": 0 } });
    let routes = json!([with_fault(forward("web", json!({})), fault)]);
    let mesh = Mesh::start(snapshot("outbound", routes, &[("web", &[app.address])]));
    for _ in 0..50 {
        assert_eq!(mesh.get("/").await.status, 200);
    }
}
