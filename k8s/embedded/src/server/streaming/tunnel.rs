//! A byte stream inside the binary messages of a WebSocket.

use axum::extract::ws::{Message, WebSocket};
use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// Bytes that may wait on either side, and most that one message holds.
const BUFFER: usize = 32 << 10;

/// Lets `serve` speak through the WebSocket until it returns or the client goes away.
pub(super) async fn run<F: Future<Output = ()>>(
    socket: WebSocket,
    serve: impl FnOnce(DuplexStream) -> F,
) {
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let (mut sender, mut receiver) = socket.split();
    let (mut from, mut to) = tokio::io::split(ours);
    let inward = async {
        while let Some(Ok(message)) = receiver.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => Bytes::from(text),
                Message::Close(_) => break,
                Message::Ping(_) | Message::Pong(_) => continue,
            };
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    let outward = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(BUFFER);
            match from.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {
                    let bytes = buffer.split().freeze();
                    if sender.send(Message::Binary(bytes)).await.is_err() {
                        break;
                    }
                }
            }
        }
        // the client may be gone already
        let _ = sender.send(Message::Close(None)).await;
    };
    let served = async { tokio::join!(serve(theirs), outward) };
    tokio::select! {
        _ = served => {}
        () = inward => {}
    }
}
