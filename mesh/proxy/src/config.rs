//! A snapshot made ready for requests: regexes compiled, names resolved to references, domains
//! indexed. Compilation happens once per update, on the control thread.

mod cluster;
pub(crate) mod error;
pub(crate) mod gate;
mod listener;
pub(crate) mod matching;
mod mutation;
mod retry_on;
mod route;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_config::{
    self as model,
    envoy::dump::{Refused, RefusedKind},
};

pub(crate) use cluster::{Cluster, Clusters, Host, Members, by_name};
use error::CompileError;
use gate::Gates;
pub(crate) use listener::{Destination, Filter, Http, Listener, Tcp};
pub(crate) use matching::RequestView;
pub(crate) use mutation::Context as HeaderContext;
pub(crate) use retry_on::RetryOn;
pub(crate) use route::{
    Action, Forward, Retry, Rewrite, Route, RouteTable, Target, by_weight, without_port,
};

use crate::{
    stats::{Registry, istio::Labels},
    tls::Secrets,
};

/// The compiled state of a proxy; owned by the control thread.
#[derive(Debug, Default)]
pub(crate) struct Config {
    pub(crate) snapshot: model::Snapshot,
    pub(crate) clusters: Clusters,
    tables: HashMap<String, Arc<RouteTable>>,
    pub(crate) listeners: HashMap<String, Arc<Listener>>,
    secrets: Arc<Secrets>,
    gates: Gates,
    /// What the snapshot says and is not in effect.
    pub(crate) refused: Vec<Refused>,
    /// How long clients may speak as they were told before a change of TLS.
    pub(crate) grace: Duration,
}

impl Config {
    /// Nothing yet; certificates will be found in `secrets`.
    pub(crate) fn new(secrets: Arc<Secrets>) -> Self {
        Self {
            clusters: Clusters::new(secrets.clone()),
            secrets,
            grace: listener::GRACE,
            ..Self::default()
        }
    }

    /// Becomes what `snapshot` says. Route tables that did not change are kept as they are; one
    /// that does not compile keeps its last good version, and its error is returned by name.
    pub(crate) fn apply(
        &mut self,
        snapshot: model::Snapshot,
        registry: &Registry,
        labels: &Labels,
    ) -> Vec<(String, CompileError)> {
        let mut errors = Vec::new();
        let mut refused = Vec::new();
        for error in self.secrets.put(snapshot.secrets.values().cloned()) {
            tracing::error!("{error}; its last good version stays in use");
        }
        self.secrets.retain(|name| {
            !name.starts_with("kubernetes://") || snapshot.secrets.contains_key(name)
        });
        self.clusters.apply(&snapshot, &self.snapshot, labels);
        let mut tables = HashMap::new();
        for (name, table) in &snapshot.routes {
            let unchanged = self
                .snapshot
                .routes
                .get(name)
                .is_some_and(|before| Arc::ptr_eq(before, table));
            let last = self.tables.get(name);
            if let (true, Some(last)) = (unchanged, last) {
                tables.insert(name.clone(), last.clone());
                let mut before = self.refused.iter();
                refused.extend(before.find(|it| is_table(it, name)).cloned());
                continue;
            }
            match RouteTable::compile(table, last.map(|last| &**last), &mut self.clusters) {
                Ok(compiled) => {
                    tables.insert(name.clone(), Arc::new(compiled));
                }
                Err(error) => {
                    if let Some(last) = last {
                        tables.insert(name.clone(), last.clone());
                    }
                    refused.push(Refused {
                        kind: RefusedKind::RouteConfiguration,
                        name: name.clone(),
                        version: snapshot.version,
                        details: error.to_string(),
                    });
                    errors.push((name.clone(), error));
                }
            }
        }
        let same = |(name, table)| self.tables.get(name).is_some_and(|t| Arc::ptr_eq(t, table));
        let same_tables = tables.len() == self.tables.len() && tables.iter().all(same);
        self.tables = tables;
        self.listeners = snapshot
            .listeners
            .iter()
            .map(|(name, listener)| {
                let before = self.snapshot.listeners.get(name);
                if same_tables
                    && before.is_some_and(|before| Arc::ptr_eq(before, listener))
                    && let Some(last) = self.listeners.get(name)
                    && last.is_whole(listener)
                {
                    return (name.clone(), last.clone());
                }
                let mut compiled = Listener::compile(
                    listener,
                    &self.tables,
                    &mut self.clusters,
                    registry,
                    &self.secrets,
                    &mut self.gates,
                );
                if let Some(old) = self.listeners.get(name) {
                    compiled.follow(old, self.grace);
                }
                (name.clone(), Arc::new(compiled))
            })
            .collect();
        self.gates.forget_unused();
        self.refused = refused;
        self.snapshot = snapshot;
        errors
    }

    /// When hosts are spoken to in a new way, if some soon are; see [`Config::settle`].
    pub(crate) fn settles_at(&self) -> Option<Instant> {
        self.clusters.settles_at
    }

    /// Brings into effect what was put off until now.
    pub(crate) fn settle(&mut self, labels: &Labels) {
        self.clusters.settle(&self.snapshot, labels);
    }
}

fn is_table(refused: &Refused, name: &str) -> bool {
    refused.kind == RefusedKind::RouteConfiguration && refused.name == name
}
