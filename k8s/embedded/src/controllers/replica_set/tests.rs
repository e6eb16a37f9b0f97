use super::*;
use serde_json::json;

fn rs(replicas: i32) -> ReplicaSet {
    serde_json::from_value(json!({
        "metadata": {"name": "web-1", "namespace": "ns", "uid": "rs", "generation": 3},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}},
        },
    }))
    .unwrap()
}

fn pod(name: &str, ready: bool, extra: serde_json::Value) -> Arc<Pod> {
    let mut value = json!({
        "metadata": {
            "name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"},
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "rs",
                "controller": true,
            }],
        },
        "spec": {"nodeName": "n", "containers": []},
        "status": {
            "phase": "Running",
            "conditions": [{
                "type": "Ready", "status": if ready { "True" } else { "False" },
                "lastTransitionTime": "2026-01-01T00:00:10Z",
            }],
        },
    });
    json_patch::merge(&mut value, &extra);
    Arc::new(serde_json::from_value(value).unwrap())
}

fn at(text: &str) -> jiff::Timestamp {
    text.parse().unwrap()
}

const NOW: &str = "2026-01-01T00:00:15Z";

#[test]
fn creates_what_is_missing_and_counts() {
    let pods = [pod("a", true, json!({})), pod("b", false, json!({}))];
    let decision = decide(&rs(3), &pods, at(NOW));
    assert_eq!(decision.create, 1);
    let status = decision.status;
    assert_eq!(status.replicas, 2);
    assert_eq!(status.ready_replicas, Some(1));
    assert_eq!(status.available_replicas, Some(1));
    assert_eq!(status.observed_generation, Some(3));
}

#[test]
fn deletes_the_one_that_serves_least() {
    let pods = [
        pod("a", true, json!({})),
        pod("b", false, json!({})),
        pod("c", true, json!({})),
    ];
    let decision = decide(&rs(2), &pods, at(NOW));
    assert_eq!(decision.delete.len(), 1);
    assert_eq!(decision.delete[0].name_any(), "b");
}

#[test]
fn terminating_and_finished_pods_are_replaced() {
    let gone = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:12Z"}});
    let failed = json!({"status": {"phase": "Failed"}});
    let pods = [pod("a", true, gone), pod("b", false, failed)];
    let decision = decide(&rs(1), &pods, at(NOW));
    assert_eq!(decision.create, 1);
    assert_eq!(decision.status.terminating_replicas, Some(1));
}

#[test]
fn relabelled_pods_are_released_and_orphans_adopted() {
    let other = json!({"metadata": {"labels": {"app": "debug"}}});
    let orphan = json!({"metadata": {"ownerReferences": []}});
    let pods = [pod("a", true, other), pod("b", true, orphan)];
    let decision = decide(&rs(2), &pods, at(NOW));
    assert_eq!(decision.release.len(), 1);
    assert_eq!(decision.adopt.len(), 1);
    assert_eq!(decision.create, 1);
}

#[test]
fn available_only_after_min_ready_seconds() {
    let mut set = rs(1);
    set.spec.as_mut().unwrap().min_ready_seconds = Some(20);
    let decision = decide(&set, &[pod("a", true, json!({}))], at(NOW));
    assert_eq!(decision.status.available_replicas, None);
    assert_eq!(decision.again, Some(Duration::from_secs(15)));
}

#[test]
fn failures_to_create_show_in_the_condition() {
    let status = with_failure(ReplicaSetStatus::default(), Some("denied"));
    assert_eq!(
        status.conditions.as_ref().unwrap()[0].reason.as_deref(),
        Some("FailedCreate")
    );
    assert_eq!(with_failure(status, None).conditions, None);
}
