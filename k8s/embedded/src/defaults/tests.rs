//! What is posted and what is stored, per kind.

use serde_json::{Value, json};

use super::apply;
use crate::gvk::Gvk;

fn stored(api_version: &str, kind: &str, mut object: Value) -> Value {
    apply(&Gvk::from_api_version(api_version, kind), &mut object);
    let mut again = object.clone();
    apply(&Gvk::from_api_version(api_version, kind), &mut again);
    assert_eq!(again, object, "defaulting twice changes nothing");
    object
}

fn container(extra: Value) -> Value {
    let mut container = json!({
        "resources": {}, "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File", "imagePullPolicy": "IfNotPresent"});
    json_patch::merge(&mut container, &extra);
    container
}

#[test]
fn the_smallest_pod() {
    let pod = stored(
        "v1",
        "Pod",
        json!({"spec": {"containers": [{"name": "web", "image": "app:1"}]}}),
    );
    assert_eq!(
        pod,
        json!({
            "spec": {
                "containers": [container(json!({"name": "web", "image": "app:1"}))],
                "restartPolicy": "Always", "terminationGracePeriodSeconds": 30,
                "dnsPolicy": "ClusterFirst", "serviceAccountName": "default", "serviceAccount": "default",
                "securityContext": {}, "schedulerName": "default-scheduler",
                "tolerations": [
                    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                    {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
                "priority": 0, "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority"},
            "status": {"phase": "Pending", "qosClass": "BestEffort"}})
    );
}

#[test]
fn a_pods_probes_ports_volumes_and_resources() {
    let pod = stored(
        "v1",
        "Pod",
        json!({"spec": {
            "nodeName": "", "hostNetwork": true,
            "containers": [{
                "name": "web", "image": "app", "ports": [{"containerPort": 9080}],
                "livenessProbe": {"httpGet": {"port": 9080}}, "startupProbe": {"grpc": {"port": 9}},
                "lifecycle": {"preStop": {"httpGet": {"port": 9080}}},
                "resources": {"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "1"}},
                "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]}],
            "volumes": [
                {"name": "c", "configMap": {"name": "x"}}, {"name": "p", "hostPath": {"path": "/"}}, {"name": "n"},
                {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}}),
    );
    let web = &pod["spec"]["containers"][0];
    assert_eq!(web["imagePullPolicy"], "Always");
    assert_eq!(
        web["ports"],
        json!([{"containerPort": 9080, "hostPort": 9080, "protocol": "TCP"}])
    );
    assert_eq!(
        web["livenessProbe"],
        json!({"httpGet": {"port": 9080, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
               "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3})
    );
    assert_eq!(
        web["startupProbe"]["grpc"],
        json!({"port": 9, "service": ""})
    );
    assert_eq!(web["lifecycle"]["preStop"]["httpGet"]["scheme"], "HTTP");
    assert_eq!(
        web["resources"]["requests"],
        json!({"cpu": "1", "memory": "64Mi"})
    );
    assert_eq!(web["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
    assert_eq!(pod["status"]["qosClass"], "Guaranteed");
    assert_eq!(
        pod["spec"]["volumes"],
        json!([
            {"name": "c", "configMap": {"name": "x", "defaultMode": 420}},
            {"name": "p", "hostPath": {"path": "/", "type": ""}},
            {"name": "n", "emptyDir": {}},
            {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}], "defaultMode": 420}}])
    );
    assert!(pod["spec"].get("nodeName").is_none());
}

#[test]
fn image_tags_decide_the_pull_policy() {
    for (image, policy) in [
        ("app", "Always"),
        ("registry:5000/app", "Always"),
        ("registry:5000/app:latest", "Always"),
        ("app:1", "IfNotPresent"),
        ("app@sha256:ab", "IfNotPresent"),
    ] {
        let pod = stored(
            "v1",
            "Pod",
            json!({"spec": {"containers": [{"image": image}]}}),
        );
        assert_eq!(
            pod["spec"]["containers"][0]["imagePullPolicy"], policy,
            "{image}"
        );
    }
}

#[test]
fn a_deployment() {
    let deployment = stored(
        "apps/v1",
        "Deployment",
        json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x:1"}]}}}}),
    );
    assert_eq!(
        deployment,
        json!({
            "spec": {
                "replicas": 1, "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
                    "containers": [container(json!({"name": "c", "image": "x:1"}))],
                    "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
                    "securityContext": {}, "schedulerName": "default-scheduler"}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
                "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600},
            "status": {}})
    );
    let recreate = stored(
        "apps/v1",
        "Deployment",
        json!({"spec": {"replicas": 0, "strategy": {"type": "Recreate"}}}),
    );
    assert_eq!(recreate["spec"]["strategy"], json!({"type": "Recreate"}));
    assert_eq!(recreate["spec"]["replicas"], 0);
}

#[test]
fn services_of_each_type() {
    let spec = |spec: Value| stored("v1", "Service", json!({"spec": spec}))["spec"].clone();
    assert_eq!(
        spec(json!({"selector": {"a": "b"}, "ports": [{"port": 80}]})),
        json!({"selector": {"a": "b"}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
               "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
               "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"})
    );
    let node_port =
        spec(json!({"type": "NodePort", "ports": [{"port": 80, "targetPort": "http"}]}));
    assert_eq!(node_port["externalTrafficPolicy"], "Cluster");
    assert_eq!(node_port["ports"][0]["targetPort"], "http");
    let balancer = spec(json!({"type": "LoadBalancer", "sessionAffinity": "ClientIP"}));
    assert_eq!(
        balancer["sessionAffinityConfig"],
        json!({"clientIP": {"timeoutSeconds": 10800}})
    );
    assert_eq!(balancer["allocateLoadBalancerNodePorts"], true);
    let headless = spec(json!({"clusterIP": "None", "ports": [{"port": 80}]}));
    assert_eq!(headless["ipFamilyPolicy"], "RequireDualStack");
    assert_eq!(
        spec(json!({"type": "ExternalName", "externalName": "a.example"})),
        json!({"type": "ExternalName", "externalName": "a.example", "sessionAffinity": "None"})
    );
}

#[test]
fn the_small_kinds() {
    let namespace = stored("v1", "Namespace", json!({"metadata": {"name": "shop"}}));
    assert_eq!(
        namespace["metadata"]["labels"],
        json!({"kubernetes.io/metadata.name": "shop"})
    );
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(namespace["status"]["phase"], "Active");

    let secret = stored("v1", "Secret", json!({"stringData": {"a": "b"}}));
    assert_eq!(secret, json!({"data": {"a": "Yg=="}, "type": "Opaque"}));

    let binding = stored(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}]}),
    );
    assert_eq!(
        binding["subjects"][0]["apiGroup"],
        "rbac.authorization.k8s.io"
    );
    assert!(binding["subjects"][1].get("apiGroup").is_none());
    assert_eq!(binding["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");

    let slice = stored(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        json!({"endpoints": [{"addresses": ["1.2.3.4"]}], "ports": [{"port": 80}]}),
    );
    assert_eq!(slice["endpoints"][0]["conditions"], json!({}));
    assert_eq!(
        slice["ports"][0],
        json!({"port": 80, "name": "", "protocol": "TCP"})
    );

    let empty = stored(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        json!({"endpoints": [], "ports": []}),
    );
    assert_eq!(empty["endpoints"], Value::Null);
    assert_eq!(empty["ports"], Value::Null);

    let event = stored("v1", "Event", json!({"reason": "Test"}));
    assert_eq!(event["eventTime"], Value::Null);
    assert_eq!(event["reportingComponent"], "");

    let scaler = stored(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        json!({"spec": {"maxReplicas": 3}}),
    );
    assert_eq!(
        scaler["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        80
    );
    assert_eq!(scaler["spec"]["minReplicas"], 1);
}

#[test]
fn webhooks_and_definitions() {
    let hook = stored(
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        json!({"webhooks": [{"name": "a.example.com", "clientConfig": {"service": {"name": "s", "namespace": "n"}}, "rules": [{"operations": ["CREATE"]}]}]}),
    );
    assert_eq!(
        hook["webhooks"][0],
        json!({"name": "a.example.com", "clientConfig": {"service": {"name": "s", "namespace": "n", "port": 443}},
               "rules": [{"operations": ["CREATE"], "scope": "*"}], "failurePolicy": "Fail", "matchPolicy": "Equivalent",
               "namespaceSelector": {}, "objectSelector": {}, "timeoutSeconds": 10, "reinvocationPolicy": "Never"})
    );
    let crd = stored(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        json!({"spec": {"names": {"kind": "Widget", "plural": "widgets"}, "versions": [{"name": "v1", "storage": true}]}}),
    );
    assert_eq!(crd["spec"]["names"]["listKind"], "WidgetList");
    assert_eq!(crd["spec"]["conversion"], json!({"strategy": "None"}));
    assert_eq!(crd["status"]["storedVersions"], json!(["v1"]));
}

#[test]
fn a_job_owns_its_pods_by_uid() {
    let job = stored(
        "batch/v1",
        "Job",
        json!({"metadata": {"name": "j", "uid": "u-1"}, "spec": {"template": {"spec": {"containers": []}}}}),
    );
    assert_eq!(
        job["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"],
        "u-1"
    );
    assert_eq!(job["metadata"]["labels"]["job-name"], "j");
    assert_eq!(job["spec"]["completions"], 1);
}

#[test]
fn unexpected_types_are_left_for_validation() {
    let odd = json!({"spec": "text", "metadata": []});
    for kind in ["Pod", "Service", "Namespace", "Secret"] {
        let object = stored("v1", kind, odd.clone());
        assert_eq!(object["spec"], "text");
    }
    let mut text = json!("text");
    apply(&Gvk::new("", "v1", "Pod"), &mut text);
    assert_eq!(text, "text");
}
