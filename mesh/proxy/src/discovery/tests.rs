use mesh_config::{Interception, Role, Snapshot};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};

use super::*;

fn update(version: u64) -> String {
    let snapshot = Snapshot {
        version,
        ..Snapshot::default()
    };
    serde_json::to_string(&snapshot.complete()).unwrap()
}

#[tokio::test]
async fn updates_arrive_in_order_and_a_lost_stream_is_opened_again() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let (heads, mut seen) = mpsc::channel(4);
    tokio::spawn(async move {
        for version in [1, 3] {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            heads.send(String::from_utf8(head).unwrap()).await.unwrap();
            // A line in two pieces, a keep-alive, and two lines; then the stream breaks.
            let lines = format!("{}\n\n{}\n", update(version), update(version + 1));
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            for piece in lines.as_bytes().chunks(50) {
                stream.write_all(piece).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
        std::future::pending::<()>().await;
    });
    let token = tempfile_with(" secret\n");
    let discovery = Discovery {
        address: "http://istiod.istio-system.svc:15010".into(),
        through: Some(format!("http://{address}")),
        identity: ProxyId {
            role: Role::Sidecar,
            pod: "a b".into(),
            namespace: "default".into(),
            address: [127, 16, 0, 5].into(),
            interception: Interception::None,
        },
        token: token.clone(),
        roots: PathBuf::new(),
    };
    let (updates, mut received) = mpsc::channel(4);
    tokio::spawn(async move { discovery.run(updates).await });
    let limit = std::time::Duration::from_secs(5);
    for version in 1..=4 {
        let update = timeout(limit, received.recv()).await.unwrap().unwrap();
        assert_eq!(update.version, version);
    }
    let head = seen.recv().await.unwrap().to_lowercase();
    assert!(
        head.starts_with("get http://istiod.istio-system.svc:15010/v1/config?node=%7b%22role%22"),
        "{head}"
    );
    assert!(
        head.contains("host: istiod.istio-system.svc:15010"),
        "{head}"
    );
    assert!(head.contains("authorization: bearer secret\r\n"), "{head}");
    std::fs::remove_file(token).unwrap();
}

fn tempfile_with(text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("mesh-proxy-token-{}", rand::random::<u64>()));
    std::fs::write(&path, text).unwrap();
    path
}

/// A control plane with TLS that answers each connection's request with `{}`, and the file of its
/// authority.
async fn secure_server() -> (u16, PathBuf) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let roots = tempfile_with(&params.self_signed(&key).unwrap().pem());
    let issuer = rcgen::Issuer::new(params, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            key.serialize_der().try_into().unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = server.accept().await.unwrap();
            // A client that does not trust us leaves.
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
            stream.write_all(answer).await.unwrap();
        }
    });
    (port, roots)
}

#[tokio::test]
async fn credentials_travel_to_a_proven_server_alone() {
    let (port, roots) = secure_server().await;
    let (_, others) = secure_server().await;
    let token = tempfile_with("secret");
    let ask = async |address: String, roots: &PathBuf| {
        let discovery = Discovery {
            address,
            // Not for servers with TLS.
            through: Some("http://127.0.0.1:9".into()),
            identity: ProxyId {
                role: Role::Router,
                pod: "gateway".into(),
                namespace: "default".into(),
                address: [127, 0, 0, 1].into(),
                interception: Interception::None,
            },
            token: token.clone(),
            roots: roots.clone(),
        };
        let answer = discovery.post("/v1/certificate", String::new()).await;
        answer.map_err(|error| format!("{error:#}"))
    };
    let address = format!("https://localhost:{port}");
    assert_eq!(ask(address.clone(), &roots).await.unwrap(), "{}");
    // Another authority, another name, none at all.
    assert!(ask(address.clone(), &others).await.is_err());
    assert!(
        ask(format!("https://127.0.0.1:{port}"), &roots)
            .await
            .is_err()
    );
    let error = ask(address, &PathBuf::from("/nowhere")).await.unwrap_err();
    assert!(
        error.contains("/nowhere") && error.contains("--root-cert-file"),
        "{error}"
    );
    for file in [roots, others, token] {
        std::fs::remove_file(file).unwrap();
    }
}
