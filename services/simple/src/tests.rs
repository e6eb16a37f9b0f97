use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use clap::Parser;
use dojo_kit::{Identity, Kit};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::Args;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

/// The whole service with these flags.
fn simple(flags: &[&str]) -> Router {
    let fixed = ["simple", "--pod-ip", "10.1.2.3"];
    let args = Cli::parse_from(fixed.iter().chain(flags)).args;
    let identity = Identity {
        service: "simple",
        version: "v1".into(),
        pod: None,
    };
    let chaos = args
        .serve
        .chaos
        .settings(crate::args::own_chaos())
        .expect("valid");
    let kit = Kit::new(identity, None)
        .expect("a client")
        .with_chaos(chaos);
    crate::service::service(&kit, args.config().expect("valid"))
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("JSON: {}", self.body))
    }

    fn names(&self) -> Vec<String> {
        let json = self.json();
        json.as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect()
    }
}

async fn ask(router: &Router, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::get(path).header("host", "simple:8080");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).expect("a request");
    let response = router.clone().oneshot(request).await.expect("an answer");
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.expect("a body");
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).expect("text"),
    }
}

async fn get(router: &Router, path: &str) -> Answer {
    ask(router, path, &[]).await
}

async fn serve(router: Router) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(dojo_kit::server::serve(
        listener,
        router,
        std::future::pending(),
    ));
    port
}

fn web(port: u16, flags: &[&str]) -> Router {
    let uri = format!("http://127.0.0.1:{port}/");
    let mut all = vec![
        "--name",
        "simple-web",
        "--message",
        "Hello from simple-web!!!",
        "--upstream-uris",
        &uri,
    ];
    all.extend(flags);
    simple(&all)
}

#[tokio::test]
async fn an_answer_has_its_fields_in_order() {
    let router = simple(&[
        "--name",
        "simple-backend",
        "--message",
        "Hello from simple-backend-1",
    ]);
    let answer = get(&router, "/a?b=c").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(
        answer.names(),
        [
            "name",
            "uri",
            "type",
            "ip_addresses",
            "start_time",
            "end_time",
            "duration",
            "body",
            "code"
        ]
    );
    let json = answer.json();
    assert_eq!(json["name"], "simple-backend");
    assert_eq!(json["uri"], "/a?b=c");
    assert_eq!(json["type"], "HTTP");
    assert_eq!(json["ip_addresses"], json!(["10.1.2.3"]));
    assert_eq!(json["body"], "Hello from simple-backend-1");
    assert_eq!(json["code"], 200);
    assert!(answer.body.starts_with("{\n  \"name\"") && answer.body.ends_with("}\n"));
    assert_eq!(get(&router, "//").await.json()["uri"], "/");
    let raw = simple(&["--message", r#"{"a": 1}"#]);
    assert_eq!(get(&raw, "/").await.json()["body"], json!({"a": 1}));
}

#[tokio::test]
async fn the_call_tree_is_nested() {
    let port = serve(simple(&[
        "--name",
        "simple-backend",
        "--message",
        "Hello from simple-backend-1",
    ]))
    .await;
    let answer = get(&web(port, &[]), "/").await;
    assert_eq!(answer.status, 200);
    let json = answer.json();
    assert_eq!(json["body"], "Hello from simple-web!!!");
    let call = &json["upstream_calls"][0];
    assert_eq!(call["body"], "Hello from simple-backend-1");
    assert_eq!(call["uri"], format!("http://127.0.0.1:{port}/"));
    assert_eq!(call["code"], 200);
    assert_eq!(call["headers"]["Content-Type"], "text/plain; charset=utf-8");
    let names: Vec<_> = call.as_object().expect("an object").keys().collect();
    assert_eq!(
        names,
        [
            "name",
            "uri",
            "type",
            "ip_addresses",
            "start_time",
            "end_time",
            "duration",
            "headers",
            "body",
            "code"
        ]
    );
    let answer = get(&web(port, &["--form", "0.18"]), "/").await;
    let call = &answer.json()["upstream_calls"][format!("http://127.0.0.1:{port}/")];
    assert_eq!(call["name"], "simple-backend");
    assert_eq!(answer.json()["path"], "/");
}

#[tokio::test]
async fn a_failing_upstream_makes_the_answer_500_and_keeps_the_body() {
    let backend = simple(&[
        "--name",
        "simple-backend",
        "--error-rate",
        "0.75",
        "--error-code",
        "503",
    ]);
    let port = serve(backend).await;
    let answer = get(&web(port, &[]), "/").await;
    assert_eq!(answer.status, 500);
    let json = answer.json();
    assert_eq!(
        (&json["code"], &json["body"]),
        (&json!(500), &json!("Hello from simple-web!!!"))
    );
    assert!(json["duration"].is_string());
    let call = &json["upstream_calls"][0];
    assert_eq!(call["code"], 503);
    let uri = format!("http://127.0.0.1:{port}//");
    assert_eq!(
        call["error"],
        format!("Error processing upstream request: {uri}, expected code 200, got 503")
    );
    assert!(call["headers"].is_object());
    let json = get(&web(port, &["--form", "0.14"]), "/").await.json();
    let call = &json["upstream_calls"][0];
    assert_eq!(
        call["error"],
        format!("Error processing upstream request: {uri}")
    );
    assert!(call["headers"].is_null());
}

#[tokio::test]
async fn answers_that_are_no_json_and_no_answers() {
    let garbage = Router::new().fallback(|| async {
        (
            axum::http::StatusCode::SERVICE_UNAVAILABLE,
            [
                ("x-envoy-overloaded", "true"),
                ("set-cookie", "a=1; Path=/"),
            ],
            "no healthy upstream",
        )
    });
    let port = serve(garbage).await;
    let json = get(&web(port, &[]), "/").await.json();
    let call = &json["upstream_calls"][0];
    let names: Vec<_> = call.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["uri", "headers", "cookies", "code", "error"]);
    assert_eq!(call["headers"]["X-Envoy-Overloaded"], "true");
    assert_eq!(call["cookies"]["a"], "1");

    let free = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let closed = free.local_addr().expect("an address").port();
    drop(free);
    let answer = get(&web(closed, &[]), "/").await;
    assert_eq!(answer.status, 500);
    let call = &answer.json()["upstream_calls"][0];
    assert_eq!(call["code"], -1);
    let error = call["error"].as_str().expect("text");
    assert!(
        error.starts_with("Error communicating with upstream service: "),
        "{error}"
    );
}

#[tokio::test]
async fn a_hanging_upstream_and_a_huge_answer_are_given_up() {
    let hanging = serve(Router::new().fallback(std::future::pending::<()>)).await;
    let router = web(hanging, &["--http-client-request-timeout", "50ms"]);
    let json = get(&router, "/").await.json();
    assert_eq!(json["upstream_calls"][0]["code"], -1);
    let huge = serve(Router::new().fallback(|| async { "x".repeat(3 << 20) })).await;
    let json = get(&web(huge, &[]), "/").await.json();
    let error = json["upstream_calls"][0]["error"].as_str().expect("text");
    assert!(error.contains("larger than"), "{error}");
}

#[tokio::test]
async fn services_call_each_other_over_grpc_on_the_same_port() {
    let good = serve(simple(&["--name", "backend"])).await;
    let calling = |port: u16| simple(&["--upstream-uris", &format!("grpc://127.0.0.1:{port}")]);
    let answer = get(&calling(good), "/").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let call = &answer.json()["upstream_calls"][0];
    assert_eq!(
        (&call["name"], &call["type"]),
        (&json!("backend"), &json!("gRPC"))
    );
    assert_eq!(call["code"], 0);
    assert_eq!(call["body"], "Hello World");

    let bad = serve(simple(&["--error-rate", "1", "--error-code", "503"])).await;
    let answer = get(&calling(bad), "/").await;
    assert_eq!(answer.status, 500);
    let call = &answer.json()["upstream_calls"][0];
    assert_eq!(call["code"], 14);
    let error = call["error"].as_str().expect("text");
    assert!(
        error.contains("Service error automatically injected"),
        "{error}"
    );
    // A web server that knows nothing of gRPC.
    let other = serve(Router::new().fallback(|| async { "<html>" })).await;
    let json = get(&calling(other), "/").await.json();
    assert_eq!(json["upstream_calls"][0]["code"], 2, "{json}");
}

#[tokio::test]
async fn with_one_worker_the_first_failure_stops_the_rest() {
    let good = serve(simple(&[])).await;
    let bad = serve(simple(&["--error-rate", "1"])).await;
    let uris = format!("http://127.0.0.1:{bad}/, http://127.0.0.1:{good}/");
    for (workers, calls) in [("1", 1), ("2", 2)] {
        let router = simple(&["--upstream-uris", &uris, "--upstream-workers", workers]);
        let answer = get(&router, "/").await;
        assert_eq!(answer.status, 500);
        assert_eq!(
            answer.json()["upstream_calls"].as_array().map(Vec::len),
            Some(calls)
        );
    }
}

#[tokio::test]
async fn headers_and_path_go_into_calls() {
    let echo = Router::new().fallback(
        |uri: axum::http::Uri, method: axum::http::Method, headers: HeaderMap| async move {
            let own = headers
                .get("x-my-header")
                .map_or("", |value| value.to_str().expect("text"));
            json!({"name": own, "body": format!("{method} {uri}")}).to_string()
        },
    );
    let port = serve(echo).await;
    let json = ask(&web(port, &[]), "/a", &[("x-my-header", "v")])
        .await
        .json();
    let call = &json["upstream_calls"][0];
    assert_eq!(
        (&call["name"], &call["body"]),
        (&json!("v"), &json!("GET /a"))
    );
    let router = web(
        port,
        &[
            "--http-client-append-request",
            "false",
            "--upstream-request-body",
            "x",
        ],
    );
    let json = ask(&router, "/a", &[("x-my-header", "v")]).await.json();
    let call = &json["upstream_calls"][0];
    assert_eq!(
        (&call["name"], &call["body"]),
        (&Value::Null, &json!("POST /"))
    );
}

#[tokio::test]
async fn errors_are_counted_out() {
    for (rate, failing) in [
        ("0.5", vec![2, 4, 6]),
        ("0.3", vec![3, 6]),
        ("0.75", vec![1, 2, 3, 4, 5, 6]),
    ] {
        let router = simple(&["--error-rate", rate, "--error-code", "408"]);
        for n in 1..=6 {
            assert_eq!(get(&router, "/health").await.status, 200);
            let answer = get(&router, "/").await;
            let expected = if failing.contains(&n) { 408 } else { 200 };
            assert_eq!(answer.status, expected, "{rate}: {n}");
            if expected == 408 {
                assert_eq!(
                    answer.names(),
                    ["name", "uri", "type", "ip_addresses", "code", "error"]
                );
                assert_eq!(
                    answer.json()["error"],
                    "Service error automatically injected"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn delays_and_percentiles_take_their_time() {
    let delayed = simple(&[
        "--error-rate",
        "1",
        "--error-type",
        "delay",
        "--error-delay",
        "2s",
    ]);
    let started = tokio::time::Instant::now();
    let answer = get(&delayed, "/").await;
    assert_eq!((answer.status, started.elapsed().as_secs()), (500, 2));
    assert_eq!(
        answer.json()["error"],
        "Service delay automatically injected"
    );
    let slow = simple(&["--timing-50-percentile", "150ms", "--timing-variance", "10"]);
    for _ in 0..20 {
        let started = tokio::time::Instant::now();
        let answer = get(&slow, "/").await;
        let took = started.elapsed();
        assert!(
            (Duration::from_millis(150)..=Duration::from_millis(166)).contains(&took),
            "{took:?}"
        );
        let duration = answer.json()["duration"].as_str().expect("text").to_owned();
        assert!(
            duration.starts_with("15") || duration.starts_with("16"),
            "{duration}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_are_refused() {
    let router = simple(&["--rate-limit", "2", "--rate-limit-code", "429"]);
    for status in [200, 200, 429] {
        assert_eq!(get(&router, "/").await.status, status);
    }
    let answer = get(&router, "/").await;
    assert_eq!(answer.json()["error"], "Service exceeded rate limit");
    assert_eq!(get(&router, "/health").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn health_and_readiness() {
    let router = simple(&["--health-check-response-code", "503", "--ready-delay", "5s"]);
    let answer = get(&router, "/health").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "OK"));
    let answer = get(&router, "/ready").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (503, "Starting Process")
    );
    assert_eq!(get(&router, "/").await.status, 200);
    tokio::time::advance(Duration::from_secs(5)).await;
    let answer = get(&router, "/ready").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "OK"));
    let waiting = simple(&["--ready-delay", "5s", "--wait-till-ready", "true"]);
    assert_eq!(get(&waiting, "/").await.status, 503);
}

#[tokio::test]
async fn configuration_changes_at_run_time() {
    let router = simple(&[]);
    assert_eq!(get(&router, "/config/error_rate/1").await.status, 200);
    assert_eq!(get(&router, "/").await.status, 500);
    assert_eq!(get(&router, "/config/error_rate/2").await.status, 400);
    assert_eq!(get(&router, "/config/error_rate/0").await.status, 200);
    assert_eq!(get(&router, "/").await.status, 200);
    assert_eq!(
        get(&router, "/config/health_check_response_code/500")
            .await
            .status,
        200
    );
    assert_eq!(get(&router, "/health").await.status, 500);
    assert_eq!(
        get(&router, "/config/health_check_response_code/9")
            .await
            .status,
        400
    );
    let foreign = [("sec-fetch-site", "cross-site")];
    assert_eq!(
        ask(&router, "/config/error_rate/1", &foreign).await.status,
        403
    );
    let foreign = [("origin", "http://evil.example")];
    assert_eq!(
        ask(&router, "/config/error_rate/1", &foreign).await.status,
        403
    );
}

#[tokio::test]
async fn the_page_stands_outside_of_chaos() {
    let router = simple(&["--error-rate", "1"]);
    let page = get(&router, "/ui/").await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("<button>Go</button>"));
    assert_eq!(get(&router, "/ui").await.headers["location"], "/ui/");
    assert_eq!(get(&router, "/metrics").await.status, 200);
}

#[tokio::test]
async fn connections_are_closed_as_in_that_version() {
    let closes = |answer: &Answer| answer.headers.get("connection").is_some();
    assert!(closes(&get(&simple(&[]), "/").await));
    assert!(!closes(&get(&simple(&["--form", "0.14"]), "/").await));
    assert!(!closes(
        &get(&simple(&["--http-client-keep-alives", "true"]), "/").await
    ));
    let flags = ["--http-server-keep-alives", "true"];
    assert!(!closes(&get(&simple(&flags), "/").await));
}

#[test]
fn variables_are_checked() {
    for flags in [
        ["--timing-50-percentile", "fast"],
        ["--server-type", "soap"],
        ["--rate-limit-code", "99"],
        ["--upstream-workers", "0"],
        ["--load-memory-per-request", "999999999999"],
        ["--http-client-request-timeout", "30"],
    ] {
        assert!(
            Cli::try_parse_from(std::iter::once("simple").chain(flags)).is_err(),
            "{flags:?}"
        );
    }
    for (flag, value, reason) in [
        ("--upstream-uris", "https://a:1", "only http://"),
        ("--upstream-uris", "grpc://a", "has no port"),
        ("--upstream-uris", "simple-backend", "is not an address"),
        ("--rate-limit", "-1", "RATE_LIMIT"),
        ("--ui-path", "/", "UI_PATH"),
        ("--tls-cert-location", "/a.crt", "TLS_CERT_LOCATION"),
    ] {
        let flag = format!("{flag}={value}");
        let args = Cli::try_parse_from(["simple", &flag]).expect("parsed").args;
        let error = args.config().expect_err(value).to_string();
        assert!(error.contains(reason), "{error}");
    }
    let args = Cli::parse_from(["simple", "--error-rate", "1.5"]).args;
    assert!(args.serve.chaos.settings(crate::args::own_chaos()).is_err());
}
