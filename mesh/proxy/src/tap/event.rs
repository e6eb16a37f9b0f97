//! What a watcher is told, as lines of JSON.

use std::net::SocketAddr;

use bytes::Bytes;
use mesh_config::TrafficDirection;
use serde::Serialize;

/// One line.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event<'a> {
    /// A request that has ended.
    Request(Request<'a>),
    /// A TCP connection that has ended, or was refused.
    Connection(Connection<'a>),
    /// The first bytes one way after some the other way.
    Bytes(Piece<'a>),
    /// So many lines found no room.
    Lost { lines: u64 },
}

#[derive(Debug, Serialize)]
pub(crate) struct Request<'a> {
    pub(crate) time: String,
    pub(crate) direction: &'a str,
    pub(crate) method: &'a str,
    pub(crate) authority: &'a str,
    pub(crate) path: &'a str,
    pub(crate) protocol: &'a str,
    /// 0: no answer was sent.
    pub(crate) response_code: u16,
    pub(crate) response_flags: String,
    pub(crate) response_code_details: &'a str,
    pub(crate) route_name: Option<&'a str>,
    pub(crate) duration_ms: u64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    #[serde(flatten)]
    pub(crate) ends: Ends<'a>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Connection<'a> {
    pub(crate) time: String,
    pub(crate) direction: &'a str,
    pub(crate) response_flags: String,
    pub(crate) details: &'a str,
    pub(crate) duration_ms: u64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    #[serde(flatten)]
    pub(crate) ends: Ends<'a>,
}

/// From where, to where, and who they are.
#[derive(Debug, Serialize)]
pub(crate) struct Ends<'a> {
    pub(crate) downstream_remote_address: SocketAddr,
    pub(crate) upstream_cluster: Option<&'a str>,
    pub(crate) upstream_host: Option<SocketAddr>,
    /// Absent where mutual TLS proved nothing.
    pub(crate) source_principal: Option<String>,
    pub(crate) destination_principal: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Piece<'a> {
    pub(crate) time: String,
    /// `downstream` or `upstream`.
    pub(crate) hop: &'a str,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    /// What the bytes are.
    pub(crate) kind: &'a str,
    /// Base64.
    pub(crate) bytes: String,
    /// How many more there were.
    pub(crate) hidden: usize,
}

impl Event<'_> {
    /// As it is sent.
    pub(super) fn line(&self) -> Bytes {
        let mut line = serde_json::to_vec(self).expect("texts and numbers print as JSON");
        line.push(b'\n');
        line.into()
    }
}

/// The name of a direction.
pub(crate) fn direction(direction: TrafficDirection) -> &'static str {
    match direction {
        TrafficDirection::Inbound => "inbound",
        TrafficDirection::Outbound => "outbound",
        TrafficDirection::Gateway => "gateway",
    }
}

/// A moment as the access log prints it.
pub(crate) fn time(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

impl<'a> Ends<'a> {
    /// One handshake proves both sides: ours is `own` where the other's is known.
    pub(crate) fn principals(mut self, inbound: bool, other: &str, own: &str) -> Self {
        if !other.is_empty() {
            let (source, destination) = if inbound { (other, own) } else { (own, other) };
            let known = |identity: &str| Some(identity.to_owned()).filter(|text| !text.is_empty());
            self.source_principal = known(source);
            self.destination_principal = known(destination);
        }
        self
    }
}
