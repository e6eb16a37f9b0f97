//! DaemonSet controller: one pod on each node; there is one node.
//!
//! An update replaces a pod when its template's hash differs, unless the strategy is `OnDelete`.

use super::deployment::template;
use super::events::Recorder;
use super::keep;
use super::owned_pods::{Pods, from_template};
use super::replica_set::{has_condition, is_finished};
use crate::informers::{Informers, is_terminating};
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Label with the hash of the template that a pod was made from.
pub const REVISION: &str = "controller-revision-hash";

/// What to do for one set.
#[derive(Debug, Default)]
struct Decision {
    create: bool,
    delete: Vec<Arc<Pod>>,
    status: DaemonSetStatus,
}

/// Decides, given the set's pods.
fn decide(set: &DaemonSet, pods: &[Arc<Pod>], revision: &str) -> Decision {
    let Some(spec) = &set.spec else {
        return Decision::default();
    };
    let on_delete = spec
        .update_strategy
        .as_ref()
        .and_then(|s| s.type_.as_deref())
        == Some("OnDelete");
    let is_current = |pod: &Pod| {
        let labels = pod.metadata.labels.as_ref();
        labels.and_then(|l| l.get(REVISION)).map(String::as_str) == Some(revision)
    };
    let (alive, mut delete): (Vec<_>, Vec<_>) = pods
        .iter()
        .filter(|pod| !is_terminating(pod.as_ref()))
        .cloned()
        .partition(|pod| !is_finished(pod));
    let ended = pods.iter().any(|pod| is_terminating(pod.as_ref()));
    if !on_delete {
        delete.extend(alive.iter().filter(|p| !is_current(p)).cloned());
    }
    delete.extend(alive.iter().skip(1).filter(|p| is_current(p)).cloned());
    let ready = alive.iter().filter(|p| has_condition(p, "Ready")).count();
    let updated = alive.iter().filter(|p| is_current(p)).count();
    let count = |n: usize| i32::try_from(n.min(1)).unwrap_or(1);
    Decision {
        create: alive.is_empty() && !ended && !is_terminating(set),
        delete,
        status: DaemonSetStatus {
            current_number_scheduled: count(alive.len()),
            desired_number_scheduled: 1,
            number_available: Some(count(ready)),
            number_ready: count(ready),
            number_unavailable: (ready == 0).then_some(1),
            updated_number_scheduled: Some(count(updated)),
            observed_generation: set.metadata.generation,
            ..DaemonSetStatus::default()
        },
    }
}

/// Runs the controller until `shutdown`.
pub async fn run(
    client: Client,
    informers: Informers,
    recorder: Recorder,
    node: &str,
    shutdown: &CancellationToken,
) {
    let changes = vec![informers.daemon_sets.changed(), informers.pods.changed()];
    let hands = Pods {
        client,
        informers,
        recorder,
    };
    keep("daemonset", changes, shutdown, async || {
        for set in hands.informers.daemon_sets.list() {
            reconcile(&hands, &set, node).await?;
        }
        Ok(None::<Duration>)
    })
    .await;
}

async fn reconcile(hands: &Pods, set: &DaemonSet, node: &str) -> Result<(), kube::Error> {
    let Some(spec) = &set.spec else {
        return Ok(());
    };
    let revision = template::hash(&spec.template, None);
    let decision = decide(set, &hands.of(set), &revision);
    for pod in &decision.delete {
        hands.delete(set, pod).await?;
    }
    if decision.create {
        let mut pod = from_template(set, Some(&spec.template));
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(REVISION.into(), revision);
        pod.spec.get_or_insert_default().node_name = Some(node.to_owned());
        hands.create(set, &pod).await?;
    }
    let old = set.status.clone().unwrap_or_default();
    let cache = &hands.informers.daemon_sets;
    hands.write_status(cache, set, &old, &decision.status).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(revision: &str, phase: &str) -> Arc<Pod> {
        let pod = json!({
            "metadata": {"name": "p", "labels": {REVISION: revision}},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": "True"}]},
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn one_pod_of_the_present_template() {
        let set: DaemonSet = serde_json::from_value(json!({
            "metadata": {"name": "d"},
            "spec": {"selector": {}, "template": {}},
        }))
        .unwrap();
        assert!(decide(&set, &[], "a").create);
        let there = decide(&set, &[pod("a", "Running")], "a");
        assert!(!there.create && there.delete.is_empty());
        assert_eq!(there.status.number_ready, 1);
        assert_eq!(decide(&set, &[pod("b", "Running")], "a").delete.len(), 1);
        let failed = decide(&set, &[pod("a", "Failed")], "a");
        assert_eq!(failed.delete.len(), 1);
    }
}
