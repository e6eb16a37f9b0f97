//! HTTP's own rules, HTTP/2, upgrades, the door, TCP.

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper::client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_config::Snapshot;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::harness::*;

async fn plain(direction: &str, app: &App) -> Mesh {
    let routes = json!([forward("web", json!({}))]);
    Mesh::start(snapshot(direction, routes, &[("web", &[app.address])]))
}

#[tokio::test]
async fn what_http_forbids_is_refused() {
    let app = App::start("web").await;
    let mesh = plain("outbound", &app).await;
    let to = mesh.address("http");
    for (request, status) in [
        ("GET / HTTP/1.0\r\nhost: web\r\n\r\n", "426"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("OPTIONS * HTTP/1.1\r\nhost: web\r\n\r\n", "404"),
        ("CONNECT web:80 HTTP/1.1\r\nhost: web:80\r\n\r\n", "404"),
        ("GET /a%00 HTTP/1.1\r\nhost: web\r\n\r\n", "400"),
        (
            "GET / HTTP/1.1\r\nhost: web\r\nconnection: upgrade\r\nupgrade: irc\r\n\r\n",
            "403",
        ),
    ] {
        let answer = exchange_bytes(to, request.as_bytes()).await;
        let got = answer.split(' ').nth(1);
        assert_eq!(got, Some(status), "{request:?} got {answer:?}");
    }
    assert!(app.seen().is_empty());
}

#[tokio::test]
async fn a_sidecar_and_a_gateway_treat_headers_differently() {
    let app = App::start("web").await;
    let request = || {
        Request::get("/")
            .header("host", "web")
            .header("x-request-id", "mine")
            .header("x-forwarded-for", "9.9.9.9")
            .header("x-forwarded-proto", "https")
            .header("x-envoy-upstream-rq-timeout-ms", "1")
            .header("x-forwarded-client-cert", "forged")
            .header("connection", "x-private")
            .header("x-private", "1")
            .header("te", "gzip")
    };
    let sidecar = plain("outbound", &app).await;
    let answer = sidecar.send(request()).await;
    assert_eq!(answer.header("server"), Some("envoy"));
    assert!(answer.header("x-envoy-upstream-service-time").is_some());
    assert!(answer.header("date").is_some());
    let gateway = plain("gateway", &app).await;
    assert_eq!(
        gateway.send(request()).await.header("server"),
        Some("istio-envoy")
    );
    let inbound = plain("inbound", &app).await;
    let decorated = request()
        .header("x-envoy-decorator-operation", "x")
        .header("x-envoy-peer-metadata", "x");
    inbound.send(decorated).await;
    let seen = app.seen();
    for seen in &seen {
        for gone in [
            "x-envoy-upstream-rq-timeout-ms",
            "x-forwarded-client-cert",
            "x-private",
            "te",
            "connection",
        ] {
            assert_eq!(seen.header(gone), None, "{gone}");
        }
    }
    let [sidecar, gateway, inbound] = &seen[..] else {
        panic!("{seen:?}")
    };
    assert_eq!(sidecar.header("x-request-id"), Some("mine"));
    assert_eq!(sidecar.header("x-forwarded-for"), Some("9.9.9.9"));
    assert_eq!(sidecar.header("x-forwarded-proto"), Some("https"));
    assert_eq!(
        sidecar.header("x-envoy-decorator-operation"),
        Some("web:80/*")
    );
    assert!(sidecar.header("x-envoy-peer-metadata").is_some());
    assert_eq!(gateway.header("x-request-id").map(str::len), Some(36));
    assert_eq!(gateway.header("x-forwarded-for"), Some("9.9.9.9,127.0.0.1"));
    assert_eq!(gateway.header("x-forwarded-proto"), Some("http"));
    assert_eq!(
        gateway.header("x-envoy-external-address"),
        Some("127.0.0.1")
    );
    assert_eq!(inbound.header("x-envoy-decorator-operation"), None);
    assert_eq!(inbound.header("x-envoy-peer-metadata"), None);
}

#[tokio::test]
async fn bad_upstreams_are_told_apart() {
    let garbage = raw(b"\x00\x01garbage\r\n\r\n").await;
    let truncated = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart").await;
    let mut other = forward("truncated", json!({}));
    other["match"]["path"] = json!({ "prefix": "/truncated" });
    let routes = json!([other, forward("garbage", json!({}))]);
    let clusters: &[(&str, &[_])] = &[("garbage", &[garbage]), ("truncated", &[truncated])];
    let mesh = Mesh::start(snapshot("outbound", routes, clusters));
    let answer = mesh.get("/").await;
    assert_eq!(answer.status, 502);
    assert!(
        answer.body.ends_with("reset reason: protocol error"),
        "{}",
        answer.body
    );
    assert_eq!(
        mesh.flags(),
        "UPE upstream_reset_before_response_started{protocol_error}"
    );
    assert_eq!(mesh.get("/truncated").await.status, 200);
    assert_eq!(
        mesh.flags(),
        "UPE upstream_reset_after_response_started{protocol_error}"
    );
}

#[tokio::test]
async fn http2_in_and_out() {
    let app = App::start("web").await;
    for (protocol, version) in [
        ("http1", Version::HTTP_11),
        ("useDownstream", Version::HTTP_2),
        ("http2", Version::HTTP_2),
    ] {
        let mut snapshot = snapshot("outbound", json!([forward("web", json!({}))]), &[]);
        add_cluster(
            &mut snapshot,
            "web",
            &[app.address],
            json!({ "protocol": protocol }),
        );
        let mesh = Mesh::start(snapshot);
        let stream = TcpStream::connect(mesh.address("http")).await.unwrap();
        let io = TokioIo::new(stream);
        let handshake = client::conn::http2::handshake(TokioExecutor::new(), io);
        let (mut sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        for _ in 0..2 {
            let request = Request::post("http://web/x")
                .body(Full::<Bytes>::from("body"))
                .unwrap();
            let answer = answer(sender.send_request(request).await.unwrap()).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, "web"));
        }
        let seen = app.seen().pop().unwrap();
        assert_eq!((seen.version, seen.body.as_str()), (version, "body"));
        assert!(mesh.line().contains("\"POST /x HTTP/2\" 200"));
    }
}

#[tokio::test]
async fn a_grpc_call_to_nobody_gets_a_grpc_status() {
    let routes = json!([forward("web", json!({}))]);
    let mesh = Mesh::start(snapshot("outbound", routes, &[("web", &[])]));
    let request = Request::post("/pkg.S/M").header("host", "web");
    let answer = mesh
        .send(request.header("content-type", "application/grpc"))
        .await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(answer.header("grpc-status"), Some("14"));
    assert_eq!(answer.header("grpc-message"), Some("no healthy upstream"));
}

/// A gRPC server that answers each message with itself and `grpc-status: 5` in trailers.
async fn grpc_server() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async {
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", 5.into());
            let body = request.into_body().collect().await?.to_bytes();
            let body = Full::new(body).with_trailers(async move { Some(Ok(trailers)) });
            Ok::<_, hyper::Error>(http::Response::new(body))
        });
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    });
    address
}

#[tokio::test]
async fn grpc_keeps_its_trailers_and_is_counted_by_its_status() {
    let mut snapshot = snapshot("outbound", json!([forward("web", json!({}))]), &[]);
    let endpoints = [grpc_server().await];
    add_cluster(
        &mut snapshot,
        "web",
        &endpoints,
        json!({ "protocol": "http2" }),
    );
    let mesh = Mesh::start(snapshot);
    let stream = TcpStream::connect(mesh.address("http")).await.unwrap();
    let handshake = client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://web/pkg.S/M").header("content-type", "application/grpc");
    let request = request
        .header("te", "trailers")
        .body(Full::<Bytes>::from("\0\0\0\0\x03one\0\0\0\0\x03two"));
    let response = sender.send_request(request.unwrap()).await.unwrap();
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "5");
    assert_eq!(body.to_bytes(), "\0\0\0\0\x03one\0\0\0\0\x03two");
    mesh.line();
    let metrics = crate::admin::prometheus::all(&mesh.proxy);
    let labels = "request_protocol=\"grpc\",response_code=\"200\",grpc_response_status=\"5\"";
    assert!(metrics.contains(labels), "{metrics}");
    for name in [
        "istio_request_messages_total",
        "istio_response_messages_total",
    ] {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line.contains(labels) && line.ends_with("} 2"), "{line}");
    }
}

#[tokio::test]
async fn http2_is_not_given_by_upgrade_but_the_request_is_answered() {
    let app = App::start("web").await;
    let mesh = plain("outbound", &app).await;
    let request = "GET /h2c HTTP/1.1\r\nhost: web\r\nconnection: Upgrade, HTTP2-Settings\r\n\
                   upgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n";
    let answer = exchange_bytes(mesh.address("http"), request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let seen = &app.seen()[0];
    assert_eq!(
        (seen.header("upgrade"), seen.header("http2-settings")),
        (None, None)
    );
}

#[tokio::test]
async fn a_websocket_goes_through() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = server.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(String::from_utf8_lossy(&head).contains("upgrade: websocket"));
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
        stream.write_all(switch).await.unwrap();
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    let routes = json!([forward("web", json!({}))]);
    let mesh = Mesh::start(snapshot("outbound", routes, &[("web", &[address])]));
    let request =
        b"GET /ws HTTP/1.1\r\nhost: web\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nping";
    let answer = exchange_bytes(mesh.address("http"), request).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nping"), "{answer}");
}

/// A door before an HTTP service, a TCP service and the rest of the world.
fn door(app: &App, echo: std::net::SocketAddr) -> Snapshot {
    let mut snapshot = snapshot("outbound", json!([forward("web", json!({}))]), &[]);
    add_cluster(&mut snapshot, "web", &[app.address], json!({}));
    add_cluster(&mut snapshot, "outbound|7777||echo", &[echo], json!({}));
    add_cluster(
        &mut snapshot,
        "PassthroughCluster",
        &[],
        json!({ "discovery": "originalDst", "service": null }),
    );
    let listener = json!({
        "name": "door", "address": "127.0.0.1:0", "direction": "outbound", "accept": "httpProxy",
        "filterChains": [
            { "name": "echo", "destinationPort": 7777, "destinations": ["echo"], "filter":
                { "tcp": { "statPrefix": "echo", "clusters": [{ "name": "outbound|7777||echo", "weight": 1 }] } } },
            { "name": "web", "destinationPort": 80, "filter":
                { "http": { "statPrefix": "web", "routeConfig": "table" } } },
            { "name": "rest", "filter": { "sniff": {
                "http": { "statPrefix": "rest", "routeConfig": "any" },
                "tcp": { "statPrefix": "rest", "clusters": [{ "name": "PassthroughCluster", "weight": 1 }] } } } },
        ],
    });
    let any = json!({ "name": "any", "virtualHosts": [
        { "name": "allow_any", "domains": ["*"], "routes": [forward("PassthroughCluster", json!({}))] } ] });
    let parse = |value| serde_json::from_value(value).unwrap();
    snapshot
        .listeners
        .insert("door".into(), std::sync::Arc::new(parse(listener)));
    let any = serde_json::from_value(any).unwrap();
    snapshot
        .routes
        .insert("any".into(), std::sync::Arc::new(any));
    snapshot
}

/// Load balancing by `PASSTHROUGH`: by address what the client names, by name what stands for it.
#[tokio::test]
async fn requests_are_passed_through_to_what_a_name_stands_for() {
    let app = App::start("web").await;
    let mut config = door(&app, echo().await);
    let fields = json!({ "discovery": "originalDst" });
    add_cluster(&mut config, "web", &[app.address], fields);
    let mesh = Mesh::start(config);
    let ask = async |url: &str| {
        let request = format!("GET {url} HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n");
        exchange_bytes(mesh.address("door"), request.as_bytes()).await
    };
    let named = ask("http://web/a").await;
    assert!(named.ends_with("web"), "{named}");
    // Whatever is there, it is not the cluster's own host.
    ask("http://127.0.0.2:80/b").await;
    assert_eq!(app.seen().len(), 1);
}

#[tokio::test]
async fn a_door_takes_requests_to_where_they_name() {
    let app = App::start("web").await;
    let mesh = Mesh::start(door(&app, echo().await));
    let to = mesh.address("door");
    let port = app.address.port();
    for (request, ends) in [
        (
            "GET http://web/a HTTP/1.1\r\nhost: other\r\nconnection: close\r\n\r\n".to_owned(),
            "web",
        ),
        (
            "GET /b HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n".into(),
            "web",
        ),
        // Beyond the mesh, by address; and the pod's own localhost.
        (
            format!(
                "GET http://127.0.0.2:{port}/c HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            ),
            "reset reason: remote connection failure",
        ),
        (
            format!(
                "GET http://localhost:{port}/d HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            ),
            "web",
        ),
        (
            "GET http://web:80/e HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n".into(),
            "web",
        ),
    ] {
        let answer = exchange_bytes(to, request.as_bytes()).await;
        assert!(answer.ends_with(ends), "{request:?} got {answer:?}");
    }
    let hosts: Vec<_> = app
        .seen()
        .iter()
        .map(|seen| seen.header("host").unwrap().to_owned())
        .collect();
    assert_eq!(
        hosts,
        ["web", "web", &format!("localhost:{port}"), "web:80"]
    );
}

#[tokio::test]
async fn tunnels_carry_http_and_tcp() {
    let app = App::start("web").await;
    let mesh = Mesh::start(door(&app, echo().await));
    let to = mesh.address("door");
    let port = app.address.port();
    for (target, inner, expected) in [
        ("echo:7777".to_owned(), "any bytes", "any bytes"),
        (
            "web:80".into(),
            "GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n",
            "web",
        ),
        (
            format!("localhost:{port}"),
            "GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n",
            "web",
        ),
        (
            format!("127.0.0.1:{port}"),
            "GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n",
            "web",
        ),
    ] {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let connect = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n");
        stream.write_all(connect.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(
            head.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&head)
        );
        stream.write_all(inner.as_bytes()).await.unwrap();
        if target == "echo:7777" {
            // TCP passes the end of one direction on; HTTP would take it for a client that left.
            stream.shutdown().await.unwrap();
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with(expected), "{target} got {answer:?}");
    }
    assert_eq!(mesh.stat("tcp.echo.downstream_cx_total"), 1);
    let metrics = crate::admin::prometheus::all(&mesh.proxy);
    let opened = metrics
        .lines()
        .find(|line| line.starts_with("istio_tcp_connections_opened_total{"));
    assert!(
        opened.unwrap().contains("destination_workload=\"web-v1\""),
        "{opened:?}"
    );
}
