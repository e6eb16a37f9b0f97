//! The configuration stream: JSON lines, the first complete, each later one what changed.
//!
//! There is no queue. A line is made when the connection can take one, from the newest version at
//! that moment: a proxy that reads slowly gets fewer, larger steps.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Query, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, StatusCode, header};
use mesh_config::{ProxyId, Snapshot, Update};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    authenticate::{Authenticator, Refused},
    metrics::Metrics,
    registry::Published,
};

/// A proxy may ask before its pod's address has reached us.
const POD_APPEARS_WITHIN: Duration = Duration::from_secs(10);

/// A connected proxy, for the debug endpoints.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Connection {
    pub(crate) proxy: ProxyId,
    #[serde(skip)]
    pub(crate) since: Instant,
    /// Version last sent.
    pub(crate) version: u64,
    pub(crate) updates: u64,
}

/// What the servers share.
pub(crate) struct Hub {
    pub(crate) versions: watch::Receiver<Arc<Published>>,
    pub(crate) authenticator: Authenticator,
    pub(crate) metrics: Arc<Metrics>,
    /// By a number of their own: a proxy may reconnect before its old connection is known dead.
    pub(crate) connections: Mutex<BTreeMap<u64, Connection>>,
}

/// `GET /v1/config?node=PROXY_ID`.
pub(crate) fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/v1/config", get(config))
        .with_state(hub)
}

#[derive(Deserialize)]
struct Parameters {
    node: String,
}

async fn config(
    State(hub): State<Arc<Hub>>,
    Query(query): Query<Parameters>,
    headers: HeaderMap,
) -> Response {
    let proxy: ProxyId = match serde_json::from_str(&query.node) {
        Ok(proxy) => proxy,
        Err(error) => {
            return (
                StatusCode::BAD_REQUEST,
                format!("parameter node: {error}\n"),
            )
                .into_response();
        }
    };
    let mut versions = hub.versions.clone();
    let account = {
        let known = |version: &Arc<Published>| {
            version
                .compiler
                .world()
                .pod(&proxy.namespace, &proxy.pod)
                .is_some()
        };
        match tokio::time::timeout(POD_APPEARS_WITHIN, versions.wait_for(known)).await {
            Ok(Ok(version)) => {
                let pod = version.compiler.world().pod(&proxy.namespace, &proxy.pod);
                pod.map(|pod| pod.service_account.clone())
            }
            _ => {
                let text = format!(
                    "pod {}/{} is not known, or has no address yet\n",
                    proxy.namespace, proxy.pod
                );
                return (StatusCode::NOT_FOUND, text).into_response();
            }
        }
    };
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let token = bearer.and_then(|value| value.strip_prefix("Bearer "));
    if let Err(refused) = hub
        .authenticator
        .check(token, &proxy, account.as_deref())
        .await
    {
        hub.metrics.refused_proxies.fetch_add(1, Relaxed);
        tracing::warn!("proxy {}: {refused}", proxy.node_id());
        let code = match refused {
            Refused::NoToken | Refused::Invalid(_) => StatusCode::UNAUTHORIZED,
            Refused::OtherPod { .. } => StatusCode::FORBIDDEN,
            Refused::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        return (code, format!("{refused}\n")).into_response();
    }
    versions.mark_changed();
    let stream = Stream {
        versions,
        sent: None,
        connected: Connected::new(hub, proxy),
    };
    let lines = futures::stream::unfold(stream, |mut stream| async {
        let line = stream.next_line().await?;
        Some((Ok::<_, std::convert::Infallible>(line), stream))
    });
    (
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(lines),
    )
        .into_response()
}

struct Stream {
    versions: watch::Receiver<Arc<Published>>,
    sent: Option<Snapshot>,
    connected: Connected,
}

impl Stream {
    /// Waits for something to say; `None` when the control plane stops.
    async fn next_line(&mut self) -> Option<Bytes> {
        loop {
            self.versions.changed().await.ok()?;
            let version = self.versions.borrow_and_update().clone();
            // A pod that is gone for a moment keeps what it had.
            let Some(snapshot) = version.compiler.snapshot(&self.connected.proxy) else {
                continue;
            };
            let update = match &self.sent {
                None => snapshot.complete(),
                Some(sent) => sent.diff(&snapshot),
            };
            self.sent = Some(snapshot);
            if update.is_empty() {
                continue;
            }
            self.connected.sent(&update, version.at.elapsed());
            match serde_json::to_vec(&update) {
                Ok(mut line) => {
                    line.push(b'\n');
                    return Some(line.into());
                }
                Err(error) => {
                    tracing::error!(
                        "configuration of {}: {error}",
                        self.connected.proxy.node_id()
                    );
                    return None;
                }
            }
        }
    }
}

/// Entry in the list of connections, taken out when the stream ends.
struct Connected {
    hub: Arc<Hub>,
    number: u64,
    proxy: ProxyId,
}

impl Connected {
    fn new(hub: Arc<Hub>, proxy: ProxyId) -> Self {
        let mut connections = hub
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let number = connections
            .last_key_value()
            .map_or(0, |(number, _)| number + 1);
        let connection = Connection {
            proxy: proxy.clone(),
            since: Instant::now(),
            version: 0,
            updates: 0,
        };
        connections.insert(number, connection);
        drop(connections);
        tracing::info!("proxy {} connected", proxy.node_id());
        Self { hub, number, proxy }
    }

    fn sent(&self, update: &Update, after: Duration) {
        let metrics = &self.hub.metrics;
        metrics.converged(after);
        let counts = [
            update.clusters.len(),
            update.endpoints.len(),
            update.listeners.len(),
            update.routes.len(),
        ];
        for (counter, count) in metrics.sent.iter().zip(counts) {
            counter.fetch_add(u64::from(count > 0), Relaxed);
        }
        let mut connections = self
            .hub
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = connections.get_mut(&self.number) {
            connection.version = update.version;
            connection.updates += 1;
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.hub
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.number);
        tracing::info!("proxy {} disconnected", self.proxy.node_id());
    }
}
