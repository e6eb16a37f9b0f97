use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::world::World;

/// What requests to pod `web` (label app=web) of namespace `shop` must pass, as JSON.
fn under(policies: &[Value]) -> (Value, Value) {
    let mut world = World::default();
    world
        .insert(&json!({
            "kind": "Pod", "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
            "spec": {"containers": []}, "status": {"podIP": "127.16.0.2"},
        }))
        .unwrap();
    for policy in policies {
        let mut policy = policy.clone();
        policy["kind"] = "AuthorizationPolicy".into();
        world.insert(&policy).unwrap();
    }
    let compiler = Compiler::new(Arc::new(world), 1);
    let pod = compiler.world().pod("shop", "web").unwrap().clone();
    let http = http(&compiler, &pod).map(|authorization| authorization.rbac.clone());
    let value = |rbac: &Rbac| serde_json::to_value(rbac).unwrap();
    (
        value(&http.unwrap_or_default()),
        value(&tcp(&compiler, &pod)),
    )
}

fn policy(namespace: &str, spec: Value) -> Value {
    json!({"metadata": {"name": "p", "namespace": namespace}, "spec": spec})
}

#[test]
fn scopes_are_united() {
    let named = |namespace: &str, spec: Value| under(&[policy(namespace, spec)]).0;
    let allowing = json!({"rules": [{}]});
    let selecting = |app: &str| json!({"selector": {"matchLabels": {"app": app}}, "rules": [{}]});
    assert_ne!(named("shop", allowing.clone()), json!({}));
    assert_ne!(named(ROOT_NAMESPACE, allowing.clone()), json!({}));
    assert_eq!(named("other", allowing), json!({}));
    assert_ne!(named("shop", selecting("web")), json!({}));
    assert_eq!(named("shop", selecting("db")), json!({}));
    assert_ne!(named(ROOT_NAMESPACE, selecting("web")), json!({}));
}

#[test]
fn an_empty_policy_allows_nothing_and_an_empty_rule_everything() {
    assert_eq!(under(&[policy("shop", json!({}))]).0, json!({"allow": []}));
    let all = json!([{"name": "ns[shop]-policy[p]-rule[0]", "matches": {"all": []}}]);
    assert_eq!(
        under(&[policy("shop", json!({"rules": [{}]}))]).0,
        json!({"allow": all})
    );
    let deny = json!({"action": "DENY", "rules": [{}]});
    assert_eq!(under(&[policy("shop", deny)]).0, json!({"deny": all}));
}

#[test]
fn rules_are_from_and_to_and_when() {
    let spec = json!({"rules": [{
        "from": [{"source": {"principals": ["cluster.local/ns/a/sa/b"], "notNamespaces": ["c"]}},
                 {"source": {"serviceAccounts": ["clerk"]}}],
        "to": [{"operation": {"methods": ["GET", "HEAD"], "paths": ["/a*", "/x/{*}/y/{**}"]}}],
        "when": [{"key": "request.headers[X-User]", "values": ["u"]}],
    }]});
    let rule = &under(&[policy("shop", spec)]).0["allow"][0]["matches"]["all"];
    let expected = json!([
        {"oneOf": [
            {"all": [{"principal": {"exact": "cluster.local/ns/a/sa/b"}},
                     {"not": {"oneOf": [{"namespace": {"exact": "c"}}]}}]},
            {"principal": {"exact": "cluster.local/ns/shop/sa/clerk"}},
        ]},
        {"all": [
            {"oneOf": [{"method": {"exact": "GET"}}, {"method": {"exact": "HEAD"}}]},
            {"oneOf": [{"path": {"prefix": "/a"}}, {"path": {"regex": "/x/[^/]+/y/.*"}}]},
        ]},
        {"oneOf": [{"header": {"name": "x-user", "value": {"exact": "u"}}}]},
    ]);
    assert_eq!(*rule, expected);
}

#[test]
fn on_tcp_rules_about_http_allow_nothing_and_refuse_more() {
    let rules = json!([{"to": [{"operation": {"methods": ["GET"], "ports": ["80"]}}]}]);
    let (_, allow) = under(&[policy("shop", json!({"rules": rules}))]);
    assert_eq!(allow, json!({"allow": []}));
    let (_, deny) = under(&[policy("shop", json!({"action": "DENY", "rules": rules}))]);
    let port = json!({"all": [{"destinationPort": 80}]});
    assert_eq!(deny["deny"][0]["matches"], port);
}

#[test]
fn a_dry_run_has_no_effect() {
    let mut dry = policy("shop", json!({}));
    dry["metadata"]["annotations"] = json!({"istio.io/dry-run": "true"});
    assert_eq!(under(&[dry]).0, json!({"shadowAllow": []}));
}
