//! Timeouts and retries.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use super::harness::*;

/// The default policy of a mesh.
fn default_retry() -> Value {
    let on = [
        "connect-failure",
        "refused-stream",
        "unavailable",
        "cancelled",
        "retriable-status-codes",
    ];
    json!({ "retry": { "retryOn": on, "numRetries": 2 } })
}

fn retry(on: &str, attempts: u32) -> Value {
    json!({ "retry": { "retryOn": [on], "numRetries": attempts, "otherHost": true } })
}

fn mesh(fields: Value, endpoints: &[SocketAddr]) -> Mesh {
    let routes = json!([forward("web", fields)]);
    Mesh::start(snapshot("outbound", routes, &[("web", endpoints)]))
}

#[tokio::test]
async fn a_request_timeout_ends_the_wait() {
    let app = App::start("web").await;
    let mesh = mesh(json!({ "timeout": "0.200s" }), &[app.address]);
    let started = Instant::now();
    let answer = mesh.get("/delay/5000").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (504, "upstream request timeout")
    );
    assert!((200..1500).contains(&started.elapsed().as_millis()));
    assert_eq!(mesh.flags(), "UT response_timeout");
    assert_eq!(mesh.stat("cluster.web;.upstream_rq_timeout"), 1);
    assert_eq!(
        app.seen()[0].header("x-envoy-expected-rq-timeout-ms"),
        Some("200")
    );
}

#[tokio::test]
async fn the_default_policy_passes_answers_on() {
    let app = App::start("web").await;
    let mesh = mesh(default_retry(), &[app.address]);
    assert_eq!(mesh.get("/script/503,200").await.status, 503);
    assert_eq!(mesh.flags(), "- via_upstream");
    let closed = mesh.get("/close").await;
    assert_eq!(closed.status, 503);
    let body = "upstream connect error or disconnect/reset before headers. reset reason: connection termination";
    assert_eq!(closed.body, body);
    let details = "upstream_reset_before_response_started{connection_termination}";
    assert_eq!(mesh.flags(), format!("UC {details}"));
    assert_eq!(app.seen().len(), 2);
}

#[tokio::test]
async fn a_host_that_refuses_is_left_for_another() {
    let app = App::start("web").await;
    let mut fields = default_retry();
    fields["retry"]["otherHost"] = json!(true);
    let mesh = mesh(fields, &[refusing().await, app.address]);
    for _ in 0..10 {
        assert_eq!(mesh.get("/").await.status, 200);
    }
    assert!(mesh.stat("cluster.web;.upstream_rq_retry") > 0);
    assert!(mesh.stat("cluster.web;.upstream_rq_retry_success") > 0);
    assert!(mesh.stat("cluster.web;.upstream_cx_connect_fail") > 0);
}

#[tokio::test]
async fn connect_failures_are_told_as_envoy_tells_them() {
    let details = "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}";
    let once = mesh(json!({}), &[refusing().await]);
    let answer = once.get("/").await;
    assert_eq!((answer.status, answer.body.len()), (503, 98));
    assert_eq!(once.flags(), format!("UF {details}"));

    let retried = mesh(default_retry(), &[refusing().await]);
    let answer = retried.get("/").await;
    assert_eq!((answer.status, answer.body.len()), (503, 121));
    assert_eq!(retried.flags(), format!("URX,UF {details}"));
}

#[tokio::test]
async fn status_retries_stop_at_success_or_at_the_last() {
    let app = App::start("web").await;
    let mesh = mesh(retry("5xx", 2), &[app.address]);
    assert_eq!(mesh.get("/script/500,500,200").await.status, 200);
    let counts: Vec<_> = app
        .seen()
        .iter()
        .map(|seen| seen.header("x-envoy-attempt-count").unwrap().to_owned())
        .collect();
    assert_eq!(counts, ["1", "2", "3"]);
    assert_eq!(mesh.flags(), "- via_upstream");
    let spent = mesh.get("/status/500").await;
    assert_eq!((spent.status, spent.body.as_str()), (500, "web"));
    assert_eq!(mesh.flags(), "URX via_upstream");
    assert_eq!(app.seen().len(), 6);
}

#[tokio::test]
async fn each_condition_has_its_statuses() {
    for (on, path, attempts) in [
        ("gateway-error", "/status/500", 1),
        ("gateway-error", "/status/503", 3),
        ("retriable-4xx", "/status/404", 1),
        ("retriable-4xx", "/status/409", 3),
        ("418", "/status/418", 3),
        ("418", "/status/500", 1),
        ("reset", "/close", 3),
    ] {
        let app = App::start("web").await;
        mesh(retry(on, 2), &[app.address]).get(path).await;
        assert_eq!(app.seen().len(), attempts, "{on} {path}");
    }
}

#[tokio::test]
async fn per_try_timeouts_are_retried_and_run_out() {
    let app = App::start("web").await;
    let mut fields = retry("5xx", 2);
    fields["retry"]["perTryTimeout"] = json!("0.100s");
    let mesh = mesh(fields, &[app.address]);
    let started = Instant::now();
    assert_eq!(mesh.get("/delay/5000").await.status, 504);
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(mesh.flags(), "URX,UT upstream_per_try_timeout");
    assert_eq!(app.seen().len(), 3);
}

#[tokio::test]
async fn a_per_try_timeout_without_its_condition_is_final() {
    let app = App::start("web").await;
    let mut fields = retry("connect-failure", 2);
    fields["retry"]["perTryTimeout"] = json!("0.100s");
    let mesh = mesh(fields, &[app.address]);
    assert_eq!(mesh.get("/delay/5000").await.status, 504);
    assert_eq!(mesh.flags(), "UT upstream_per_try_timeout");
    assert_eq!(app.seen().len(), 1);
}

#[tokio::test]
async fn the_request_timeout_covers_all_attempts() {
    let app = App::start("web").await;
    let mut fields = retry("5xx", 5);
    fields["retry"]["perTryTimeout"] = json!("0.150s");
    fields["timeout"] = json!("0.250s");
    let mesh = mesh(fields, &[app.address]);
    let started = Instant::now();
    assert_eq!(mesh.get("/delay/5000").await.status, 504);
    assert!((250..1500).contains(&started.elapsed().as_millis()));
    assert_eq!(mesh.flags(), "UT response_timeout");
}

#[tokio::test]
async fn a_body_is_sent_again() {
    let app = App::start("web").await;
    let mesh = mesh(retry("5xx", 2), &[app.address]);
    let body = "x".repeat(200_000);
    let request = Request::post("/script/503,200").header("host", "web");
    let request = request.body(Full::<Bytes>::from(body.clone())).unwrap();
    assert_eq!(send(mesh.address("http"), request).await.status, 200);
    let seen = app.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|seen| seen.body == body));
}

#[tokio::test]
async fn a_body_too_long_to_keep_is_sent_once() {
    let app = App::start("web").await;
    let mesh = mesh(retry("5xx", 2), &[app.address]);
    let request = Request::post("/script/503,200").header("host", "web");
    let request = request
        .body(Full::<Bytes>::from(vec![b'x'; 3 << 20]))
        .unwrap();
    assert_eq!(send(mesh.address("http"), request).await.status, 503);
    assert_eq!(app.seen().len(), 1);
    assert_eq!(app.seen()[0].body.len(), 3 << 20);
}

#[tokio::test]
async fn the_second_try_avoids_the_host_that_failed() {
    let (good, other, bad) = (
        App::start("good").await,
        App::start("good").await,
        raw(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").await,
    );
    let mesh = mesh(retry("5xx", 2), &[good.address, other.address, bad]);
    for _ in 0..30 {
        assert_eq!(mesh.get("/").await.status, 200);
    }
}

#[tokio::test]
async fn a_client_cannot_ask_for_retries() {
    let app = App::start("web").await;
    let mesh = mesh(default_retry(), &[app.address]);
    let request = Request::get("/script/503,200").header("host", "web");
    let answer = mesh.send(request.header("x-envoy-retry-on", "5xx")).await;
    assert_eq!(answer.status, 503);
    assert_eq!(app.seen()[0].header("x-envoy-retry-on"), None);
}

#[tokio::test]
async fn a_slow_attempt_is_hedged_and_the_first_good_answer_wins() {
    let slow = raw_after(Duration::from_secs(30)).await;
    let fast = App::start("fast").await;
    let mut fields = retry("connect-failure", 1);
    fields["retry"]["perTryTimeout"] = json!("0.200s");
    fields["hedgeOnPerTryTimeout"] = json!(true);
    let mesh = mesh(fields, &[slow, fast.address]);
    for _ in 0..4 {
        let started = Instant::now();
        let answer = mesh.get("/").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "fast"));
        assert!(started.elapsed() < Duration::from_secs(5));
    }
    // In turns, the attempt after one at the slow host is at the other: all but perhaps the first
    // request begin at the slow one.
    assert!(mesh.stat("cluster.web;.upstream_rq_per_try_timeout") >= 3);
    assert!(mesh.stat("cluster.web;.upstream_rq_retry") >= 3);
}

#[tokio::test]
async fn a_hash_binds_a_client_to_a_host() {
    let apps = [
        App::start("a").await,
        App::start("b").await,
        App::start("c").await,
    ];
    let endpoints = apps.each_ref().map(|app| app.address);
    let cookie = json!({ "cookie": { "name": "user", "ttl": "10s" } });
    let start = |policy: Value| {
        let route = forward("web", json!({ "hashPolicy": [policy] }));
        let mut snapshot = snapshot("outbound", json!([route]), &[]);
        let fields = json!({ "lbPolicy": { "ringHash": { "minimumRingSize": 1024 } } });
        add_cluster(&mut snapshot, "web", &endpoints, fields);
        Mesh::start(snapshot)
    };
    let by_header = start(json!({ "header": "x-user" }));
    let mut spread = std::collections::BTreeSet::new();
    for user in 0..40 {
        let ask = || {
            Request::get("/")
                .header("host", "web")
                .header("x-user", user)
        };
        let first = by_header.send(ask()).await.body;
        assert_eq!(by_header.send(ask()).await.body, first);
        spread.insert(first);
    }
    assert_eq!(spread.len(), 3);
    let by_cookie = start(cookie);
    let first = by_cookie.get("/").await;
    let set = first.header("set-cookie").unwrap().to_owned();
    assert!(
        set.starts_with("user=\"") && set.ends_with("\"; Max-Age=10; HttpOnly"),
        "{set}"
    );
    for _ in 0..5 {
        let request = Request::get("/").header("host", "web");
        let answer = by_cookie
            .send(request.header("cookie", set.split(';').next().unwrap()))
            .await;
        assert_eq!(
            (answer.body.as_str(), answer.header("set-cookie")),
            (first.body.as_str(), None)
        );
    }
}
