//! Apply and update, one after the other, as managers do.

use super::*;
use crate::patch::managed::{self, Writer};

fn now() -> Timestamp {
    "2026-11-21T10:00:00Z".parse().unwrap()
}

fn config_map() -> Gvk {
    Gvk::new("", "v1", "ConfigMap")
}

fn with_data(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data})
}

fn try_data(
    live: Option<&Value>,
    manager: &str,
    force: bool,
    data: Value,
) -> Result<Value, ApplyError> {
    apply(
        live,
        &with_data(data),
        manager,
        force,
        &config_map(),
        None,
        None,
        now(),
    )
}

fn updated(old: Option<&Value>, new: Value, manager: &str, subresource: Option<&str>) -> Value {
    let mut new = new;
    managed::updated(
        old,
        &mut new,
        Writer {
            manager,
            subresource,
            schema: None,
            now: now(),
        },
    );
    new
}

/// `manager/operation: fields` of each entry.
fn owners(object: &Value) -> Vec<(String, Value)> {
    object["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| {
            let text = |key: &str| entry[key].as_str().unwrap_or("").to_owned();
            let mut name = format!("{}/{}", text("manager"), text("operation"));
            if let Some(subresource) = entry["subresource"].as_str() {
                name = format!("{name}/{subresource}");
            }
            (name, entry["fieldsV1"].clone())
        })
        .collect()
}

#[test]
fn create_then_leave_a_field_out() {
    let first = try_data(None, "m1", false, json!({"a": "1", "b": "2"})).unwrap();
    assert_eq!(first["data"], json!({"a": "1", "b": "2"}));
    assert_eq!(
        owners(&first),
        [("m1/Apply".into(), json!({"f:data": {"f:a": {}, "f:b": {}}}))]
    );
    assert_eq!(
        first["metadata"]["managedFields"][0]["time"],
        "2026-11-21T10:00:00Z"
    );
    let second = try_data(Some(&first), "m1", false, json!({"a": "1"})).unwrap();
    assert_eq!(second["data"], json!({"a": "1"}));
    assert_eq!(
        owners(&second),
        [("m1/Apply".into(), json!({"f:data": {"f:a": {}}}))]
    );
    assert_eq!(
        try_data(Some(&second), "m1", false, json!({"a": "1"})).unwrap(),
        second
    );
}

#[test]
fn managers_share_take_and_give_up() {
    let live = try_data(None, "m1", false, json!({"a": "1"})).unwrap();
    let error = try_data(Some(&live), "m2", false, json!({"a": "9"})).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"m1\": .data.a"
    );
    assert_eq!(error.status(), (409, "Conflict"));
    assert_eq!(
        error.causes(),
        [
            json!({"reason": "FieldManagerConflict", "message": "conflict with \"m1\"", "field": ".data.a"})
        ]
    );
    let shared = try_data(Some(&live), "m2", false, json!({"a": "1", "c": "3"})).unwrap();
    assert_eq!(
        owners(&shared),
        [
            ("m1/Apply".into(), json!({"f:data": {"f:a": {}}})),
            ("m2/Apply".into(), json!({"f:data": {"f:a": {}, "f:c": {}}}))
        ]
    );
    // Still owned by m1: it stays when m2 leaves it out.
    let left = try_data(Some(&shared), "m2", false, json!({"c": "3"})).unwrap();
    assert_eq!(left["data"], json!({"a": "1", "c": "3"}));
    let forced = try_data(Some(&live), "m2", true, json!({"a": "9"})).unwrap();
    assert_eq!(forced["data"]["a"], "9");
    assert_eq!(
        owners(&forced),
        [("m2/Apply".into(), json!({"f:data": {"f:a": {}}}))]
    );
}

#[test]
fn several_conflicts_are_listed_by_manager() {
    let live = try_data(None, "m1", false, json!({"a": "1", "b": "2"})).unwrap();
    let live = try_data(Some(&live), "m0", false, json!({"c": "3"})).unwrap();
    let error = try_data(
        Some(&live),
        "m2",
        false,
        json!({"a": "9", "b": "9", "c": "9"}),
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 3 conflicts: conflicts with \"m0\":\n- .data.c\nconflicts with \"m1\":\n- .data.a\n- .data.b"
    );
}

fn deployment() -> Gvk {
    Gvk::new("apps", "v1", "Deployment")
}

fn web(replicas: Value, containers: Value) -> Value {
    let mut web = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "ops"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"spec": {"containers": containers}}}});
    if !replicas.is_null() {
        web["spec"]["replicas"] = replicas;
    }
    web
}

fn apply_web(live: Option<&Value>, manager: &str, config: &Value) -> Result<Value, ApplyError> {
    apply(
        live,
        config,
        manager,
        false,
        &deployment(),
        None,
        None,
        now(),
    )
}

#[test]
fn a_deployment_defaulted_scaled_and_applied_again() {
    let config = web(
        json!(2),
        json!([{"name": "c", "image": "a:1", "ports": [{"containerPort": 80}]}]),
    );
    let mut live = apply_web(None, "kubectl", &config).unwrap();
    crate::defaults::apply(&deployment(), &mut live);
    // Defaults are nobody's, and applying again changes nothing.
    assert_eq!(apply_web(Some(&live), "kubectl", &config).unwrap(), live);

    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(4);
    let scaled = updated(Some(&live), scaled, "kubectl.1.32", Some("scale"));
    assert_eq!(
        owners(&scaled)[1],
        (
            "kubectl.1.32/Update/scale".into(),
            json!({"f:spec": {"f:replicas": {}}})
        )
    );
    let error = apply_web(Some(&scaled), "kubectl", &config).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"kubectl.1.32\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
    // Another image: the container's defaults stay; another container: it goes with them.
    let other = web(
        json!(4),
        json!([{"name": "c", "image": "a:2", "ports": [{"containerPort": 80}]}]),
    );
    let changed = apply_web(Some(&scaled), "kubectl", &other).unwrap();
    let container = &changed["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        (&container["image"], &container["imagePullPolicy"]),
        (&json!("a:2"), &json!("IfNotPresent"))
    );
    assert_eq!(
        container["ports"],
        json!([{"containerPort": 80, "protocol": "TCP"}])
    );
    let renamed = web(json!(4), json!([{"name": "d", "image": "a:2"}]));
    let changed = apply_web(Some(&changed), "kubectl", &renamed).unwrap();
    assert_eq!(
        changed["spec"]["template"]["spec"]["containers"],
        json!([{"name": "d", "image": "a:2"}])
    );
}

#[test]
fn updates_of_built_in_kinds_own_what_they_changed() {
    let config = web(json!(1), json!([{"name": "c", "image": "a:1"}]));
    let mut created = config.clone();
    crate::defaults::apply(&deployment(), &mut created);
    let created = updated(None, created, "kubectl-create", None);
    assert_eq!(
        owners(&created),
        [(
            "kubectl-create/Update".into(),
            json!({"f:spec": {
            "f:progressDeadlineSeconds": {}, "f:replicas": {}, "f:revisionHistoryLimit": {}, "f:selector": {},
            "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}}, "f:type": {}},
            "f:template": {"f:spec": {
                "f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {},
                    "f:resources": {}, "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {}}},
                "f:dnsPolicy": {}, "f:restartPolicy": {}, "f:schedulerName": {}, "f:securityContext": {},
                "f:terminationGracePeriodSeconds": {}}}}})
        )]
    );
    // The controller writes status and an annotation.
    let mut reconciled = created.clone();
    reconciled["metadata"]["annotations"] = json!({"revision": "1"});
    reconciled["status"] =
        json!({"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]});
    let reconciled = updated(Some(&created), reconciled, "controller", Some("status"));
    assert_eq!(
        owners(&reconciled)[0],
        (
            "controller/Update/status".into(),
            json!({
            "f:metadata": {"f:annotations": {".": {}, "f:revision": {}}},
            "f:status": {"f:replicas": {}, "f:conditions": {".": {}, "k:{\"type\":\"Available\"}": {".": {}, "f:status": {}, "f:type": {}}}}})
        )
    );
    // A write of the same is nobody's.
    assert_eq!(
        updated(Some(&reconciled), reconciled.clone(), "other", None),
        reconciled
    );
    // Another manager takes the image over.
    let mut edited = reconciled.clone();
    edited["spec"]["template"]["spec"]["containers"][0]["image"] = json!("a:2");
    let edited = updated(Some(&reconciled), edited, "kubectl-edit", None);
    let names: Vec<String> = owners(&edited).into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&"kubectl-edit/Update".to_owned()));
    let first = owners(&edited)
        .into_iter()
        .find(|(name, _)| name == "kubectl-create/Update")
        .unwrap()
        .1;
    assert!(
        first["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"]
            .get("f:image")
            .is_none()
    );
}

#[test]
fn kubectl_takes_over_from_client_side_apply() {
    let config = web(json!(2), json!([{"name": "c", "image": "a:1"}]));
    let mut live = config.clone();
    live["metadata"]["annotations"] = json!({LAST_APPLIED: format!("{config}\n")});
    let live = updated(None, live, "kubectl-client-side-apply", None);
    let new = web(json!(3), json!([{"name": "c", "image": "a:2"}]));
    let taken = apply_web(Some(&live), "kubectl", &new).unwrap();
    assert_eq!(taken["spec"]["replicas"], 3);
    assert_eq!(
        taken["metadata"]["annotations"][LAST_APPLIED],
        format!("{new}\n")
    );
    // What has changed since the annotation was written is not kubectl's.
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(7);
    let scaled = updated(Some(&live), scaled, "kubectl.1.32", Some("scale"));
    let error = apply_web(Some(&scaled), "kubectl", &new).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("with subresource \"scale\" using apps/v1: .spec.replicas"),
        "{error}"
    );
    let error = apply_web(Some(&live), "other", &new).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"kubectl-client-side-apply\" using apps/v1:\n\
         - .spec.replicas\n- .spec.template.spec.containers[name=\"c\"].image"
    );
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut config = web(json!(1), json!([{"name": "c"}]));
    config["spec"]["nosuch"] = json!(1);
    let error = apply_web(None, "m", &config).unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to create typed patch object (ops/web; apps/v1, Kind=Deployment): .spec.nosuch: field not declared in schema"
    );
    assert_eq!(error.status().0, 500);
    let error = apply_web(
        None,
        "m",
        &web(json!(1), json!([{"name": "c"}, {"name": "c"}])),
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with(".spec.template.spec.containers: duplicate entries for key [name=\"c\"]")
    );
    let mut config = with_data(json!({}));
    config["metadata"]["managedFields"] = json!([{"manager": "x"}]);
    let error = apply(None, &config, "m", false, &config_map(), None, None, now()).unwrap_err();
    assert_eq!(error.to_string(), "metadata.managedFields must be nil");
}

#[test]
fn custom_resources_by_their_schema() {
    let gvk = Gvk::new("a.example", "v1", "Thing");
    let schema = json!({"properties": {"spec": {"properties": {"servers": {
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
        "items": {"properties": {"id": {}, "hosts": {"type": "array"}}}}}}}});
    let thing = |spec: Value| json!({"apiVersion": "a.example/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": spec});
    let go = |live: Option<&Value>, manager: &str, spec: Value| {
        apply(
            live,
            &thing(spec),
            manager,
            false,
            &gvk,
            Some(&schema),
            None,
            now(),
        )
        .unwrap()
    };
    let live = go(None, "a", json!({"servers": [{"id": 1, "hosts": ["x"]}]}));
    let live = go(
        Some(&live),
        "b",
        json!({"servers": [{"id": 2, "hosts": ["y"]}]}),
    );
    assert_eq!(
        live["spec"]["servers"],
        json!([{"id": 1, "hosts": ["x"]}, {"id": 2, "hosts": ["y"]}])
    );
    let live = go(Some(&live), "a", json!({"servers": []}));
    assert_eq!(live["spec"]["servers"], json!([{"id": 2, "hosts": ["y"]}]));
}

#[test]
fn managed_fields_can_be_cleared_and_replaced() {
    let live = try_data(None, "m1", false, json!({"a": "1"})).unwrap();
    let mut cleared = live.clone();
    cleared["metadata"]["managedFields"] = json!([{}]);
    let cleared = updated(Some(&live), cleared, "x", None);
    assert!(cleared["metadata"].get("managedFields").is_none());
    let mut replaced = live.clone();
    replaced["metadata"]["managedFields"][0]["manager"] = json!("m9");
    let replaced = updated(Some(&live), replaced, "x", None);
    assert_eq!(owners(&replaced)[0].0, "m9/Apply");
    // A client that sends none keeps those of the server.
    let mut silent = live.clone();
    silent["metadata"]
        .as_object_mut()
        .unwrap()
        .shift_remove("managedFields");
    let silent = updated(Some(&live), silent, "x", None);
    assert_eq!(owners(&silent)[0].0, "m1/Apply");
}
