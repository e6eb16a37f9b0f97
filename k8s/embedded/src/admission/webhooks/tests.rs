use super::*;
use crate::discovery::builtin;

fn pods() -> Resource {
    builtin::resources()
        .into_iter()
        .find(|resource| resource.plural == "pods")
        .unwrap()
}

fn review<'a>(store: &'a Store, user: &'a User, resource: &'a Resource) -> Review<'a> {
    Review {
        store,
        user,
        resource,
        subresource: None,
        operation: "CREATE",
        namespace: "demo",
        dry_run: false,
        options: Value::Null,
    }
}

fn configuration(policy: &str) -> Value {
    json!({"metadata": {"name": "hook"}, "webhooks": [{
        "name": "hook.example.com", "failurePolicy": policy,
        "namespaceSelector": {"matchLabels": {"inject": "on"}},
        "objectSelector": {"matchExpressions": [
            {"key": "sidecar", "operator": "NotIn", "values": ["false"]}]},
        "clientConfig": {"caBundle": "", "service": {"name": "hook", "namespace": "demo", "path": "/x"}},
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
    }]})
}

async fn store(policy: &str) -> Store {
    let store = Store::in_memory();
    let namespace = json!({"metadata": {"name": "demo", "labels": {"inject": "on"}}});
    store
        .create("core/namespaces", "", "demo", namespace)
        .await
        .unwrap();
    store
        .create(MUTATING, "", "hook", configuration(policy))
        .await
        .unwrap();
    store
}

#[tokio::test]
async fn selectors_choose_the_webhooks() {
    let store = store("Fail").await;
    let (user, pods) = (User::admin(), pods());
    let review = review(&store, &user, &pods);
    let count = |object: Value| concerned(&review, MUTATING, None, Some(&object)).len();
    assert_eq!(count(json!({"metadata": {}})), 1);
    assert_eq!(
        count(json!({"metadata": {"labels": {"sidecar": "false"}}})),
        0
    );
    let elsewhere = Review {
        namespace: "other",
        ..review
    };
    assert!(concerned(&elsewhere, MUTATING, None, Some(&json!({}))).is_empty());
}

#[tokio::test]
async fn a_webhook_out_of_reach_fails_or_is_ignored() {
    let (user, pods) = (User::admin(), pods());
    let failing = store("Fail").await;
    let mut pod = json!({"metadata": {"name": "p"}});
    let error = mutate(&review(&failing, &user, &pods), None, &mut pod)
        .await
        .unwrap_err();
    assert_eq!(
        error.message,
        "Internal error occurred: failed calling webhook \"hook.example.com\": failed to call webhook: Post \"https://hook.demo.svc:443/x?timeout=10s\": service \"hook\" not found"
    );
    let ignoring = store("Ignore").await;
    let warnings = mutate(&review(&ignoring, &user, &pods), None, &mut pod).await;
    assert!(warnings.unwrap().is_empty());
}

#[test]
fn denials_are_400_without_a_reason() {
    let error = denial("a.b.c", &json!({"message": "not today"}));
    assert_eq!(error.code, StatusCode::BAD_REQUEST);
    assert_eq!(
        error.message,
        "admission webhook \"a.b.c\" denied the request: not today"
    );
    assert_eq!(error.reason, "");
    let error = denial("a.b.c", &json!({"code": 422, "reason": "Invalid"}));
    assert_eq!(error.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        denial("a.b.c", &Value::Null)
            .message
            .ends_with("denied the request without explanation")
    );
}

#[test]
fn answers_are_checked() {
    let answer = |response: Value| json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
    assert!(check(answer(json!({"uid": "u", "allowed": true})), "u").is_ok());
    assert!(check(answer(json!({"uid": "x", "allowed": true})), "u").is_err());
    assert!(check(answer(json!({"uid": "u", "patch": "e30="})), "u").is_err());
    assert!(check(json!({}), "u").is_err());
}
