//! Updates, drain, the configuration stream.

use std::time::Duration;

use http::Request;
use http_body_util::Full;
use serde_json::json;

use super::harness::*;

#[tokio::test]
async fn an_update_reaches_the_next_request_and_drops_none() {
    let (v1, v2) = (App::start("v1").await, App::start("v2").await);
    let to = |version: &str| {
        let routes = json!([forward(version, json!({}))]);
        let clusters: &[(&str, &[_])] = &[("v1", &[v1.address]), ("v2", &[v2.address])];
        snapshot("outbound", routes, clusters)
    };
    let mut mesh = Mesh::start(to("v1"));
    let address = mesh.address("http");
    let slow = Request::get("/delay/300").header("host", "web");
    let slow = tokio::spawn(send(address, slow.body(Full::default()).unwrap()));
    mesh.until(|| !v1.seen().is_empty()).await;
    assert!(mesh.proxy.apply(to("v2")).is_empty());
    assert_eq!(
        mesh.address("http"),
        address,
        "the listener keeps its socket"
    );
    assert_eq!(mesh.get("/").await.body, "v2");
    assert_eq!(slow.await.unwrap().body, "v1");
    assert_eq!(mesh.stat("cluster.v1;.upstream_rq_200"), 1);
}

#[tokio::test]
async fn endpoints_come_and_go() {
    let (one, two) = (App::start("one").await, App::start("two").await);
    let routes = json!([forward("web", json!({}))]);
    let with = |endpoints: &[_]| snapshot("outbound", routes.clone(), &[("web", endpoints)]);
    let mut mesh = Mesh::start(with(&[one.address]));
    assert_eq!(mesh.get("/").await.body, "one");
    mesh.proxy.apply(with(&[two.address]));
    assert_eq!(mesh.get("/").await.body, "two");
    mesh.proxy.apply(with(&[]));
    assert_eq!(mesh.get("/").await.status, 503);
    assert_eq!(mesh.stat("cluster.web;.upstream_rq_total"), 2);
}

#[tokio::test]
async fn a_bad_table_keeps_its_last_version() {
    let app = App::start("web").await;
    let good = forward("web", json!({}));
    let mut bad = good.clone();
    bad["match"]["path"] = json!({ "regex": "(" });
    let with = |route| snapshot("outbound", json!([route]), &[("web", &[app.address])]);
    let mut mesh = Mesh::start(with(good.clone()));
    let bad = with(bad);
    let messages = mesh.proxy.apply(bad.clone());
    assert!(
        messages[0].starts_with("route table table keeps its last version"),
        "{messages:?}"
    );
    assert_eq!(mesh.get("/").await.status, 200);
    // It is told until the table is another.
    let refused = |mesh: &Mesh| {
        let all = mesh.proxy.config.refused.iter();
        all.map(|it| it.details.clone()).collect::<Vec<_>>()
    };
    let why = [r#"bad regular expression "(""#];
    assert_eq!(refused(&mesh), why);
    mesh.proxy.apply(bad);
    assert_eq!(refused(&mesh), why);
    mesh.proxy.apply(with(good));
    assert!(refused(&mesh).is_empty());
}

#[tokio::test]
async fn a_drain_lets_requests_finish_and_has_an_end() {
    let app = App::start("web").await;
    let routes = json!([forward("web", json!({}))]);
    let mesh = || {
        Mesh::start(snapshot(
            "outbound",
            routes.clone(),
            &[("web", &[app.address])],
        ))
    };
    for (delay, limit, finishes) in [(300, 3000, true), (5000, 100, false)] {
        let mesh = mesh();
        let before = app.seen().len();
        let slow = Request::get(format!("/delay/{delay}")).header("host", "web");
        let mut stream = tokio::net::TcpStream::connect(mesh.address("http"))
            .await
            .unwrap();
        let head = format!(
            "GET {} HTTP/1.1\r\nhost: web\r\n\r\n",
            slow.uri_ref().unwrap()
        );
        tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes())
            .await
            .unwrap();
        mesh.until(|| app.seen().len() > before).await;
        let started = std::time::Instant::now();
        mesh.proxy.shut_down(Duration::from_millis(limit)).await;
        assert!(started.elapsed() < Duration::from_secs(3));
        let mut answer = String::new();
        let _ = tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await;
        assert_eq!(answer.starts_with("HTTP/1.1 200"), finishes, "{answer}");
    }
}

#[tokio::test]
async fn a_proxy_that_drains_still_answers_and_asks_clients_to_go() {
    let app = App::start("web").await;
    let routes = json!([forward("web", json!({}))]);
    let mesh = Mesh::start(snapshot("inbound", routes, &[("web", &[app.address])]));
    let mut kept = tokio::net::TcpStream::connect(mesh.address("http"))
        .await
        .unwrap();
    let mut ask = async |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: web\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut kept, request.as_bytes())
            .await
            .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"web") {
            let read = tokio::io::AsyncReadExt::read_buf(&mut kept, &mut answer);
            assert!(read.await.unwrap() > 0, "closed");
        }
        String::from_utf8(answer).unwrap()
    };
    assert!(!ask("/before").await.contains("connection: close"));
    let drained = tokio::spawn(mesh.proxy.drain(Duration::from_secs(20)));
    // A connection that was idle, and a new one.
    assert!(ask("/idle").await.contains("connection: close"));
    assert_eq!(mesh.get("/new").await.header("connection"), Some("close"));
    let slow = Request::get("/delay/900").header("host", "web");
    let slow = tokio::spawn(send(
        mesh.address("http"),
        slow.body(Full::default()).unwrap(),
    ));
    mesh.until(|| mesh.stat("http.test.downstream_rq_active") == 1)
        .await;
    tokio::select! {
        _ = drained => panic!("a request is under way"),
        answer = slow => assert_eq!(answer.unwrap().status, 200),
    }
    let started = std::time::Instant::now();
    mesh.proxy.drain(Duration::from_secs(20)).await;
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "nobody comes any more"
    );
}

#[tokio::test]
async fn a_listener_may_be_renamed_on_its_address() {
    let app = App::start("web").await;
    let routes = json!([forward("web", json!({}))]);
    let mut config = snapshot("outbound", routes, &[("web", &[app.address])]);
    let mut mesh = Mesh::start(config.clone());
    let mut listener = (*config.listeners["http"]).clone();
    listener.address = mesh.address("http");
    config.listeners.clear();
    let fixed = std::sync::Arc::new(listener.clone());
    config.listeners.insert("before".into(), fixed);
    assert!(mesh.proxy.apply(config.clone()).is_empty());
    config.listeners.clear();
    listener.name = "http".into();
    let renamed = std::sync::Arc::new(listener);
    config.listeners.insert("http".into(), renamed);
    assert!(mesh.proxy.apply(config).is_empty());
    assert_eq!(mesh.get("/").await.status, 200);
}
