use axum::Router;
use axum::body::{Body, to_bytes};
use axum::routing::get;
use http::Method;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::chaos::settings::Settings;
use crate::metrics::Metrics;

fn service(settings: Value) -> (Router, Chaos, Metrics) {
    let metrics = Metrics::default();
    let settings: Settings = serde_json::from_value(settings).expect("settings");
    settings.validate().expect("valid");
    let chaos = Chaos::new("test", settings, metrics.clone());
    let router = Router::new()
        .route("/", get(|| async { "served" }).post(|| async { "served" }))
        .route(
            "/slow",
            get(|| async {
                sleep(Duration::from_millis(80)).await;
                "served"
            }),
        )
        .route(
            "/broken",
            get(|| async { StatusCode::INTERNAL_SERVER_ERROR }),
        )
        .route("/health", get(|| async { "healthy" }))
        .merge(crate::chaos::api::router(chaos.clone()))
        .layer(ChaosLayer::new(chaos.clone()));
    (router, chaos, metrics)
}

async fn send(
    router: &Router,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
    let mut request = axum::http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Body::from(body.to_owned()))
        .expect("a request");
    let response = router
        .clone()
        .oneshot(request)
        .await
        .expect("routers do not fail");
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), 1 << 20)
        .await
        .expect("a body");
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

async fn ask(router: &Router, path: &str) -> (u16, String) {
    send(router, Method::GET, path, &[], "").await
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn an_http_error_has_its_code_and_text() {
    let (router, chaos, metrics) = service(json!({"error_rate": 1, "error_code": 503}));
    let (status, body) = ask(&router, "/").await;
    assert_eq!(status, 503);
    assert_eq!(body, r#"{"error":"Service error automatically injected"}"#);
    assert_eq!(chaos.status().injected["http_error"], 1);
    chaos.refresh_metrics();
    let text = metrics.render();
    for line in [
        r#"chaos_injected_total{service="test",type="http_error"} 1"#,
        r#"chaos_in_force{service="test"} 1"#,
        r#"chaos_error_rate{service="test",type="http_error",code="503"} 1"#,
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_delay_waits_and_then_fails_or_goes_on() {
    let (router, ..) =
        service(json!({"error_rate": 1, "error_type": "delay", "error_delay": "7s"}));
    let started = Instant::now();
    let (status, body) = ask(&router, "/").await;
    assert_eq!((status, started.elapsed().as_secs()), (500, 7));
    assert!(
        body.contains("Service delay automatically injected"),
        "{body}"
    );

    let (router, ..) = service(
        json!({"error_rate": 1, "error_type": "delay", "error_delay": "7s", "error_code": 200}),
    );
    let started = Instant::now();
    assert_eq!(ask(&router, "/").await, (200, "served".into()));
    assert_eq!(started.elapsed().as_secs(), 7);
}

#[tokio::test(start_paused = true)]
async fn timing_is_of_the_whole_request_and_spares_failures() {
    let (router, ..) = service(json!({"timing_50_percentile": "150ms"}));
    for (path, expected) in [("/", 150), ("/slow", 150), ("/broken", 0)] {
        let started = Instant::now();
        ask(&router, path).await;
        assert_eq!(started.elapsed().as_millis(), expected, "{path}");
    }
}

#[tokio::test]
async fn health_and_chaos_itself_are_exempt_and_the_match_is_kept() {
    let (router, ..) = service(json!({"error_rate": 1, "method": "GET"}));
    assert_eq!(ask(&router, "/health").await.0, 200);
    assert_eq!(ask(&router, "/chaos").await.0, 200);
    assert_eq!(send(&router, Method::POST, "/", &[], "").await.0, 200);
    assert_eq!(ask(&router, "/").await.0, 500);
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_makes_the_service_well_again() {
    let (router, chaos, metrics) = service(json!({"error_rate": 1, "time_limit": "10s"}));
    assert_eq!(ask(&router, "/").await.0, 500);
    assert_eq!(chaos.status().remaining.as_deref(), Some("10s"));
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(ask(&router, "/").await.0, 200);
    assert!(!chaos.in_force());
    chaos.refresh_metrics();
    assert!(
        metrics
            .render()
            .contains("chaos_in_force{service=\"test\"} 0\n")
    );
}

#[tokio::test(start_paused = true)]
async fn a_hang_ends_after_ten_minutes_at_last() {
    let (router, ..) = service(json!({"error_rate": 1, "error_type": "hang"}));
    let started = Instant::now();
    ask(&router, "/").await;
    assert_eq!(started.elapsed(), LONGEST_HANG);
}

#[tokio::test]
async fn a_reset_is_one_on_the_wire() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (router, ..) = service(json!({"error_rate": 1, "error_type": "reset"}));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(crate::server::serve(
        listener,
        router,
        std::future::pending(),
    ));
    let mut stream = tokio::net::TcpStream::connect(address)
        .await
        .expect("connected");
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("sent");
    let error = stream
        .read_to_end(&mut Vec::new())
        .await
        .expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn chaos_is_changed_and_ended_while_the_service_runs() {
    let (router, ..) = service(json!({}));
    assert_eq!(ask(&router, "/").await.0, 200);
    let (status, body) = send(
        &router,
        Method::PUT,
        "/chaos",
        &[JSON],
        r#"{"error_rate": 1, "error_code": 418, "error_message": "tea"}"#,
    )
    .await;
    assert_eq!(status, 200, "{body}");
    assert!(
        body.contains(r#""in_force":true"#) && body.contains(r#""error_code":418"#),
        "{body}"
    );
    assert_eq!(ask(&router, "/").await, (418, r#"{"error":"tea"}"#.into()));
    let (status, body) = send(&router, Method::DELETE, "/chaos", &[], "").await;
    assert_eq!(status, 200);
    assert!(body.contains(r#""in_force":false"#), "{body}");
    assert_eq!(ask(&router, "/").await.0, 200);
}

#[tokio::test]
async fn a_bad_change_is_refused_with_its_reason_and_changes_nothing() {
    let (router, ..) = service(json!({}));
    for (headers, body, status, text) in [
        (
            vec![JSON],
            r#"{"error_rate": 2}"#,
            400,
            "error_rate: 2 is not between 0 and 1",
        ),
        (vec![JSON], r#"{"rate": 1}"#, 400, "unknown field `rate`"),
        (vec![JSON], "{", 400, "EOF"),
        (vec![], r#"{"error_rate": 1}"#, 415, "application/json"),
        (
            vec![("content-type", "text/plain")],
            r#"{"error_rate": 1}"#,
            415,
            "application/json",
        ),
        (
            vec![
                JSON,
                ("origin", "http://evil.example"),
                ("host", "127.0.0.1:80"),
            ],
            r#"{"error_rate": 1}"#,
            403,
            "another site",
        ),
        (
            vec![
                JSON,
                ("origin", "http://evil.example"),
                ("host", "evil.example"),
            ],
            r#"{"error_rate": 1}"#,
            403,
            "another site",
        ),
        (
            vec![JSON, ("origin", "null"), ("host", "127.0.0.1:80")],
            r#"{"error_rate": 1}"#,
            403,
            "another site",
        ),
    ] {
        let (got, answer) = send(&router, Method::PUT, "/chaos", &headers, body).await;
        assert_eq!(got, status, "{body}: {answer}");
        assert!(answer.contains(text), "{answer}");
    }
    let large = format!(r#"{{"error_message": "{}"}}"#, "x".repeat(20_000));
    assert_eq!(
        send(&router, Method::PUT, "/chaos", &[JSON], &large)
            .await
            .0,
        413
    );
    assert_eq!(ask(&router, "/").await.0, 200);
    let own = [
        JSON,
        ("origin", "http://127.0.0.1:80"),
        ("host", "127.0.0.1:80"),
    ];
    assert_eq!(
        send(&router, Method::PUT, "/chaos", &own, "{}").await.0,
        200
    );
}

/// Runs in a process of its own, started by the next test.
#[tokio::test]
#[ignore = "ends the process"]
async fn crashing() {
    let (router, ..) = service(json!({"error_rate": 1, "error_type": "crash"}));
    ask(&router, "/").await;
}

#[test]
fn a_crash_ends_the_process_with_exit_code_one() {
    let own = std::env::current_exe().expect("the path of this test program");
    let ended = std::process::Command::new(own)
        .args(["--exact", "chaos::layer::tests::crashing", "--ignored"])
        .output()
        .expect("this test program starts");
    // A failed test would end with 101.
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
}
