//! Connections that carry bytes: weighted clusters, names in TLS greetings, metrics, the log.

use std::{net::SocketAddr, time::Duration};

use mesh_config::Snapshot;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::harness::*;
use crate::sni::tests::hello;

/// A server that says its name and then whatever it gets.
async fn named(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                stream.write_all(name.as_bytes()).await.unwrap();
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

fn chains(clusters: &[(&str, SocketAddr)], chains: Value) -> Snapshot {
    let mut snapshot = snapshot("outbound", json!([]), &[]);
    for (name, address) in clusters {
        add_cluster(&mut snapshot, name, &[*address], json!({}));
    }
    let listener = json!({ "name": "tcp", "address": "127.0.0.1:0", "direction": "outbound",
        "accept": "direct", "filterChains": chains });
    let listener = serde_json::from_value(listener).unwrap();
    snapshot
        .listeners
        .insert("tcp".into(), std::sync::Arc::new(listener));
    snapshot
}

fn to(clusters: &[(&str, u32)]) -> Value {
    let clusters: Vec<_> = clusters
        .iter()
        .map(|(name, weight)| json!({ "name": name, "weight": weight }))
        .collect();
    json!({ "tcp": { "statPrefix": "tcp", "clusters": clusters, "idleTimeout": "0.5s" } })
}

async fn greet(mesh: &Mesh, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(mesh.address("tcp")).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

#[tokio::test]
async fn connections_are_split_by_weight() {
    let clusters = [("v1", named("v1").await), ("v2", named("v2").await)];
    let chain = json!([{ "name": "only", "filter": to(&[("v1", 80), ("v2", 20)]) }]);
    let mesh = Mesh::start(chains(&clusters, chain));
    let mut second = 0;
    for _ in 0..100 {
        let answer = greet(&mesh, b" hi").await;
        second += usize::from(answer == b"v2 hi");
        assert!(
            answer.ends_with(b" hi"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    // 20 expected, standard deviation 4; the draws are seeded.
    assert!((2..=40).contains(&second), "{second}");
}

#[tokio::test]
async fn the_proxy_protocol_tells_whose_connection_it_is() {
    let chain = json!([{ "name": "only", "filter": to(&[("web", 1)]) }]);
    let mut config = chains(&[], chain);
    let fields = json!({ "proxyProtocol": "v1" });
    add_cluster(&mut config, "web", &[named("").await], fields);
    let mesh = Mesh::start(config);
    let mut stream = TcpStream::connect(mesh.address("tcp")).await.unwrap();
    let (own, to) = (stream.local_addr().unwrap(), mesh.address("tcp"));
    stream.write_all(b"hello").await.unwrap();
    let expected = format!(
        "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nhello",
        own.port(),
        to.port()
    );
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), expected);
}

#[tokio::test]
async fn the_name_in_a_tls_greeting_picks_the_chain() {
    let clusters = [
        ("one", named("one").await),
        ("wild", named("wild").await),
        ("plain", named("plain").await),
    ];
    let with = |names: Value, cluster: &str| json!({ "name": cluster, "serverNames": names, "filter": to(&[(cluster, 1)]) });
    let mut all = json!([
        with(json!(["one.test"]), "one"),
        with(json!(["*.wild.test"]), "wild")
    ]);
    let mesh = Mesh::start(chains(&clusters, all.clone()));
    for (name, answer) in [("one.test", "one"), ("a.wild.test", "wild")] {
        let sent = hello(Some(name));
        let expected = [answer.as_bytes(), &sent].concat();
        assert_eq!(greet(&mesh, &sent).await, expected, "{name}");
        let line = mesh.line();
        let ends = format!(" {name} -\n");
        assert!(
            line.contains("\"- - -\" 0 - - ") && line.ends_with(&ends),
            "{line}"
        );
    }
    for bytes in [
        hello(Some("other.test")),
        hello(None),
        b"plain text".to_vec(),
    ] {
        assert_eq!(greet(&mesh, &bytes).await, b"");
        let line = mesh.line();
        assert!(
            line.contains("\"- - -\" 0 NR filter_chain_not_found "),
            "{line}"
        );
    }
    let rest = json!({ "name": "rest", "filter": to(&[("plain", 1)]) });
    all.as_array_mut().unwrap().push(rest);
    let mesh = Mesh::start(chains(&clusters, all));
    assert_eq!(greet(&mesh, b" text").await, b"plain text");
}

#[tokio::test]
async fn metrics_grow_while_a_connection_lasts() {
    let chain = json!([{ "name": "only", "filter": to(&[("web", 1)]) }]);
    let mesh = Mesh::start(chains(&[("web", named("12").await)], chain));
    let mut stream = TcpStream::connect(mesh.address("tcp")).await.unwrap();
    stream.write_all(b"345").await.unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await.unwrap();
    let metric = |name: &str| {
        let metrics = crate::admin::prometheus::all(&mesh.proxy);
        let line = metrics
            .lines()
            .find(|line| line.starts_with(&format!("{name}{{")));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
    };
    assert_eq!(metric("istio_tcp_connections_opened_total"), Some(1));
    assert_eq!(metric("istio_tcp_received_bytes_total"), Some(3));
    mesh.until(|| metric("istio_tcp_sent_bytes_total") == Some(5))
        .await;
    assert_eq!(metric("istio_tcp_connections_closed_total"), Some(0));
    assert_eq!(mesh.stat("cluster.web;.upstream_cx_active"), 1);
    drop(stream);
    mesh.until(|| metric("istio_tcp_connections_closed_total") == Some(1))
        .await;
    assert_eq!(mesh.stat("cluster.web;.upstream_cx_active"), 0);
}

#[tokio::test]
async fn an_upstream_that_refuses_closes_the_connection() {
    let chain = json!([{ "name": "only", "filter": to(&[("web", 1)]) }]);
    let mesh = Mesh::start(chains(&[("web", refusing().await)], chain));
    assert_eq!(greet(&mesh, b"x").await, b"");
    assert!(mesh.line().contains("\"- - -\" 0 URX,UF "));
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let chain = json!([{ "name": "only", "filter": to(&[("web", 1)]) }]);
    let mesh = Mesh::start(chains(&[("web", named("hello").await)], chain));
    let mut stream = TcpStream::connect(mesh.address("tcp")).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"hello");
    assert_eq!(mesh.stat("tcp.tcp.idle_timeout"), 1);
}

#[tokio::test]
async fn a_connection_lasts_no_longer_than_it_may() {
    let mut filter = to(&[("web", 1)]);
    filter["tcp"]["maxConnectionDuration"] = json!("0.3s");
    let chain = json!([{ "name": "only", "filter": filter }]);
    let mesh = Mesh::start(chains(&[("web", named("").await)], chain));
    let mut stream = TcpStream::connect(mesh.address("tcp")).await.unwrap();
    // Never silent for long.
    let talking = async {
        let mut byte = [0];
        while stream.write_all(b"x").await.is_ok() && stream.read_exact(&mut byte).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(30), talking).await;
    ended.expect("it goes on and on");
    assert!(mesh.line().contains("\"- - -\" 0 DT "));
    assert_eq!(mesh.stat("tcp.tcp.max_downstream_connection_duration"), 1);
    assert_eq!(mesh.stat("tcp.tcp.idle_timeout"), 0);
}

#[tokio::test]
async fn a_client_stays_with_its_host() {
    let mut filter = to(&[("web", 1)]);
    let names = ["a", "b", "c", "d"];
    let mut hosts = Vec::new();
    for name in names {
        hosts.push(named(name).await);
    }
    let mut served = async |by_address: bool| {
        filter["tcp"]["hashSourceIp"] = by_address.into();
        let chain = json!([{ "name": "only", "filter": filter }]);
        let mut config = chains(&[], chain);
        let lb = json!({ "lbPolicy": { "ringHash": { "minimumRingSize": 1024 } } });
        add_cluster(&mut config, "web", &hosts, lb);
        let mesh = Mesh::start(config);
        let mut answers = std::collections::BTreeSet::new();
        for _ in 0..40 {
            answers.insert(greet(&mesh, b"").await);
        }
        answers.len()
    };
    assert_eq!(served(true).await, 1);
    // All 40 on one of four hosts: less than once in 10^23.
    assert!(served(false).await > 1);
}
