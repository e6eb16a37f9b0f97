use super::*;

fn wanted(verb: &str, group: &str, resource: &str, name: &str) -> Attributes {
    Attributes {
        verb: verb.into(),
        group: group.into(),
        resource: resource.into(),
        name: name.into(),
        namespace: "demo".into(),
        path: String::new(),
    }
}

#[test]
fn a_rule_allows_what_it_names() {
    let rule =
        json!({"apiGroups": ["", "apps"], "resources": ["pods", "*/scale"], "verbs": ["get"]});
    assert!(allows(&rule, &wanted("get", "", "pods", "p")));
    assert!(allows(
        &rule,
        &wanted("get", "apps", "deployments/scale", "d")
    ));
    assert!(!allows(&rule, &wanted("get", "", "pods/log", "p")));
    assert!(!allows(&rule, &wanted("list", "", "pods", "")));
    assert!(!allows(&rule, &wanted("get", "batch", "pods", "p")));
    let named =
        json!({"apiGroups": [""], "resources": ["*"], "verbs": ["*"], "resourceNames": ["a"]});
    assert!(allows(&named, &wanted("delete", "", "secrets", "a")));
    assert!(!allows(&named, &wanted("delete", "", "secrets", "b")));
    assert!(!allows(&named, &wanted("list", "", "secrets", "")));
    let paths = json!({"nonResourceURLs": ["/healthz", "/api/*"], "verbs": ["get"]});
    let path = |path: &str| Attributes {
        verb: "get".into(),
        path: path.into(),
        ..Attributes::default()
    };
    assert!(allows(&paths, &path("/api/v1")) && allows(&paths, &path("/healthz")));
    assert!(!allows(&paths, &path("/healthz/x")));
    assert!(!allows(&paths, &wanted("get", "", "pods", "")));
}

async fn store() -> Store {
    let store = Store::in_memory();
    for (resource, name, mut object) in born::objects() {
        object["metadata"]["name"] = name.into();
        store.create(resource, "", name, object).await.unwrap();
    }
    store
}

async fn bind(store: &Store, namespace: &str, kind: &str, role: &str, subject: Value) {
    let (resource, metadata) = match namespace {
        "" => ("clusterrolebindings", json!({"name": role})),
        namespace => (
            "rolebindings",
            json!({"name": role, "namespace": namespace}),
        ),
    };
    let binding = json!({
        "metadata": metadata,
        "roleRef": {"kind": kind, "name": role},
        "subjects": [subject],
    });
    let resource = format!("rbac.authorization.k8s.io/{resource}");
    store
        .create(&resource, namespace, role, binding)
        .await
        .unwrap();
}

#[tokio::test]
async fn callers_may_do_what_is_bound_to_them_and_nothing_else() {
    let store = store().await;
    let account = User::service_account("demo", "web", "u");
    let list = wanted("list", "", "pods", "");
    assert_eq!(allowed(&store, &account, &list), None);
    assert_eq!(
        list.refusal(&account),
        "User \"system:serviceaccount:demo:web\" cannot list resource \"pods\" in API group \"\" in the namespace \"demo\""
    );
    assert_eq!(allowed(&store, &User::admin(), &list).unwrap(), "");
    // view is gathered from another role; the binding holds in its namespace
    bind(
        &store,
        "demo",
        "ClusterRole",
        "view",
        json!({"kind": "ServiceAccount", "name": "web"}),
    )
    .await;
    assert_eq!(
        allowed(&store, &account, &list).unwrap(),
        "RBAC: allowed by RoleBinding \"view/demo\" of ClusterRole \"view\" to ServiceAccount \"web\""
    );
    let elsewhere = Attributes {
        namespace: "other".into(),
        ..list.clone()
    };
    assert_eq!(allowed(&store, &account, &elsewhere), None);
    assert_eq!(
        allowed(&store, &account, &wanted("get", "", "secrets", "s")),
        None
    );
    assert_eq!(
        allowed(&store, &account, &wanted("create", "", "pods/exec", "p")),
        None
    );
    // everywhere, through a group
    bind(
        &store,
        "",
        "ClusterRole",
        "admin",
        json!({"kind": "Group", "name": "dev"}),
    )
    .await;
    let jane = User::new("jane", &["dev"]);
    for wanted in [
        wanted("create", "", "pods/exec", "p"),
        wanted("list", "", "pods", ""),
        wanted("delete", "apps", "deployments", "d"),
        wanted("create", "rbac.authorization.k8s.io", "roles", "r"),
    ] {
        assert!(allowed(&store, &jane, &wanted).is_some(), "{wanted:?}");
    }
    assert!(allowed(&store, &jane, &wanted("delete", "", "nodes", "n")).is_none());
}

#[tokio::test]
async fn nobody_gives_away_what_they_do_not_have() {
    let store = store().await;
    bind(
        &store,
        "",
        "ClusterRole",
        "admin",
        json!({"kind": "User", "name": "jane"}),
    )
    .await;
    let jane = User::new("jane", &[]);
    let role = |resource: &str| {
        json!({
            "metadata": {"name": "r", "namespace": "demo"},
            "rules": [{"apiGroups": [""], "resources": [resource], "verbs": ["get"]}],
        })
    };
    assert_eq!(missing(&store, &jane, "Role", &role("pods")), [""; 0]);
    assert_eq!(
        missing(&store, &jane, "Role", &role("nodes")),
        ["{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\"]}"]
    );
    let binding = |role: &str| json!({"metadata": {"name": "b", "namespace": "demo"}, "roleRef": {"kind": "ClusterRole", "name": role}});
    assert_eq!(
        missing(&store, &jane, "RoleBinding", &binding("view")),
        [""; 0]
    );
    assert!(!missing(&store, &jane, "RoleBinding", &binding("cluster-admin")).is_empty());
    assert_eq!(
        missing(&store, &User::admin(), "Role", &role("nodes")),
        [""; 0]
    );
}
