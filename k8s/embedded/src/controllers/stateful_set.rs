//! StatefulSet controller, in its simple form: numbered pods, made and replaced one after the other.
//!
//! Versions are told apart by a hash of the template; no ControllerRevisions are kept, so there is
//! nothing to roll back to. `volumeClaimTemplates` are refused with an event: there are no
//! persistent volumes.

use super::daemon_set::REVISION;
use super::deployment::template;
use super::events::{EventType, Recorder};
use super::keep;
use super::owned_pods::{Pods, from_template};
use super::replica_set::{has_condition, is_finished};
use crate::informers::{Informers, is_terminating};
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What to do for one set.
#[derive(Debug, Default)]
struct Decision {
    create: Vec<i32>,
    delete: Vec<Arc<Pod>>,
    status: StatefulSetStatus,
}

/// The number in a pod's name.
fn ordinal(set: &str, pod: &Pod) -> Option<i32> {
    let name = pod.metadata.name.as_deref()?;
    name.strip_prefix(set)?.strip_prefix('-')?.parse().ok()
}

/// Decides, given the set's pods.
fn decide(set: &StatefulSet, pods: &[Arc<Pod>], revision: &str) -> Decision {
    let Some(spec) = &set.spec else {
        return Decision::default();
    };
    let name = set.name_any();
    let wanted = spec.replicas.unwrap_or(1);
    let first = spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0);
    let in_order = spec.pod_management_policy.as_deref() != Some("Parallel");
    let strategy = spec.update_strategy.as_ref();
    let on_delete = strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete");
    let partition = strategy
        .and_then(|s| s.rolling_update.as_ref()?.partition)
        .unwrap_or(0);
    let is_current = |pod: &Pod| {
        let labels = pod.metadata.labels.as_ref();
        labels.and_then(|l| l.get(REVISION)).map(String::as_str) == Some(revision)
    };
    let of = |number: i32| pods.iter().find(|p| ordinal(&name, p) == Some(number));
    let ready = |pod: &Arc<Pod>| !is_terminating(pod.as_ref()) && has_condition(pod, "Ready");
    let mut decision = Decision::default();
    let numbers = first..first.saturating_add(wanted);
    let mut settled = true;
    if !is_terminating(set) {
        for number in numbers.clone() {
            match of(number) {
                None => decision.create.push(number),
                Some(pod) if is_finished(pod) && !is_terminating(pod.as_ref()) => {
                    decision.delete.push(Arc::clone(pod));
                }
                Some(pod) if ready(pod) => continue,
                Some(_) => {}
            }
            settled = false;
            if in_order {
                break;
            }
        }
        // too many: the highest first
        let mut extra: Vec<_> = pods
            .iter()
            .filter(|p| ordinal(&name, p).is_some_and(|n| !numbers.contains(&n)))
            .collect();
        extra.sort_by_key(|p| std::cmp::Reverse(ordinal(&name, p)));
        if settled {
            let going = extra.iter().any(|p| is_terminating(p.as_ref()));
            let some = extra.iter().filter(|p| !is_terminating(p.as_ref()));
            match in_order {
                true if going => {}
                true => decision.delete.extend(some.take(1).map(|p| Arc::clone(p))),
                false => decision.delete.extend(some.map(|p| Arc::clone(p))),
            }
        }
        // another template: the highest first, one at a time
        if settled && extra.is_empty() && !on_delete {
            let old = numbers
                .clone()
                .rev()
                .filter(|number| *number >= partition)
                .find_map(|number| of(number).filter(|p| !is_current(p)));
            decision.delete.extend(old.cloned());
        }
    }
    let alive: Vec<_> = pods
        .iter()
        .filter(|p| !is_terminating(p.as_ref()))
        .collect();
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let ready = count(alive.iter().filter(|p| ready(p)).count());
    let updated = count(alive.iter().filter(|p| is_current(p)).count());
    let before = set.status.as_ref();
    let update_revision = format!("{name}-{revision}");
    let current_revision = if updated == wanted {
        Some(update_revision.clone())
    } else {
        before
            .and_then(|s| s.current_revision.clone())
            .or_else(|| Some(update_revision.clone()))
    };
    decision.status = StatefulSetStatus {
        replicas: count(alive.len()),
        ready_replicas: Some(ready),
        available_replicas: Some(ready),
        current_replicas: Some(updated),
        updated_replicas: Some(updated),
        current_revision,
        update_revision: Some(update_revision),
        observed_generation: set.metadata.generation,
        collision_count: Some(0),
        ..StatefulSetStatus::default()
    };
    decision
}

/// Runs the controller until `shutdown`.
pub async fn run(
    client: Client,
    informers: Informers,
    recorder: Recorder,
    shutdown: &CancellationToken,
) {
    let changes = vec![informers.stateful_sets.changed(), informers.pods.changed()];
    let hands = Pods {
        client,
        informers,
        recorder,
    };
    keep("statefulset", changes, shutdown, async || {
        for set in hands.informers.stateful_sets.list() {
            reconcile(&hands, &set).await?;
        }
        Ok(None::<Duration>)
    })
    .await;
}

async fn reconcile(hands: &Pods, set: &StatefulSet) -> Result<(), kube::Error> {
    let Some(spec) = &set.spec else {
        return Ok(());
    };
    if spec
        .volume_claim_templates
        .as_ref()
        .is_some_and(|v| !v.is_empty())
    {
        hands.recorder.record(
            set,
            EventType::Warning,
            "FailedCreate",
            "field spec.volumeClaimTemplates: the embedded cluster has no persistent volumes; use an emptyDir",
        );
        return Ok(());
    }
    let revision = template::hash(&spec.template, None);
    let decision = decide(set, &hands.of(set), &revision);
    for pod in &decision.delete {
        hands.delete(set, pod).await?;
    }
    let name = set.name_any();
    for number in decision.create {
        let mut pod = from_template(set, Some(&spec.template));
        let pod_name = format!("{name}-{number}");
        pod.metadata.generate_name = Some(format!("{name}-"));
        pod.metadata.name = Some(pod_name.clone());
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(REVISION.into(), revision.clone());
        labels.insert(
            "statefulset.kubernetes.io/pod-name".into(),
            pod_name.clone(),
        );
        labels.insert("apps.kubernetes.io/pod-index".into(), number.to_string());
        let pod_spec = pod.spec.get_or_insert_default();
        pod_spec.hostname = Some(pod_name);
        pod_spec.subdomain = spec.service_name.clone().filter(|s| !s.is_empty());
        hands.create(set, &pod).await?;
    }
    let old = set.status.clone().unwrap_or_default();
    let cache = &hands.informers.stateful_sets;
    hands.write_status(cache, set, &old, &decision.status).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(replicas: i32) -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": {"name": "s"},
            "spec": {"replicas": replicas, "selector": {}, "serviceName": "s", "template": {}},
        }))
        .unwrap()
    }

    fn pod(number: i32, revision: &str, ready: bool) -> Arc<Pod> {
        let ready = if ready { "True" } else { "False" };
        let pod = json!({
            "metadata": {"name": format!("s-{number}"), "labels": {REVISION: revision}},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<String> {
        pods.iter().map(|p| p.name_any()).collect()
    }

    #[test]
    fn one_after_the_other() {
        assert_eq!(decide(&set(3), &[], "a").create, [0]);
        assert!(
            decide(&set(3), &[pod(0, "a", false)], "a")
                .create
                .is_empty()
        );
        assert_eq!(decide(&set(3), &[pod(0, "a", true)], "a").create, [1]);
        let three = [pod(0, "a", true), pod(1, "a", true), pod(2, "a", true)];
        assert_eq!(names(&decide(&set(1), &three, "a").delete), ["s-2"]);
        // another template: the highest first, and only while all are ready
        assert_eq!(names(&decide(&set(3), &three, "b").delete), ["s-2"]);
        let half = [pod(0, "a", true), pod(1, "a", true), pod(2, "b", false)];
        assert!(decide(&set(3), &half, "b").delete.is_empty());
        let half = [pod(0, "a", true), pod(1, "a", true), pod(2, "b", true)];
        assert_eq!(names(&decide(&set(3), &half, "b").delete), ["s-1"]);
    }
}
