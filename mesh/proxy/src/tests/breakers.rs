//! Circuit breakers and the life of connections.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::TcpStream, task::JoinHandle};

use super::harness::*;

fn mesh_with(route: Value, cluster: Value, endpoints: &[SocketAddr]) -> Mesh {
    let mut snapshot = snapshot("outbound", json!([forward("web", route)]), &[]);
    add_cluster(&mut snapshot, "web", endpoints, cluster);
    Mesh::start(snapshot)
}

fn limited(limits: Value, endpoints: &[SocketAddr]) -> Mesh {
    mesh_with(json!({}), json!({ "circuitBreakers": limits }), endpoints)
}

fn stat(mesh: &Mesh, name: &str) -> u64 {
    mesh.stat(&format!("cluster.web;.{name}"))
}

/// Requests under way at the same time.
fn together(mesh: &Mesh, path: &str, count: usize) -> Vec<JoinHandle<Answer>> {
    let address = mesh.address("http");
    let start = |_| {
        let request = http::Request::get(path).header("host", "web");
        let request = request.body(http_body_util::Full::default()).unwrap();
        tokio::spawn(send(address, request))
    };
    (0..count).map(start).collect()
}

/// Requests that the application holds until each is on a connection, in the line for one, or
/// refused.
async fn overlapping(mesh: &Mesh, apps: &[App], count: usize) -> Vec<Answer> {
    let mut requests = Vec::new();
    for nth in 1..=count {
        requests.append(&mut together(mesh, "/held", 1));
        let places = [
            "upstream_rq_active",
            "upstream_rq_pending_active",
            "upstream_rq_pending_overflow",
            "upstream_rq_active_overflow",
        ];
        let placed = || places.iter().map(|place| stat(mesh, place)).sum::<u64>();
        let first = || nth > 1 || stat(mesh, "upstream_rq_active") == 1;
        mesh.until(|| placed() == nth as u64 && first()).await;
    }
    apps.iter().for_each(App::release);
    answers(requests).await
}

async fn answers(requests: Vec<JoinHandle<Answer>>) -> Vec<Answer> {
    let mut answers = Vec::new();
    for request in requests {
        answers.push(request.await.unwrap());
    }
    answers
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    statuses
}

#[tokio::test]
async fn one_on_the_connection_one_in_the_line_the_rest_refused() {
    let limits = json!({ "maxConnections": 1, "maxPendingRequests": 1 });
    for (count, refused) in [(1, 0), (2, 0), (5, 3)] {
        let app = App::start("web").await;
        let mesh = limited(limits.clone(), &[app.address]);
        let answers = overlapping(&mesh, &[app], count).await;
        let overflow: Vec<_> = answers
            .iter()
            .filter(|answer| answer.status == 503)
            .collect();
        assert_eq!(overflow.len(), refused, "{answers:?}");
        assert_eq!(stat(&mesh, "upstream_rq_pending_overflow"), refused as u64);
        assert_eq!(stat(&mesh, "upstream_cx_total"), 1);
        assert_eq!(stat(&mesh, "upstream_rq_total"), (count - refused) as u64);
        for answer in overflow {
            assert_eq!(answer.header("x-envoy-overloaded"), Some("true"));
            let body =
                "upstream connect error or disconnect/reset before headers. reset reason: overflow";
            assert_eq!(answer.body, body);
            assert_eq!(answer.body.len(), 81);
        }
        assert_eq!(stat(&mesh, "circuit_breakers.default.remaining_pending"), 1);
        assert_eq!(
            stat(&mesh, "circuit_breakers.default.cx_open"),
            1,
            "the connection is kept"
        );
        if refused > 0 {
            let details = "upstream_reset_before_response_started{overflow}";
            let mut log = String::new();
            while !log.contains(&format!(" 503 UO {details} ")) {
                log.push_str(&mesh.line());
            }
        }
    }
}

#[tokio::test]
async fn a_limit_of_connections_alone_makes_requests_take_turns() {
    let app = App::start("web").await;
    let mesh = limited(json!({ "maxConnections": 1 }), &[app.address]);
    let answers = overlapping(&mesh, &[app], 5).await;
    assert_eq!(statuses(&answers), [200; 5]);
    assert_eq!(stat(&mesh, "upstream_cx_total"), 1);
    assert!(stat(&mesh, "upstream_cx_overflow") > 0);
    assert_eq!(stat(&mesh, "upstream_rq_active"), 0);
}

#[tokio::test]
async fn every_host_may_have_one_connection() {
    let apps = [
        App::start("a").await,
        App::start("b").await,
        App::start("c").await,
    ];
    let mesh = limited(
        json!({ "maxConnections": 1 }),
        &apps.each_ref().map(|app| app.address),
    );
    let answers = overlapping(&mesh, &apps, 3).await;
    assert_eq!(statuses(&answers), [200; 3]);
    assert_eq!(stat(&mesh, "upstream_cx_total"), 3);
}

#[tokio::test]
async fn requests_on_connections_are_limited_for_http1_too() {
    let app = App::start("web").await;
    let mesh = limited(json!({ "maxRequests": 1 }), &[app.address]);
    let answers = overlapping(&mesh, &[app], 3).await;
    assert_eq!(statuses(&answers), [200, 503, 503]);
    assert_eq!(stat(&mesh, "upstream_rq_active_overflow"), 2);
    assert_eq!(stat(&mesh, "upstream_rq_503"), 2);
}

#[tokio::test]
async fn retries_are_limited_and_the_answer_says_so() {
    let app = App::start("web").await;
    let retry =
        json!({ "retry": { "retryOn": ["5xx"], "numRetries": 3, "baseInterval": "0.200s" } });
    let cluster = json!({ "circuitBreakers": { "maxRetries": 1 } });
    let mesh = mesh_with(retry, cluster, &[app.address]);
    let answers = answers(together(&mesh, "/status/503", 5)).await;
    assert_eq!(statuses(&answers), [503; 5]);
    assert!(stat(&mesh, "upstream_rq_retry_overflow") > 0);
    assert_eq!(
        stat(&mesh, "upstream_rq_503"),
        5,
        "what was tried again counts apart"
    );
    assert_eq!(
        stat(&mesh, "retry.upstream_rq_503"),
        stat(&mesh, "upstream_rq_retry")
    );
    let mut log = String::new();
    while !log.contains(" 503 UO via_upstream ") {
        log.push_str(&mesh.line());
    }
}

#[tokio::test]
async fn a_connection_serves_so_many_requests() {
    let app = App::start("web").await;
    let cluster = json!({ "connections": { "maxRequestsPerConnection": 1 } });
    let mesh = mesh_with(json!({}), cluster, &[app.address]);
    for _ in 0..4 {
        assert_eq!(mesh.get("/").await.status, 200);
    }
    assert_eq!(stat(&mesh, "upstream_cx_total"), 4);
    assert_eq!(stat(&mesh, "upstream_cx_max_requests"), 4);
}

#[tokio::test]
async fn connections_end_when_idle_or_old() {
    let app = App::start("web").await;
    let idle = json!({ "connections": { "idleTimeout": "0.100s" } });
    let mesh = mesh_with(json!({}), idle, &[app.address]);
    assert_eq!(mesh.get("/").await.status, 200);
    mesh.until(|| stat(&mesh, "upstream_cx_active") == 0).await;
    assert_eq!(stat(&mesh, "upstream_cx_idle_timeout"), 1);
    let old = json!({ "connections": { "maxConnectionDuration": "0.100s" } });
    let mesh = mesh_with(json!({}), old, &[app.address]);
    assert_eq!(
        mesh.get("/delay/200").await.status,
        200,
        "what is under way is finished"
    );
    mesh.until(|| stat(&mesh, "upstream_cx_active") == 0).await;
    assert_eq!(stat(&mesh, "upstream_cx_max_duration_reached"), 1);
    assert_eq!(mesh.get("/").await.status, 200);
}

#[tokio::test]
async fn http2_shares_a_connection_within_its_streams() {
    for (connections, limits) in [(1, json!({})), (2, json!({ "maxConcurrentStreams": 2 }))] {
        let app = App::start("web").await;
        let fields = json!({ "protocol": "http2", "connections": limits });
        let mesh = mesh_with(json!({}), fields, &[app.address]);
        let answers = overlapping(&mesh, &[app], 4).await;
        assert_eq!(statuses(&answers), [200; 4]);
        assert_eq!(stat(&mesh, "upstream_cx_total"), connections);
    }
}

#[tokio::test]
async fn a_tcp_connection_too_many_is_closed_at_once() {
    let server = echo().await;
    let mut snapshot = snapshot("outbound", json!([]), &[]);
    let limits = json!({ "circuitBreakers": { "maxConnections": 1 } });
    add_cluster(&mut snapshot, "web", &[server], limits);
    let filter = mesh_config::NetworkFilter::Tcp(mesh_config::TcpProxy::to("web"));
    let mut listener = (*snapshot.listeners["http"]).clone();
    listener.filter_chains[0].filter = filter;
    snapshot.listeners.insert("http".into(), listener.into());
    let mesh = Mesh::start(snapshot);
    let first = TcpStream::connect(mesh.address("http")).await.unwrap();
    mesh.until(|| stat(&mesh, "upstream_cx_active") == 1).await;
    let mut second = TcpStream::connect(mesh.address("http")).await.unwrap();
    assert_eq!(second.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert_eq!(stat(&mesh, "upstream_cx_overflow"), 1);
    let line = mesh.line();
    assert!(line.contains("\"- - -\" 0 UO "), "{line}");
    drop(first);
}
