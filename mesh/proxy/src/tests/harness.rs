//! The stage: an application that does as its path says, a proxy, a client.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc::Receiver},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client, server, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_config::{ProxyId, Role, Snapshot};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::{
    access_log::Sink,
    proxy::{Options, Proxy},
    stats::Registry,
};

/// What the application saw of a request.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
    pub(super) version: http::Version,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// An application: `/status/N` answers N, `/delay/MS` waits, `/held` waits until it is released,
/// `/close` hangs up, `/script/A,B,C` answers with the statuses in turn; all else is 200 with its name.
pub(super) struct App {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    gate: Arc<Semaphore>,
}

impl App {
    pub(super) async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let gate = Arc::new(Semaphore::new(0));
        let (record, held) = (seen.clone(), gate.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (record, held) = (record.clone(), held.clone());
                let act = move |request| act(name, record.clone(), held.clone(), request);
                let service = service_fn(act);
                tokio::spawn(async move {
                    let mut first = [0; 3];
                    let peeked = stream.peek(&mut first).await;
                    let io = TokioIo::new(stream);
                    if peeked.is_ok() && &first == b"PRI" {
                        let _ = server::conn::http2::Builder::new(TokioExecutor::new())
                            .serve_connection(io, service)
                            .await;
                    } else {
                        let _ = server::conn::http1::Builder::new()
                            .serve_connection(io, service)
                            .await;
                    }
                });
            }
        });
        Self {
            address,
            seen,
            gate,
        }
    }

    /// Answers what is held, and from now on at once.
    pub(super) fn release(&self) {
        self.gate.add_permits(1);
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn act(
    name: &'static str,
    record: Arc<Mutex<Vec<Seen>>>,
    held: Arc<Semaphore>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().unwrap().to_string();
    let body = body
        .collect()
        .await
        .map_err(std::io::Error::other)?
        .to_bytes();
    let nth = {
        let mut record = record.lock().unwrap();
        record.push(Seen {
            path: path.clone(),
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into(),
            version: parts.version,
        });
        record.iter().filter(|seen| seen.path == path).count()
    };
    let mut response = Response::new(Full::from(name));
    let headers = response.headers_mut();
    headers.insert("server", "app".parse().unwrap());
    headers.insert("connection", "keep-alive".parse().unwrap());
    let mut words = path.trim_start_matches('/').splitn(2, '/');
    let (verb, argument) = (words.next().unwrap(), words.next().unwrap_or(""));
    let status = |text: &str| StatusCode::from_bytes(&text.as_bytes()[..3]).unwrap();
    match verb {
        "status" => *response.status_mut() = status(argument),
        "delay" => tokio::time::sleep(Duration::from_millis(argument.parse().unwrap())).await,
        "held" => drop(held.acquire().await),
        "close" => return Err(std::io::Error::other("as asked")),
        "script" => {
            let script: Vec<_> = argument.split(',').collect();
            *response.status_mut() = status(script[(nth - 1).min(script.len() - 1)]);
        }
        _ => {}
    }
    Ok(response)
}

/// An address where nothing listens.
pub(super) async fn refusing() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// A server that answers every connection with these bytes.
pub(super) async fn raw(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await;
                let _ = stream.write_all(answer).await;
            });
        }
    });
    address
}

/// A server that takes its time to hang up, and says nothing.
pub(super) async fn raw_after(wait: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                drop(stream);
            });
        }
    });
    address
}

/// A server that sends back what it gets.
pub(super) async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

/// One HTTP listener named `http` with the virtual host `web`, and clusters with endpoints.
pub(super) fn snapshot(
    direction: &str,
    routes: Value,
    clusters: &[(&str, &[SocketAddr])],
) -> Snapshot {
    let listener = json!({
        "name": "http", "address": "127.0.0.1:0", "direction": direction, "accept": "direct",
        "filterChains": [{ "name": "only", "filter": {
            "http": { "statPrefix": "test", "routeConfig": "table" } } }],
    });
    let mut snapshot: Snapshot = serde_json::from_value(json!({
        "version": 1,
        "node": { "accessLog": true, "clusterId": "Kubernetes", "id": "sidecar~me", "workload": {
            "name": "caller", "namespace": "default", "app": "caller", "version": "v1",
            "canonicalName": "caller", "canonicalRevision": "v1" } },
        "listeners": { "http": listener },
        "routes": { "table": { "name": "table", "virtualHosts": [
            { "name": "web:80", "domains": ["web", "*.web"], "routes": routes } ] } },
    }))
    .unwrap();
    for (name, endpoints) in clusters {
        add_cluster(&mut snapshot, name, endpoints, json!({}));
    }
    snapshot
}

/// Adds a cluster of the service `web`; `fields` override its defaults.
pub(super) fn add_cluster(
    snapshot: &mut Snapshot,
    name: &str,
    endpoints: &[SocketAddr],
    fields: Value,
) {
    let mut cluster = json!({
        "name": name, "discovery": "eds", "lbPolicy": "roundRobin", "protocol": "http1",
        "connectTimeout": "1s",
        "service": { "host": "web.default.svc.cluster.local", "name": "web", "namespace": "default" },
    });
    for (key, value) in fields.as_object().unwrap() {
        cluster[key] = value.clone();
    }
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|address| {
            json!({ "address": address, "inMesh": true, "workload": {
                "name": "web-v1", "namespace": "default", "app": "web", "version": "v1",
                "canonicalName": "web", "canonicalRevision": "v1" } })
        })
        .collect();
    let assignment = json!({ "clusterName": name, "endpoints": endpoints });
    let parse = |value| serde_json::from_value(value).unwrap();
    snapshot
        .clusters
        .insert(name.into(), Arc::new(parse(cluster)));
    let assignment = serde_json::from_value(assignment).unwrap();
    snapshot.endpoints.insert(name.into(), Arc::new(assignment));
}

/// A route for every path to one cluster, with more fields of `forward`.
pub(super) fn forward(cluster: &str, fields: Value) -> Value {
    let mut action = json!({ "clusters": [{ "name": cluster, "weight": 1 }] });
    for (key, value) in fields.as_object().unwrap() {
        action[key] = value.clone();
    }
    json!({ "name": "default", "match": { "path": { "prefix": "/" } },
            "action": { "forward": action }, "decorator": "web:80/*" })
}

/// A route with a fault in front of a forward.
pub(super) fn with_fault(mut route: Value, fault: Value) -> Value {
    route["fault"] = fault;
    route
}

/// A running proxy.
pub(super) struct Mesh {
    pub(super) proxy: Proxy,
    lines: Receiver<Vec<u8>>,
}

impl Mesh {
    pub(super) fn start(snapshot: Snapshot) -> Self {
        let registry = Arc::new(Registry::default());
        let (log, lines) = Sink::channel(registry.clone());
        let mut proxy = Proxy::start(Options {
            identity: ProxyId {
                role: Role::Sidecar,
                pod: "caller-1".into(),
                namespace: "default".into(),
                address: [127, 0, 0, 1].into(),
                interception: mesh_config::Interception::Door {
                    loopback: [127, 0, 0, 1].into(),
                },
            },
            source_address: None,
            concurrency: 1,
            max_connections: 500,
            log,
            registry,
            seed: Some(7),
        })
        .unwrap();
        assert_eq!(proxy.apply(snapshot), Vec::<String>::new());
        Self { proxy, lines }
    }

    pub(super) fn address(&self, listener: &str) -> SocketAddr {
        let mut bound = self.proxy.bound();
        bound.find(|(name, _)| *name == listener).unwrap().1
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).header("host", "web")).await
    }

    pub(super) async fn send(&self, request: http::request::Builder) -> Answer {
        let request = request.body(Full::default()).unwrap();
        send(self.address("http"), request).await
    }

    /// The next line of the access log.
    pub(super) fn line(&self) -> String {
        let batch = self.lines.recv_timeout(Duration::from_secs(30)).unwrap();
        String::from_utf8(batch).unwrap()
    }

    /// Flags and details of the next line.
    pub(super) fn flags(&self) -> String {
        let line = self.line();
        let after = line.split('"').nth(2).unwrap();
        let words: Vec<_> = after.split_whitespace().collect();
        format!("{} {}", words[1], words[2])
    }

    /// Waits for what the proxy does in its own time.
    pub(super) async fn until(&self, holds: impl Fn() -> bool) {
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while !holds() {
            assert!(
                std::time::Instant::now() < deadline,
                "it did not come to pass"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) fn stat(&self, name: &str) -> u64 {
        let all = crate::admin::collect::lines(&self.proxy);
        all.iter()
            .find(|(stat, _)| stat == name)
            .map_or(0, |(_, value)| *value)
    }
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// One request on a connection of its own.
pub(super) async fn send(to: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    answer(sender.send_request(request).await.unwrap()).await
}

pub(super) async fn answer(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: String::from_utf8_lossy(&body).into(),
    }
}

/// Sends bytes and reads until the other side closes or is silent for a while.
pub(super) async fn exchange_bytes(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut out = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(Ok(count @ 1..)) =
        tokio::time::timeout(Duration::from_millis(500), stream.read(&mut buffer)).await
    {
        out.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&out).into()
}
