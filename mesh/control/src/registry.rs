//! From single changes to versions of the world: changes are gathered for a few milliseconds, then
//! a new [`Compiler`] is published to all proxies.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use mesh_api::{Metadata, Parsed, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    compile::Compiler,
    metrics::Metrics,
    report::{self, Message},
    watch::{Change, Entry, KUBERNETES_KINDS},
    world::{Key, ObjectId, Objects, World},
};

/// A push waits until nothing has changed for this long...
const QUIET: Duration = Duration::from_millis(5);
/// ...but no longer than this after the first change.
const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// What is known of an Istio object apart from its meaning.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Facts {
    pub(crate) metadata: Metadata,
    /// What can be said of it without looking at others.
    pub(crate) messages: Vec<Message>,
    /// Its status says something about it already.
    pub(crate) reported: Vec<String>,
}

/// One version of everything.
pub(crate) struct Published {
    pub(crate) compiler: Compiler,
    pub(crate) istio: Arc<BTreeMap<ObjectId, Arc<Facts>>>,
    /// When it was published.
    pub(crate) at: std::time::Instant,
    /// Every kind has been listed once.
    pub(crate) complete: bool,
}

/// Gathers changes and publishes versions until the watches end.
pub(crate) async fn run(
    mut changes: mpsc::Receiver<Change>,
    to: watch::Sender<Arc<Published>>,
    metrics: Arc<Metrics>,
) {
    let mut state = State::new();
    while let Some(change) = changes.recv().await {
        let first = Instant::now();
        let mut changed = state.apply(change);
        loop {
            let until = (Instant::now() + QUIET).min(first + LONGEST_WAIT);
            match tokio::time::timeout_at(until, changes.recv()).await {
                Ok(Some(change)) => changed |= state.apply(change),
                Ok(None) => return,
                Err(_) => break,
            }
        }
        if changed && state.complete() {
            metrics
                .pushes
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let before = to.borrow().clone();
            let world = Arc::new(state.world.clone());
            let compiler = if before.complete {
                before.compiler.next(world)
            } else {
                Compiler::new(world, 1)
            };
            let istio = Arc::new(state.istio.clone());
            to.send_replace(Arc::new(Published {
                compiler,
                istio,
                complete: true,
                at: std::time::Instant::now(),
            }));
        }
    }
}

/// The state before anything is known.
pub(crate) fn nothing() -> Arc<Published> {
    let compiler = Compiler::new(Arc::default(), 0);
    Arc::new(Published {
        compiler,
        istio: Arc::default(),
        complete: false,
        at: std::time::Instant::now(),
    })
}

struct State {
    world: World,
    istio: BTreeMap<ObjectId, Arc<Facts>>,
    unlisted: BTreeSet<&'static str>,
    /// While a kind is listed anew: its objects that have not been seen again.
    unseen: BTreeMap<&'static str, BTreeSet<Key>>,
    published: bool,
}

impl State {
    fn new() -> Self {
        let kinds = mesh_api::KINDS.iter().map(|kind| kind.kind);
        Self {
            world: World::default(),
            istio: BTreeMap::new(),
            unlisted: KUBERNETES_KINDS.into_iter().chain(kinds).collect(),
            unseen: BTreeMap::new(),
            published: false,
        }
    }

    fn complete(&mut self) -> bool {
        self.published |= self.unlisted.is_empty();
        self.published
    }

    /// Whether proxies or reports may have to change.
    fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::Apply(kind, key, entry) => {
                if let Some(unseen) = self.unseen.get_mut(kind) {
                    unseen.remove(&key);
                }
                self.insert(kind, key, *entry)
            }
            Change::Delete(kind, key) => self.remove(kind, &key),
            Change::Listing(kind) => {
                let keys = self.keys(kind);
                self.unseen.insert(kind, keys);
                false
            }
            Change::Listed(kind) => {
                let gone = self.unseen.remove(kind).unwrap_or_default();
                let removed = gone.iter().filter(|key| self.remove(kind, key)).count();
                self.unlisted.remove(kind) || removed > 0
            }
            Change::Keys(source, Ok(keys)) => {
                let failed = self.world.jwks_missing.remove(&source).is_some();
                let before = self.world.jwks.insert(source, keys.clone());
                failed || before.as_ref() != Some(&keys)
            }
            // What was fetched before stays good.
            Change::Keys(source, Err(_)) if self.world.jwks.contains_key(&source) => false,
            Change::Keys(source, Err(why)) => {
                let before = self.world.jwks_missing.insert(source, why.clone());
                before.as_ref() != Some(&why)
            }
            Change::Absent(kind) => self.unlisted.remove(kind),
        }
    }

    fn insert(&mut self, kind: &'static str, key: Key, entry: Entry) -> bool {
        let world = &mut self.world;
        match entry {
            Entry::Service(service) => set(&mut world.services, key, service),
            Entry::Slice(slice) => set(&mut world.slices, key, slice),
            Entry::Pod(pod) => {
                let pod = pod.map(|pod| world.located(pod));
                set(&mut world.pods, key, pod)
            }
            Entry::Node(place) => {
                let moved = set(&mut world.nodes, key, Some(place));
                if moved {
                    world.locate();
                }
                moved
            }
            Entry::Secret(secret) => set(&mut world.secrets, key, secret),
            Entry::Settings(Err(error)) => {
                tracing::error!("{error}; what was in force stays");
                false
            }
            Entry::Settings(Ok(settings)) => {
                for complaint in &settings.complaints {
                    tracing::warn!("{complaint}");
                }
                let changed = *world.settings != settings;
                world.settings = Arc::new(settings);
                changed
            }
            Entry::Istio(object) => self.insert_istio(kind, key, &object),
        }
    }

    fn insert_istio(&mut self, kind: &'static str, key: Key, object: &Value) -> bool {
        let world = &mut self.world;
        let mut messages = report::of_object(kind, object);
        let changed = match kind {
            "VirtualService" => set(
                &mut world.virtual_services,
                key.clone(),
                read(kind, object, &messages),
            ),
            "DestinationRule" => set(
                &mut world.destination_rules,
                key.clone(),
                read(kind, object, &messages),
            ),
            "Gateway" => set(
                &mut world.gateways,
                key.clone(),
                read(kind, object, &messages),
            ),
            "ServiceEntry" => set(
                &mut world.service_entries,
                key.clone(),
                read(kind, object, &messages),
            ),
            "WorkloadEntry" => set(
                &mut world.workload_entries,
                key.clone(),
                read(kind, object, &messages),
            ),
            "Sidecar" => set(
                &mut world.sidecars,
                key.clone(),
                read(kind, object, &messages),
            ),
            "Telemetry" => set(
                &mut world.telemetries,
                key.clone(),
                read(kind, object, &messages),
            ),
            "ProxyConfig" => set(
                &mut world.proxy_configs,
                key.clone(),
                read(kind, object, &messages),
            ),
            "PeerAuthentication" => set(
                &mut world.peer_authentications,
                key.clone(),
                read(kind, object, &messages),
            ),
            "AuthorizationPolicy" => set(
                &mut world.authorization_policies,
                key.clone(),
                read(kind, object, &messages),
            ),
            "RequestAuthentication" => set(
                &mut world.request_authentications,
                key.clone(),
                read(kind, object, &messages),
            ),
            "EnvoyFilter" => set(
                &mut world.envoy_filters,
                key.clone(),
                read(kind, object, &messages),
            ),
            _ => false,
        };
        messages.sort();
        messages.dedup();
        let facts = Arc::new(Facts {
            metadata: mesh_api::metadata(object),
            messages,
            reported: report::reported(object),
        });
        let new = self.istio.get(&(kind, key.clone())) != Some(&facts);
        self.istio.insert((kind, key), facts);
        changed || new
    }

    fn remove(&mut self, kind: &'static str, key: &Key) -> bool {
        let world = &mut self.world;
        let known = match kind {
            "Service" => world.services.remove(key).is_some(),
            "EndpointSlice" => world.slices.remove(key).is_some(),
            "Pod" => world.pods.remove(key).is_some(),
            "Node" => {
                world.nodes.remove(key);
                false
            }
            "Secret" => world.secrets.remove(key).is_some(),
            "ConfigMap" => {
                world.settings = Arc::default();
                true
            }
            "VirtualService" => world.virtual_services.remove(key).is_some(),
            "DestinationRule" => world.destination_rules.remove(key).is_some(),
            "Gateway" => world.gateways.remove(key).is_some(),
            "ServiceEntry" => world.service_entries.remove(key).is_some(),
            "WorkloadEntry" => world.workload_entries.remove(key).is_some(),
            "Sidecar" => world.sidecars.remove(key).is_some(),
            "Telemetry" => world.telemetries.remove(key).is_some(),
            "ProxyConfig" => world.proxy_configs.remove(key).is_some(),
            "EnvoyFilter" => world.envoy_filters.remove(key).is_some(),
            "PeerAuthentication" => world.peer_authentications.remove(key).is_some(),
            "AuthorizationPolicy" => world.authorization_policies.remove(key).is_some(),
            "RequestAuthentication" => world.request_authentications.remove(key).is_some(),
            _ => false,
        };
        self.istio.remove(&(kind, key.clone())).is_some() || known
    }

    fn keys(&self, kind: &'static str) -> BTreeSet<Key> {
        match kind {
            "Service" => self.world.services.keys().cloned().collect(),
            "EndpointSlice" => self.world.slices.keys().cloned().collect(),
            "Pod" => self.world.pods.keys().cloned().collect(),
            "Node" => self.world.nodes.keys().cloned().collect(),
            "Secret" => self.world.secrets.keys().cloned().collect(),
            "ConfigMap" => BTreeSet::new(),
            _ => self
                .istio
                .keys()
                .filter(|(other, _)| *other == kind)
                .map(|(_, key)| key.clone())
                .collect(),
        }
    }
}

/// The typed resource; `None` for one with errors, which is not carried out at all, so that half of
/// a mistake never takes effect.
fn read<T: DeserializeOwned>(
    kind: &str,
    object: &Value,
    messages: &[Message],
) -> Option<Resource<T>> {
    if messages.iter().any(|message| message.invalidates) {
        return None;
    }
    mesh_api::parse(kind, object)
        .ok()
        .map(|Parsed { resource, .. }| resource)
}

fn set<T: PartialEq>(objects: &mut Objects<T>, key: Key, value: Option<T>) -> bool {
    match value {
        None => objects.remove(&key).is_some(),
        Some(value) => {
            if objects.get(&key).is_some_and(|before| **before == value) {
                return false;
            }
            objects.insert(key, Arc::new(value));
            true
        }
    }
}
