//! ReplicaSet controller: as many pods as asked for, and a status that counts them.

use super::events::{EventType, Recorder, now};
use super::owned_pods::{Pods, from_template};
use super::ownership::{controller_of, controller_reference, is_controlled_by, selects};
use super::{FIELD_MANAGER, earlier, ignore_races, keep};
use crate::informers::{Informers, is_terminating, key_of, uid_of};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Pods created or deleted in one pass, so that a mistaken `replicas: 100000` stays stoppable.
const BURST: usize = 50;

/// What to do for one ReplicaSet.
#[derive(Debug, Default)]
pub struct Decision {
    /// Pods without a controller that match: to become ours.
    pub adopt: Vec<Arc<Pod>>,
    /// Pods of ours that match no longer: to be let go.
    pub release: Vec<Arc<Pod>>,
    /// How many pods to create.
    pub create: usize,
    /// Which pods to delete.
    pub delete: Vec<Arc<Pod>>,
    /// The status as the pods are now (conditions as they were).
    pub status: ReplicaSetStatus,
    /// When a pod will have been ready for `minReadySeconds`.
    pub again: Option<Duration>,
}

/// Whether a pod's condition `type_` is true.
pub fn has_condition(pod: &Pod, type_: &str) -> bool {
    pod.status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten())
        .any(|c| c.type_ == type_ && c.status == "True")
}

/// Whether a pod has ended for good.
pub fn is_finished(pod: &Pod) -> bool {
    pod.status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .is_some_and(|phase| phase == "Succeeded" || phase == "Failed")
}

/// How long until the pod has been ready for `min_ready` seconds; `None` when it is not ready.
fn availability(pod: &Pod, min_ready: i32, now: jiff::Timestamp) -> Option<Duration> {
    let since = pod
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten())
        .find(|c| c.type_ == "Ready" && c.status == "True")?
        .last_transition_time
        .as_ref()
        .map_or(now, |t| t.0);
    let ready_for = now.as_millisecond() - since.as_millisecond();
    let missing = i64::from(min_ready) * 1000 - ready_for;
    Some(Duration::from_millis(u64::try_from(missing).unwrap_or(0)))
}

/// Pods that are best to delete come first: unassigned, pending, not ready, often restarted, young.
fn deletion_rank(pod: &Pod) -> impl Ord + use<> {
    let status = pod.status.as_ref();
    let phase = match status.and_then(|s| s.phase.as_deref()) {
        Some("Running") => 2,
        Some("Unknown") => 1,
        _ => 0,
    };
    let restarts: i32 = status
        .iter()
        .flat_map(|s| s.container_statuses.iter().flatten())
        .map(|c| c.restart_count)
        .sum();
    (
        pod.spec
            .as_ref()
            .and_then(|s| s.node_name.as_ref())
            .is_some(),
        phase,
        has_condition(pod, "Ready"),
        Reverse(restarts),
        Reverse(pod.metadata.creation_timestamp.clone().map(|t| t.0)),
        pod.name_any(),
    )
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// Decides for one ReplicaSet, given all pods of its namespace.
pub fn decide(rs: &ReplicaSet, pods: &[Arc<Pod>], now: jiff::Timestamp) -> Decision {
    let uid = uid_of(rs);
    let Some(spec) = &rs.spec else {
        return Decision::default();
    };
    let mut decision = Decision::default();
    let mut active = Vec::new();
    let mut terminating = 0;
    for pod in pods {
        let ours = is_controlled_by(&pod.metadata, &uid);
        let matches = selects(&spec.selector, pod.metadata.labels.as_ref());
        if is_finished(pod) {
            continue;
        }
        if is_terminating(pod.as_ref()) {
            terminating += usize::from(ours);
            continue;
        }
        match (ours, matches) {
            (true, true) => active.push(Arc::clone(pod)),
            (true, false) => decision.release.push(Arc::clone(pod)),
            (false, true) if controller_of(&pod.metadata).is_none() && !is_terminating(rs) => {
                decision.adopt.push(Arc::clone(pod));
                active.push(Arc::clone(pod));
            }
            _ => {}
        }
    }

    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    if !is_terminating(rs) {
        if active.len() < wanted {
            decision.create = (wanted - active.len()).min(BURST);
        } else if active.len() > wanted {
            let mut candidates = active.clone();
            candidates.sort_by_cached_key(|pod| deletion_rank(pod));
            candidates.truncate((active.len() - wanted).min(BURST));
            decision.delete = candidates;
        }
    }

    let template_labels = spec
        .template
        .as_ref()
        .and_then(|t| t.metadata.as_ref())
        .and_then(|m| m.labels.as_ref());
    let fully_labeled = active
        .iter()
        .filter(|pod| {
            template_labels.into_iter().flatten().all(|(key, value)| {
                pod.metadata.labels.as_ref().and_then(|l| l.get(key)) == Some(value)
            })
        })
        .count();
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let delays: Vec<_> = active
        .iter()
        .filter_map(|pod| availability(pod, min_ready, now))
        .collect();
    let available = delays.iter().filter(|d| d.is_zero()).count();
    decision.again = delays.iter().filter(|d| !d.is_zero()).min().copied();
    let some = |n: usize| (n > 0).then(|| count(n));
    decision.status = ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: some(fully_labeled),
        ready_replicas: some(delays.len()),
        available_replicas: some(available),
        terminating_replicas: Some(count(terminating)),
        observed_generation: rs.metadata.generation,
        conditions: rs.status.as_ref().and_then(|s| s.conditions.clone()),
    };
    decision
}

/// The status with the outcome of creating pods written into its conditions.
fn with_failure(mut status: ReplicaSetStatus, failure: Option<&str>) -> ReplicaSetStatus {
    let conditions = status.conditions.get_or_insert_default();
    let before = conditions
        .iter()
        .find(|c| c.type_ == "ReplicaFailure")
        .cloned();
    conditions.retain(|c| c.type_ != "ReplicaFailure");
    if let Some(message) = failure {
        conditions.push(ReplicaSetCondition {
            type_: "ReplicaFailure".into(),
            status: "True".into(),
            reason: Some("FailedCreate".into()),
            message: Some(message.to_owned()),
            last_transition_time: before
                .and_then(|c| c.last_transition_time)
                .or_else(|| Some(now())),
        });
    }
    if conditions.is_empty() {
        status.conditions = None;
    }
    status
}

/// Runs the controller until `shutdown`.
pub async fn run(
    client: Client,
    informers: Informers,
    recorder: Recorder,
    shutdown: &CancellationToken,
) {
    let changes = vec![informers.replica_sets.changed(), informers.pods.changed()];
    let controller = Controller {
        pods: Pods {
            client,
            informers,
            recorder,
        },
        paused: RefCell::default(),
    };
    keep("replicaset", changes, shutdown, async || {
        controller.pass().await
    })
    .await;
}

struct Controller {
    pods: Pods,
    /// ReplicaSets whose last creation failed: not before when to try again, and how often it
    /// failed in a row. A refusal changes the status, which would otherwise cause the next try.
    paused: RefCell<HashMap<String, (Instant, u32)>>,
}

/// The pause after `failures` earlier failures in a row: short at first, since what is missing
/// (an admission webhook that is just starting) mostly comes soon; 10 s at most.
fn create_pause(failures: u32) -> Duration {
    Duration::from_millis(100 << failures.min(7)).min(Duration::from_secs(10))
}

impl Controller {
    async fn pass(&self) -> Result<Option<Duration>, kube::Error> {
        let mut again = None;
        let mut failed = None;
        let sets = self.pods.informers.replica_sets.list();
        self.paused.borrow_mut().retain(|uid, _| {
            sets.iter()
                .any(|rs| rs.metadata.uid.as_deref() == Some(uid))
        });
        for rs in sets {
            // it may have changed or gone while others were written
            let (namespace, name) = key_of(rs.as_ref());
            let Some(rs) = self.pods.informers.replica_sets.get(&namespace, &name) else {
                continue;
            };
            match self.reconcile(&rs).await {
                Ok(delay) => again = earlier(again, delay),
                // one bad ReplicaSet must not stop the others
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(again), Err)
    }

    async fn reconcile(&self, rs: &ReplicaSet) -> Result<Option<Duration>, kube::Error> {
        let namespace = rs.namespace().unwrap_or_default();
        let pods: Vec<_> = self
            .pods
            .informers
            .pods
            .list()
            .into_iter()
            .filter(|p| p.metadata.namespace.as_deref() == Some(namespace.as_str()))
            .collect();
        let decision = decide(rs, &pods, jiff::Timestamp::now());
        let api: Api<Pod> = Api::namespaced(self.pods.client.clone(), &namespace);

        for pod in &decision.adopt {
            let mut owners = pod.metadata.owner_references.clone().unwrap_or_default();
            owners.push(controller_reference(rs));
            self.set_owners(&api, pod, &owners).await?;
        }
        for pod in &decision.release {
            let mut owners = pod.metadata.owner_references.clone().unwrap_or_default();
            owners.retain(|owner| owner.uid != uid_of(rs));
            self.set_owners(&api, pod, &owners).await?;
        }
        let (pause, refused) = self.create_unless_paused(rs, &api, decision.create).await;
        for pod in &decision.delete {
            self.pods.delete(rs, pod).await?;
        }

        let status = match &refused {
            Some(message) => with_failure(decision.status, Some(message)),
            None if pause.is_some() => decision.status,
            None => with_failure(decision.status, None),
        };
        let cache = &self.pods.informers.replica_sets;
        let old = rs.status.clone().unwrap_or_default();
        self.pods.write_status(cache, rs, &old, &status).await?;
        Ok(earlier(decision.again, pause))
    }

    /// Creates pods, unless creating failed a moment ago. Returns how long to wait before the next
    /// try, and the refusal if there was one now.
    async fn create_unless_paused(
        &self,
        rs: &ReplicaSet,
        api: &Api<Pod>,
        n: usize,
    ) -> (Option<Duration>, Option<String>) {
        let uid = uid_of(rs);
        if n == 0 {
            self.paused.borrow_mut().remove(&uid);
            return (None, None);
        }
        let now = Instant::now();
        let earlier = self.paused.borrow().get(&uid).copied();
        if let Some((until, _)) = earlier
            && until > now
        {
            return (Some(until - now), None);
        }
        match self.create(rs, api, n).await {
            None => {
                self.paused.borrow_mut().remove(&uid);
                (None, None)
            }
            Some(error) => {
                let failures = earlier.map_or(0, |(_, failures)| failures + 1);
                let delay = create_pause(failures);
                self.paused
                    .borrow_mut()
                    .insert(uid, (now + delay, failures));
                (Some(delay), Some(api_message(&error)))
            }
        }
    }

    async fn set_owners(
        &self,
        api: &Api<Pod>,
        pod: &Pod,
        owners: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference],
    ) -> Result<(), kube::Error> {
        let patch = serde_json::json!({
            "metadata": {"uid": pod.metadata.uid, "ownerReferences": owners},
        });
        let params = manager();
        let written = api
            .patch(&pod.name_any(), &params, &Patch::Merge(patch))
            .await;
        if let Some(pod) = ignore_races(written)? {
            self.pods.informers.pods.apply(pod);
        }
        Ok(())
    }

    /// Creates pods one after the other; stops at the first that is refused and returns why.
    async fn create(&self, rs: &ReplicaSet, api: &Api<Pod>, n: usize) -> Option<kube::Error> {
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        if n == 0 {
            return None;
        }
        let template = rs.spec.as_ref().and_then(|spec| spec.template.as_ref());
        let template = from_template(rs, template);
        let mut error = None;
        // in waves, so that a refusal is met once and not n times
        let mut wave = 1;
        let mut left = n;
        while left > 0 && error.is_none() {
            let size = wave.min(left);
            let results =
                futures::future::join_all((0..size).map(|_| api.create(&params, &template))).await;
            for result in results {
                match result {
                    Ok(pod) => {
                        self.pods.recorder.record(
                            rs,
                            EventType::Normal,
                            "SuccessfulCreate",
                            format!("Created pod: {}", pod.name_any()),
                        );
                        self.pods.informers.pods.apply(pod);
                    }
                    Err(e) => {
                        self.pods.recorder.record(
                            rs,
                            EventType::Warning,
                            "FailedCreate",
                            format!("Error creating: {}", api_message(&e)),
                        );
                        error = Some(e);
                    }
                }
            }
            left -= size;
            wave *= 2;
        }
        error
    }
}

/// What the server said, without the client's own words around it.
pub fn api_message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Patch parameters in the controllers' name.
pub fn manager() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    }
}

#[cfg(test)]
#[path = "replica_set/tests.rs"]
mod tests;
