//! The server's lesser ports: what comes over TCP or UDP goes back, and plain HTTP is sent to HTTPS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use dojo_kit::connections;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The most TCP connections at a time.
const MAX_CONNECTIONS: usize = 512;
/// How long a silent connection is kept.
const IDLE: Duration = Duration::from_secs(3600);
/// The largest datagram there is, in bytes.
const DATAGRAM: usize = 64 * 1024;

/// Sends back what each connection sends, for ever.
pub(super) async fn tcp(listener: TcpListener) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    connections::serve(listener, slots, bounce).await;
}

async fn bounce(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = timeout(IDLE, stream.read(&mut buffer)).await??;
        if read == 0 {
            return Ok(());
        }
        timeout(IDLE, stream.write_all(&buffer[..read])).await??;
    }
}

/// Sends back each datagram, for ever.
pub(super) async fn udp(socket: UdpSocket) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        // An error is of one datagram: its sender is gone.
        if let Ok((read, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..read], from).await;
        }
    }
}

/// Binds the UDP side of an address whose TCP side is bound.
pub(super) async fn bind_udp(address: SocketAddr) -> Result<UdpSocket, std::io::Error> {
    let said = |error| std::io::Error::other(format!("UDP address {address}: {error}"));
    UdpSocket::bind(address).await.map_err(said)
}

/// Sends every request to the same host and path over HTTPS.
pub(super) fn to_https() -> Router {
    Router::new().fallback(|headers: HeaderMap, uri: Uri| async move {
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        match host {
            Some(host) => see(host, &uri),
            None => (StatusCode::BAD_REQUEST, "the request names no host\n").into_response(),
        }
    })
}

fn see(host: &str, uri: &Uri) -> Response {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let location = format!("https://{host}{path}");
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_come_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        tokio::spawn(tcp(listener));
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "hello");
    }

    #[tokio::test]
    async fn datagrams_come_back() {
        let socket = bind_udp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let to = socket.local_addr().unwrap();
        tokio::spawn(udp(socket));
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.send_to(b"hello", to).await.unwrap();
        let mut answer = [0; 16];
        let (read, _) = client.recv_from(&mut answer).await.unwrap();
        assert_eq!(&answer[..read], b"hello");
    }

    #[test]
    fn the_same_page_is_named_over_https() {
        let answer = see("shop.example:8081", &Uri::from_static("/a?b=c"));
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        assert_eq!(
            answer.headers()[header::LOCATION],
            "https://shop.example:8081/a?b=c"
        );
    }
}
