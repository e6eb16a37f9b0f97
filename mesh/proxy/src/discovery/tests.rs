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
