//! An echo over WebSocket.

use std::time::Duration;

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;

use crate::asked::Asked;
use crate::timing::number;
use crate::{Bin, bad};

/// The largest message unless asked otherwise, in bytes, and the largest that may be asked for.
const MESSAGE_SIZE: (u64, u64) = (64 * 1024, 1024 * 1024);
/// How long a silent connection is kept.
const IDLE: Duration = Duration::from_secs(300);

/// The route of the echo.
pub(crate) fn routes() -> Router<Bin> {
    Router::new().route("/websocket/echo", any(echo))
}

async fn echo(
    asked: Asked,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response {
    let size = match number(&asked, "max_message_size", MESSAGE_SIZE.0, MESSAGE_SIZE.1) {
        Ok(size) => usize::try_from(size).unwrap_or(usize::MAX),
        Err(detail) => return bad(&detail),
    };
    match upgrade {
        Ok(upgrade) => upgrade
            .max_message_size(size)
            .max_frame_size(size)
            .on_upgrade(send_back),
        Err(rejection) => match rejection.status().as_u16() {
            400 | 405 => bad(&format!("this is for WebSocket only: {rejection}")),
            _ => rejection.into_response(),
        },
    }
}

async fn send_back(mut socket: WebSocket) {
    // Pings and closing are answered by the library; an error ends the connection.
    while let Ok(Some(Ok(message))) = tokio::time::timeout(IDLE, socket.recv()).await {
        if matches!(message, Message::Text(_) | Message::Binary(_))
            && socket.send(message).await.is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{get, go};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A masked frame of a client: at most 125 bytes, so two bytes of head and four of mask.
    fn frame(opcode: u8, text: &str) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let length = u8::try_from(text.len()).expect("short");
        let mut frame = vec![0x80 | opcode, 0x80 | length];
        frame.extend(mask);
        frame.extend(
            text.bytes()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        frame
    }

    #[tokio::test]
    async fn messages_come_back() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(dojo_kit::server::serve(
            listener,
            go(),
            std::future::pending(),
        ));
        let mut stream = tokio::net::TcpStream::connect(address)
            .await
            .expect("connected");
        let request = "GET /websocket/echo HTTP/1.1\r\nhost: bin\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a head"));
        }
        let head = String::from_utf8(head).expect("text");
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        // The key and its answer are the example of RFC 6455.
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        stream.write_all(&frame(1, "hello")).await.expect("sent");
        let mut echoed = [0; 7];
        stream.read_exact(&mut echoed).await.expect("an echo");
        assert_eq!(&echoed, b"\x81\x05hello");
    }

    #[tokio::test]
    async fn plain_requests_are_told_so() {
        let answer = get("/websocket/echo").await;
        assert_eq!(answer.status, 400);
        assert!(answer.body.contains("WebSocket only"), "{}", answer.body);
        assert_eq!(get("/websocket/echo?max_message_size=x").await.status, 400);
    }
}
