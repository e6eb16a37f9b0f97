//! `portforward`: connections to a pod's ports.
//!
//! kubectl opens two SPDY streams per connection, one for errors and one for data, which share a
//! `requestid`. WebSocket clients without SPDY name the ports in the query and get one connection
//! per port ([`by_channels`]).

mod by_channels;

use super::spdy::{Frame, Reader, Writer};
use super::{Upgrade, agree, no_protocol, switch_to_spdy, tunnel};
use crate::node::{Connection, Node};
use crate::server::ApiError;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// SPDY in a WebSocket; kubectl since 1.31.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// Ports in the query.
const CHANNELS: &str = "v4.channel.k8s.io";
/// SPDY on the connection.
const SPDY: &str = "portforward.k8s.io";
/// Most connections at once of one client.
const CONNECTIONS: usize = 256;
/// Pieces of data that may wait for one connection.
const QUEUE: usize = 16;
/// Most bytes that are passed on at once.
const CHUNK: usize = 32 << 10;

/// Namespace and name of a pod.
pub(super) type PodName = (String, String);

/// The node and the pod whose ports are forwarded.
#[derive(Clone)]
pub(super) struct Pod {
    node: Arc<dyn Node>,
    name: PodName,
}

impl Pod {
    async fn connect(&self, port: u16) -> Result<Box<dyn Connection>, String> {
        let (namespace, name) = &self.name;
        let connected = self.node.connect(namespace, name, port).await;
        connected.map_err(|error| format!("error forwarding port {port} to pod {name}: {error}"))
    }
}

pub(super) fn run(
    node: Arc<dyn Node>,
    name: PodName,
    query: &[(String, String)],
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    let pod = Pod { node, name };
    match upgrade {
        Upgrade::WebSocket(upgrade, offered) => {
            let Some(protocol) = agree(&[TUNNEL, CHANNELS], &offered) else {
                return Err(no_protocol(&offered, &[TUNNEL, CHANNELS]));
            };
            let upgrade = upgrade.protocols([protocol]);
            if protocol == TUNNEL {
                return Ok(upgrade.on_upgrade(move |socket| {
                    tunnel::run(socket, move |stream| serve(stream, pod))
                }));
            }
            let ports = by_channels::ports(query)?;
            Ok(upgrade.on_upgrade(move |socket| by_channels::serve(socket, pod, ports)))
        }
        Upgrade::Spdy(upgrade, offered) => match agree(&[SPDY], &offered) {
            Some(protocol) => Ok(switch_to_spdy(upgrade, protocol, move |connection| {
                serve(connection, pod)
            })),
            None => Err(no_protocol(&offered, &[SPDY])),
        },
    }
}

/// Serves the streams of a SPDY connection until the client closes it.
async fn serve(connection: impl AsyncRead + AsyncWrite + Send, pod: Pod) {
    let (from, to) = tokio::io::split(connection);
    let (from, to) = (Box::pin(from), Box::pin(to));
    let mut reader = Reader::new(from);
    let (writer, writing) = Writer::new(to);
    let forwarding = async move {
        let mut streams = Forwarded::default();
        while let Ok(Some(frame)) = reader.next().await {
            streams.take(frame, &pod, &writer).await;
        }
    };
    tokio::join!(forwarding, async {
        if let Err(error) = writing.await {
            tracing::debug!(%error, "a connection has ended");
        }
    });
}

/// The streams of one client.
#[derive(Default)]
struct Forwarded {
    /// Error streams that wait for their data stream, by request.
    errors: HashMap<String, u32>,
    /// What the client sends on data streams.
    inward: HashMap<u32, mpsc::Sender<Bytes>>,
    tasks: JoinSet<u32>,
    opened: usize,
}

impl Forwarded {
    async fn take(&mut self, frame: Frame, pod: &Pod, writer: &Writer) {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Ok(id) = ended {
                self.inward.remove(&id);
            }
        }
        match frame {
            Frame::Open { id, headers } => self.open(id, &headers, pod, writer).await,
            Frame::Data { id, bytes, last } => {
                if let Some(inward) = self.inward.get(&id)
                    && !bytes.is_empty()
                {
                    // the connection is gone: dropped, as a closed socket would
                    let _ = inward.send(bytes).await;
                }
                if last {
                    self.inward.remove(&id);
                }
            }
            Frame::Reset { id } => {
                self.inward.remove(&id);
            }
            Frame::Ping { id } => writer.pong(id).await,
            Frame::GoAway | Frame::Other => {}
        }
    }

    async fn open(&mut self, id: u32, headers: &[(String, String)], pod: &Pod, writer: &Writer) {
        let request = Frame::header(headers, "requestid").to_owned();
        let full = self.tasks.len() >= CONNECTIONS || self.errors.len() >= CONNECTIONS;
        let error = match Frame::header(headers, "streamtype") {
            "error" if !full => None,
            "data" if !full => self.errors.remove(&request),
            _ => return writer.refuse(id).await,
        };
        writer.accept(id, self.opened == 0).await;
        self.opened += 1;
        let Some(error) = error else {
            self.errors.insert(request, id);
            return;
        };
        let (sender, inward) = mpsc::channel(QUEUE);
        self.inward.insert(id, sender);
        let port = Frame::header(headers, "port").parse();
        let (pod, writer) = (pod.clone(), writer.clone());
        self.tasks.spawn(async move {
            let connected = match port {
                Ok(port) => pod.connect(port).await,
                Err(_) => Err("the port is not a number".to_owned()),
            };
            match connected {
                Ok(connection) => {
                    let outward = DataStream {
                        writer: &writer,
                        id,
                    };
                    forward(connection, inward, &outward).await;
                    writer.data(error, &[], true).await;
                }
                Err(why) => {
                    writer.data(error, why.as_bytes(), true).await;
                    writer.data(id, &[], true).await;
                }
            }
            id
        });
    }
}

/// Where what a pod sends goes.
trait Outward: Sync {
    /// Sends a piece; `last`: there is no more.
    fn send(&self, bytes: &[u8], last: bool) -> impl Future<Output = ()> + Send;
}

struct DataStream<'a> {
    writer: &'a Writer,
    id: u32,
}

impl Outward for DataStream<'_> {
    async fn send(&self, bytes: &[u8], last: bool) {
        self.writer.data(self.id, bytes, last).await;
    }
}

/// Copies in both directions until both have ended.
async fn forward(
    connection: Box<dyn Connection>,
    mut inward: mpsc::Receiver<Bytes>,
    outward: &impl Outward,
) {
    let (mut from, mut to) = tokio::io::split(connection);
    let sending = async {
        while let Some(bytes) = inward.recv().await {
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // it may have closed first
        let _ = to.shutdown().await;
    };
    let receiving = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.clear();
            buffer.reserve(CHUNK);
            match from.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(_) => outward.send(&buffer, false).await,
            }
        }
        outward.send(&[], true).await;
    };
    // what the client still sends to a server that has closed is of no use
    let mut receiving = std::pin::pin!(receiving);
    tokio::select! {
        () = &mut receiving => {}
        () = sending => receiving.await,
    }
}
