//! Istio's standard metrics. Labels are interned: a request carries small numbers, and text is made
//! when the metrics are read.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mesh_config as model;
pub(crate) use mesh_config::Reporter;

use super::{Counter, Histogram};
use crate::flags::Flags;

/// Distinct label sets kept; a mesh that makes more puts the rest under one set of unknowns.
const SERIES_LIMIT: usize = 4_096;
/// Distinct workloads and services kept.
const LABEL_LIMIT: usize = 4_096;

/// A workload in metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct PeerId(u32);

/// A destination service in metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ServiceId(u32);

/// An identity that mutual TLS proved, in metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct PrincipalId(u32);

impl PrincipalId {
    /// No mutual TLS.
    pub(crate) const NONE: Self = Self(0);
}

impl PeerId {
    pub(crate) const UNKNOWN: Self = Self(0);
}

impl ServiceId {
    pub(crate) const UNKNOWN: Self = Self(0);
}

/// The labels of one finished request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct HttpKey {
    pub(crate) reporter: Reporter,
    /// The other side; this side is the proxy's own workload.
    pub(crate) peer: PeerId,
    /// Of the other side.
    pub(crate) principal: PrincipalId,
    pub(crate) service: ServiceId,
    pub(crate) grpc: bool,
    pub(crate) status: u16,
    pub(crate) grpc_status: Option<u8>,
    pub(crate) flags: Flags,
}

/// The labels of a TCP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct TcpKey {
    pub(crate) reporter: Reporter,
    pub(crate) peer: PeerId,
    pub(crate) principal: PrincipalId,
    pub(crate) service: ServiceId,
    pub(crate) flags: Flags,
}

#[derive(Debug, Default)]
pub(crate) struct HttpSeries {
    pub(crate) requests: Counter,
    /// Of gRPC calls.
    pub(crate) request_messages: Counter,
    pub(crate) response_messages: Counter,
    pub(crate) duration: Histogram,
    pub(crate) request_bytes: Histogram,
    pub(crate) response_bytes: Histogram,
}

#[derive(Debug, Default)]
pub(crate) struct TcpSeries {
    pub(crate) opened: Counter,
    pub(crate) closed: Counter,
    pub(crate) sent: Counter,
    pub(crate) received: Counter,
}

/// All label sets of a proxy. Locks are taken the first time that a worker meets a label set and
/// when metrics are printed, not per request.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    peers: Mutex<Interner<model::Workload>>,
    principals: Mutex<Interner<String>>,
    services: Mutex<Interner<model::ServiceRef>>,
    http: Mutex<HashMap<HttpKey, Arc<HttpSeries>>>,
    tcp: Mutex<HashMap<TcpKey, Arc<TcpSeries>>>,
}

/// Values by number; 0 is the default value, which stands for the unknown.
#[derive(Debug)]
struct Interner<T> {
    values: Vec<Arc<T>>,
    numbers: HashMap<Arc<T>, u32>,
}

impl<T: Default + Hash + Eq> Default for Interner<T> {
    fn default() -> Self {
        let unknown = Arc::new(T::default());
        Self {
            values: vec![unknown.clone()],
            numbers: HashMap::from([(unknown, 0)]),
        }
    }
}

impl<T: Clone + Hash + Eq> Interner<T> {
    fn number(&mut self, value: &T) -> u32 {
        if let Some(number) = self.numbers.get(value) {
            return *number;
        }
        if self.values.len() >= LABEL_LIMIT {
            return 0;
        }
        let number = self.values.len() as u32;
        let value = Arc::new(value.clone());
        self.values.push(value.clone());
        self.numbers.insert(value, number);
        number
    }

    fn value(&self, number: u32) -> Arc<T> {
        self.values[number as usize].clone()
    }
}

impl Labels {
    pub(crate) fn peer(&self, workload: &model::Workload) -> PeerId {
        PeerId(lock(&self.peers).number(workload))
    }

    /// An identity; the empty one is none.
    pub(crate) fn principal(&self, identity: &str) -> PrincipalId {
        PrincipalId(lock(&self.principals).number(&identity.to_owned()))
    }

    pub(crate) fn identity(&self, principal: PrincipalId) -> Arc<String> {
        lock(&self.principals).value(principal.0)
    }

    pub(crate) fn workload(&self, peer: PeerId) -> Arc<model::Workload> {
        lock(&self.peers).value(peer.0)
    }

    /// The service of a cluster; for clusters without one, as Istio has it, the cluster's name.
    pub(crate) fn service(&self, cluster: &model::Cluster) -> ServiceId {
        let nameless = || model::ServiceRef {
            name: cluster.name.clone(),
            ..Default::default()
        };
        let service = cluster.service.clone().unwrap_or_else(nameless);
        ServiceId(lock(&self.services).number(&service))
    }

    pub(crate) fn service_ref(&self, service: ServiceId) -> Arc<model::ServiceRef> {
        lock(&self.services).value(service.0)
    }

    pub(crate) fn http(&self, key: HttpKey) -> Arc<HttpSeries> {
        let overflow = HttpKey {
            reporter: key.reporter,
            ..HttpKey::default()
        };
        series(&self.http, key, overflow)
    }

    pub(crate) fn tcp(&self, key: TcpKey) -> Arc<TcpSeries> {
        let overflow = TcpKey {
            reporter: key.reporter,
            ..TcpKey::default()
        };
        series(&self.tcp, key, overflow)
    }

    pub(crate) fn all_http(&self) -> Vec<(HttpKey, Arc<HttpSeries>)> {
        lock(&self.http)
            .iter()
            .map(|(k, v)| (*k, v.clone()))
            .collect()
    }

    pub(crate) fn all_tcp(&self) -> Vec<(TcpKey, Arc<TcpSeries>)> {
        lock(&self.tcp)
            .iter()
            .map(|(k, v)| (*k, v.clone()))
            .collect()
    }
}

fn series<K: Hash + Eq, S: Default>(
    map: &Mutex<HashMap<K, Arc<S>>>,
    key: K,
    overflow: K,
) -> Arc<S> {
    let mut map = lock(map);
    let key = if map.len() < SERIES_LIMIT || map.contains_key(&key) {
        key
    } else {
        overflow
    };
    map.entry(key).or_default().clone()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
