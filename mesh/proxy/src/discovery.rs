//! The configuration stream: an endless answer of JSON lines, each one an [`Update`].

use std::{path::PathBuf, time::Duration};

use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use mesh_config::{ProxyId, Update};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::{sync::mpsc::Sender, time::timeout};

use crate::client::{self, Confidence};

/// Connecting and the answer's head must be done within this.
const PATIENCE: Duration = Duration::from_secs(10);
/// First wait before connecting again, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// Longest line taken.
const LINE_BYTES: usize = 64 * 1024 * 1024;

/// Longest answer that is not a stream.
const ANSWER_BYTES: usize = 1024 * 1024;

/// Where configuration comes from.
#[derive(Clone)]
pub(crate) struct Discovery {
    /// `https://istiod.istio-system.svc:15012`, or `http://` on this machine.
    pub(crate) address: String,
    /// File with the authorities that its certificate must come from.
    pub(crate) roots: PathBuf,
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
        let response = self
            .request(Method::GET, "/v1/config", String::new())
            .await?;
        match response.status() {
            StatusCode::OK => Ok(response.into_body()),
            status => Err(DiscoveryError::Status(status)),
        }
    }

    /// Asks something of the control plane.
    pub(crate) async fn post(&self, path: &str, body: String) -> anyhow::Result<bytes::Bytes> {
        let asking = async {
            let response = self.request(Method::POST, path, body).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES).collect();
            let body = body
                .await
                .map_err(|error| anyhow::anyhow!(error))?
                .to_bytes();
            if status != StatusCode::OK {
                let reason = String::from_utf8_lossy(&body);
                anyhow::bail!("the control plane answers {status}: {}", reason.trim());
            }
            Ok(body)
        };
        timeout(PATIENCE, asking)
            .await
            .map_err(|_| DiscoveryError::Timeout)?
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<Response<Incoming>, DiscoveryError> {
        let node = serde_json::to_string(&self.identity)?;
        let node = utf8_percent_encode(&node, NON_ALPHANUMERIC);
        let address = self.address.trim_end_matches('/');
        let address = format!("{address}{path}?node={node}");
        let body = Full::<bytes::Bytes>::from(body);
        // Tokens go up, keys of gateways come down.
        let confidence = Confidence::Secret(&self.roots);
        let opening = client::open(&address, self.through.as_deref(), confidence, body);
        let (mut sender, mut request) = opening.await?;
        *request.method_mut() = method;
        // Read each time: tokens are rotated. Whether one is needed is for the server to say.
        if let Ok(token) = tokio::fs::read_to_string(&self.token).await
            && let Ok(bearer) = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
        {
            request.headers_mut().insert(header::AUTHORIZATION, bearer);
        }
        Ok(sender.send_request(request).await?)
    }
}

#[cfg(test)]
mod tests;
