//! Watches: one per kind of object, all feeding one queue of changes.

use std::{fmt::Debug, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::{
        WatchStreamExt,
        utils::{Backoff, ResetTimerBackoff},
        watcher,
    },
};
use mesh_config::Locality;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    ROOT_NAMESPACE,
    world::{EndpointSlice, Key, MeshSettings, Pod, Service, TlsSecret, of_node},
};

/// An API server that has gone without a word is missed after this; the server ends a watch that long, too.
const WATCHED_FOR: Duration = Duration::from_secs(60);

/// First wait before an API server that is away is asked again, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// Changes that may wait; a full queue holds the watches back.
const QUEUE: usize = 256;

/// Kinds of Kubernetes that are watched beside Istio's.
pub(crate) const KUBERNETES_KINDS: [&str; 6] = [
    "Service",
    "EndpointSlice",
    "Pod",
    "Node",
    "ConfigMap",
    "Secret",
];

/// What is kept of an object. `None` inside: the object says nothing to us.
#[derive(Debug)]
pub(crate) enum Entry {
    Service(Option<Service>),
    Slice(Option<EndpointSlice>),
    Pod(Option<Pod>),
    Node(Locality),
    Secret(Option<TlsSecret>),
    Settings(Result<MeshSettings, String>),
    Istio(Value),
}

/// One step in the knowledge of a kind.
#[derive(Debug)]
pub(crate) enum Change {
    /// Added or modified.
    Apply(&'static str, Key, Box<Entry>),
    /// Deleted.
    Delete(&'static str, Key),
    /// The kind is listed anew: what is not applied before the next [`Change::Listed`] is gone.
    Listing(&'static str),
    /// The list is complete.
    Listed(&'static str),
    /// The key set of an issuer of tokens, by its address; or why it cannot be had.
    Keys(String, Result<std::sync::Arc<str>, String>),
    /// The API server does not know the kind (yet).
    Absent(&'static str),
}

/// All objects of a kind.
pub(crate) fn all() -> watcher::Config {
    watcher::Config::default().timeout(WATCHED_FOR.as_secs() as u32)
}

/// How long watches wait before they try again. kube-rs' own grows to half a minute: too long for a
/// student's change after the API server is back.
pub(crate) fn patience() -> impl Backoff {
    // One that takes a list and breaks each watch must not be asked for lists without end.
    ResetTimerBackoff::new(Patience(BACK_OFF.0), WATCHED_FOR / 2)
}

struct Patience(Duration);

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.0;
        self.0 = (wait * 2).min(BACK_OFF.1);
        Some(wait)
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        self.0 = BACK_OFF.0;
    }
}

/// Starts all watches; others may add changes through the sender.
pub(crate) fn start(
    client: &Client,
    tasks: &mut JoinSet<()>,
) -> (mpsc::Sender<Change>, mpsc::Receiver<Change>) {
    let (to, changes) = mpsc::channel(QUEUE);
    tasks.spawn(follow(
        Api::<core::Service>::all(client.clone()),
        all(),
        "Service",
        to.clone(),
        |object| Entry::Service(Service::read(&object)),
    ));
    tasks.spawn(follow(
        Api::<discovery::EndpointSlice>::all(client.clone()),
        all(),
        "EndpointSlice",
        to.clone(),
        |object| Entry::Slice(EndpointSlice::read(&object)),
    ));
    tasks.spawn(follow(
        Api::<core::Pod>::all(client.clone()),
        all(),
        "Pod",
        to.clone(),
        |object| Entry::Pod(Pod::read(&object)),
    ));
    tasks.spawn(follow(
        Api::<core::Node>::all(client.clone()),
        all(),
        "Node",
        to.clone(),
        |object| Entry::Node(of_node(&object)),
    ));
    tasks.spawn(follow(
        Api::<core::Secret>::all(client.clone()),
        all(),
        "Secret",
        to.clone(),
        |object| Entry::Secret(TlsSecret::read(&object)),
    ));
    let settings = Api::<core::ConfigMap>::namespaced(client.clone(), ROOT_NAMESPACE);
    tasks.spawn(follow(
        settings,
        all().fields("metadata.name=istio"),
        "ConfigMap",
        to.clone(),
        |object| {
            let mesh = object.data.as_ref().and_then(|data| data.get("mesh"));
            Entry::Settings(MeshSettings::read(mesh.map_or("", String::as_str)))
        },
    ));
    for kind in mesh_api::KINDS {
        let group = GroupVersionKind::gvk(kind.group, kind.versions[0], kind.kind);
        let resource = ApiResource::from_gvk_with_plural(&group, kind.plural);
        let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
        tasks.spawn(follow(api, all(), kind.kind, to.clone(), |object| {
            Entry::Istio(serde_json::to_value(&object).unwrap_or_default())
        }));
    }
    (to, changes)
}

async fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    kind: &'static str,
    to: mpsc::Sender<Change>,
    read: fn(K) -> Entry,
) where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let events = watcher(api, config).backoff(patience());
    let mut events = std::pin::pin!(events);
    let mut complained = false;
    let key = |object: &K| (object.namespace().unwrap_or_default(), object.name_any());
    while let Some(event) = events.next().await {
        let change = match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                Change::Apply(kind, key(&object), Box::new(read(object)))
            }
            Ok(watcher::Event::Delete(object)) => Change::Delete(kind, key(&object)),
            Ok(watcher::Event::Init) => Change::Listing(kind),
            Ok(watcher::Event::InitDone) => {
                complained = false;
                Change::Listed(kind)
            }
            Err(error) => {
                // The watch tries again by itself, with back-off; say it once per outage.
                if !std::mem::replace(&mut complained, true) {
                    tracing::warn!("watching {kind}: {error}");
                }
                let absent = matches!(&error,
                    watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404);
                if !absent {
                    continue;
                }
                Change::Absent(kind)
            }
        };
        if to.send(change).await.is_err() {
            return;
        }
    }
}
