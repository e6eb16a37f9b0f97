//! Informers: the caches that controllers, runtime and network read from, one watch per kind.
//!
//! A [`Cache`] holds every object of one kind. It is fed by a list and watch, and also by its
//! users: what they have just written is put into it at once ([`Cache::apply`]), and the watch
//! event that comes a moment later finds it there already. So a controller always sees its own
//! writes and never creates a second pod because the first one has not come round yet.
//!
//! Readers wait for [`Cache::changed`], then look at the state as it is (level-triggered).

use futures::TryStreamExt;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Endpoints, Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Namespace (empty for cluster-scoped objects) and name.
pub type ObjectKey = (String, String);

/// So many ended objects are remembered; a write takes far shorter than as many deletions.
const ENDED: usize = 1024;

type Objects<K> = BTreeMap<ObjectKey, Arc<K>>;

/// All objects of one kind, as last seen or written. Clones share the same state.
pub struct Cache<K> {
    state: Arc<State<K>>,
}

struct State<K> {
    objects: Mutex<Objects<K>>,
    /// Uids of the objects that were deleted last. The answer to a write may arrive after the news
    /// of the object's end, and must not bring it back.
    ended: Mutex<VecDeque<String>>,
    /// Counts changes; receivers are woken by each.
    version: watch::Sender<u64>,
    synced: watch::Sender<bool>,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
        }
    }
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self {
            state: Arc::new(State {
                objects: Mutex::new(BTreeMap::new()),
                ended: Mutex::new(VecDeque::new()),
                version: watch::Sender::new(0),
                synced: watch::Sender::new(false),
            }),
        }
    }
}

/// The key of an object.
pub fn key_of<K: Resource>(object: &K) -> ObjectKey {
    let meta = object.meta();
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

/// An object's resource version as a number, 0 if it is none.
fn version_of<K: Resource>(object: &K) -> u64 {
    let version = object.meta().resource_version.as_ref();
    version.and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// Whether `new` may replace `old`: resource versions of one API server are ordered numbers.
/// Those that are not (a foreign server) are taken as they come.
fn is_newer<K: Resource>(new: &K, old: &K) -> bool {
    let number = |o: &K| o.meta().resource_version.as_ref()?.parse::<u64>().ok();
    match (number(new), number(old)) {
        (Some(new), Some(old)) => new > old,
        _ => true,
    }
}

impl<K: Resource + Clone> Cache<K> {
    fn objects(&self) -> MutexGuard<'_, Objects<K>> {
        // a poisoned map is whole: every change to it is one insert, remove or swap
        self.state
            .objects
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn has_ended(&self, object: &K) -> bool {
        let ended = self
            .state
            .ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        object
            .meta()
            .uid
            .as_ref()
            .is_some_and(|uid| ended.contains(uid))
    }

    fn note_end(&self, object: &K) {
        let mut ended = self
            .state
            .ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(uid) = object.meta().uid.clone() {
            ended.truncate(ENDED - 1);
            ended.push_front(uid);
        }
    }

    fn notify(&self) {
        self.state.version.send_modify(|v| *v = v.wrapping_add(1));
    }

    /// The object of that namespace (empty if cluster-scoped) and name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.objects()
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// All objects, ordered by namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.objects().values().cloned().collect()
    }

    /// Takes an object that was read or written, unless a newer one is here.
    pub fn apply(&self, mut object: K) {
        object.meta_mut().managed_fields = None;
        let key = key_of(&object);
        {
            let mut objects = self.objects();
            let stale = match objects.get(&key) {
                Some(old) => !is_newer(&object, old.as_ref()),
                None => self.has_ended(&object),
            };
            if stale {
                return;
            }
            objects.insert(key, Arc::new(object));
        }
        self.notify();
    }

    /// Amends the object of the same resource version with what a write that answered without
    /// the object has changed. Does nothing when another version is here by now.
    pub fn amend(&self, object: K) {
        let key = key_of(&object);
        {
            let mut objects = self.objects();
            match objects.get(&key) {
                Some(old) if old.meta().resource_version == object.meta().resource_version => {
                    objects.insert(key, Arc::new(object));
                }
                _ => return,
            }
        }
        self.notify();
    }

    /// Forgets a deleted object, unless another one has taken its name.
    pub fn remove(&self, object: &K) {
        let key = key_of(object);
        {
            let mut objects = self.objects();
            self.note_end(object);
            match objects.get(&key) {
                Some(old) if old.meta().uid == object.meta().uid => objects.remove(&key),
                _ => return,
            };
        }
        self.notify();
    }

    fn swap(&self, mut fresh: Objects<K>) {
        {
            let mut objects = self.objects();
            // what was written while the list was on its way is newer than all of the list, and
            // the watch that follows the list will tell of it
            let newest = fresh
                .values()
                .cloned()
                .max_by_key(|o| version_of(o.as_ref()));
            for (key, object) in std::mem::take(&mut *objects) {
                let kept = newest
                    .as_ref()
                    .is_some_and(|n| version_of(object.as_ref()) > version_of(n.as_ref()));
                if kept {
                    fresh.insert(key, object);
                }
            }
            *objects = fresh;
        }
        self.state.synced.send_replace(true);
        self.notify();
    }

    /// Wakes after each change.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.state.version.subscribe()
    }

    /// Returns once the first complete list has arrived.
    pub async fn synced(&self) {
        // the sender lives in `self`, so this cannot fail
        let _ = self.state.synced.subscribe().wait_for(|s| *s).await;
    }
}

impl<K> Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// Fills the cache from a list and watch of all namespaces until `shutdown`. Errors are
    /// retried with the back-off of kube-rs.
    pub fn start(&self, client: Client, shutdown: CancellationToken) {
        let cache = self.clone();
        tokio::spawn(async move {
            let feed = cache.feed(client);
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = feed => {}
            }
        });
    }

    async fn feed(&self, client: Client) {
        let stream =
            watch_objects(Api::<K>::all(client), watcher::Config::default()).default_backoff();
        let mut stream = std::pin::pin!(stream);
        let mut fresh = Objects::new();
        loop {
            match stream.try_next().await {
                Ok(Some(event)) => self.take(event, &mut fresh),
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&()), %error, "watch interrupted, retrying");
                }
            }
        }
    }

    fn take(&self, event: Event<K>, fresh: &mut Objects<K>) {
        match event {
            Event::Apply(object) => self.apply(object),
            Event::Delete(object) => self.remove(&object),
            Event::Init => fresh.clear(),
            Event::InitApply(mut object) => {
                object.meta_mut().managed_fields = None;
                fresh.insert(key_of(&object), Arc::new(object));
            }
            Event::InitDone => self.swap(std::mem::take(fresh)),
        }
    }
}

/// The caches of the cluster process, one per kind that more than one part reads.
#[derive(Clone, Default)]
pub struct Informers {
    /// Pods.
    pub pods: Cache<Pod>,
    /// ReplicaSets.
    pub replica_sets: Cache<ReplicaSet>,
    /// Deployments.
    pub deployments: Cache<Deployment>,
    /// DaemonSets.
    pub daemon_sets: Cache<DaemonSet>,
    /// StatefulSets.
    pub stateful_sets: Cache<StatefulSet>,
    /// Jobs.
    pub jobs: Cache<Job>,
    /// CronJobs.
    pub cron_jobs: Cache<CronJob>,
    /// HorizontalPodAutoscalers.
    pub autoscalers: Cache<HorizontalPodAutoscaler>,
    /// Ingresses.
    pub ingresses: Cache<Ingress>,
    /// Services.
    pub services: Cache<Service>,
    /// EndpointSlices.
    pub endpoint_slices: Cache<EndpointSlice>,
    /// Endpoints, the older form of EndpointSlices.
    pub endpoints: Cache<Endpoints>,
    /// Namespaces.
    pub namespaces: Cache<Namespace>,
    /// ServiceAccounts.
    pub service_accounts: Cache<ServiceAccount>,
}

impl Informers {
    /// Starts all watches. They end with `shutdown`.
    pub fn start(client: &Client, shutdown: &CancellationToken) -> Self {
        let informers = Self::default();
        macro_rules! start {
            ($($field:ident),*) => {
                $(informers.$field.start(client.clone(), shutdown.clone());)*
            };
        }
        start!(
            pods,
            replica_sets,
            deployments,
            daemon_sets,
            stateful_sets,
            jobs,
            cron_jobs,
            autoscalers,
            ingresses,
            services,
            endpoint_slices,
            endpoints,
            namespaces,
            service_accounts
        );
        informers
    }

    /// Returns once every cache has its first complete list.
    pub async fn synced(&self) {
        self.pods.synced().await;
        self.replica_sets.synced().await;
        self.deployments.synced().await;
        self.daemon_sets.synced().await;
        self.stateful_sets.synced().await;
        self.jobs.synced().await;
        self.cron_jobs.synced().await;
        self.autoscalers.synced().await;
        self.ingresses.synced().await;
        self.services.synced().await;
        self.endpoint_slices.synced().await;
        self.endpoints.synced().await;
        self.namespaces.synced().await;
        self.service_accounts.synced().await;
    }
}

/// Whether the object is being deleted.
pub fn is_terminating<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// The uid, empty for an object that has none yet.
pub fn uid_of<K: Resource>(object: &K) -> String {
    object.uid().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, version: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some("a".into());
        pod.metadata.namespace = Some("ns".into());
        pod.metadata.uid = Some(uid.into());
        pod.metadata.resource_version = Some(version.into());
        pod
    }

    fn version(cache: &Cache<Pod>) -> Option<String> {
        cache.get("ns", "a").and_then(|p| p.resource_version())
    }

    #[test]
    fn late_events_do_not_undo_writes() {
        let cache = Cache::default();
        cache.apply(pod("1", "9"));
        cache.apply(pod("1", "10"));
        cache.apply(pod("1", "9"));
        assert_eq!(version(&cache).as_deref(), Some("10"));
    }

    #[test]
    fn the_late_answer_to_a_write_does_not_bring_a_deleted_object_back() {
        let cache = Cache::default();
        cache.apply(pod("1", "9"));
        cache.remove(&pod("1", "11"));
        cache.apply(pod("1", "10"));
        assert_eq!(version(&cache), None);
        cache.apply(pod("2", "12"));
        assert_eq!(version(&cache).as_deref(), Some("12"));
    }

    #[test]
    fn a_deletion_spares_the_successor() {
        let cache = Cache::default();
        cache.apply(pod("2", "12"));
        cache.remove(&pod("1", "11"));
        assert_eq!(version(&cache).as_deref(), Some("12"));
        cache.remove(&pod("2", "13"));
        assert_eq!(version(&cache), None);
    }

    #[test]
    fn only_real_changes_wake_readers() {
        let cache = Cache::default();
        cache.apply(pod("1", "5"));
        let mut changed = cache.changed();
        cache.apply(pod("1", "5"));
        assert!(!changed.has_changed().unwrap());
        cache.apply(pod("1", "6"));
        assert!(changed.has_changed().unwrap());
        changed.mark_unchanged();
    }
}
