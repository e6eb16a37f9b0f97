//! `Expect: 100-continue`: the body stays with the client until the application asks for it.

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::harness::*;

/// A server that answers the head with `first`, reads the body if that asked for it, and then
/// answers 200.
async fn server(first: &'static [u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(String::from_utf8_lossy(&head).contains("expect: 100-continue"));
        stream.write_all(first).await.unwrap();
        if first.is_empty() || first.starts_with(b"HTTP/1.1 100") {
            let mut body = [0; 4];
            stream.read_exact(&mut body).await.unwrap();
            assert_eq!(&body, b"body");
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn the_body_goes_when_the_application_asks_for_it() {
    for (first, asked, status) in [
        (
            &b"HTTP/1.1 100 Continue\r\n\r\n"[..],
            true,
            "HTTP/1.1 200 OK",
        ),
        // It does not know the promise.
        (b"", true, "HTTP/1.1 200 OK"),
        (
            b"HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n",
            false,
            "HTTP/1.1 417 Expectation Failed",
        ),
    ] {
        let routes = json!([forward("web", json!({}))]);
        let mesh = Mesh::start(snapshot(
            "outbound",
            routes,
            &[("web", &[server(first).await])],
        ));
        let mut stream = TcpStream::connect(mesh.address("http")).await.unwrap();
        let head =
            "POST / HTTP/1.1\r\nhost: web\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut line = read_head(&mut stream).await;
        if asked {
            assert_eq!(line, "HTTP/1.1 100 Continue");
            stream.write_all(b"body").await.unwrap();
            line = read_head(&mut stream).await;
        }
        assert_eq!(line, status);
        assert!(mesh.line().contains("via_upstream"));
    }
}

/// Reads one head and returns its first line.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    head.lines().next().unwrap().to_owned()
}
