//! Scheduler: binds pods to the one node, or says why it cannot.
//!
//! There is nothing to choose, so this decides only whether the pod accepts the node: its
//! `nodeSelector` and `schedulerName`. Resources are not counted: processes share the machine.

use super::events::{EventType, Recorder};
use super::replica_set::{api_message, is_finished, manager};
use super::{ignore_races, keep};
use crate::informers::{Informers, is_terminating};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PostParams};
use kube::{Api, Client, ResourceExt};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What to do with a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: it has a node, has ended, waits for another scheduler or for its gates.
    Leave,
    /// Bind it to the node.
    Bind,
    /// No node fits; the message for the condition and the event.
    Refuse(String),
}

/// Labels of the node, for `nodeSelector`.
pub fn node_labels(node: &str) -> BTreeMap<String, String> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    [
        ("beta.kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("kubernetes.io/hostname", node),
        ("kubernetes.io/os", "linux"),
        ("node-role.kubernetes.io/control-plane", ""),
        ("topology.kubernetes.io/region", "local"),
        ("topology.kubernetes.io/zone", "local-a"),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// Decides for one pod.
pub fn decide(pod: &Pod, labels: &BTreeMap<String, String>) -> Decision {
    let Some(spec) = &pod.spec else {
        return Decision::Leave;
    };
    let ours = spec
        .scheduler_name
        .as_deref()
        .unwrap_or("default-scheduler")
        == "default-scheduler";
    let gated = spec
        .scheduling_gates
        .as_ref()
        .is_some_and(|g| !g.is_empty());
    if spec.node_name.is_some() || !ours || gated || is_terminating(pod) || is_finished(pod) {
        return Decision::Leave;
    }
    let fits = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    if fits {
        Decision::Bind
    } else {
        Decision::Refuse(
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. \
             no new claims to deallocate, preemption: 0/1 nodes are available: \
             1 Preemption is not helpful for scheduling."
                .into(),
        )
    }
}

/// Runs the scheduler until `shutdown`.
pub async fn run(
    client: Client,
    informers: Informers,
    recorder: Recorder,
    node: &str,
    shutdown: &CancellationToken,
) {
    let labels = node_labels(node);
    let changes = vec![informers.pods.changed()];
    // pods whose refusal has been told
    let mut refused = HashSet::new();
    keep("scheduler", changes, shutdown, async || {
        let pods = informers.pods.list();
        refused.retain(|uid| pods.iter().any(|p| p.metadata.uid.as_ref() == Some(uid)));
        let mut bindings = Vec::new();
        for pod in pods {
            match decide(&pod, &labels) {
                Decision::Leave => {}
                Decision::Bind => bindings.push(bind(&client, &informers, &recorder, pod, node)),
                Decision::Refuse(message) => {
                    if refused.insert(pod.uid().unwrap_or_default()) {
                        refuse(&client, &recorder, &pod, &message).await?;
                    }
                }
            }
        }
        // all at once: the pods of an application start together
        for result in futures::future::join_all(bindings).await {
            result?;
        }
        Ok(None::<Duration>)
    })
    .await;
}

async fn bind(
    client: &Client,
    informers: &Informers,
    recorder: &Recorder,
    pod: Arc<Pod>,
    node: &str,
) -> Result<(), kube::Error> {
    let namespace = pod.namespace().unwrap_or_default();
    let name = pod.name_any();
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let binding = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name, "namespace": namespace, "uid": pod.metadata.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let bound: Result<serde_json::Value, _> = api
        .create_subresource("binding", &name, &PostParams::default(), &binding)
        .await;
    if ignore_races(bound)?.is_some() {
        // not to be bound twice while the watch event is on its way
        let mut known = Pod::clone(&pod);
        known.spec.get_or_insert_default().node_name = Some(node.to_owned());
        informers.pods.amend(known);
        recorder.record(
            pod.as_ref(),
            EventType::Normal,
            "Scheduled",
            format!("Successfully assigned {namespace}/{name} to {node}"),
        );
    }
    Ok(())
}

async fn refuse(
    client: &Client,
    recorder: &Recorder,
    pod: &Pod,
    message: &str,
) -> Result<(), kube::Error> {
    recorder.record(pod, EventType::Warning, "FailedScheduling", message);
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let patch = serde_json::json!({"status": {"conditions": [{
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "observedGeneration": pod.metadata.generation,
        "lastTransitionTime": super::events::now(),
    }]}});
    let written = api
        .patch_status(&pod.name_any(), &manager(), &Patch::Merge(patch))
        .await;
    if let Err(error) = &written {
        tracing::debug!(message = api_message(error), "unschedulable pod not marked");
    }
    ignore_races(written).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn decide_for(spec: serde_json::Value) -> Decision {
        let pod = serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).unwrap();
        decide(&pod, &node_labels("n"))
    }

    #[test]
    fn binds_what_fits_and_explains_what_does_not() {
        let c = json!([{"name": "c"}]);
        assert_eq!(decide_for(json!({"containers": c})), Decision::Bind);
        assert_eq!(
            decide_for(json!({"containers": c, "nodeName": "n"})),
            Decision::Leave
        );
        assert_eq!(
            decide_for(json!({"containers": c, "schedulerName": "mine"})),
            Decision::Leave
        );
        let linux = json!({"kubernetes.io/os": "linux"});
        assert_eq!(
            decide_for(json!({"containers": c, "nodeSelector": linux})),
            Decision::Bind
        );
        assert!(matches!(
            decide_for(json!({"containers": c, "nodeSelector": {"disk": "ssd"}})),
            Decision::Refuse(m) if m.contains("didn't match")
        ));
    }
}
