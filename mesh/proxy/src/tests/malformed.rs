//! Input that no honest client or server sends.

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::harness::*;

async fn plain() -> (App, Mesh) {
    let app = App::start("web").await;
    let routes = json!([forward("web", json!({}))]);
    let mesh = Mesh::start(snapshot("outbound", routes, &[("web", &[app.address])]));
    (app, mesh)
}

#[tokio::test]
async fn what_is_not_http_is_refused_logged_and_counted() {
    let (app, mesh) = plain().await;
    let to = mesh.address("http");
    let many = (0..101)
        .map(|n| format!("x-{n}: 1\r\n"))
        .collect::<String>();
    let many = format!("GET / HTTP/1.1\r\nhost: web\r\n{many}\r\n");
    let long = "a".repeat(62 << 10);
    let long = format!("GET / HTTP/1.1\r\nhost: web\r\nx-long: {long}\r\n\r\n");
    let head = |more: &str| format!("POST / HTTP/1.1\r\nhost: web\r\n{more}\r\n\r\n0\r\n\r\n");
    let cases = [
        ("nonsense\r\n\r\n".into(), 400, "http1.codec_error"),
        (
            "GET / HTTP/1.1\r\nhost: web\r\nno colon\r\n\r\n".into(),
            400,
            "http1.codec_error",
        ),
        (
            "GET / HTTP/1.1\r\nhost: web\r\nx: 1\r\n folded\r\n\r\n".into(),
            400,
            "http1.codec_error",
        ),
        (
            "GET / HTTP/1.1\r\nhost: web\r\nx: a\rb\r\n\r\n".into(),
            400,
            "http1.codec_error",
        ),
        (
            "GET / HTTP/1.1\r\nhost: web\r\nx : 1\r\n\r\n".into(),
            400,
            "http1.codec_error",
        ),
        (
            "GET / HTTP/1.1\r\nhost: web\r\nx: a\0b\r\n\r\n".into(),
            400,
            "http1.codec_error",
        ),
        (
            head("content-length: 3\r\ncontent-length: 4"),
            400,
            "http1.codec_error",
        ),
        (head("content-length: -1"), 400, "http1.codec_error"),
        (
            head("transfer-encoding: gzip"),
            501,
            "http1.invalid_transfer_encoding",
        ),
        (
            head("transfer-encoding: chunked\r\ncontent-length: 5"),
            400,
            crate::malformed::BOTH_LENGTHS,
        ),
        (
            head("content-length: 5\r\nTransfer-Encoding: chunked"),
            400,
            crate::malformed::BOTH_LENGTHS,
        ),
        (many, 431, "http1.headers_too_large"),
        (long, 431, "http1.headers_too_large"),
    ];
    let count = cases.len() as u64;
    for (request, status, details) in cases {
        let answer = exchange_bytes(to, request.as_bytes()).await;
        let shown = &request[..request.len().min(80)];
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let (line, headers) = head.split_once("\r\n").unwrap_or((head, ""));
        let expected = format!("HTTP/1.1 {status} {body}");
        assert_eq!(line, expected, "{shown:?} got {answer:?}");
        assert!(
            headers.contains("server: envoy") && headers.contains("connection: close"),
            "{headers}"
        );
        let line = mesh.line();
        assert!(
            line.contains(&format!("HTTP/1.1\" {status} DPE {details} ")),
            "{shown:?}: {line}"
        );
    }
    assert_eq!(mesh.stat("http.test.downstream_cx_protocol_error"), count);
    assert_eq!(mesh.stat("http.test.downstream_rq_active"), 0);
    assert!(app.seen().is_empty());
}

#[tokio::test]
async fn the_same_bytes_inside_a_body_are_no_matter() {
    let (app, mesh) = plain().await;
    let body = "a\r\ncontent-length: 3\r\n";
    let chunked = format!(
        "POST /1 HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n\
         GET /2 HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let answer = exchange_bytes(mesh.address("http"), chunked.as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
    assert_eq!(app.seen()[0].body, body);
}

#[tokio::test]
async fn a_broken_chunk_ends_the_request_and_its_connection() {
    let (_app, mesh) = plain().await;
    let request = "POST / HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nab\r\n";
    let answer = exchange_bytes(mesh.address("http"), request.as_bytes()).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
        "{answer}"
    );
    assert!(mesh.line().contains(" DPE http1.codec_error "));
}

#[tokio::test]
async fn broken_http2_is_counted() {
    let (_app, mesh) = plain().await;
    let mut stream = TcpStream::connect(mesh.address("http")).await.unwrap();
    // A SETTINGS frame on a stream other than 0.
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 1]);
    stream.write_all(&bytes).await.unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    mesh.until(|| mesh.stat("http.test.downstream_cx_protocol_error") == 1)
        .await;
}

#[tokio::test]
async fn a_client_that_leaves_within_its_body_is_recorded() {
    let (_app, mesh) = plain().await;
    let mut stream = TcpStream::connect(mesh.address("http")).await.unwrap();
    let part = b"POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 100\r\n\r\npart";
    stream.write_all(part).await.unwrap();
    mesh.until(|| mesh.stat("http.test.downstream_rq_active") == 1)
        .await;
    drop(stream);
    let line = mesh.line();
    assert!(
        line.contains("\" 0 DC downstream_remote_disconnect "),
        "{line}"
    );
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_the_others_served() {
    let (_app, mesh) = plain().await;
    let to = mesh.address("http");
    let mut idle = Vec::new();
    for _ in 0..500 {
        idle.push(TcpStream::connect(to).await.unwrap());
    }
    mesh.until(|| mesh.stat("server.total_connections") == 500)
        .await;
    let mut refused = TcpStream::connect(to).await.unwrap();
    let mut nothing = Vec::new();
    // Closed or reset.
    let _ = refused.read_to_end(&mut nothing).await;
    assert!(nothing.is_empty());
    assert_eq!(mesh.stat("server.downstream_cx_overflow"), 1);
    let first = &mut idle[0];
    let request = b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n";
    first.write_all(request).await.unwrap();
    let mut answer = String::new();
    first.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    drop(idle);
    mesh.until(|| mesh.stat("server.total_connections") == 0)
        .await;
    assert_eq!(mesh.get("/").await.status, 200);
}

#[tokio::test]
async fn an_upstream_that_says_too_much_is_a_bad_gateway() {
    let long: &'static str = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(70_000)).leak();
    let many = (0..101)
        .map(|n| format!("x-{n}: 1\r\n"))
        .collect::<String>();
    let many: &'static str = format!("HTTP/1.1 200 OK\r\n{many}\r\n").leak();
    for answer in [long, many] {
        let upstream = raw(answer.as_bytes()).await;
        let routes = json!([forward("web", json!({}))]);
        let mesh = Mesh::start(snapshot("outbound", routes, &[("web", &[upstream])]));
        let got = mesh.get("/").await;
        assert!(
            got.status == 502 && got.body.ends_with("protocol error"),
            "{got:?}"
        );
        assert!(mesh.flags().starts_with("UPE "));
    }
}
