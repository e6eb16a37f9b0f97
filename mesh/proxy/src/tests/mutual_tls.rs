//! Mutual TLS between two proxies, and what strangers get.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use base64::{Engine, engine::general_purpose::STANDARD};
use mesh_config::{Secret, Snapshot, tls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::harness::*;
use crate::tap::{Event, Lines, Raw, Tap};

const SERVER: &str = "spiffe://cluster.local/ns/default/sa/web";
const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/caller";

/// An authority, as its own certificate and key.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate that is valid from `from` to `to` seconds from now.
    fn sign(&self, identity: &str, from: i64, to: i64) -> Secret {
        let now = SystemTime::now();
        let at = |seconds: i64| time::OffsetDateTime::from(now) + time::Duration::seconds(seconds);
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(identity.try_into().unwrap())];
        (params.not_before, params.not_after) = (at(from), at(to));
        let key = KeyPair::generate().unwrap();
        Secret {
            name: tls::WORKLOAD.into(),
            certificate_chain: params.signed_by(&key, &self.issuer).unwrap().pem(),
            private_key: key.serialize_pem(),
            trusted_ca: String::new(),
        }
    }

    fn root(&self) -> Secret {
        Secret {
            name: tls::MESH_ROOT.into(),
            trusted_ca: self.pem.clone(),
            ..Secret::default()
        }
    }
}

fn equip(mesh: &Mesh, authority: &Authority, own: Secret) {
    let secrets = [Arc::new(own), Arc::new(authority.root())];
    let errors = mesh.proxy.shared.secrets.put(secrets);
    assert!(errors.is_empty(), "{errors:?}");
}

fn transport(protocol: &str, alpn: Value, ends: bool) -> Value {
    let context = json!({ "certificates": ["default"], "clientCertificate": "required",
        "validation": { "trust": "ROOTCA" }, "alpnProtocols": ["h2", "http/1.1"] });
    let mut transport = json!({ "protocol": protocol, "applicationProtocols": alpn });
    if ends {
        transport["tls"] = context;
    }
    transport
}

/// The inbound listener of an application, with a chain for each of these transports.
fn inbound(app: SocketAddr, transports: &[Value]) -> Snapshot {
    let mut snapshot = snapshot(
        "inbound",
        json!([forward("app", json!({}))]),
        &[("app", &[app])],
    );
    let mut listener = serde_json::to_value(&snapshot.listeners["http"]).unwrap();
    let chain = listener["filterChains"][0].clone();
    let chains = transports.iter().map(|transport| {
        let mut chain = chain.clone();
        chain["transport"] = transport.clone();
        chain
    });
    listener["filterChains"] = chains.collect();
    let listener = serde_json::from_value(listener).unwrap();
    snapshot.listeners.insert("http".into(), Arc::new(listener));
    snapshot
}

fn permissive() -> Vec<Value> {
    let mesh = json!(["istio", "istio-http/1.1"]);
    vec![
        transport("tls", mesh, true),
        transport("raw_buffer", json!([]), false),
    ]
}

fn strict() -> Vec<Value> {
    vec![transport("tls", json!([]), true)]
}

/// A client's proxy that leads to one endpoint.
fn outbound(to: SocketAddr, expected: &str) -> Snapshot {
    let routes = json!([forward("web", json!({ "retry": null }))]);
    let mut snapshot = snapshot("outbound", routes, &[]);
    let tls = json!({ "whereOffered": true, "certificate": "default", "sni": "outbound_.80_._.web.default.svc.cluster.local",
        "validation": { "trust": "ROOTCA", "subjectAltNames": [expected] },
        "alpnProtocols": ["istio-http/1.1", "istio", "http/1.1"] });
    add_cluster(&mut snapshot, "web", &[to], json!({ "tls": tls }));
    let mut endpoints = (*snapshot.endpoints["web"]).clone();
    for endpoint in &mut endpoints.endpoints {
        endpoint.mutual_tls = true;
        Arc::make_mut(&mut endpoint.workload).identity = SERVER.into();
    }
    snapshot.endpoints.insert("web".into(), Arc::new(endpoints));
    snapshot
}

/// Server and client, both signed by one authority.
async fn pair(transports: &[Value]) -> (App, Mesh, Mesh, Authority) {
    let (app, authority) = (App::start("web").await, Authority::new());
    let server = Mesh::start(inbound(app.address, transports));
    equip(&server, &authority, authority.sign(SERVER, -60, 3600));
    let client = Mesh::start(outbound(server.address("http"), SERVER));
    equip(&client, &authority, authority.sign(CLIENT, -60, 3600));
    (app, server, client, authority)
}

#[tokio::test]
async fn the_application_and_the_metrics_learn_who_calls() {
    for transports in [permissive(), strict()] {
        let (app, server, client, _authority) = pair(&transports).await;
        let request = http::Request::get("/").header("host", "web");
        let answer = client
            .send(request.header("x-forwarded-client-cert", "By=me"))
            .await;
        assert_eq!((answer.status, &*answer.body), (200, "web"));
        let seen = app.seen();
        let told = seen[0].header("x-forwarded-client-cert").unwrap();
        let words: Vec<_> = told.split(';').collect();
        assert_eq!(words[0], format!("By={SERVER}"));
        assert!(
            words[1].starts_with("Hash=") && words[1].len() == 5 + 64,
            "{told}"
        );
        assert_eq!(
            words[2..],
            [
                "Subject=\"CN=rcgen self signed cert\"",
                &format!("URI={CLIENT}")
            ]
        );
        let metrics = crate::admin::prometheus::all(&server.proxy);
        assert!(
            metrics.contains("connection_security_policy=\"mutual_tls\""),
            "{metrics}"
        );
        assert!(metrics.contains(&format!("source_principal=\"{CLIENT}\"")));
        let metrics = crate::admin::prometheus::all(&client.proxy);
        assert!(
            metrics.contains(&format!("destination_principal=\"{SERVER}\"")),
            "{metrics}"
        );
        assert_eq!(client.stat("cluster.web;.ssl.handshake"), 1);
    }
}

#[tokio::test]
async fn plain_text_is_served_or_reset() {
    let (app, server, _client, _authority) = pair(&permissive()).await;
    assert_eq!(server.get("/plain").await.status, 200);
    assert_eq!(app.seen()[0].header("x-forwarded-client-cert"), None);

    let (_app, server, _client, _authority) = pair(&strict()).await;
    let mut stream = TcpStream::connect(server.address("http")).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")
        .await
        .unwrap();
    let end = stream.read_u8().await.unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(server.flags(), "NR filter_chain_not_found");
}

#[tokio::test]
async fn who_cannot_be_trusted_is_refused() {
    let (other, minute) = (Authority::new(), 60);
    type Make = fn(&Authority, &Authority, &str) -> Secret;
    let cases: [(&str, Make, &str); 4] = [
        ("expired", |own, _, id| own.sign(id, -120, -60), "expired"),
        (
            "NotValidYet",
            |own, _, id| own.sign(id, 600, 1200),
            "NotValidYet",
        ),
        (
            "other authority",
            |_, other, id| other.sign(id, -60, 60),
            // Every root calls itself the same, so it is its signature that is wrong.
            "BadSignature",
        ),
        (
            "other identity",
            |own, _, _| own.sign("spiffe://cluster.local/ns/default/sa/x", -60, 60),
            "SAN",
        ),
    ];
    for (name, make, said) in cases {
        let (_app, server, client, authority) = pair(&strict()).await;
        equip(&server, &authority, make(&authority, &other, SERVER));
        let answer = client.get("/").await;
        assert_eq!(answer.status, 503, "{name}");
        let line = client.line();
        assert!(
            line.contains(" UF ") && line.contains("CERTIFICATE_VERIFY_FAILED"),
            "{name}: {line}"
        );
        assert!(
            line.to_lowercase()
                .contains(&said.to_lowercase().replace(' ', "_")),
            "{name}: {line}"
        );
    }
    // The same of a client: the server breaks off.
    let (app, _server, client, authority) = pair(&strict()).await;
    equip(&client, &authority, other.sign(CLIENT, -60, minute));
    let answer = client.get("/").await;
    assert_eq!((answer.status, app.seen().len()), (503, 0));
}

#[tokio::test]
async fn a_new_certificate_takes_effect_without_a_pause() {
    let (app, server, client, authority) = pair(&strict()).await;
    assert_eq!(client.get("/1").await.status, 200);
    equip(&server, &authority, authority.sign(SERVER, -60, 7200));
    equip(&client, &authority, authority.sign(CLIENT, -60, 7200));
    // The open connection goes on, and a new one shows the new certificate.
    assert_eq!(client.get("/2").await.status, 200);
    assert_eq!(client.stat("cluster.web;.ssl.handshake"), 1);
    let again = Mesh::start(outbound(server.address("http"), SERVER));
    equip(&again, &authority, authority.sign(CLIENT, -60, 7200));
    assert_eq!(again.get("/3").await.status, 200);
    let hash = |index: usize| {
        let seen = app.seen();
        let told = seen[index].header("x-forwarded-client-cert").unwrap();
        told.split(';').nth(1).unwrap().to_owned()
    };
    assert_eq!(hash(0), hash(1));
    assert_ne!(hash(1), hash(2));
}

#[tokio::test]
async fn an_endpoint_that_stops_to_offer_it_gets_plain_text_soon() {
    let (app, server, mut client, _authority) = pair(&permissive()).await;
    assert_eq!(client.get("/1").await.status, 200);
    client.proxy.apply(outbound_in_the_clear(&server));
    // The endpoint may not have heard of it yet.
    assert_eq!(client.get("/2").await.status, 200);
    let due = client.proxy.settles_at().unwrap();
    tokio::time::sleep_until(due.into()).await;
    client.proxy.settle();
    assert_eq!(client.proxy.settles_at(), None);
    assert_eq!(client.get("/3").await.status, 200);
    let told: Vec<bool> = app
        .seen()
        .iter()
        .map(|seen| seen.header("x-forwarded-client-cert").is_some())
        .collect();
    assert_eq!(told, [true, true, false]);
}

fn outbound_in_the_clear(server: &Mesh) -> Snapshot {
    let mut plain = outbound(server.address("http"), SERVER);
    for assignment in plain.endpoints.values_mut() {
        Arc::make_mut(assignment).endpoints[0].mutual_tls = false;
    }
    plain
}

#[tokio::test]
async fn clients_that_have_not_heard_of_a_change_of_mode_are_served() {
    let disabled = || vec![json!({})];
    // From, to, and whether a client in the clear and one with TLS are served right after.
    for (from, to, clear, encrypted) in [
        (disabled(), strict(), true, true),
        (strict(), disabled(), true, true),
        (permissive(), disabled(), true, true),
        (disabled(), permissive(), true, true),
        // Nobody in the mesh spoke in the clear to it: that is a stranger.
        (permissive(), strict(), false, true),
    ] {
        let (app, mut server, client, authority) = pair(&from).await;
        server.proxy.apply(inbound(app.address, &to));
        // What changes something else does not end it.
        server.proxy.apply(inbound(app.address, &to));
        let status = client.get("/tls").await.status;
        assert_eq!(status == 200, encrypted, "{from:?} {to:?}: {status}");
        let plain = Mesh::start(outbound_in_the_clear(&server));
        equip(&plain, &authority, authority.sign(CLIENT, -60, 60));
        let status = plain.get("/clear").await.status;
        assert_eq!(status == 200, clear, "{from:?} {to:?}: {status}");
    }
    // Later it is as the mode says.
    let (app, mut server, _client, authority) = pair(&disabled()).await;
    server.proxy.config.grace = std::time::Duration::ZERO;
    server.proxy.apply(inbound(app.address, &strict()));
    let plain = Mesh::start(outbound_in_the_clear(&server));
    equip(&plain, &authority, authority.sign(CLIENT, -60, 60));
    assert_eq!(plain.get("/").await.status, 503);
}

/// What a watcher is told until it is enough.
async fn gather(lines: &mut Lines, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let mut all = Vec::new();
    let gathering = async {
        while !enough(&all) {
            all.extend(lines.come());
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    let done = tokio::time::timeout(std::time::Duration::from_secs(30), gathering).await;
    assert!(done.is_ok(), "{all:?}");
    all
}

#[tokio::test]
async fn a_watcher_sees_who_calls_and_what_the_wire_shows() {
    let (_app, server, client, _authority) = pair(&strict()).await;
    let mut told = server.proxy.shared.tap.watch(None).unwrap();
    let mut shown = client.proxy.shared.tap.watch(Some(Raw::Kind)).unwrap();
    let request = http::Request::get("/vehicles/").header("host", "web");
    client
        .send(request.header("authorization", "Bearer secret"))
        .await;
    let come = gather(&mut told, |all| !all.is_empty()).await;
    assert_eq!(come.len(), 1, "{come:?}");
    let request = &come[0];
    assert_eq!(request["event"], "request");
    assert_eq!(request["source_principal"], CLIENT);
    assert_eq!(
        (&request["method"], &request["path"], &request["route_name"]),
        (&json!("GET"), &json!("/vehicles/"), &json!("default"))
    );
    assert_eq!(
        (&request["response_code"], &request["response_flags"]),
        (&json!(200), &json!("-"))
    );

    // Both ways in the clear, and the request itself.
    let shown = gather(&mut shown, |all| {
        let clear = all.iter().filter(|line| line["hop"] == "downstream");
        clear.count() == 2 && all.iter().any(|line| line["event"] == "request")
    })
    .await;
    let kinds = |hop: &str| -> Vec<(String, String)> {
        let of_hop = shown.iter().filter(|line| line["hop"] == hop);
        of_hop
            .map(|line| {
                let bytes = STANDARD.decode(line["bytes"].as_str().unwrap()).unwrap();
                let text = String::from_utf8_lossy(&bytes).into_owned();
                (line["kind"].as_str().unwrap().to_owned(), text)
            })
            .collect()
    };
    let clear = kinds("downstream");
    assert_eq!(clear[0].0, "HTTP request in the clear");
    assert_eq!(clear[0].1, "GET /vehicles/ HTTP/1.1");
    assert_eq!(clear[1].1, "HTTP/1.1 200 OK");
    let hidden = kinds("upstream");
    assert_eq!(hidden[0].0, "TLS handshake record: client hello");
    assert_eq!(hidden[1].0, "TLS handshake record: server hello");
    assert!(
        hidden.iter().all(|(kind, _)| kind.starts_with("TLS ")),
        "{hidden:?}"
    );
    assert!(!format!("{shown:?}{come:?}").contains("secret"));

    assert!(server.proxy.shared.tap.is_watched());
    drop(told);
    assert!(!server.proxy.shared.tap.is_watched());
}

#[tokio::test]
async fn a_watcher_that_does_not_read_loses_lines_and_learns_how_many() {
    let tap = Arc::<Tap>::default();
    let mut told = tap.watch(None).unwrap();
    let event = Event::Lost { lines: 1 };
    for _ in 0..600 {
        tap.tell(&event);
    }
    assert_eq!(told.come().len(), 512);
    tap.tell(&event);
    let after = told.come();
    assert_eq!(after[0], json!({ "event": "lost", "lines": 88 }));
    assert_eq!(after.len(), 2);
}
