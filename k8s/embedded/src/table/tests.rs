//! Rows as a cluster prints them.

use super::*;

fn now() -> Timestamp {
    "2026-11-21T10:00:00Z".parse().unwrap()
}

fn row_of(api_version: &str, kind: &str, object: Value) -> Vec<Value> {
    let gvk = Gvk::from_api_version(api_version, kind);
    let mut object = object;
    object["metadata"]["creationTimestamp"] = json!("2026-11-21T09:59:28Z");
    let table = render(&gvk, &[object], None, "None", now());
    let columns = table["columnDefinitions"].as_array().unwrap().len();
    let cells = table["rows"][0]["cells"].as_array().unwrap().clone();
    assert_eq!(cells.len(), columns, "a cell per column");
    cells
}

fn pod(spec: Value, status: Value) -> Vec<Value> {
    row_of(
        "v1",
        "Pod",
        json!({"metadata": {"name": "p"}, "spec": spec, "status": status}),
    )
}

fn one_container() -> Value {
    json!({"containers": [{"name": "c"}], "nodeName": "node-1"})
}

/// Ready, status and restarts of a pod with one container in this state.
fn with_state(phase: &str, state: Value, more: Value) -> [Value; 3] {
    let mut status = json!({"name": "c", "ready": false, "restartCount": 0, "state": state});
    json_patch::merge(&mut status, &more);
    let cells = pod(
        one_container(),
        json!({"phase": phase, "containerStatuses": [status]}),
    );
    [cells[1].clone(), cells[2].clone(), cells[3].clone()]
}

#[test]
fn pods_in_every_state() {
    let running = json!({"running": {}});
    assert_eq!(
        with_state("Running", running.clone(), json!({"ready": true})),
        ["1/1", "Running", "0"]
    );
    assert_eq!(
        with_state("Running", running, json!({})),
        ["0/1", "Running", "0"]
    );
    let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
    assert_eq!(
        with_state(
            "Running",
            waiting("CrashLoopBackOff"),
            json!({
            "restartCount": 2, "lastState": {"terminated": {"finishedAt": "2026-11-21T09:59:42Z"}}})
        ),
        ["0/1", "CrashLoopBackOff", "2 (18s ago)"]
    );
    assert_eq!(
        with_state("Pending", waiting("ImagePullBackOff"), json!({})),
        ["0/1", "ImagePullBackOff", "0"]
    );
    assert_eq!(
        with_state("Pending", waiting("ContainerCreating"), json!({})),
        ["0/1", "ContainerCreating", "0"]
    );
    let ended =
        |reason: &str, code: i64| json!({"terminated": {"reason": reason, "exitCode": code}});
    assert_eq!(
        with_state("Succeeded", ended("Completed", 0), json!({})),
        ["0/1", "Completed", "0"]
    );
    assert_eq!(
        with_state("Failed", ended("Error", 3), json!({})),
        ["0/1", "Error", "0"]
    );
    assert_eq!(
        with_state("Failed", ended("", 3), json!({})),
        ["0/1", "ExitCode:3", "0"]
    );
    let killed = json!({"terminated": {"exitCode": 137, "signal": 9}});
    assert_eq!(
        with_state("Failed", killed, json!({})),
        ["0/1", "Signal:9", "0"]
    );
}

#[test]
fn a_pending_pod_and_its_wide_columns() {
    let cells = pod(
        json!({"containers": [{"name": "c"}]}),
        json!({"phase": "Pending"}),
    );
    assert_eq!(
        cells,
        [
            "p", "0/1", "Pending", "0", "32s", "<none>", "<none>", "<none>", "<none>"
        ]
        .map(Value::from)
    );
    let cells = pod(
        json!({"containers": [{"name": "c"}], "nodeName": "n", "readinessGates": [{"conditionType": "x"}, {"conditionType": "y"}]}),
        json!({"phase": "Running", "podIP": "127.16.0.2", "podIPs": [{"ip": "127.16.0.2"}],
               "conditions": [{"type": "x", "status": "True"}]}),
    );
    assert_eq!(
        cells[5..],
        ["127.16.0.2", "n", "<none>", "1/2"].map(Value::from)
    );
}

#[test]
fn init_containers_and_sidecars() {
    let spec = json!({
        "initContainers": [{"name": "setup"}, {"name": "proxy", "restartPolicy": "Always"}],
        "containers": [{"name": "app"}]});
    let status = |setup: Value, proxy: Value, app: Value| {
        json!({"phase": "Pending", "initContainerStatuses": [
            {"name": "setup", "restartCount": 0, "state": setup},
            {"name": "proxy", "restartCount": 1, "state": {"running": {}}, "started": proxy, "ready": proxy}],
            "containerStatuses": [{"name": "app", "ready": app, "restartCount": 0,
                "state": if app == true { json!({"running": {}}) } else { json!({"waiting": {"reason": "PodInitializing"}}) }}]})
    };
    let done = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
    let waiting = json!({"waiting": {"reason": "PodInitializing"}});
    let show = |status: Value| {
        let cells = pod(spec.clone(), status);
        (
            cells[1].as_str().unwrap().to_owned(),
            cells[2].as_str().unwrap().to_owned(),
        )
    };
    let expect = |ready: &str, word: &str| (ready.to_owned(), word.to_owned());
    assert_eq!(
        show(status(waiting, json!(false), json!(false))),
        expect("0/2", "Init:0/2")
    );
    assert_eq!(
        show(status(done.clone(), json!(false), json!(false))),
        expect("0/2", "Init:1/2")
    );
    assert_eq!(
        show(status(done.clone(), json!(true), json!(false))),
        expect("1/2", "PodInitializing")
    );
    let mut running = status(done, json!(true), json!(true));
    running["phase"] = json!("Running");
    assert_eq!(show(running), expect("2/2", "Running"));
    let failed = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
    assert_eq!(
        show(status(failed, json!(false), json!(false))),
        expect("0/2", "Init:Error")
    );
    let looping = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    assert_eq!(
        show(status(looping, json!(false), json!(false))),
        expect("0/2", "Init:CrashLoopBackOff")
    );
}

#[test]
fn deleted_and_finished_pods() {
    let object = |phase: &str| {
        json!({"metadata": {"name": "p", "deletionTimestamp": "2026-11-21T10:00:20Z"},
               "spec": {"containers": [{"name": "c"}]}, "status": {"phase": phase}})
    };
    assert_eq!(row_of("v1", "Pod", object("Running"))[2], "Terminating");
    assert_eq!(row_of("v1", "Pod", object("Failed"))[2], "Failed");
    let gvk = Gvk::new("", "v1", "Pod");
    let table = render(&gvk, &[object("Succeeded")], None, "Metadata", now());
    assert_eq!(table["rows"][0]["conditions"][0]["reason"], "Succeeded");
}

#[test]
fn services_of_each_type() {
    let row = |spec: Value, status: Value| {
        let cells = row_of(
            "v1",
            "Service",
            json!({"metadata": {"name": "s"}, "spec": spec, "status": status}),
        );
        let texts: Vec<String> = cells
            .iter()
            .map(|cell| cell.as_str().unwrap().to_owned())
            .collect();
        texts[1..].join(" ")
    };
    let port = json!([{"port": 9080, "protocol": "TCP"}]);
    assert_eq!(
        row(
            json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": port, "selector": {"b": "2", "a": "1"}}),
            json!({})
        ),
        "ClusterIP 10.0.0.1 <none> 9080/TCP 32s a=1,b=2"
    );
    let balancer = json!({"type": "LoadBalancer", "clusterIP": "10.0.0.1", "ports": [
        {"port": 80, "nodePort": 30135, "protocol": "TCP"}, {"port": 443, "nodePort": 31390, "protocol": "TCP"}]});
    assert_eq!(
        row(balancer.clone(), json!({})),
        "LoadBalancer 10.0.0.1 <pending> 80:30135/TCP,443:31390/TCP 32s <none>"
    );
    assert_eq!(
        row(
            balancer,
            json!({"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}})
        ),
        "LoadBalancer 10.0.0.1 127.0.0.1 80:30135/TCP,443:31390/TCP 32s <none>"
    );
    assert_eq!(
        row(
            json!({"type": "ExternalName", "externalName": "example.org"}),
            json!({})
        ),
        "ExternalName <none> example.org <none> 32s <none>"
    );
}

#[test]
fn endpoints_slices_and_ingresses() {
    let cells = row_of(
        "v1",
        "Endpoints",
        json!({"metadata": {"name": "e"}, "subsets": [{
        "addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"port": 8080}, {"port": 8443}]}]}),
    );
    assert_eq!(
        cells[1],
        "10.0.0.1:8080,10.0.0.2:8080,10.0.0.1:8443 + 1 more..."
    );
    let cells = row_of(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        json!({"metadata": {"name": "e"}, "addressType": "IPv4",
        "ports": [{"port": 8080}, {"port": 8443}], "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}]}),
    );
    assert_eq!(
        cells[1..4],
        ["IPv4", "8080,8443", "10.0.0.1,10.0.0.2"].map(Value::from)
    );
    let cells = row_of(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        json!({"metadata": {"name": "e"}, "endpoints": null, "ports": null}),
    );
    assert_eq!(cells[2..4], ["<unset>", "<unset>"].map(Value::from));
    let cells = row_of(
        "networking.k8s.io/v1",
        "Ingress",
        json!({"metadata": {"name": "i"}, "spec": {"rules": [{"host": "a.example"}], "tls": [{}]}}),
    );
    assert_eq!(
        cells[1..5],
        ["<none>", "a.example", "", "80, 443"].map(Value::from)
    );
}

#[test]
fn workloads() {
    let template = json!({"spec": {"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]}});
    let cells = row_of(
        "apps/v1",
        "Deployment",
        json!({"metadata": {"name": "d"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "x"}}, "template": template},
        "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1}}),
    );
    assert_eq!(
        Value::Array(cells),
        json!(["d", "1/2", 2, 1, "32s", "a,b", "a:1,b:1", "app=x"])
    );
    let cells = row_of(
        "apps/v1",
        "ReplicaSet",
        json!({"metadata": {"name": "r"}, "spec": {"replicas": 2, "template": template}, "status": {"replicas": 1}}),
    );
    assert_eq!(
        Value::Array(cells),
        json!(["r", 2, 1, 0, "32s", "a,b", "a:1,b:1", "<none>"])
    );
    let cells = row_of(
        "batch/v1",
        "Job",
        json!({"metadata": {"name": "j"}, "spec": {"completions": 1},
        "status": {"succeeded": 1, "startTime": "2026-11-21T09:59:28Z", "completionTime": "2026-11-21T09:59:32Z",
                   "conditions": [{"type": "Complete", "status": "True"}]}}),
    );
    assert_eq!(cells[1..4], ["Complete", "1/1", "4s"].map(Value::from));
    let scaler = json!({"metadata": {"name": "h"}, "spec": {"minReplicas": 1, "maxReplicas": 3,
        "scaleTargetRef": {"kind": "Deployment", "name": "d"},
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]},
        "status": {"currentReplicas": 2, "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 12}}}]}});
    let cells = row_of("autoscaling/v2", "HorizontalPodAutoscaler", scaler.clone());
    assert_eq!(
        Value::Array(cells),
        json!(["h", "Deployment/d", "cpu: 12%/50%", "1", 3, 2, "32s"])
    );
    let mut unknown = scaler;
    unknown["status"] = json!({"currentMetrics": null});
    assert_eq!(
        row_of("autoscaling/v2", "HorizontalPodAutoscaler", unknown)[2],
        "cpu: <unknown>/50%"
    );
}

#[test]
fn nodes_events_and_the_small_kinds() {
    let cells = row_of(
        "v1",
        "Node",
        json!({"metadata": {"name": "node-1"}, "spec": {"unschedulable": true}, "status": {
        "conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "nodeInfo": {"kubeletVersion": "v1.36.2", "kernelVersion": "6.1", "architecture": "amd64"}}}),
    );
    assert_eq!(
        Value::Array(cells),
        json!([
            "node-1",
            "Ready,SchedulingDisabled",
            "<none>",
            "32s",
            "v1.36.2",
            "127.0.0.1",
            "<none>",
            "<unknown>",
            "6.1 (amd64)",
            "<unknown>"
        ])
    );
    let cells = row_of(
        "v1",
        "Event",
        json!({"metadata": {"name": "e.1"}, "type": "Normal", "reason": "Pulled", "message": "text ",
        "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"}, "source": {"component": "kubelet", "host": "node-1"},
        "firstTimestamp": "2026-11-21T09:59:00Z", "lastTimestamp": "2026-11-21T09:59:50Z", "count": 2}),
    );
    assert_eq!(
        Value::Array(cells),
        json!([
            "10s",
            "Normal",
            "Pulled",
            "pod/p",
            "spec.containers{c}",
            "kubelet, node-1",
            "text",
            "60s",
            2,
            "e.1"
        ])
    );
    let cells = row_of(
        "events.k8s.io/v1",
        "Event",
        json!({"metadata": {"name": "e"}, "regarding": {"kind": "Pod", "name": "p"},
        "note": "n", "eventTime": "2026-11-21T09:59:00.000000Z", "reportingController": "c", "reportingInstance": "i"}),
    );
    assert_eq!(
        (&cells[0], &cells[3], &cells[5], &cells[6]),
        (&json!("60s"), &json!("pod/p"), &json!("c, i"), &json!("n"))
    );
    assert_eq!(
        row_of(
            "v1",
            "ConfigMap",
            json!({"metadata": {"name": "c"}, "data": {"a": "", "b": ""}})
        )[1],
        2
    );
    assert_eq!(
        row_of(
            "v1",
            "Namespace",
            json!({"metadata": {"name": "n"}, "status": {"phase": "Active"}})
        )[1],
        "Active"
    );
    let cells = row_of(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        json!({"metadata": {"name": "c"}}),
    );
    assert_eq!(cells[1], "2026-11-21T09:59:28Z");
    let cells = row_of(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        json!({"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "namespace": "n", "name": "s"}]}),
    );
    assert_eq!(
        cells[1..],
        ["Role/r", "32s", "u", "", "n/s"].map(Value::from)
    );
}

#[test]
fn custom_resources_by_their_columns() {
    let gvk = Gvk::new("networking.istio.io", "v1", "VirtualService");
    let columns = [
        json!({"name": "Gateways", "type": "string", "jsonPath": ".spec.gateways", "description": "d"}),
        json!({"name": "Size", "type": "integer", "jsonPath": ".spec.size", "priority": 1}),
        json!({"name": "Mode", "type": "string", "jsonPath": ".spec.mtls.mode"}),
        json!({"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}),
        json!({"name": "Label", "type": "string", "jsonPath": ".metadata.labels['a\\.b']"}),
        json!({"name": "First", "type": "string", "jsonPath": ".spec.gateways[0]"}),
        json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}),
    ];
    let object = json!({
        "metadata": {"name": "v", "creationTimestamp": "2026-11-21T09:59:28Z", "labels": {"a.b": "c"}},
        "spec": {"gateways": ["mesh", "gw"], "size": 3},
        "status": {"conditions": [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]}});
    let table = render(
        &gvk,
        std::slice::from_ref(&object),
        Some(&columns),
        "Metadata",
        now(),
    );
    assert_eq!(
        table["rows"][0]["cells"],
        json!([
            "v",
            "[\"mesh\",\"gw\"]",
            3,
            null,
            "True",
            "c",
            "mesh",
            "32s"
        ])
    );
    assert_eq!(table["columnDefinitions"][2]["priority"], 1);
    assert_eq!(table["columnDefinitions"][7]["type"], "date");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert!(table["rows"][0]["object"].get("spec").is_none());

    let table = render(&gvk, std::slice::from_ref(&object), None, "Object", now());
    assert_eq!(table["rows"][0]["cells"], json!(["v", "32s"]));
    assert_eq!(table["rows"][0]["object"], object);
    let table = render(&gvk, &[], None, "None", now());
    assert_eq!(table["rows"], json!([]));
    assert_eq!(table["columnDefinitions"].as_array().unwrap().len(), 2);
}
