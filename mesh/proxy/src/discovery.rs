//! The configuration stream: an endless answer of JSON lines, each one an [`Update`].

use std::{path::PathBuf, time::Duration};

use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use mesh_config::{ProxyId, Update};
use tokio::{sync::mpsc::Sender, time::timeout};

use crate::client;

/// Connecting and the answer's head must be done within this.
const PATIENCE: Duration = Duration::from_secs(10);
/// First wait before connecting again, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// Longest line taken.
const LINE_BYTES: usize = 64 * 1024 * 1024;

/// Where configuration comes from.
pub(crate) struct Discovery {
    /// `http://istiod.istio-system.svc:15010`.
    pub(crate) address: String,
    /// The HTTP proxy to reach it through (`http_proxy`), if any.
    pub(crate) through: Option<String>,
    pub(crate) identity: ProxyId,
    pub(crate) token: PathBuf,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiscoveryError {
    #[error(transparent)]
    Connect(#[from] client::ConnectError),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Timeout,
    #[error("the stream broke")]
    Http(#[from] hyper::Error),
    #[error("the control plane answers {0}")]
    Status(StatusCode),
    #[error("a line of the stream is not an update")]
    Json(#[from] serde_json::Error),
    #[error("a line of the stream is longer than {LINE_BYTES} bytes")]
    Line,
    #[error("the control plane closed the stream")]
    Closed,
}

impl Discovery {
    /// Passes updates on for ever; connects again when the stream is lost, and then receives a
    /// complete update first. Ends when nobody listens any more.
    pub(crate) async fn run(&self, updates: Sender<Update>) {
        let mut wait = BACK_OFF.0;
        while !updates.is_closed() {
            let mut received = false;
            let ended = self.stream(&updates, &mut received).await;
            if received {
                wait = BACK_OFF.0;
            }
            if let Err(error) = ended {
                let error = anyhow::Error::from(error);
                tracing::info!("configuration stream: {error:#}; keeping what there is");
            }
            tokio::time::sleep(wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
            wait = (wait * 2).min(BACK_OFF.1);
        }
    }

    async fn stream(
        &self,
        updates: &Sender<Update>,
        received: &mut bool,
    ) -> Result<(), DiscoveryError> {
        let opening = timeout(PATIENCE, self.open()).await;
        let mut body = opening.map_err(|_| DiscoveryError::Timeout)??;
        let mut pending = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else {
                continue;
            };
            let mut rest = &data[..];
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                pending.extend_from_slice(&rest[..end]);
                rest = &rest[end + 1..];
                // A blank line keeps the stream alive.
                if !pending.iter().all(u8::is_ascii_whitespace) {
                    let update = serde_json::from_slice(&pending)?;
                    *received = true;
                    if updates.send(update).await.is_err() {
                        return Ok(());
                    }
                }
                // A large first line must not stay in memory.
                pending = Vec::new();
            }
            pending.extend_from_slice(rest);
            if pending.len() > LINE_BYTES {
                return Err(DiscoveryError::Line);
            }
        }
        Err(DiscoveryError::Closed)
    }

    async fn open(&self) -> Result<Incoming, DiscoveryError> {
        let node = serde_json::to_string(&self.identity)?;
        let node = percent_encode(&node);
        let address = self.address.trim_end_matches('/');
        let address = format!("{address}/v1/config?node={node}");
        let nothing = Empty::<bytes::Bytes>::new();
        let opening = client::open(&address, self.through.as_deref(), nothing);
        let (mut sender, mut request) = opening.await?;
        // Read each time: tokens are rotated. Whether one is needed is for the server to say.
        if let Ok(token) = tokio::fs::read_to_string(&self.token).await
            && let Ok(bearer) = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
        {
            request.headers_mut().insert(header::AUTHORIZATION, bearer);
        }
        let response = sender.send_request(request).await?;
        match response.status() {
            StatusCode::OK => Ok(response.into_body()),
            status => Err(DiscoveryError::Status(status)),
        }
    }
}

fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests;
