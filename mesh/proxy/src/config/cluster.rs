//! Clusters as requests see them: stable objects whose members are swapped in place, so that route
//! tables hold direct references and pools and statistics survive updates.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use mesh_config as model;

use crate::{
    balance::Balancer,
    outlier::Monitor,
    stats::{
        ClusterStats, Codes, Counter, HostStats, OutlierStats,
        istio::{Labels, PeerId, PrincipalId, ServiceId},
    },
    tls::{ClientTls, Secrets},
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
    outlier_stats: OnceLock<Box<OutlierStats>>,
    /// Retries that wait or are under way.
    pub(crate) retries: Counter,
    /// Answers that were not passed on but tried again: `retry.upstream_rq_*`.
    pub(crate) retried: Codes,
    /// Held while a host is ejected or comes back: never on the path of a request that succeeds.
    pub(crate) ejecting: Mutex<()>,
    secrets: Arc<Secrets>,
}

/// What a cluster is at one moment.
#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) config: Arc<model::Cluster>,
    pub(crate) hosts: Vec<Arc<Host>>,
    /// The hosts as they may be chosen.
    pub(crate) balancer: Balancer,
    /// Ticks of outlier detection are counted from here.
    pub(crate) detecting_since: Instant,
    /// The service of the cluster, in metrics.
    pub(crate) service: ServiceId,
    /// TLS towards the hosts.
    pub(crate) tls: Option<Arc<ClientTls>>,
    /// Some hosts take TLS from now on, or none any more: from then on they are spoken to so.
    switches_at: Option<Instant>,
}

impl Members {
    /// TLS towards one of the hosts; `None`: plain text.
    pub(crate) fn tls_to(&self, host: &Host) -> Option<&Arc<ClientTls>> {
        let tls = self.tls.as_ref()?;
        (!tls.where_offered || host.mutual_tls).then_some(tls)
    }
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
    pub(crate) weight: u32,
    pub(crate) locality: Arc<model::Locality>,
    pub(crate) priority: u32,
    pub(crate) locality_weight: Option<u32>,
    /// When it became a member.
    pub(crate) since: Instant,
    /// Takes mutual TLS of the mesh.
    pub(crate) mutual_tls: bool,
    /// Who it is, where mutual TLS proves it.
    pub(crate) principal: PrincipalId,
    pub(crate) stats: Arc<HostStats>,
    pub(crate) monitor: Arc<Monitor>,
}

/// A change between plain text and TLS takes effect after this: by then the endpoint has heard of it
/// too, and it still takes what was spoken before.
pub(crate) const LAG: Duration = Duration::from_secs(2);

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
            weight: 1,
            locality: Arc::default(),
            priority: 0,
            locality_weight: None,
            since: Instant::now(),
            mutual_tls: false,
            principal: PrincipalId::NONE,
            stats: Arc::default(),
            monitor: Arc::default(),
        }
    }

    fn new(endpoint: &model::Endpoint, peer: PeerId) -> Self {
        Self {
            health: endpoint.health,
            peer,
            in_mesh: endpoint.in_mesh,
            weight: endpoint.weight.max(1),
            locality: endpoint.locality.clone(),
            priority: endpoint.priority,
            locality_weight: endpoint.locality_weight,
            mutual_tls: endpoint.mutual_tls,
            ..Self::at(endpoint.address)
        }
    }

    /// The same host after an update: connections and statistics stay.
    fn renewed(&self, endpoint: &model::Endpoint, peer: PeerId) -> Self {
        Self {
            id: self.id,
            since: self.since,
            stats: self.stats.clone(),
            monitor: self.monitor.clone(),
            ..Self::new(endpoint, peer)
        }
    }

    /// It may be chosen.
    pub(crate) fn is_healthy(&self) -> bool {
        self.health == model::HealthStatus::Healthy && !self.monitor.is_ejected()
    }
}

impl Cluster {
    pub(crate) fn new(name: &str, secrets: Arc<Secrets>) -> Self {
        Self {
            name: name.into(),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            stats: ClusterStats::default(),
            members: ArcSwapOption::empty(),
            outlier_stats: OnceLock::new(),
            retries: Counter::default(),
            retried: Codes::default(),
            ejecting: Mutex::default(),
            secrets,
        }
    }

    /// Replaces the members; hosts that stay keep their pools and statistics. Whether a host is
    /// spoken to with TLS changes a little [later](LAG) than all else: when, if so, is returned, and
    /// the next update after that brings it about.
    pub(crate) fn update(
        &self,
        config: Arc<model::Cluster>,
        endpoints: &[model::Endpoint],
        labels: &Labels,
    ) -> Option<Instant> {
        let before = self.members.load_full();
        // A repetition is no change: connections are kept as long as this is the same.
        let config = match &before {
            Some(before) if before.config == config => before.config.clone(),
            _ => config,
        };
        let same_detection = before
            .as_ref()
            .is_some_and(|before| before.config.outlier_detection == config.outlier_detection);
        let known = |endpoint: &model::Endpoint| {
            let hosts = &before.as_ref()?.hosts;
            hosts.iter().find(|host| host.address == endpoint.address)
        };
        let switches = |endpoint: &model::Endpoint| {
            known(endpoint).is_some_and(|host| host.mutual_tls != endpoint.mutual_tls)
        };
        let now = Instant::now();
        let switches_at = endpoints.iter().any(switches).then(|| {
            let put_off = before.as_ref().and_then(|before| before.switches_at);
            put_off.unwrap_or(now + LAG)
        });
        let switches_at = switches_at.filter(|at| now < *at);
        let hosts: Vec<Arc<Host>> = endpoints
            .iter()
            .map(|endpoint| {
                let peer = labels.peer(&endpoint.workload);
                let mut host = match known(endpoint) {
                    Some(host) if switches_at.is_some() => Host {
                        mutual_tls: host.mutual_tls,
                        ..host.renewed(endpoint, peer)
                    },
                    // Connections in the clear are not for a host that takes TLS now, and the other
                    // way round: such a host is another.
                    Some(host) if host.mutual_tls == endpoint.mutual_tls => {
                        host.renewed(endpoint, peer)
                    }
                    _ => Host::new(endpoint, peer),
                };
                // Other rules, another count.
                if !same_detection {
                    host.monitor = Arc::default();
                }
                if host.mutual_tls {
                    host.principal = labels.principal(&endpoint.workload.identity);
                }
                Arc::new(host)
            })
            .collect();
        let detecting_since = match &before {
            Some(before) if same_detection => before.detecting_since,
            _ => Instant::now(),
        };
        self.stats.membership_total.set(hosts.len() as u64);
        self.stats.update_success.add(1);
        let service = labels.service(&config);
        let tls = config.tls.as_ref().map(|context| {
            ClientTls::compile(context, &self.secrets).unwrap_or_else(|error| {
                tracing::error!("cluster {}: {error}; connections fail", self.name);
                ClientTls::failing(context)
            })
        });
        // Never without its hosts, not for a moment: requests read it meanwhile.
        self.members.store(Some(Arc::new(Members {
            balancer: Balancer::new(&config, &hosts),
            service,
            tls: tls.map(Arc::new),
            config,
            hosts,
            detecting_since,
            switches_at,
        })));
        // After the store, so that a host which a worker ejects meanwhile is seen here or there.
        self.rebalance();
        switches_at
    }

    /// Makes the balancer anew, because the health of a host changed.
    pub(crate) fn rebalance(&self) {
        self.members.rcu(|members| {
            let members = members.as_ref()?;
            Some(Arc::new(Members {
                balancer: Balancer::new(&members.config, &members.hosts),
                config: members.config.clone(),
                hosts: members.hosts.clone(),
                detecting_since: members.detecting_since,
                service: members.service,
                tls: members.tls.clone(),
                switches_at: members.switches_at,
            }))
        });
        let Some(members) = &*self.members.load() else {
            return;
        };
        let hosts = members.hosts.iter();
        let healthy = hosts.clone().filter(|host| host.is_healthy()).count();
        self.stats.membership_healthy.set(healthy as u64);
        if members.config.outlier_detection.is_some() {
            let ejected = hosts.filter(|host| host.monitor.is_ejected()).count();
            self.outlier_stats().ejections_active.set(ejected as u64);
        }
    }

    /// Statistics of outlier detection.
    pub(crate) fn outlier_stats(&self) -> &OutlierStats {
        self.outlier_stats.get_or_init(Box::default)
    }

    /// The same, if the cluster ever had outlier detection.
    pub(crate) fn known_outlier_stats(&self) -> Option<&OutlierStats> {
        self.outlier_stats.get().map(|stats| &**stats)
    }
}

/// All clusters that exist or are named by a route.
#[derive(Debug, Default)]
pub(crate) struct Clusters {
    by_name: BTreeMap<Box<str>, Arc<Cluster>>,
    secrets: Arc<Secrets>,
    /// When the first of them is due for another update, if one is.
    pub(crate) settles_at: Option<Instant>,
}

impl Clusters {
    /// No clusters; those to come find their certificates in `secrets`.
    pub(crate) fn new(secrets: Arc<Secrets>) -> Self {
        Self {
            secrets,
            ..Self::default()
        }
    }

    /// The cluster of a name; made when it was not known.
    pub(crate) fn named(&mut self, name: &str) -> Arc<Cluster> {
        if let Some(cluster) = self.by_name.get(name) {
            return cluster.clone();
        }
        let cluster = Arc::new(Cluster::new(name, self.secrets.clone()));
        self.by_name.insert(name.into(), cluster.clone());
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
            if by_name(cluster) {
                // Resolved apart; until that is done it is what it was.
                if known.members.load().is_none() {
                    known.update(cluster.clone(), &[], labels);
                }
                continue;
            }
            let due = known.update(cluster.clone(), endpoints, labels);
            self.settles_at = earlier(self.settles_at, due);
        }
        self.by_name.retain(|name, cluster| {
            let exists = snapshot.clusters.contains_key(&**name);
            if !exists {
                cluster.members.store(None);
            }
            // A request or a route may still hold it.
            exists || Arc::strong_count(cluster) > 1
        });
    }

    /// Updates the clusters that are due; `snapshot` is what they are.
    pub(crate) fn settle(&mut self, snapshot: &model::Snapshot, labels: &Labels) {
        self.settles_at = None;
        for (name, cluster) in &self.by_name {
            let members = cluster.members.load_full();
            let switching = members.filter(|members| members.switches_at.is_some());
            if let (Some(members), Some(assignment)) = (switching, snapshot.endpoints.get(&**name))
            {
                let due = cluster.update(members.config.clone(), &assignment.endpoints, labels);
                self.settles_at = earlier(self.settles_at, due);
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.by_name.values()
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// The cluster has endpoints that need resolving.
pub(crate) fn by_name(cluster: &model::Cluster) -> bool {
    matches!(
        cluster.discovery,
        model::Discovery::StrictDns | model::Discovery::LogicalDns
    )
}
