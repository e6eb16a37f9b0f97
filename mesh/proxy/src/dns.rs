//! Endpoints that are known by name: their addresses, asked for again and again.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use mesh_config::{self as model, Discovery};
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    config::{Cluster, Clusters, by_name},
    shared::Shared,
};

/// Istio's refresh rate. The system's resolver does not tell how long an answer holds.
const REFRESH: Duration = Duration::from_secs(60);
/// The longest a lookup may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// After a lookup that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// The clusters whose endpoints are being resolved, by name.
#[derive(Default)]
pub(crate) struct Names(HashMap<String, Resolving>);

struct Resolving {
    config: Arc<model::Cluster>,
    endpoints: Option<Arc<model::ClusterLoadAssignment>>,
    task: JoinHandle<()>,
}

impl Drop for Resolving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Names {
    /// Resolves what a snapshot says; what it says as before goes on undisturbed.
    pub(crate) fn apply(
        &mut self,
        snapshot: &model::Snapshot,
        clusters: &mut Clusters,
        shared: &Arc<Shared>,
    ) {
        self.0.retain(|name, resolving| {
            let now = snapshot.clusters.get(name);
            now.is_some_and(|now| Arc::ptr_eq(now, &resolving.config))
                && snapshot.endpoints.get(name).map(Arc::as_ptr)
                    == resolving.endpoints.as_ref().map(Arc::as_ptr)
        });
        for (name, config) in snapshot.clusters.iter().filter(|(_, c)| by_name(c)) {
            self.0.entry(name.clone()).or_insert_with(|| {
                let endpoints = snapshot.endpoints.get(name).cloned();
                let cluster = clusters.named(name);
                let wanted = endpoints
                    .as_ref()
                    .map_or_else(Vec::new, |e| e.endpoints.clone());
                let task = follow(cluster, config.clone(), wanted, shared.clone());
                Resolving {
                    config: config.clone(),
                    endpoints,
                    task: tokio::spawn(task),
                }
            });
        }
    }
}

/// Keeps a cluster at what its names resolve to.
async fn follow(
    cluster: Arc<Cluster>,
    config: Arc<model::Cluster>,
    wanted: Vec<model::Endpoint>,
    shared: Arc<Shared>,
) {
    let mut known: HashMap<Arc<str>, Vec<IpAddr>> = HashMap::new();
    let mut before = None;
    loop {
        let mut failed = false;
        for name in wanted
            .iter()
            .filter_map(|endpoint| endpoint.hostname.as_ref())
        {
            match timeout(PATIENCE, tokio::net::lookup_host((&**name, 0))).await {
                Ok(Ok(found)) => {
                    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
                    let v4 = addresses.iter().any(IpAddr::is_ipv4);
                    addresses.retain(|ip| ip.is_ipv4() || !v4);
                    addresses.dedup();
                    known.insert(name.clone(), addresses);
                }
                // What was known before stays.
                Ok(Err(error)) => {
                    tracing::debug!(%error, %name, "cannot resolve");
                    failed = true;
                }
                Err(_) => failed = true,
            }
        }
        let endpoints = resolved(&wanted, &known, config.discovery);
        if before.as_ref() != Some(&endpoints) {
            cluster.update(config.clone(), &endpoints, &shared.labels);
            before = Some(endpoints);
        }
        tokio::time::sleep(if failed { AGAIN } else { REFRESH }).await;
    }
}

/// The endpoints with the addresses of their names.
fn resolved(
    wanted: &[model::Endpoint],
    known: &HashMap<Arc<str>, Vec<IpAddr>>,
    discovery: Discovery,
) -> Vec<model::Endpoint> {
    let most = if discovery == Discovery::LogicalDns {
        1
    } else {
        usize::MAX
    };
    let mut endpoints: Vec<model::Endpoint> = Vec::new();
    for endpoint in wanted {
        let Some(name) = &endpoint.hostname else {
            endpoints.push(endpoint.clone());
            continue;
        };
        let addresses = known.get(name).into_iter().flatten().take(most);
        endpoints.extend(addresses.map(|ip| model::Endpoint {
            address: SocketAddr::new(*ip, endpoint.address.port()),
            hostname: None,
            ..endpoint.clone()
        }));
    }
    endpoints.sort_by_key(|endpoint| endpoint.address);
    endpoints.dedup_by_key(|endpoint| endpoint.address);
    endpoints
}
