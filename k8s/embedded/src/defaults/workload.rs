//! Defaults of what makes pods: Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, CronJob.

use serde_json::{Value, json};

use super::{Object, default, default_zero, object_at, template};

pub(super) fn deployment(object: &mut Object) {
    if let Some(spec) = object_at(object, "spec") {
        default(spec, "replicas", 1);
        template(spec, "template");
        if let Some(strategy) = object_at(spec, "strategy") {
            default_zero(strategy, "type", "RollingUpdate");
            if strategy["type"] == "RollingUpdate"
                && let Some(rolling) = object_at(strategy, "rollingUpdate")
            {
                default(rolling, "maxUnavailable", "25%");
                default(rolling, "maxSurge", "25%");
            }
        }
        default(spec, "revisionHistoryLimit", 10);
        default(spec, "progressDeadlineSeconds", 600);
    }
    object_at(object, "status");
}

pub(super) fn replica_set(object: &mut Object) {
    if let Some(spec) = object_at(object, "spec") {
        default(spec, "replicas", 1);
        template(spec, "template");
    }
    if let Some(status) = object_at(object, "status") {
        default(status, "replicas", 0);
    }
}

pub(super) fn replication_controller(object: &mut Object) {
    replica_set(object);
    let labels = object["spec"].pointer("/template/metadata/labels").cloned();
    if let (Some(labels), Some(spec)) = (labels, object_at(object, "spec")) {
        default(spec, "selector", labels);
    }
}

pub(super) fn stateful_set(object: &mut Object) {
    if let Some(spec) = object_at(object, "spec") {
        default(spec, "replicas", 1);
        template(spec, "template");
        default(spec, "serviceName", "");
        default_zero(spec, "podManagementPolicy", "OrderedReady");
        if let Some(strategy) = object_at(spec, "updateStrategy") {
            default_zero(strategy, "type", "RollingUpdate");
            if strategy["type"] == "RollingUpdate"
                && let Some(rolling) = object_at(strategy, "rollingUpdate")
            {
                default(rolling, "partition", 0);
            }
        }
        default(spec, "revisionHistoryLimit", 10);
        if let Some(retention) = object_at(spec, "persistentVolumeClaimRetentionPolicy") {
            default_zero(retention, "whenDeleted", "Retain");
            default_zero(retention, "whenScaled", "Retain");
        }
    }
    if let Some(status) = object_at(object, "status") {
        default(status, "replicas", 0);
        default(status, "availableReplicas", 0);
    }
}

pub(super) fn daemon_set(object: &mut Object) {
    if let Some(spec) = object_at(object, "spec") {
        template(spec, "template");
        if let Some(strategy) = object_at(spec, "updateStrategy") {
            default_zero(strategy, "type", "RollingUpdate");
            if strategy["type"] == "RollingUpdate"
                && let Some(rolling) = object_at(strategy, "rollingUpdate")
            {
                default(rolling, "maxUnavailable", 1);
                default(rolling, "maxSurge", 0);
            }
        }
        default(spec, "revisionHistoryLimit", 10);
    }
    if let Some(status) = object_at(object, "status") {
        for count in [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
        ] {
            default(status, count, 0);
        }
    }
}

/// A Job's selector and labels come from its uid: the caller sets the uid first.
pub(super) fn job(object: &mut Object) {
    let metadata = object.get("metadata").cloned().unwrap_or_default();
    if let Some(spec) = object_at(object, "spec") {
        job_spec(spec);
        default(spec, "manualSelector", false);
        if spec["manualSelector"] != true && metadata.get("uid").is_some() {
            own_pods_by_uid(spec, &metadata["uid"], &metadata["name"]);
        }
    }
    if let Some(labels) = object
        .get("spec")
        .and_then(|spec| spec.pointer("/template/metadata/labels"))
        .cloned()
        && let Some(metadata) = object_at(object, "metadata")
    {
        default(metadata, "labels", labels);
    }
    object_at(object, "status");
}

fn job_spec(spec: &mut Object) {
    let parallel = spec.contains_key("parallelism");
    if !spec.contains_key("completions") && !parallel {
        default(spec, "completions", 1);
    }
    default(spec, "parallelism", 1);
    default(spec, "backoffLimit", 6);
    template(spec, "template");
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "podReplacementPolicy", "TerminatingOrFailed");
}

fn own_pods_by_uid(spec: &mut Object, uid: &Value, name: &Value) {
    let Some(labels) = object_at(spec, "template")
        .and_then(|template| object_at(template, "metadata"))
        .and_then(|metadata| object_at(metadata, "labels"))
    else {
        return;
    };
    for (label, value) in [
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
        ("controller-uid", uid),
        ("job-name", name),
    ] {
        default(labels, label, value.clone());
    }
    default(
        spec,
        "selector",
        json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}),
    );
}

pub(super) fn cron_job(object: &mut Object) {
    if let Some(spec) = object_at(object, "spec") {
        default_zero(spec, "concurrencyPolicy", "Allow");
        default(spec, "suspend", false);
        if let Some(job) = object_at(spec, "jobTemplate") {
            object_at(job, "metadata");
            if let Some(job) = object_at(job, "spec") {
                template(job, "template");
            }
        }
        default(spec, "successfulJobsHistoryLimit", 3);
        default(spec, "failedJobsHistoryLimit", 1);
    }
    object_at(object, "status");
}
