//! A Deployment's status: its counts, and the conditions Available, Progressing and
//! ReplicaFailure that `kubectl rollout status` and `kubectl wait` read.

use super::super::events::now as now_time;
use super::super::rolling_update::Bounds;
use super::{REVISION, template};
use crate::informers::{Informers, uid_of};
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet, ReplicaSetStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use std::sync::Arc;
use std::time::Duration;

const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";

fn find<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == type_)
}

/// Puts a condition in place. The transition time changes with the status only; the update time
/// when the reason changes too, or when `touch` says that there was progress.
fn put(
    status: &mut DeploymentStatus,
    type_: &str,
    value: &str,
    reason: &str,
    message: String,
    touch: bool,
) {
    let conditions = status.conditions.get_or_insert_default();
    let before = conditions.iter().find(|c| c.type_ == type_).cloned();
    let now = Some(now_time());
    if let Some(before) = &before
        && before.status == value
        && before.reason.as_deref() == Some(reason)
        && !touch
    {
        return;
    }
    let last_transition_time = match &before {
        Some(before) if before.status == value => before.last_transition_time.clone(),
        _ => now.clone(),
    };
    conditions.retain(|c| c.type_ != type_);
    conditions.push(DeploymentCondition {
        type_: type_.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: now,
        last_transition_time,
    });
}

/// Whether the status in the Deployment says that its rollout is complete.
pub fn is_complete(deployment: &Deployment) -> bool {
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|s| s.replicas)
        .unwrap_or(1);
    deployment.status.as_ref().is_some_and(|status| {
        counts_complete(status, wanted)
            && status.observed_generation >= deployment.metadata.generation
    })
}

fn counts_complete(status: &DeploymentStatus, wanted: i32) -> bool {
    status.updated_replicas.unwrap_or(0) == wanted
        && status.replicas.unwrap_or(0) == wanted
        && status.available_replicas.unwrap_or(0) == wanted
}

fn sum(sets: &[Arc<ReplicaSet>], f: impl Fn(&ReplicaSetStatus) -> Option<i32>) -> i32 {
    sets.iter()
        .filter_map(|rs| rs.status.as_ref().and_then(&f))
        .sum()
}

/// The status of a Deployment with ReplicaSets `owned`, of which `new` is the one of the present
/// template; and how long until its progress deadline ends.
pub fn compute(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    owned: &[Arc<ReplicaSet>],
    now: jiff::Timestamp,
) -> (DeploymentStatus, Option<Duration>) {
    let old = deployment.status.clone().unwrap_or_default();
    let spec = deployment.spec.clone().unwrap_or_default();
    let wanted = spec.replicas.unwrap_or(1);
    let some = |n: i32| (n > 0).then_some(n);
    let available = sum(owned, |s| s.available_replicas);
    let replicas = sum(owned, |s| Some(s.replicas));
    let asked: i32 = owned.iter().map(|rs| super::replicas(rs)).sum();
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(replicas),
        updated_replicas: some(
            new.and_then(|rs| rs.status.as_ref())
                .map_or(0, |s| s.replicas),
        ),
        ready_replicas: some(sum(owned, |s| s.ready_replicas)),
        available_replicas: some(available),
        unavailable_replicas: some(asked.max(wanted) - available),
        terminating_replicas: Some(sum(owned, |s| s.terminating_replicas)),
        collision_count: old.collision_count,
        conditions: old.conditions.clone(),
    };

    let rolling = spec
        .strategy
        .as_ref()
        .and_then(|s| s.rolling_update.as_ref());
    let unavailable = rolling.map_or(0, |r| {
        Bounds::new(r.max_surge.as_ref(), r.max_unavailable.as_ref(), wanted).unavailable
    });
    if available >= wanted - unavailable {
        let message = "Deployment has minimum availability.".to_owned();
        put(
            &mut status,
            "Available",
            "True",
            "MinimumReplicasAvailable",
            message,
            false,
        );
    } else {
        let message = "Deployment does not have minimum availability.".to_owned();
        put(
            &mut status,
            "Available",
            "False",
            "MinimumReplicasUnavailable",
            message,
            false,
        );
    }

    let failure = owned
        .iter()
        .flat_map(|rs| rs.status.iter().flat_map(|s| s.conditions.iter().flatten()))
        .find(|c| c.type_ == "ReplicaFailure" && c.status == "True")
        .and_then(|c| c.message.clone());
    match failure {
        Some(message) => note_failure(&mut status, &message),
        None => {
            if let Some(conditions) = &mut status.conditions {
                conditions.retain(|c| c.type_ != "ReplicaFailure");
            }
        }
    }

    let again = progress(deployment, &old, &mut status, new, wanted, now);
    (status, again)
}

fn progress(
    deployment: &Deployment,
    old: &DeploymentStatus,
    status: &mut DeploymentStatus,
    new: Option<&ReplicaSet>,
    wanted: i32,
    now: jiff::Timestamp,
) -> Option<Duration> {
    let spec = deployment.spec.as_ref()?;
    let before = find(old, "Progressing").cloned();
    let before_reason = before
        .as_ref()
        .and_then(|c| c.reason.clone())
        .unwrap_or_default();
    if spec.paused.unwrap_or(false) {
        let message = "Deployment is paused".to_owned();
        put(
            status,
            "Progressing",
            "Unknown",
            "DeploymentPaused",
            message,
            false,
        );
        return None;
    }
    if before_reason == "DeploymentPaused" {
        let message = "Deployment is resumed".to_owned();
        put(
            status,
            "Progressing",
            "Unknown",
            "DeploymentResumed",
            message,
            false,
        );
    }
    let subject = new.map_or_else(
        || format!("Deployment \"{}\"", deployment.name_any()),
        |rs| format!("ReplicaSet \"{}\"", rs.name_any()),
    );
    let new = new?;
    let grew =
        |f: fn(&DeploymentStatus) -> Option<i32>| f(status).unwrap_or(0) > f(old).unwrap_or(0);
    let rest = |s: &DeploymentStatus| s.replicas.unwrap_or(0) - s.updated_replicas.unwrap_or(0);
    let progressing = grew(|s| s.updated_replicas)
        || grew(|s| s.ready_replicas)
        || grew(|s| s.available_replicas)
        || rest(status) < rest(old);

    // a finished rollout stays finished while pods come and go; a new generation starts another
    let same_version = deployment
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(REVISION))
        == new
            .metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get(REVISION));
    if counts_complete(status, wanted) {
        if before_reason != NEW_SET_AVAILABLE || !same_version {
            let message = format!("{subject} has successfully progressed.");
            put(
                status,
                "Progressing",
                "True",
                NEW_SET_AVAILABLE,
                message,
                true,
            );
        }
        return None;
    }
    if before_reason == NEW_SET_AVAILABLE && same_version && rest(status) == 0 {
        return None;
    }
    if progressing || before.is_none() || before_reason == NEW_SET_AVAILABLE {
        let message = format!("{subject} is progressing.");
        put(
            status,
            "Progressing",
            "True",
            "ReplicaSetUpdated",
            message,
            true,
        );
    }
    let deadline = i64::from(spec.progress_deadline_seconds.unwrap_or(600));
    let since = find(status, "Progressing")
        .and_then(|c| c.last_update_time.as_ref())
        .map_or(now, |Time(t)| *t);
    let left = deadline * 1000 - (now.as_millisecond() - since.as_millisecond());
    if left <= 0 {
        let message = format!("{subject} has timed out progressing.");
        put(
            status,
            "Progressing",
            "False",
            DEADLINE_EXCEEDED,
            message,
            false,
        );
        return None;
    }
    if before_reason == DEADLINE_EXCEEDED && !progressing {
        return None;
    }
    // one second more: times in conditions are cut to whole seconds
    Some(Duration::from_millis(
        u64::try_from(left).unwrap_or(0) + 1000,
    ))
}

/// Writes the condition of a ReplicaSet that was just created.
pub fn note_created(status: &mut DeploymentStatus, deployment: &Deployment, informers: &Informers) {
    let uid = uid_of(deployment);
    let Some(spec) = &deployment.spec else { return };
    let mut owned = informers.replica_sets.list();
    owned.retain(|rs| super::is_controlled_by(&rs.metadata, &uid));
    if let Some(rs) = template::find(&spec.template, &owned) {
        let message = format!("Created new replica set \"{}\"", rs.name_any());
        put(
            status,
            "Progressing",
            "True",
            "NewReplicaSetCreated",
            message,
            true,
        );
    }
}

/// Writes that pods or a ReplicaSet could not be created.
pub fn note_failure(status: &mut DeploymentStatus, message: &str) {
    let same =
        find(status, "ReplicaFailure").is_some_and(|c| c.message.as_deref() == Some(message));
    put(
        status,
        "ReplicaFailure",
        "True",
        "FailedCreate",
        message.to_owned(),
        !same,
    );
}
