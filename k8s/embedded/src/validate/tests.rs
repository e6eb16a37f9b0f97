//! Objects that are refused, and the words.

use serde_json::{Value, json};

use super::{FieldError, object};
use crate::defaults;
use crate::gvk::Gvk;

/// `field: message` of everything wrong with an object, after defaulting.
fn wrong(api_version: &str, kind: &str, new: Value) -> Vec<String> {
    changed(api_version, kind, None, new)
}

fn changed(api_version: &str, kind: &str, old: Option<Value>, mut new: Value) -> Vec<String> {
    let gvk = Gvk::from_api_version(api_version, kind);
    defaults::apply(&gvk, &mut new);
    let old = old.map(|mut old| {
        defaults::apply(&gvk, &mut old);
        old
    });
    let line = |error: FieldError| format!("{}: {}", error.field, error.message);
    object(&gvk, old.as_ref(), &new)
        .into_iter()
        .map(line)
        .collect()
}

fn named(name: &str) -> Value {
    json!({"name": name})
}

#[test]
fn metadata_of_every_kind() {
    let config = |metadata: Value| wrong("v1", "ConfigMap", json!({"metadata": metadata}));
    assert_eq!(config(named("c-1.example")), [""; 0]);
    assert!(config(named("Bad_Name"))[0].starts_with(
        "metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 subdomain must consist of"
    ));
    assert_eq!(
        config(json!({})),
        ["metadata.name: Required value: name or generateName is required"]
    );
    let labels = config(json!({"name": "l", "labels": {"a": "bad value!", "/x": "y"}}));
    assert!(
        labels[0]
            .starts_with("metadata.labels: Invalid value: \"bad value!\": a valid label must be")
    );
    assert_eq!(
        labels[1],
        "metadata.labels: Invalid value: \"/x\": prefix part must be non-empty"
    );
    assert_eq!(
        wrong("v1", "Namespace", json!({"metadata": named("a.b")})),
        ["metadata.name: Invalid value: \"a.b\": must not contain dots"]
    );
    assert_eq!(
        wrong(
            "rbac.authorization.k8s.io/v1",
            "Role",
            json!({"metadata": named("a:B")})
        ),
        [""; 0]
    );
    let big = "x".repeat(300_000);
    assert_eq!(
        config(json!({"name": "c", "annotations": {"a": big}})),
        ["metadata.annotations: Too long: may not be more than 262144 bytes"]
    );
    assert_eq!(
        wrong("a.example/v1", "Thing", json!({"metadata": named("t")})),
        [""; 0]
    );
}

#[test]
fn config_maps_and_secrets() {
    let bad = wrong(
        "v1",
        "ConfigMap",
        json!({"metadata": named("c"), "data": {"a b": "x"}}),
    );
    assert!(
        bad[0].starts_with("data[a b]: Invalid value: \"a b\": a valid config key must consist of")
    );
    let big = "x".repeat(1_100_000);
    assert_eq!(
        wrong(
            "v1",
            "ConfigMap",
            json!({"metadata": named("c"), "data": {"a": big}})
        ),
        ["[]: Too long: may not be more than 1048576 bytes"]
    );
    let old = json!({"metadata": named("c"), "data": {"a": "1"}, "immutable": true});
    let new = json!({"metadata": named("c"), "data": {"a": "2"}, "immutable": true});
    assert_eq!(
        changed("v1", "ConfigMap", Some(old), new),
        ["data: Forbidden: field is immutable when `immutable` is set"]
    );
    let tls = json!({"metadata": named("s"), "type": "kubernetes.io/tls", "data": {"tls.crt": ""}});
    assert_eq!(
        wrong("v1", "Secret", tls.clone()),
        ["data[tls.key]: Required value"]
    );
    let opaque = json!({"metadata": named("s"), "data": {"tls.crt": "", "tls.key": ""}});
    assert_eq!(
        changed("v1", "Secret", Some(tls), opaque),
        ["type: Invalid value: \"Opaque\": field is immutable"]
    );
}

fn deployment(spec: Value) -> Value {
    json!({"metadata": named("x"), "spec": spec})
}

fn template(labels: Value, containers: Value) -> Value {
    json!({"metadata": {"labels": labels}, "spec": {"containers": containers}})
}

#[test]
fn deployments() {
    let check = |spec: Value| wrong("apps/v1", "Deployment", deployment(spec));
    let containers = json!([{"name": "c", "image": "x:1"}]);
    let good = |replicas: i64| {
        json!({"replicas": replicas, "selector": {"matchLabels": {"a": "b"}},
               "template": template(json!({"a": "b"}), containers.clone())})
    };
    assert_eq!(check(good(1)), [""; 0]);
    assert_eq!(
        check(good(-1)),
        ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]
    );
    assert_eq!(
        check(json!({})),
        [
            "spec.selector: Required value",
            "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`",
            "spec.template.spec.containers: Required value"
        ]
    );
    let mut other = good(0);
    other["selector"] = json!({"matchLabels": {"a": "z"}});
    assert_eq!(
        check(other),
        [
            "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`"
        ]
    );
    let mut new = good(0);
    new["selector"] = json!({"matchLabels": {"a": "b", "c": "d"}});
    new["template"]["metadata"]["labels"] = json!({"a": "b", "c": "d"});
    assert_eq!(
        changed(
            "apps/v1",
            "Deployment",
            Some(deployment(good(0))),
            deployment(new)
        ),
        [
            "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\",\"c\":\"d\"}}: field is immutable"
        ]
    );
    let mut rolling = good(1);
    rolling["strategy"] = json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}});
    assert_eq!(
        check(rolling),
        [
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"
        ]
    );
}

#[test]
fn many_errors_in_order() {
    let mut template = template(
        json!({"a": "b"}),
        json!([{"name": "c"}, {"name": "c", "image": "x", "ports": [{"containerPort": 70000}],
            "imagePullPolicy": "Sometimes", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}]),
    );
    template["spec"]["restartPolicy"] = json!("Never");
    let spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template});
    assert_eq!(
        wrong("apps/v1", "Deployment", deployment(spec)),
        [
            "spec.template.spec.containers[0].image: Required value",
            "spec.template.spec.containers[1].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "spec.template.spec.containers[1].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            "spec.template.spec.containers[1].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            "spec.template.spec.containers[1].name: Duplicate value: \"c\"",
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""
        ]
    );
}

fn pod(spec: Value) -> Value {
    json!({"metadata": named("p"), "spec": spec})
}

#[test]
fn pods() {
    let check = |spec: Value| wrong("v1", "Pod", pod(spec));
    let found = check(
        json!({"containers": [{"name": "C_1", "image": "x", "volumeMounts": [{"name": "v", "mountPath": ""}]}]}),
    );
    assert!(found[0].starts_with(
        "spec.containers[0].name: Invalid value: \"C_1\": a lowercase RFC 1123 label"
    ));
    assert_eq!(
        found[1..],
        [
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
            "spec.containers[0].volumeMounts[0].mountPath: Required value"
        ]
    );
    let container = |extra: Value| -> Vec<String> {
        let mut container = json!({"name": "c", "image": "x"});
        json_patch::merge(&mut container, &extra);
        check(json!({"containers": [container], "volumes": [{"name": "v", "emptyDir": {}}]}))
    };
    assert_eq!(
        container(
            json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}], "env": [{"name": "A.b", "value": "x"}],
        "readinessProbe": {"httpGet": {"port": "http"}}, "ports": [{"name": "http", "containerPort": 80}]})
        ),
        [""; 0]
    );
    for (extra, expected) in [
        (
            json!({"env": [{"value": "x"}]}),
            "spec.containers[0].env[0].name: Required value",
        ),
        (
            json!({"env": [{"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "spec.nope"}}}]}),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"spec.nope\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
        ),
        (
            json!({"livenessProbe": {}}),
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            json!({"livenessProbe": {"httpGet": {"port": 80}, "successThreshold": 2}}),
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            json!({"livenessProbe": {"httpGet": {"port": 80}, "exec": {"command": ["x"]}}}),
            "spec.containers[0].livenessProbe.httpGet: Forbidden: may not specify more than 1 handler type",
        ),
        (
            json!({"readinessProbe": {"tcpSocket": {"port": 0}}}),
            "spec.containers[0].readinessProbe.tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"resources": {"limits": {"memory": "1 GB"}}}),
            "spec.containers[0].resources.limits[memory]: Invalid value: \"1 GB\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
    ] {
        let found = container(extra);
        assert!(
            found.contains(&expected.to_owned()),
            "{expected}: {found:?}"
        );
    }
    assert_eq!(
        check(
            json!({"containers": [{"name": "c", "image": "x"}], "initContainers": [
            {"name": "c", "image": "x"}, {"name": "s", "image": "x", "restartPolicy": "Always", "livenessProbe": {"exec": {"command": ["x"]}}},
            {"name": "i", "image": "x", "livenessProbe": {"exec": {"command": ["x"]}}}]})
        ),
        [
            "spec.initContainers[0].name: Duplicate value: \"c\"",
            "spec.initContainers[2].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"
        ]
    );
    assert_eq!(
        check(
            json!({"containers": [{"name": "c", "image": "x"}], "volumes": [{"name": "a", "emptyDir": {}, "configMap": {"name": "x"}}, {"name": "a", "secret": {}}]})
        ),
        [
            "spec.volumes[0].configMap: Forbidden: may not specify more than 1 volume type",
            "spec.volumes[1].secret.secretName: Required value",
            "spec.volumes[1].name: Duplicate value: \"a\""
        ]
    );
}

#[test]
fn what_may_change_of_a_pod() {
    let old = json!({"containers": [{"name": "c", "image": "x"}]});
    let change = |new: Value| changed("v1", "Pod", Some(pod(old.clone())), pod(new));
    assert_eq!(
        change(
            json!({"containers": [{"name": "c", "image": "y:1", "imagePullPolicy": "Always"}], "nodeName": "n"})
        ),
        [""; 0]
    );
    let found = change(json!({"containers": [{"name": "c", "image": "x", "command": ["x"]}]}));
    assert!(found[0].starts_with(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
    ));
}

#[test]
fn services() {
    let check = |spec: Value| {
        wrong(
            "v1",
            "Service",
            json!({"metadata": named("s"), "spec": spec}),
        )
    };
    assert_eq!(check(json!({"ports": [{"port": 80}]})), [""; 0]);
    assert_eq!(check(json!({})), ["spec.ports: Required value"]);
    assert_eq!(check(json!({"clusterIP": "None"})), [""; 0]);
    assert_eq!(
        check(json!({"ports": [{"port": 0}]})),
        [
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive"
        ]
    );
    assert_eq!(
        check(json!({"ports": [{"port": 80}, {"port": 81}]})),
        [
            "spec.ports[0].name: Required value",
            "spec.ports[1].name: Required value"
        ]
    );
    assert_eq!(
        check(json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]})),
        [
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767"
        ]
    );
    assert_eq!(
        check(json!({"type": "Wrong", "ports": [{"port": 80}]})),
        [
            "spec.type: Unsupported value: \"Wrong\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\""
        ]
    );
    assert_eq!(
        check(json!({"type": "ExternalName"})),
        ["spec.externalName: Required value"]
    );
    assert!(
        check(json!({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]}))[0]
            .starts_with("spec.ports[1]: Duplicate value: ")
    );
    let spec = |address: &str| json!({"metadata": named("s"), "spec": {"clusterIP": address, "clusterIPs": [address], "ports": [{"port": 80}]}});
    assert_eq!(
        changed("v1", "Service", Some(spec("10.0.0.1")), spec("10.0.0.2")),
        ["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"]
    );
}

#[test]
fn services_that_change_their_type() {
    let service = |kind: &str, address: &str, node_port: Value| json!({"metadata": named("s"), "spec": {"type": kind, "clusterIP": address, "ports": [{"port": 80, "nodePort": node_port}]}});
    let before = service("NodePort", "10.0.0.1", json!(30080));
    let after = service("ClusterIP", "", json!(30080));
    assert_eq!(
        changed("v1", "Service", Some(before), after.clone()),
        [""; 0]
    );
    assert_eq!(
        wrong("v1", "Service", after),
        ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]
    );
}

#[test]
fn the_other_kinds() {
    assert_eq!(
        wrong(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            json!({"apiVersion": "autoscaling/v2", "metadata": named("h"),
            "spec": {"minReplicas": 3, "maxReplicas": 1, "scaleTargetRef": {"kind": "", "name": "d"}}})
        ),
        [
            "spec.maxReplicas: Invalid value: 1: must be greater than or equal to `minReplicas`",
            "spec.scaleTargetRef.kind: Required value",
            "spec.scaleTargetRef.apiVersion: Invalid value: \"\": apiVersion must specify API group"
        ]
    );
    assert_eq!(
        wrong(
            "autoscaling/v1",
            "Scale",
            json!({"metadata": named("x"), "spec": {"replicas": -1}})
        ),
        ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]
    );
    assert_eq!(
        wrong(
            "networking.k8s.io/v1",
            "Ingress",
            json!({"metadata": named("i"), "spec": {"rules": [{"http": {"paths": [{"path": "x", "pathType": "Prefix", "backend": {}}]}}]}})
        ),
        [
            "spec.rules[0].http.paths[0].path: Invalid value: \"x\": must be an absolute path",
            "spec.rules[0].http.paths[0].backend: Required value: either `service` or `resource` must be specified"
        ]
    );
    let binding = |role: &str| json!({"kind": "RoleBinding", "metadata": named("b"), "roleRef": {"kind": "Role", "name": role}, "subjects": [{"kind": "User", "name": "u"}]});
    assert_eq!(
        changed(
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            Some(binding("a")),
            binding("b")
        ),
        [
            "roleRef: Invalid value: {\"kind\":\"Role\",\"name\":\"b\",\"apiGroup\":\"rbac.authorization.k8s.io\"}: cannot change roleRef"
        ]
    );
    let hooks = json!({"metadata": named("m"), "webhooks": [{"name": "a.example.com", "timeoutSeconds": 60, "matchConditions": [{"name": "c", "expression": "true"}], "rules": [{"operations": ["CREATE"]}]}]});
    assert_eq!(
        wrong(
            "admissionregistration.k8s.io/v1",
            "MutatingWebhookConfiguration",
            hooks
        ),
        [
            "webhooks[0].matchConditions: Forbidden: the embedded cluster does not evaluate CEL expressions yet",
            "webhooks[0].rules[0].apiGroups: Required value",
            "webhooks[0].rules[0].apiVersions: Required value",
            "webhooks[0].rules[0].resources: Required value",
            "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
            "webhooks[0].timeoutSeconds: Invalid value: 60: the timeout value must be between 1 and 30 seconds",
            "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
            "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1"
        ]
    );
    let job = json!({"metadata": named("j"), "spec": {"template": {"spec": {"restartPolicy": "Always", "containers": [{"name": "c", "image": "x"}]}}}});
    assert_eq!(
        wrong("batch/v1", "Job", job),
        [
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""
        ]
    );
    let slice =
        json!({"metadata": named("e"), "addressType": "IPv4", "endpoints": [{"addresses": ["x"]}]});
    assert_eq!(
        wrong("discovery.k8s.io/v1", "EndpointSlice", slice),
        [
            "endpoints[0].addresses[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
        ]
    );
}
