//! `v4.channel.k8s.io`: of the n-th port, channel 2n is data and 2n+1 errors. The first message of each is
//! the port's number, two bytes, little end first.

use super::{Outward, Pod};
use crate::server::ApiError;
use axum::extract::ws::{Message, WebSocket};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Most ports: channels are numbered by a byte.
const PORTS: usize = 127;
/// Messages that may wait.
const QUEUE: usize = 16;

/// The ports in a query: `ports=8080&ports=9090` or `ports=8080,9090`.
pub(super) fn ports(query: &[(String, String)]) -> Result<Vec<u16>, ApiError> {
    let named = query.iter().filter(|(key, _)| key == "ports");
    let ports: Result<Vec<u16>, _> = named
        .flat_map(|(_, value)| value.split(','))
        .map(str::parse)
        .collect();
    match ports {
        Ok(ports) if !ports.is_empty() && ports.len() <= PORTS => Ok(ports),
        _ => Err(ApiError::bad_request(
            "query parameter \"ports\" is required: port numbers, at most 127",
        )),
    }
}

/// Serves until the client goes away.
pub(super) async fn serve(socket: WebSocket, pod: Pod, ports: Vec<u16>) {
    let (mut sender, mut receiver) = socket.split();
    let (outgoing, mut messages) = mpsc::channel::<Bytes>(QUEUE);
    let mut inward = Vec::new();
    let mut connections = JoinSet::new();
    for (index, port) in ports.into_iter().enumerate() {
        // there are at most 127
        let channel = u8::try_from(2 * index).unwrap_or_default();
        let (to, from) = mpsc::channel(QUEUE);
        inward.push(to);
        connections.spawn(serve_port(
            pod.clone(),
            port,
            channel,
            from,
            outgoing.clone(),
        ));
    }
    drop(outgoing);
    let outward = async {
        while let Some(message) = messages.recv().await {
            if sender.send(Message::Binary(message)).await.is_err() {
                return;
            }
        }
        // the client may be gone already
        let _ = sender.send(Message::Close(None)).await;
    };
    let listening = async {
        while let Some(Ok(message)) = receiver.next().await {
            let Message::Binary(bytes) = message else {
                continue;
            };
            let Some(channel) = bytes.first().filter(|channel| *channel % 2 == 0) else {
                continue;
            };
            if let Some(to) = inward.get(usize::from(channel / 2)) {
                // that connection is gone
                let _ = to.send(bytes.slice(1..)).await;
            }
        }
    };
    tokio::select! {
        () = outward => {}
        () = listening => {}
    }
}

async fn serve_port(
    pod: Pod,
    port: u16,
    channel: u8,
    inward: mpsc::Receiver<Bytes>,
    outgoing: mpsc::Sender<Bytes>,
) {
    let on = |channel| Channel {
        channel,
        outgoing: outgoing.clone(),
    };
    let (data, errors) = (on(channel), on(channel + 1));
    data.send(&port.to_le_bytes(), false).await;
    errors.send(&port.to_le_bytes(), false).await;
    match pod.connect(port).await {
        Ok(connection) => super::forward(connection, inward, &data).await,
        Err(why) => errors.send(why.as_bytes(), true).await,
    }
}

struct Channel {
    channel: u8,
    outgoing: mpsc::Sender<Bytes>,
}

impl Outward for Channel {
    async fn send(&self, bytes: &[u8], _last: bool) {
        if bytes.is_empty() {
            // channels have no end of their own
            return;
        }
        let mut message = BytesMut::with_capacity(bytes.len() + 1);
        message.put_u8(self.channel);
        message.put_slice(bytes);
        // the client is gone
        let _ = self.outgoing.send(message.freeze()).await;
    }
}
