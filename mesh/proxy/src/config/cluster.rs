//! Clusters as requests see them: stable objects whose members are swapped in place, so that route
//! tables hold direct references and pools and statistics survive updates.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use mesh_config as model;

use crate::stats::{
    ClusterStats, HostStats,
    istio::{Labels, PeerId, ServiceId},
};

/// A cluster, whether or not it exists at the moment: a route may name one that does not.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) name: Arc<str>,
    /// Unique in the process.
    pub(crate) id: u32,
    pub(crate) stats: ClusterStats,
    /// `None`: requests answer 503 NC.
    pub(crate) members: ArcSwapOption<Members>,
    /// Round robin's place; starts at random so that proxies do not march in step.
    next: AtomicUsize,
}

/// What a cluster is at one moment.
#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) config: Arc<model::Cluster>,
    pub(crate) hosts: Vec<Arc<Host>>,
    /// Those that may be chosen.
    pub(crate) eligible: Vec<Arc<Host>>,
    /// The service of the cluster, in metrics.
    pub(crate) service: ServiceId,
}

/// One endpoint of one cluster.
#[derive(Debug)]
pub(crate) struct Host {
    /// Unique in the process; the key of connection pools.
    pub(crate) id: u32,
    pub(crate) address: SocketAddr,
    pub(crate) health: model::HealthStatus,
    /// Who answers there, in metrics.
    pub(crate) peer: PeerId,
    pub(crate) in_mesh: bool,
    pub(crate) stats: Arc<HostStats>,
}

static NEXT_ID: AtomicU32 = AtomicU32::new(1);

impl Host {
    /// An endpoint that only its address is known of: the destination of a passed through request.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            address,
            health: model::HealthStatus::Healthy,
            peer: PeerId::UNKNOWN,
            in_mesh: false,
            stats: Arc::default(),
        }
    }

    fn new(endpoint: &model::Endpoint, peer: PeerId) -> Self {
        Self {
            health: endpoint.health,
            peer,
            in_mesh: endpoint.in_mesh,
            ..Self::at(endpoint.address)
        }
    }

    /// The same host after an update: connections and statistics stay.
    fn renewed(&self, endpoint: &model::Endpoint, peer: PeerId) -> Self {
        Self {
            id: self.id,
            stats: self.stats.clone(),
            ..Self::new(endpoint, peer)
        }
    }
}

impl Cluster {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            stats: ClusterStats::default(),
            members: ArcSwapOption::empty(),
            next: AtomicUsize::new(rand::random::<u16>().into()),
        }
    }

    /// Replaces the members; hosts that stay keep their pools and statistics.
    pub(crate) fn update(
        &self,
        config: Arc<model::Cluster>,
        endpoints: &[model::Endpoint],
        labels: &Labels,
    ) {
        let before = self.members.load_full();
        let known = |endpoint: &model::Endpoint| {
            let hosts = &before.as_ref()?.hosts;
            hosts.iter().find(|host| host.address == endpoint.address)
        };
        let hosts: Vec<Arc<Host>> = endpoints
            .iter()
            .map(|endpoint| {
                let peer = labels.peer(&endpoint.workload);
                Arc::new(match known(endpoint) {
                    Some(host) => host.renewed(endpoint, peer),
                    None => Host::new(endpoint, peer),
                })
            })
            .collect();
        let eligible: Vec<_> = hosts
            .iter()
            .filter(|host| host.health == model::HealthStatus::Healthy)
            .cloned()
            .collect();
        self.stats.membership_total.set(hosts.len() as u64);
        self.stats.membership_healthy.set(eligible.len() as u64);
        self.stats.update_success.add(1);
        let service = labels.service(&config);
        self.members.store(Some(Arc::new(Members {
            service,
            config,
            hosts,
            eligible,
        })));
    }

    /// The next turn of round robin.
    pub(crate) fn turn(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// All clusters that exist or are named by a route.
#[derive(Debug, Default)]
pub(crate) struct Clusters(BTreeMap<Box<str>, Arc<Cluster>>);

impl Clusters {
    /// The cluster of a name; made when it was not known.
    pub(crate) fn named(&mut self, name: &str) -> Arc<Cluster> {
        if let Some(cluster) = self.0.get(name) {
            return cluster.clone();
        }
        let cluster = Arc::new(Cluster::new(name));
        self.0.insert(name.into(), cluster.clone());
        cluster
    }

    /// Brings all clusters to what a snapshot says; compares with what they are.
    pub(crate) fn apply(
        &mut self,
        snapshot: &model::Snapshot,
        before: &model::Snapshot,
        labels: &Labels,
    ) {
        for (name, cluster) in &snapshot.clusters {
            let endpoints = snapshot.endpoints.get(name);
            let same_endpoints = match (endpoints, before.endpoints.get(name)) {
                (Some(new), Some(old)) => Arc::ptr_eq(new, old),
                (None, None) => true,
                _ => false,
            };
            let old = before.clusters.get(name);
            if same_endpoints && old.is_some_and(|old| Arc::ptr_eq(old, cluster)) {
                continue;
            }
            let endpoints = endpoints.map_or(&[][..], |assignment| &assignment.endpoints);
            let known = self.named(name);
            if crate::dns::by_name(cluster) {
                // Resolved apart; until that is done it is what it was.
                if known.members.load().is_none() {
                    known.update(cluster.clone(), &[], labels);
                }
                continue;
            }
            known.update(cluster.clone(), endpoints, labels);
        }
        self.0.retain(|name, cluster| {
            let exists = snapshot.clusters.contains_key(&**name);
            if !exists {
                cluster.members.store(None);
            }
            // A request or a route may still hold it.
            exists || Arc::strong_count(cluster) > 1
        });
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.0.values()
    }
}
