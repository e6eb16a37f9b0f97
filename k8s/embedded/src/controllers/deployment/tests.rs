use super::*;
use serde_json::json;

const NOW: &str = "2026-01-01T00:00:15Z";

fn deployment(replicas: i32, image: &str, extra: serde_json::Value) -> Deployment {
    let mut value = json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "d", "generation": 1},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
    });
    json_patch::merge(&mut value, &extra);
    serde_json::from_value(value).unwrap()
}

fn decide_now(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Decision {
    decide(deployment, sets, &[], NOW.parse().unwrap())
}

/// The ReplicaSet that the controller would make, with `available` of its pods available.
fn made(deployment: &Deployment, revision: i64, size: i32, available: i32) -> Arc<ReplicaSet> {
    let sizes = Sizes {
        wanted: size,
        limit: size + 1,
    };
    let mut rs = new_set(deployment, &[], size, revision, sizes).unwrap();
    rs.metadata.uid = rs.metadata.name.clone();
    rs.status = serde_json::from_value(
        json!({"replicas": size, "readyReplicas": available, "availableReplicas": available}),
    )
    .unwrap();
    Arc::new(rs)
}

fn sizes(decision: &Decision) -> Vec<(i32, i32)> {
    decision
        .actions
        .iter()
        .filter_map(|a| match a {
            Action::Update { from, to, .. } if from != to => Some((*from, *to)),
            _ => None,
        })
        .collect()
}

#[test]
fn first_version_is_created_in_full() {
    let decision = decide_now(&deployment(2, "a:1", json!({})), &[]);
    let Action::Create(rs) = &decision.actions[0] else {
        panic!("{:?}", decision.actions)
    };
    assert_eq!(rs.spec.as_ref().unwrap().replicas, Some(2));
    let hash = &rs.metadata.labels.as_ref().unwrap()[template::HASH_LABEL];
    assert_eq!(rs.name_any(), format!("web-{hash}"));
    assert_eq!(decision.actions[1], Action::Revision(1));
}

#[test]
fn a_new_template_surges() {
    let old = made(&deployment(2, "a:1", json!({})), 1, 2, 2);
    let decision = decide_now(&deployment(2, "a:2", json!({})), &[old]);
    let Action::Create(rs) = &decision.actions[0] else {
        panic!("{:?}", decision.actions)
    };
    assert_eq!(rs.spec.as_ref().unwrap().replicas, Some(1));
    assert_eq!(revision(rs.metadata.annotations.as_ref()), 2);
    assert!(sizes(&decision).is_empty());
}

#[test]
fn the_old_version_goes_as_the_new_one_comes() {
    let d = deployment(2, "a:2", json!({}));
    let old = made(&deployment(2, "a:1", json!({})), 1, 2, 2);
    let new = made(&d, 2, 1, 1);
    assert_eq!(sizes(&decide_now(&d, &[old, new])), [(2, 1)]);
}

#[test]
fn undo_reuses_the_old_set_under_a_new_revision() {
    let d = deployment(2, "a:1", json!({}));
    let old = made(&d, 1, 0, 0);
    let newer = made(&deployment(2, "a:2", json!({})), 2, 2, 2);
    let decision = decide_now(&d, &[old, newer]);
    assert!(decision.actions.contains(&Action::Revision(3)));
    assert!(
        !decision
            .actions
            .iter()
            .any(|a| matches!(a, Action::Create(_)))
    );
    assert_eq!(sizes(&decision), [(0, 1)]);
}

#[test]
fn recreate_waits_for_the_old_pods() {
    let recreate = json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}});
    let d = deployment(2, "a:2", recreate);
    let old = made(&deployment(2, "a:1", json!({})), 1, 2, 2);
    let decision = decide_now(&d, std::slice::from_ref(&old));
    let Action::Create(rs) = &decision.actions[0] else {
        panic!("{:?}", decision.actions)
    };
    assert_eq!(rs.spec.as_ref().unwrap().replicas, Some(0));
    assert_eq!(sizes(&decision), [(2, 0)]);
    let empty = made(&deployment(2, "a:1", json!({})), 1, 0, 0);
    let new = made(&d, 2, 0, 0);
    assert_eq!(sizes(&decide_now(&d, &[empty, new])), [(0, 2)]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let d = deployment(3, "a:2", json!({"spec": {"paused": true}}));
    let old = made(&deployment(2, "a:1", json!({})), 1, 2, 2);
    let decision = decide_now(&d, &[old]);
    assert!(
        !decision
            .actions
            .iter()
            .any(|a| matches!(a, Action::Create(_)))
    );
    assert_eq!(sizes(&decision), [(2, 3)]);
}

#[test]
fn conditions_follow_the_rollout() {
    let d = deployment(2, "a:1", json!({}));
    let word = |decision: &Decision, type_: &str| {
        let conditions = decision.status.conditions.clone().unwrap_or_default();
        conditions
            .into_iter()
            .find(|c| c.type_ == type_)
            .and_then(|c| c.reason)
            .unwrap_or_default()
    };
    let going = decide_now(&d, &[made(&d, 1, 2, 1)]);
    assert_eq!(word(&going, "Progressing"), "ReplicaSetUpdated");
    assert_eq!(word(&going, "Available"), "MinimumReplicasUnavailable");
    assert!(going.again.is_some());
    let done = decide_now(&d, &[made(&d, 1, 2, 2)]);
    assert_eq!(word(&done, "Progressing"), "NewReplicaSetAvailable");
    assert_eq!(word(&done, "Available"), "MinimumReplicasAvailable");
    assert_eq!(done.again, None);
}

#[test]
fn a_stuck_rollout_exceeds_its_deadline() {
    let extra = json!({
        "spec": {"progressDeadlineSeconds": 4},
        "status": {
            "updatedReplicas": 1, "replicas": 1,
            "conditions": [{
                "type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated",
                "lastUpdateTime": "2026-01-01T00:00:05Z",
            }],
        },
    });
    let d = deployment(1, "a:1", extra);
    let decision = decide_now(&d, &[made(&d, 1, 1, 0)]);
    let condition = decision
        .status
        .conditions
        .unwrap()
        .into_iter()
        .find(|c| c.type_ == "Progressing")
        .unwrap();
    assert_eq!(
        condition.reason.as_deref(),
        Some("ProgressDeadlineExceeded")
    );
    assert_eq!(condition.status, "False");
}

#[test]
fn old_versions_beyond_the_limit_are_deleted() {
    let status = json!({"spec": {"revisionHistoryLimit": 1}, "status": {
        "updatedReplicas": 1, "replicas": 1, "availableReplicas": 1, "observedGeneration": 1,
    }});
    let d = deployment(1, "a:3", status);
    let sets = [
        made(&deployment(1, "a:1", json!({})), 1, 0, 0),
        made(&deployment(1, "a:2", json!({})), 2, 0, 0),
        made(&d, 3, 1, 1),
    ];
    let decision = decide_now(&d, &sets);
    assert!(
        decision
            .actions
            .contains(&Action::Delete(sets[0].name_any()))
    );
    assert!(
        !decision
            .actions
            .contains(&Action::Delete(sets[1].name_any()))
    );
}
