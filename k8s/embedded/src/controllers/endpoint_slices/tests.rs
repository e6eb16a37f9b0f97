use super::*;
use serde_json::json;

fn service(extra: serde_json::Value) -> Service {
    let mut value = json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "s"},
        "spec": {
            "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": "web"}],
        },
    });
    json_patch::merge(&mut value, &extra);
    serde_json::from_value(value).unwrap()
}

fn pod(name: &str, ready: bool, port: i32) -> Arc<Pod> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"}},
            "spec": {
                "nodeName": "n",
                "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": port}]}],
            },
            "status": {
                "podIP": format!("127.20.0.{name}"),
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
            },
        }))
        .unwrap(),
    )
}

fn ready(content: &Content) -> Vec<bool> {
    content
        .endpoints
        .iter()
        .map(|e| e.conditions.as_ref().unwrap().ready.unwrap())
        .collect()
}

#[test]
fn readiness_and_named_ports() {
    let contents = decide(
        &service(json!({})),
        &[pod("2", true, 8080), pod("3", false, 8080)],
    );
    assert_eq!(contents.len(), 1);
    assert_eq!(contents[0].ports[0].port, Some(8080));
    assert_eq!(ready(&contents[0]), [true, false]);
    let subsets = subsets(&contents);
    assert_eq!(subsets[0].addresses.as_ref().unwrap()[0].ip, "127.20.0.2");
    assert_eq!(
        subsets[0].not_ready_addresses.as_ref().unwrap()[0].ip,
        "127.20.0.3"
    );
}

#[test]
fn different_numbers_make_two_slices() {
    let contents = decide(
        &service(json!({})),
        &[pod("2", true, 8080), pod("3", true, 9090)],
    );
    assert_eq!(contents.len(), 2);
}

#[test]
fn nobody_is_an_empty_slice() {
    let contents = decide(&service(json!({})), &[]);
    assert_eq!(contents.len(), 1);
    assert!(contents[0].endpoints.is_empty() && contents[0].ports.is_empty());
    assert!(subsets(&contents).is_empty());
}

#[test]
fn terminating_pods_serve_but_are_not_ready() {
    let mut going = Pod::clone(&pod("2", true, 8080));
    going.metadata.deletion_timestamp =
        Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    let contents = decide(&service(json!({})), &[Arc::new(going)]);
    let conditions = contents[0].endpoints[0].conditions.clone().unwrap();
    assert_eq!(
        (conditions.ready, conditions.serving, conditions.terminating),
        (Some(false), Some(true), Some(true))
    );
    assert!(subsets(&contents).is_empty());
}

#[test]
fn not_ready_addresses_are_published_when_asked() {
    let publish = json!({"spec": {"publishNotReadyAddresses": true}});
    let contents = decide(&service(publish), &[pod("2", false, 8080)]);
    assert_eq!(ready(&contents[0]), [true]);
}

#[test]
fn services_without_selector_are_left_alone() {
    assert!(is_managed(&service(json!({}))));
    assert!(!is_managed(&service(json!({"spec": {"selector": null}}))));
    assert!(!is_managed(&service(
        json!({"spec": {"type": "ExternalName"}})
    )));
}
