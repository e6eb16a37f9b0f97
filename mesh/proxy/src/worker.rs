//! One thread that carries traffic: its runtime's local state. Nothing here is shared between
//! threads, so a request takes no lock.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::{
    access_log,
    config::{Cluster, Host},
    metadata::PeerCache,
    pool::Pool,
    shared::Shared,
    stats::istio::{HttpKey, HttpSeries},
};

/// Passed through destinations whose pools a worker keeps.
const ORIGINAL_DESTINATIONS: usize = 256;

pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pool: Rc<Pool>,
    pub(crate) log: access_log::Buffer,
    pub(crate) peers: PeerCache,
    rng: RefCell<SmallRng>,
    series: RefCell<HashMap<HttpKey, Arc<HttpSeries>>>,
    original: RefCell<HashMap<(u32, SocketAddr), Arc<Host>>>,
    /// Connections and requests under way, for draining.
    pub(crate) active: Cell<usize>,
    /// Copies of requests under way.
    pub(crate) mirrored: Cell<usize>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>) -> Rc<Self> {
        let seed = shared.seed.unwrap_or_else(rand::random);
        Rc::new(Self {
            log: access_log::Buffer::new(shared.log.clone()),
            pool: Pool::new(shared.clone()),
            shared,
            peers: PeerCache::default(),
            rng: RefCell::new(SmallRng::seed_from_u64(seed)),
            series: RefCell::default(),
            original: RefCell::default(),
            active: Cell::new(0),
            mirrored: Cell::new(0),
        })
    }

    /// Uniform over all of `u32`.
    pub(crate) fn draw(&self) -> u32 {
        self.rng.borrow_mut().random()
    }

    pub(crate) fn draw_bytes<const N: usize>(&self) -> [u8; N] {
        self.rng.borrow_mut().random()
    }

    /// Uniform in millionths.
    pub(crate) fn draw_millionths(&self) -> u32 {
        self.rng.borrow_mut().random_range(0..1_000_000)
    }

    pub(crate) fn series(&self, key: HttpKey) -> Arc<HttpSeries> {
        let mut cache = self.series.borrow_mut();
        if let Some(series) = cache.get(&key) {
            return series.clone();
        }
        let series = self.shared.labels.http(key);
        cache.insert(key, series.clone());
        series
    }

    /// The host of a passed through destination.
    pub(crate) fn original(&self, cluster: &Cluster, address: SocketAddr) -> Arc<Host> {
        let mut known = self.original.borrow_mut();
        if known.len() >= ORIGINAL_DESTINATIONS && !known.contains_key(&(cluster.id, address)) {
            for host in known.drain().map(|(_, host)| host) {
                self.pool.forget(host.id);
            }
        }
        known
            .entry((cluster.id, address))
            .or_insert_with(|| Arc::new(Host::at(address)))
            .clone()
    }
}
