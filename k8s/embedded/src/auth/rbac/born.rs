//! The roles and bindings that a cluster is born with, as far as labs and tools count on them.

use serde_json::{Value, json};

/// Marks what the cluster has made and keeps.
const LABEL: (&str, &str) = ("kubernetes.io/bootstrapping", "rbac-defaults");
const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];

/// Workloads and what they use: group and resources that a user of a namespace sees.
const SEEN: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "bindings",
            "configmaps",
            "endpoints",
            "events",
            "limitranges",
            "namespaces",
            "namespaces/status",
            "persistentvolumeclaims",
            "pods",
            "pods/log",
            "pods/status",
            "replicationcontrollers",
            "resourcequotas",
            "serviceaccounts",
            "services",
            "services/status",
        ],
    ),
    ("discovery.k8s.io", &["endpointslices"]),
    ("apps", &["*"]),
    ("autoscaling", &["*"]),
    ("batch", &["*"]),
    ("metrics.k8s.io", &["pods"]),
    (
        "networking.k8s.io",
        &["ingresses", "ingresses/status", "networkpolicies"],
    ),
    (
        "policy",
        &["poddisruptionbudgets", "poddisruptionbudgets/status"],
    ),
];

/// What one who edits changes.
const EDITED: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "configmaps",
            "endpoints",
            "events",
            "persistentvolumeclaims",
            "pods",
            "pods/attach",
            "pods/eviction",
            "pods/exec",
            "pods/portforward",
            "pods/proxy",
            "secrets",
            "serviceaccounts",
            "serviceaccounts/token",
            "services",
            "services/proxy",
        ],
    ),
    ("apps", &["*"]),
    ("autoscaling", &["*"]),
    ("batch", &["*"]),
    ("networking.k8s.io", &["ingresses", "networkpolicies"]),
    ("policy", &["poddisruptionbudgets"]),
];

fn each(table: &[(&str, &[&str])], verbs: &[&str]) -> Vec<Value> {
    table
        .iter()
        .map(|(group, resources)| {
            json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
        })
        .collect()
}

fn everything() -> Vec<Value> {
    vec![
        json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}),
        json!({"nonResourceURLs": ["*"], "verbs": ["*"]}),
    ]
}

fn paths(list: &[&str]) -> Vec<Value> {
    vec![json!({"nonResourceURLs": list, "verbs": ["get"]})]
}

/// A ClusterRole: name, rules, the label by which another gathers it.
type Role = (&'static str, Vec<Value>, Option<&'static str>);

fn roles() -> Vec<Role> {
    let reviews = json!({
        "apiGroups": ["authorization.k8s.io"],
        "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        "verbs": ["create"],
    });
    let who = json!({
        "apiGroups": ["authentication.k8s.io"],
        "resources": ["selfsubjectreviews"],
        "verbs": ["create"],
    });
    let delegation = vec![
        json!({"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}),
        json!({"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]}),
    ];
    let mut edit = each(EDITED, &WRITE);
    edit.push(json!({
        "apiGroups": [""],
        "resources": ["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"],
        "verbs": READ,
    }));
    let verbs = [&WRITE[..], &READ[..]].concat();
    let admin = vec![json!({
        "apiGroups": ["rbac.authorization.k8s.io"],
        "resources": ["rolebindings", "roles"],
        "verbs": verbs,
    })];
    vec![
        ("cluster-admin", everything(), None),
        ("system:basic-user", vec![reviews, who], None),
        (
            "system:discovery",
            paths(&[
                "/api",
                "/api/*",
                "/apis",
                "/apis/*",
                "/healthz",
                "/livez",
                "/openapi",
                "/openapi/*",
                "/readyz",
                "/version",
                "/version/",
            ]),
            None,
        ),
        (
            "system:public-info-viewer",
            paths(&["/healthz", "/livez", "/readyz", "/version", "/version/"]),
            None,
        ),
        ("system:auth-delegator", delegation, None),
        ("system:aggregate-to-view", each(SEEN, &READ), Some("view")),
        ("system:aggregate-to-edit", edit, Some("edit")),
        ("system:aggregate-to-admin", admin, Some("admin")),
    ]
}

/// The objects: resource in the store, name, object without metadata but labels.
pub(crate) fn objects() -> Vec<(&'static str, &'static str, Value)> {
    const ROLES: &str = "rbac.authorization.k8s.io/clusterroles";
    const BINDINGS: &str = "rbac.authorization.k8s.io/clusterrolebindings";
    const VERSION: &str = "rbac.authorization.k8s.io/v1";
    let aggregate = |to: &str| format!("rbac.authorization.k8s.io/aggregate-to-{to}");
    let mut objects = Vec::new();
    for (name, rules, to) in roles() {
        let mut labels = json!({LABEL.0: LABEL.1});
        if let Some(to) = to {
            labels[aggregate(to)] = "true".into();
        }
        objects.push((
            ROLES,
            name,
            json!({
                "kind": "ClusterRole",
                "apiVersion": VERSION,
                "metadata": {"labels": labels},
                "rules": rules,
            }),
        ));
    }
    for (name, to) in [
        ("view", Some("edit")),
        ("edit", Some("admin")),
        ("admin", None),
    ] {
        let mut labels = json!({LABEL.0: LABEL.1});
        if let Some(to) = to {
            labels[aggregate(to)] = "true".into();
        }
        objects.push((
            ROLES,
            name,
            json!({
                "kind": "ClusterRole",
                "apiVersion": VERSION,
                "metadata": {"labels": labels},
                "aggregationRule": {
                    "clusterRoleSelectors": [{"matchLabels": {aggregate(name): "true"}}],
                },
                "rules": null,
            }),
        ));
    }
    let bindings = [
        ("cluster-admin", &["system:masters"][..]),
        ("system:basic-user", &["system:authenticated"]),
        ("system:discovery", &["system:authenticated"]),
        (
            "system:public-info-viewer",
            &["system:authenticated", "system:unauthenticated"],
        ),
    ];
    for (name, groups) in bindings {
        let subjects: Vec<Value> = groups
            .iter()
            .map(|group| {
                json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": group})
            })
            .collect();
        objects.push((
            BINDINGS,
            name,
            json!({
                "kind": "ClusterRoleBinding",
                "apiVersion": VERSION,
                "metadata": {"labels": {LABEL.0: LABEL.1}},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name,
                },
                "subjects": subjects,
            }),
        ));
    }
    objects
}
