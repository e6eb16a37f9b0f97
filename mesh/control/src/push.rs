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
    authenticate::{Authenticator, Refused, bearer},
    ca::Authority,
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
    /// The same of each type of resource, in the order of [`TYPES`]; absent: nothing was sent yet.
    pub(crate) of_type: [Option<u64>; 4],
    pub(crate) updates: u64,
}

/// What resources are counted by, in Envoy's words.
pub(crate) const TYPES: [&str; 4] = ["CDS", "EDS", "LDS", "RDS"];

/// What the servers share.
pub(crate) struct Hub {
    pub(crate) versions: watch::Receiver<Arc<Published>>,
    pub(crate) authenticator: Authenticator,
    pub(crate) metrics: Arc<Metrics>,
    /// By a number of their own: a proxy may reconnect before its old connection is known dead.
    pub(crate) connections: Mutex<BTreeMap<u64, Connection>>,
    /// Whose roots every proxy is to trust: pushed like all else, so that nobody waits for a renewal.
    pub(crate) authority: watch::Receiver<Arc<Authority>>,
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
    let mut versions = match admit(&hub, &proxy, &headers).await {
        Ok(versions) => versions,
        Err(refusal) => return refusal,
    };
    versions.mark_changed();
    let stream = Stream {
        versions,
        authority: hub.authority.clone(),
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

/// Lets a proxy in that proves to be its pod; the versions of the world that it will be told.
pub(crate) async fn admit(
    hub: &Hub,
    proxy: &ProxyId,
    headers: &HeaderMap,
) -> Result<watch::Receiver<Arc<Published>>, Response> {
    let token = bearer(headers);
    // First the token alone, so that strangers learn and hold nothing.
    if let Err(refused) = hub.authenticator.check(token, proxy, None).await {
        return Err(refuse(hub, &proxy.node_id(), &refused));
    }
    let mut versions = hub.versions.clone();
    let Some(account) = service_account(&mut versions, proxy).await else {
        let text = format!(
            "pod {}/{} is not known, or has no address yet\n",
            proxy.namespace, proxy.pod
        );
        return Err((StatusCode::NOT_FOUND, text).into_response());
    };
    if let Err(refused) = hub.authenticator.check(token, proxy, Some(&account)).await {
        return Err(refuse(hub, &proxy.node_id(), &refused));
    }
    Ok(versions)
}

/// Waits for the pod of a proxy and tells what it runs as.
async fn service_account(
    versions: &mut watch::Receiver<Arc<Published>>,
    proxy: &ProxyId,
) -> Option<String> {
    let account = |version: &Arc<Published>| {
        let pod = version.compiler.world().pod(&proxy.namespace, &proxy.pod);
        pod.map(|pod| pod.service_account.clone())
    };
    let known = versions.wait_for(|version| account(version).is_some());
    let version = tokio::time::timeout(POD_APPEARS_WITHIN, known)
        .await
        .ok()?
        .ok()?;
    account(&version)
}

/// Tells the caller, and the log, why it gets nothing.
pub(crate) fn refuse(hub: &Hub, who: &str, refused: &Refused) -> Response {
    hub.metrics.refused_proxies.fetch_add(1, Relaxed);
    tracing::warn!("proxy {who}: {refused}");
    let code = match refused {
        Refused::NoToken | Refused::Invalid(_) => StatusCode::UNAUTHORIZED,
        Refused::OtherPod { .. } | Refused::NoServiceAccount(_) => StatusCode::FORBIDDEN,
        Refused::Unavailable(_) | Refused::MayNotAsk(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, format!("{refused}\n")).into_response()
}

struct Stream {
    versions: watch::Receiver<Arc<Published>>,
    authority: watch::Receiver<Arc<Authority>>,
    sent: Option<Snapshot>,
    connected: Connected,
}

impl Stream {
    /// Waits for something to say; `None` when the control plane stops.
    async fn next_line(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                changed = self.versions.changed() => changed.ok()?,
                changed = self.authority.changed() => changed.ok()?,
            }
            let version = self.versions.borrow_and_update().clone();
            // A pod that is gone for a moment keeps what it had.
            let Some(mut snapshot) = version.compiler.snapshot(&self.connected.proxy) else {
                continue;
            };
            let roots = self.authority.borrow_and_update().trusted.clone();
            snapshot.secrets.insert(roots.name.clone(), roots);
            let update = match &self.sent {
                None => snapshot.complete(),
                Some(sent) => sent.diff(&snapshot),
            };
            let told = self.sent.as_ref().map(|sent| sent.version);
            self.sent = Some(snapshot);
            if update.is_empty() {
                continue;
            }
            // New roots alone are no new version.
            let new = !update.complete && told != Some(update.version);
            let after = new.then(|| version.at.elapsed());
            self.connected.sent(&update, after);
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
            of_type: [None; 4],
            updates: 0,
        };
        connections.insert(number, connection);
        drop(connections);
        tracing::info!("proxy {} connected", proxy.node_id());
        Self { hub, number, proxy }
    }

    fn sent(&self, update: &Update, after: Option<Duration>) {
        let metrics = &self.hub.metrics;
        if let Some(after) = after {
            metrics.converged(after);
        }
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
            for (of_type, count) in connection.of_type.iter_mut().zip(counts) {
                if count > 0 {
                    *of_type = Some(update.version);
                }
            }
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

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use serde_json::{Value, json};
    use tower::ServiceExt;

    use super::*;
    use crate::{
        registry,
        watch::{Change, Entry, KUBERNETES_KINDS},
        world,
    };

    /// A Kubernetes API that knows one token, that of ServiceAccount `sa` of namespace `ns`.
    fn kubernetes() -> kube::Client {
        let service = tower::service_fn(|request: http::Request<kube::client::Body>| async move {
            let body = request.into_body().collect_bytes().await?;
            let review: Value = serde_json::from_slice(&body).unwrap();
            let known = review["spec"]["token"] == "good";
            let answer = json!({
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {},
                "spec": review["spec"],
                "status": { "authenticated": known, "user": { "username": "system:serviceaccount:ns:sa" } },
            });
            let answer = kube::client::Body::from(answer.to_string().into_bytes());
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(http::Response::new(answer))
        });
        kube::Client::new(service, "default")
    }

    fn pod() -> Change {
        let pod = json!({
            "metadata": {"name": "web", "namespace": "ns"}, "spec": {"serviceAccountName": "sa", "containers": []},
            "status": {"podIP": "127.16.0.2"},
        });
        let pod = world::Pod::read(&serde_json::from_value(pod).unwrap());
        Change::Apply(
            "Pod",
            ("ns".into(), "web".into()),
            Box::new(Entry::Pod(pod)),
        )
    }

    fn service(name: &str) -> Change {
        let service = json!({
            "metadata": {"name": name, "namespace": "ns"}, "spec": {"clusterIP": "127.16.128.2", "ports": [{"port": 80, "name": "http"}]},
        });
        let service = world::Service::read(&serde_json::from_value(service).unwrap());
        Change::Apply(
            "Service",
            ("ns".into(), name.into()),
            Box::new(Entry::Service(service)),
        )
    }

    fn request(pod: &str, token: Option<&str>) -> http::Request<Body> {
        let node = json!({"role": "sidecar", "pod": pod, "namespace": "ns", "address": "127.16.0.2",
            "interception": {"mode": "door", "loopback": "127.16.192.2"}});
        let node: String = node
            .to_string()
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect();
        let request = http::Request::get(format!("/v1/config?node={node}"));
        let request = match token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        request.body(Body::empty()).unwrap()
    }

    type Authorities = watch::Sender<Arc<Authority>>;

    async fn start() -> (tokio::sync::mpsc::Sender<Change>, Arc<Hub>, Authorities) {
        let (to, changes) = tokio::sync::mpsc::channel(16);
        let (publish, versions) = watch::channel(registry::nothing());
        let metrics = Arc::new(Metrics::default());
        tokio::spawn(registry::run(changes, publish, metrics.clone()));
        for kind in KUBERNETES_KINDS
            .into_iter()
            .chain(mesh_api::KINDS.iter().map(|kind| kind.kind))
        {
            to.send(Change::Listed(kind)).await.unwrap();
        }
        let authenticator = Authenticator::new(kubernetes());
        let (authorities, authority) = watch::channel(Arc::new(crate::ca::example()));
        (
            to,
            Arc::new(Hub {
                versions,
                authenticator,
                metrics,
                connections: Mutex::default(),
                authority,
            }),
            authorities,
        )
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_pod_itself_is_told() {
        let (to, hub, _authorities) = start().await;
        to.send(pod()).await.unwrap();
        for (pod, token, code) in [
            ("web", None, StatusCode::UNAUTHORIZED),
            ("web", Some("bad"), StatusCode::UNAUTHORIZED),
            ("other", Some("good"), StatusCode::NOT_FOUND),
            ("web", Some("good"), StatusCode::OK),
        ] {
            let answer = router(hub.clone())
                .oneshot(request(pod, token))
                .await
                .unwrap();
            assert_eq!(answer.status(), code, "{pod} {token:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn changes_arrive_soon_together_and_alone() {
        let (to, hub, authorities) = start().await;
        to.send(pod()).await.unwrap();
        let answer = router(hub.clone())
            .oneshot(request("web", Some("good")))
            .await
            .unwrap();
        let mut lines = answer.into_body().into_data_stream();
        let mut next = async || -> Update {
            serde_json::from_slice(&lines.next().await.unwrap().unwrap()).unwrap()
        };
        assert!(next().await.complete);
        assert_eq!(hub.connections.lock().unwrap().len(), 1);

        let before = tokio::time::Instant::now();
        for name in ["a", "b", "c"] {
            to.send(service(name)).await.unwrap();
        }
        let update = next().await;
        assert!(
            before.elapsed() < Duration::from_millis(50),
            "{:?}",
            before.elapsed()
        );
        assert!(!update.complete && update.node.is_none());
        assert_eq!(update.clusters.len(), 3);
        assert_eq!(update.routes.keys().collect::<Vec<_>>(), ["80"]);

        let other = crate::ca::example();
        let trusted = other.trusted.clone();
        authorities.send(Arc::new(other)).unwrap();
        let update = next().await;
        assert_eq!(
            update.secrets.values().collect::<Vec<_>>(),
            [&Some(trusted)]
        );

        drop(lines);
        assert!(hub.connections.lock().unwrap().is_empty());
    }
}
