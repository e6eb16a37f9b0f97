//! Deployment controller: one ReplicaSet per version of the template, sized by the strategy.
//!
//! [`decide`] looks at a Deployment and its ReplicaSets and says what to write; [`run`] writes it.
//! The status is in [`status`], the naming of versions in [`template`].

pub mod status;
pub mod template;

use super::events::{EventType, Recorder};
use super::merge_patch::merge_patch;
use super::ownership::{controller_of, controller_reference, is_controlled_by, selects};
use super::replica_set::{api_message, is_finished, manager};
use super::rolling_update::{Bounds, Set, next_new, next_old};
use super::{FIELD_MANAGER, earlier, ignore_races, keep};
use crate::informers::{Informers, is_terminating, key_of, uid_of};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::api::{DeleteParams, Patch, PostParams};
use kube::{Api, Client, ResourceExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Annotation with the number of a Deployment's version, on it and on its ReplicaSets.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// Annotations of a Deployment that its ReplicaSets do not take over.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    DESIRED,
    MAX,
    HISTORY,
    "deprecated.deployment.rollback.to",
];

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create the ReplicaSet of the present template.
    Create(Box<ReplicaSet>),
    /// The name of the new ReplicaSet is taken by another one: count up and choose again.
    Collide,
    /// Change a ReplicaSet's size, annotations, or both.
    Update {
        /// The ReplicaSet.
        name: String,
        /// Its size before.
        from: i32,
        /// Its size after.
        to: i32,
        /// Annotations to set.
        annotations: BTreeMap<String, String>,
    },
    /// Make a ReplicaSet ours that nobody controls.
    Adopt(String),
    /// Delete a ReplicaSet that is past the history's limit.
    Delete(String),
    /// Write the revision on the Deployment.
    Revision(i64),
}

/// What to do for one Deployment.
#[derive(Debug, Default)]
pub struct Decision {
    /// Writes, in order.
    pub actions: Vec<Action>,
    /// The status as it is before the writes.
    pub status: DeploymentStatus,
    /// When the progress deadline ends.
    pub again: Option<Duration>,
}

fn replicas(rs: &ReplicaSet) -> i32 {
    rs.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

fn set(rs: &ReplicaSet) -> Set {
    Set {
        replicas: replicas(rs),
        available: rs
            .status
            .as_ref()
            .and_then(|s| s.available_replicas)
            .unwrap_or(0),
    }
}

fn revision(annotations: Option<&BTreeMap<String, String>>) -> i64 {
    annotations
        .and_then(|a| a.get(REVISION)?.parse().ok())
        .unwrap_or(0)
}

/// Decides for one Deployment, given the ReplicaSets and pods of its namespace.
pub fn decide(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
    pods: &[Arc<Pod>],
    now: jiff::Timestamp,
) -> Decision {
    let Some(spec) = &deployment.spec else {
        return Decision::default();
    };
    let uid = uid_of(deployment);
    let mut actions = Vec::new();
    let mut owned: Vec<Arc<ReplicaSet>> = Vec::new();
    for rs in sets {
        if is_controlled_by(&rs.metadata, &uid) {
            owned.push(Arc::clone(rs));
        } else if controller_of(&rs.metadata).is_none()
            && !is_terminating(rs.as_ref())
            && !is_terminating(deployment)
            && selects(&spec.selector, rs.metadata.labels.as_ref())
        {
            actions.push(Action::Adopt(rs.name_any()));
        }
    }
    owned.sort_by_key(|rs| (rs.metadata.creation_timestamp.clone(), rs.name_any()));

    let new = template::find(&spec.template, &owned);
    let old: Vec<_> = owned
        .iter()
        .filter(|rs| {
            new.as_ref()
                .is_none_or(|n| uid_of(n.as_ref()) != uid_of(rs.as_ref()))
        })
        .cloned()
        .collect();

    let (status, again) = status::compute(deployment, new.as_deref(), &owned, now);
    if !is_terminating(deployment) && actions.is_empty() {
        plan(deployment, new.as_deref(), &old, sets, pods, &mut actions);
    }
    Decision {
        actions,
        status,
        again,
    }
}

fn plan(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    old: &[Arc<ReplicaSet>],
    sets: &[Arc<ReplicaSet>],
    pods: &[Arc<Pod>],
    actions: &mut Vec<Action>,
) {
    let Some(spec) = &deployment.spec else { return };
    let wanted = spec.replicas.unwrap_or(1).max(0);
    let strategy = spec.strategy.as_ref();
    let recreate = strategy.and_then(|s| s.type_.as_deref()) == Some("Recreate");
    let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
    let bounds = if recreate {
        Bounds {
            surge: 0,
            unavailable: wanted,
        }
    } else {
        Bounds::new(
            rolling.and_then(|r| r.max_surge.as_ref()),
            rolling.and_then(|r| r.max_unavailable.as_ref()),
            wanted,
        )
    };
    let sizes = Sizes {
        wanted,
        limit: wanted + bounds.surge,
    };
    let paused = spec.paused.unwrap_or(false);
    let last_revision = old
        .iter()
        .map(|rs| revision(rs.metadata.annotations.as_ref()))
        .max()
        .unwrap_or(0);

    let old_sets: Vec<Set> = old.iter().map(|rs| set(rs)).collect();
    let old_running =
        !old_sets.iter().all(|s| s.replicas == 0) || old.iter().any(|rs| has_pods(rs, pods));
    let next = |current: Set| {
        if !recreate {
            next_new(wanted, bounds, current, &old_sets)
        } else if old_running {
            // Recreate: none of the new before the last of the old is gone
            current.replicas.min(wanted)
        } else {
            wanted
        }
    };
    match new {
        None if paused => {}
        None => {
            let number = last_revision + 1;
            let size = next(Set {
                replicas: 0,
                available: 0,
            });
            match new_set(deployment, sets, size, number, sizes) {
                Some(rs) => actions.push(Action::Create(Box::new(rs))),
                None => actions.push(Action::Collide),
            }
            actions.push(Action::Revision(number));
        }
        Some(rs) => {
            let known = revision(rs.metadata.annotations.as_ref());
            let number = if paused {
                known
            } else {
                known.max(last_revision + 1)
            };
            let mut annotations = copied_annotations(deployment);
            annotations.insert(REVISION.into(), number.to_string());
            let size = if paused && old_running {
                replicas(rs)
            } else {
                next(set(rs))
            };
            update(rs, size, sizes, annotations, actions);
            if number != revision(deployment.metadata.annotations.as_ref()) && !paused {
                actions.push(Action::Revision(number));
            }
        }
    }

    let next_sizes = if paused {
        // scaling still works: the one ReplicaSet with pods follows `replicas`
        match (
            new.map_or(0, replicas),
            old_sets.iter().filter(|s| s.replicas > 0).count(),
        ) {
            (0, 1) => old_sets
                .iter()
                .map(|s| if s.replicas > 0 { wanted } else { 0 })
                .collect(),
            _ => old_sets.iter().map(|s| s.replicas).collect(),
        }
    } else if recreate {
        vec![0; old.len()]
    } else if let Some(rs) = new {
        next_old(wanted, bounds, set(rs), &old_sets)
    } else {
        old_sets.iter().map(|s| s.replicas).collect()
    };
    for (rs, size) in old.iter().zip(next_sizes) {
        update(rs, size, sizes, BTreeMap::new(), actions);
    }
    if !paused && new.is_some() && status::is_complete(deployment) {
        history(spec.revision_history_limit.unwrap_or(10), old, actions);
    }
}

fn has_pods(rs: &ReplicaSet, pods: &[Arc<Pod>]) -> bool {
    let uid = uid_of(rs);
    pods.iter()
        .any(|pod| is_controlled_by(&pod.metadata, &uid) && !is_finished(pod))
}

/// What the size annotations of a ReplicaSet say.
#[derive(Clone, Copy)]
struct Sizes {
    wanted: i32,
    limit: i32,
}

impl Sizes {
    fn write(self, annotations: &mut BTreeMap<String, String>) {
        annotations.insert(DESIRED.into(), self.wanted.to_string());
        annotations.insert(MAX.into(), self.limit.to_string());
    }
}

fn update(
    rs: &ReplicaSet,
    to: i32,
    sizes: Sizes,
    mut annotations: BTreeMap<String, String>,
    actions: &mut Vec<Action>,
) {
    if to > 0 || replicas(rs) > 0 {
        sizes.write(&mut annotations);
    }
    let present = rs.metadata.annotations.as_ref();
    annotations.retain(|key, value| present.and_then(|a| a.get(key)) != Some(value));
    if to != replicas(rs) || !annotations.is_empty() {
        actions.push(Action::Update {
            name: rs.name_any(),
            from: replicas(rs),
            to,
            annotations,
        });
    }
}

fn copied_annotations(deployment: &Deployment) -> BTreeMap<String, String> {
    deployment
        .metadata
        .annotations
        .iter()
        .flatten()
        .filter(|(key, _)| !NOT_COPIED.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// The ReplicaSet of the present template; `None` when its name is taken.
fn new_set(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
    size: i32,
    number: i64,
    sizes: Sizes,
) -> Option<ReplicaSet> {
    let spec = deployment.spec.as_ref()?;
    let collisions = deployment.status.as_ref().and_then(|s| s.collision_count);
    let hash = template::hash(&spec.template, collisions);
    let name = format!("{}-{hash}", deployment.name_any());
    if sets.iter().any(|rs| rs.name_any() == name) {
        return None;
    }
    let mut pod_template = spec.template.clone();
    let labels = pod_template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    labels.insert(template::HASH_LABEL.into(), hash.clone());
    let labels = labels.clone();
    let mut match_labels = spec.selector.match_labels.clone().unwrap_or_default();
    match_labels.insert(template::HASH_LABEL.into(), hash);
    let mut annotations = copied_annotations(deployment);
    annotations.insert(REVISION.into(), number.to_string());
    sizes.write(&mut annotations);
    Some(ReplicaSet {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(size),
            min_ready_seconds: spec.min_ready_seconds,
            selector: LabelSelector {
                match_labels: Some(match_labels),
                match_expressions: spec.selector.match_expressions.clone(),
            },
            template: Some(pod_template),
        }),
        status: None,
    })
}

/// Deletes the oldest versions past the limit. Only empty ones count.
fn history(limit: i32, old: &[Arc<ReplicaSet>], actions: &mut Vec<Action>) {
    let mut empty: Vec<_> = old
        .iter()
        .filter(|rs| {
            replicas(rs) == 0
                && rs.status.as_ref().is_none_or(|s| s.replicas == 0)
                && !is_terminating(rs.as_ref())
        })
        .collect();
    empty.sort_by_key(|rs| revision(rs.metadata.annotations.as_ref()));
    let excess = empty
        .len()
        .saturating_sub(usize::try_from(limit).unwrap_or(0));
    for rs in empty.into_iter().take(excess) {
        actions.push(Action::Delete(rs.name_any()));
    }
}

/// Runs the controller until `shutdown`.
pub async fn run(
    client: Client,
    informers: Informers,
    recorder: Recorder,
    shutdown: &CancellationToken,
) {
    let changes = vec![
        informers.deployments.changed(),
        informers.replica_sets.changed(),
        // for Recreate, which waits for the last old pod
        informers.pods.changed(),
    ];
    let controller = Controller {
        client,
        informers,
        recorder,
    };
    keep("deployment", changes, shutdown, async || {
        controller.pass().await
    })
    .await;
}

struct Controller {
    client: Client,
    informers: Informers,
    recorder: Recorder,
}

impl Controller {
    async fn pass(&self) -> Result<Option<Duration>, kube::Error> {
        let mut again = None;
        let mut failed = None;
        for deployment in self.informers.deployments.list() {
            // it may have changed or gone while others were written
            let (namespace, name) = key_of(deployment.as_ref());
            let Some(deployment) = self.informers.deployments.get(&namespace, &name) else {
                continue;
            };
            match self.reconcile(&deployment).await {
                Ok(delay) => again = earlier(again, delay),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(again), Err)
    }

    async fn reconcile(&self, deployment: &Deployment) -> Result<Option<Duration>, kube::Error> {
        let namespace = deployment.namespace().unwrap_or_default();
        let here = |n: Option<&str>| n == Some(namespace.as_str());
        let mut sets = self.informers.replica_sets.list();
        sets.retain(|rs| here(rs.metadata.namespace.as_deref()));
        let mut pods = self.informers.pods.list();
        pods.retain(|pod| here(pod.metadata.namespace.as_deref()));

        let decision = decide(deployment, &sets, &pods, jiff::Timestamp::now());
        let mut status = decision.status;
        for action in decision.actions {
            let created = matches!(action, Action::Create(_));
            let collided = matches!(action, Action::Collide);
            match self.act(deployment, &namespace, action).await {
                Ok(()) if created => status::note_created(&mut status, deployment, &self.informers),
                Ok(()) if collided => {
                    status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
                }
                Ok(()) => {}
                Err(error) if created => {
                    status::note_failure(&mut status, &api_message(&error));
                    self.write_status(deployment, &namespace, &status).await?;
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
        }
        self.write_status(deployment, &namespace, &status).await?;
        Ok(decision.again)
    }

    async fn act(
        &self,
        deployment: &Deployment,
        namespace: &str,
        action: Action,
    ) -> Result<(), kube::Error> {
        let sets: Api<ReplicaSet> = Api::namespaced(self.client.clone(), namespace);
        match action {
            Action::Create(rs) => {
                let params = PostParams {
                    field_manager: Some(FIELD_MANAGER.into()),
                    ..PostParams::default()
                };
                let rs = sets.create(&params, &rs).await?;
                self.record_scaling(deployment, &rs.name_any(), 0, replicas(&rs));
                self.informers.replica_sets.apply(rs);
            }
            Action::Collide => {}
            Action::Update {
                name,
                from,
                to,
                annotations,
            } => {
                let patch = serde_json::json!({
                    "metadata": {"annotations": annotations},
                    "spec": {"replicas": to},
                });
                let written = sets.patch(&name, &manager(), &Patch::Merge(patch)).await;
                if let Some(rs) = ignore_races(written)? {
                    if from != to {
                        self.record_scaling(deployment, &name, from, to);
                    }
                    self.informers.replica_sets.apply(rs);
                }
            }
            Action::Adopt(name) => {
                let patch = serde_json::json!({
                    "metadata": {"ownerReferences": [controller_reference(deployment)]},
                });
                let written = sets.patch(&name, &manager(), &Patch::Merge(patch)).await;
                if let Some(rs) = ignore_races(written)? {
                    self.informers.replica_sets.apply(rs);
                }
            }
            Action::Delete(name) => {
                let deleted = sets.delete(&name, &DeleteParams::background()).await;
                ignore_races(deleted)?;
                if let Some(rs) = self.informers.replica_sets.get(namespace, &name) {
                    self.informers.replica_sets.remove(rs.as_ref());
                }
            }
            Action::Revision(number) => {
                let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
                let patch = serde_json::json!({
                    "metadata": {"annotations": {REVISION: number.to_string()}},
                });
                let written = api
                    .patch(&deployment.name_any(), &manager(), &Patch::Merge(patch))
                    .await;
                if let Some(deployment) = ignore_races(written)? {
                    self.informers.deployments.apply(deployment);
                }
            }
        }
        Ok(())
    }

    fn record_scaling(&self, deployment: &Deployment, name: &str, from: i32, to: i32) {
        let direction = if to >= from { "up" } else { "down" };
        if from != to {
            self.recorder.record(
                deployment,
                EventType::Normal,
                "ScalingReplicaSet",
                format!("Scaled {direction} replica set {name} from {from} to {to}"),
            );
        }
    }

    async fn write_status(
        &self,
        deployment: &Deployment,
        namespace: &str,
        status: &DeploymentStatus,
    ) -> Result<(), kube::Error> {
        let old =
            serde_json::to_value(deployment.status.clone().unwrap_or_default()).unwrap_or_default();
        let new = serde_json::to_value(status).unwrap_or_default();
        let Some(patch) = merge_patch(&old, &new) else {
            return Ok(());
        };
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let patch =
            serde_json::json!({"metadata": {"uid": deployment.metadata.uid}, "status": patch});
        let written = api
            .patch_status(&deployment.name_any(), &manager(), &Patch::Merge(patch))
            .await;
        if let Some(deployment) = ignore_races(written)? {
            self.informers.deployments.apply(deployment);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
