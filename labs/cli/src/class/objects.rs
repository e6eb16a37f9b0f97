//! The objects of a class: from students and options to manifests, nothing else.

use lab_runner::class::{Class, GATEWAY, HOST};
use serde_json::{Value, json};

use super::{ClassSize, roster::Student};
use crate::arguments::App;

/// Label of everything that a class consists of; on a student's objects its value is the student's name.
pub(super) const STUDENT: &str = "class.meshdojo.dev/student";
/// Annotation of a namespace: the student as the roster has it.
pub(super) const TITLE: &str = "class.meshdojo.dev/title";
/// Annotation of a namespace: the applications that were installed, with commas.
pub(super) const APPS: &str = "class.meshdojo.dev/apps";
/// A student's ServiceAccount.
pub(super) const ACCOUNT: &str = "student";
/// The configuration by which the control plane is asked whether something stays inside of a student's namespace.
/// The control plane keeps its authority in it, under this very name.
pub(super) const CONFINEMENT: &str = "meshdojo-class";

/// Where the mesh's own parts are.
const MESH: &str = "istio-system";
const ALL: [&str; 8] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
];
const READ: [&str; 3] = ["get", "list", "watch"];

/// Everything of one student, the namespace first. `class` says under which namespace and host.
pub(super) fn of_student(
    student: &Student,
    class: &Class,
    size: &ClassSize,
    apps: &[App],
) -> Vec<Value> {
    let name = &student.name;
    let metadata = |of: &str| json!({ "name": of, "namespace": name, "labels": { STUDENT: name } });
    let account = json!({ "kind": "ServiceAccount", "name": ACCOUNT, "namespace": name });
    let apps: Vec<&str> = apps.iter().map(|app| app.name()).collect();
    let mut annotations = json!({ HOST: class.host, GATEWAY: class.gateway, TITLE: student.title });
    if !apps.is_empty() {
        annotations[APPS] = apps.join(",").into();
    }
    vec![
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {
                "name": name,
                "labels": {
                    STUDENT: name,
                    "istio-injection": "enabled",
                    // The sidecar's init container needs NET_ADMIN, so no stricter level can be enforced here; what
                    // `baseline` keeps from nodes is kept by the class's own admission rule.
                    "pod-security.kubernetes.io/enforce": "privileged",
                    "pod-security.kubernetes.io/audit": "baseline",
                    "pod-security.kubernetes.io/warn": "baseline",
                },
                "annotations": annotations,
            },
        }),
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(ACCOUNT) }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": metadata(ACCOUNT), "rules": rules(),
        }),
        binding(metadata(ACCOUNT), &account),
        // What the labs look at of the mesh itself.
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": { "name": format!("class-{name}"), "namespace": MESH, "labels": { STUDENT: name } },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": CONFINEMENT },
            "subjects": [account],
        }),
        json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata("class"),
            "spec": { "hard": {
                "requests.cpu": size.cpu, "requests.memory": size.memory, "pods": size.pods.to_string(),
                "services": "30", "services.loadbalancers": "0", "services.nodeports": "3",
                "configmaps": "50", "secrets": "50", "persistentvolumeclaims": "0",
            } },
        }),
        json!({
            "apiVersion": "v1", "kind": "LimitRange", "metadata": metadata("class"),
            "spec": { "limits": [{
                "type": "Container",
                "defaultRequest": { "cpu": "10m", "memory": "16Mi" },
                "default": { "memory": "256Mi" },
                "max": { "memory": "1Gi" },
            }] },
        }),
        network_policy(metadata("class")),
    ]
}

/// What is there once for the whole class.
pub(super) fn of_class(domain: &str, authority: Option<&Value>) -> Vec<Value> {
    let labels = json!({ STUDENT: "" });
    let mut objects = vec![json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": { "name": CONFINEMENT, "namespace": MESH, "labels": labels },
        "rules": [
            { "apiGroups": [""], "resources": ["pods", "services"], "verbs": READ },
            { "apiGroups": ["apps"], "resources": ["deployments", "replicasets"], "verbs": READ },
        ],
    })];
    if let Some(authority) = authority {
        let rule = |groups: &str, versions: &str, resources: &[&str]| {
            json!({ "operations": ["CREATE", "UPDATE"], "apiGroups": [groups], "apiVersions": [versions],
                    "resources": resources, "scope": "Namespaced" })
        };
        objects.push(json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": { "name": CONFINEMENT, "labels": labels },
            "webhooks": [{
                "name": "confine.class.meshdojo.dev",
                "clientConfig": {
                    "service": { "name": "istiod", "namespace": MESH, "path": confinement_path(domain), "port": 443 },
                    "caBundle": authority,
                },
                "rules": [
                    rule("networking.istio.io", "*", &["gateways", "virtualservices", "serviceentries"]),
                    rule("", "v1", &["pods", "services"]),
                ],
                "namespaceSelector": { "matchExpressions": [{ "key": STUDENT, "operator": "Exists" }] },
                "failurePolicy": "Fail",
                "matchPolicy": "Equivalent",
                "sideEffects": "None",
                "timeoutSeconds": 5,
                "admissionReviewVersions": ["v1"],
            }],
        }));
    }
    objects
}

/// The path under which the control plane is asked about a class of this domain.
fn confinement_path(domain: &str) -> String {
    format!("/confine/{domain}")
}

/// The domain of the class that a configuration is about.
pub(super) fn domain_of(configuration: &Value) -> Option<&str> {
    configuration
        .pointer("/webhooks/0/clientConfig/service/path")?
        .as_str()?
        .strip_prefix("/confine/")
}

/// What a student may do in the own namespace: what labs do, and nothing that changes the bounds of the namespace.
fn rules() -> Vec<Value> {
    let rule = |groups: &[&str], resources: &[&str], verbs: &[&str]| json!({ "apiGroups": groups, "resources": resources, "verbs": verbs });
    vec![
        rule(
            &[""],
            &[
                "configmaps",
                "pods",
                "pods/attach",
                "pods/eviction",
                "pods/exec",
                "pods/portforward",
                "secrets",
                "serviceaccounts",
                "services",
            ],
            &ALL,
        ),
        rule(
            &[""],
            &[
                "endpoints",
                "events",
                "limitranges",
                "namespaces",
                "pods/log",
                "pods/status",
                "resourcequotas",
                "services/status",
            ],
            &READ,
        ),
        rule(&["apps", "batch", "autoscaling"], &["*"], &ALL),
        rule(&["policy"], &["poddisruptionbudgets"], &ALL),
        rule(
            &[
                "networking.istio.io",
                "security.istio.io",
                "telemetry.istio.io",
                "extensions.istio.io",
            ],
            &["*"],
            &ALL,
        ),
        rule(&["discovery.k8s.io"], &["endpointslices"], &READ),
        rule(&["events.k8s.io"], &["events"], &READ),
        rule(&["metrics.k8s.io"], &["pods"], &READ),
        rule(
            &["networking.k8s.io"],
            &["ingresses", "networkpolicies"],
            &READ,
        ),
    ]
}

fn binding(metadata: Value, account: &Value) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT },
        "subjects": [account],
    })
}

/// Within the namespace everything, with the mesh's own parts too, names by DNS, nothing else.
fn network_policy(metadata: Value) -> Value {
    let namespace = |name: &str| json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": name } } });
    let peers = json!([{ "podSelector": {} }, namespace(MESH)]);
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata,
        "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{ "from": peers }],
            "egress": [
                { "to": peers },
                {
                    "to": [namespace("kube-system")],
                    "ports": [{ "protocol": "UDP", "port": 53 }, { "protocol": "TCP", "port": 53 }],
                },
            ],
        },
    })
}

/// An application's objects for a student: in the namespace, with sidecars that ask for what one student's traffic needs.
pub(super) fn of_app(mut objects: Vec<Value>, namespace: &str) -> Vec<Value> {
    for object in &mut objects {
        object["metadata"]["namespace"] = namespace.into();
        if object["kind"] == "Deployment" {
            let annotations = &mut object["spec"]["template"]["metadata"]["annotations"];
            annotations["sidecar.istio.io/proxyCPU"] = SIDECAR.0.into();
            annotations["sidecar.istio.io/proxyMemory"] = SIDECAR.1.into();
        }
    }
    objects
}

/// CPU and memory that a sidecar of a class asks for.
pub(super) const SIDECAR: (&str, &str) = ("10m", "32Mi");

#[cfg(test)]
mod tests {
    use super::*;

    fn kim() -> (Student, Class) {
        let student = Student {
            name: "kim".into(),
            title: "Kim Minsu".into(),
        };
        let class = Class {
            namespace: "kim".into(),
            host: "kim.class.test".into(),
            gateway: "http://kim.class.test".into(),
            message: None,
            beginning: String::new(),
        };
        (student, class)
    }

    fn size() -> ClassSize {
        ClassSize {
            students: None,
            roster: None,
            apps: Vec::new(),
            cpu: "250m".into(),
            memory: "512Mi".into(),
            pods: 20,
        }
    }

    #[test]
    fn a_student_gets_one_of_each() {
        let (student, class) = kim();
        let objects = of_student(&student, &class, &size(), &[App::Bookinfo]);
        let kinds: Vec<&str> = objects.iter().filter_map(|o| o["kind"].as_str()).collect();
        assert_eq!(
            kinds,
            [
                "Namespace",
                "ServiceAccount",
                "Role",
                "RoleBinding",
                "RoleBinding",
                "ResourceQuota",
                "LimitRange",
                "NetworkPolicy"
            ]
        );
        for object in &objects {
            assert_eq!(object["metadata"]["labels"][STUDENT], "kim", "{object}");
            let place = &object["metadata"]["namespace"];
            assert!(
                object["kind"] == "Namespace" || place == "kim" || place == MESH,
                "{object}"
            );
        }
        let annotations = &objects[0]["metadata"]["annotations"];
        assert_eq!(annotations[HOST], "kim.class.test");
        assert_eq!(annotations[APPS], "bookinfo");
        let read: k8s_openapi::api::core::v1::Namespace =
            serde_json::from_value(objects[0].clone()).unwrap();
        assert_eq!(Class::of(&read), Some(class));
        assert_eq!(objects[5]["spec"]["hard"]["requests.cpu"], "250m");
    }

    #[test]
    fn a_student_cannot_move_the_bounds_of_the_namespace() {
        let may_write = |group: &str, resource: &str| {
            rules().iter().any(|rule| {
                let has = |key: &str, wanted: &str| {
                    rule[key]
                        .as_array()
                        .unwrap()
                        .iter()
                        .any(|v| v == wanted || v == "*")
                };
                has("apiGroups", group) && has("resources", resource) && has("verbs", "patch")
            })
        };
        for (group, resource) in [
            ("", "namespaces"),
            ("", "resourcequotas"),
            ("", "limitranges"),
            ("networking.k8s.io", "networkpolicies"),
            ("networking.k8s.io", "ingresses"),
            ("rbac.authorization.k8s.io", "roles"),
            ("rbac.authorization.k8s.io", "rolebindings"),
            (
                "admissionregistration.k8s.io",
                "validatingwebhookconfigurations",
            ),
        ] {
            assert!(!may_write(group, resource), "{group}/{resource}");
        }
        assert!(
            may_write("networking.istio.io", "virtualservices") && may_write("apps", "deployments")
        );
    }

    #[test]
    fn the_rule_is_there_when_somebody_can_be_asked() {
        assert_eq!(of_class("class.test", None).len(), 1);
        let objects = of_class("class.test", Some(&json!("UEVN")));
        assert_eq!(domain_of(&objects[1]), Some("class.test"));
        assert_eq!(objects[1]["webhooks"][0]["failurePolicy"], "Fail");
    }

    #[test]
    fn applications_are_the_students() {
        let deployment = json!({ "kind": "Deployment", "metadata": { "name": "a" },
            "spec": { "template": { "metadata": { "labels": {} } } } });
        let objects = of_app(vec![deployment], "kim");
        assert_eq!(objects[0]["metadata"]["namespace"], "kim");
        let annotations = &objects[0]["spec"]["template"]["metadata"]["annotations"];
        assert_eq!(annotations["sidecar.istio.io/proxyCPU"], "10m");
    }
}
