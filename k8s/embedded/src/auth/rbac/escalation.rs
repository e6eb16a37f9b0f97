//! Nobody gives away what they do not have: whoever writes a role or a binding must hold its rules.

use super::{Attributes, allowed, rules_of};
use crate::auth::User;
use crate::store::Store;
use serde_json::{Value, json};

/// The rules of a role, or of the role that a binding names, that `user` does not hold; in the words
/// of Kubernetes. Empty when nothing is given away.
pub(crate) fn missing(store: &Store, user: &User, kind: &str, object: &Value) -> Vec<String> {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let role = &object["roleRef"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (verb, role_kind, role_name) = match kind {
        "Role" | "ClusterRole" => (
            "escalate",
            kind.to_owned(),
            text(&object["metadata"]["name"]),
        ),
        "RoleBinding" | "ClusterRoleBinding" => ("bind", text(&role["kind"]), text(&role["name"])),
        _ => return Vec::new(),
    };
    let exempt = Attributes {
        verb: verb.into(),
        group: "rbac.authorization.k8s.io".into(),
        resource: format!("{}s", role_kind.to_lowercase()),
        namespace: namespace.into(),
        name: role_name.clone(),
        path: String::new(),
    };
    if allowed(store, user, &exempt).is_some() {
        return Vec::new();
    }
    let rules = match verb {
        "escalate" => object["rules"].as_array().cloned().unwrap_or_default(),
        _ => rules_of(store, &role_kind, &role_name, namespace),
    };
    rules
        .iter()
        .filter(|rule| !holds(store, user, namespace, rule))
        .map(words)
        .collect()
}

/// Whether everything that a rule allows is allowed to a caller. `*` is only held through `*`.
fn holds(store: &Store, user: &User, namespace: &str, rule: &Value) -> bool {
    let list = |name: &str| -> Vec<String> {
        let values = rule[name].as_array().into_iter().flatten();
        values
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect()
    };
    let names = match list("resourceNames") {
        names if names.is_empty() => vec![String::new()],
        names => names,
    };
    list("verbs").iter().all(|verb| {
        let paths = list("nonResourceURLs").into_iter().map(|path| Attributes {
            verb: verb.clone(),
            path,
            ..Attributes::default()
        });
        let mut resources = Vec::new();
        for group in list("apiGroups") {
            for resource in list("resources") {
                for name in &names {
                    resources.push(Attributes {
                        verb: verb.clone(),
                        group: group.clone(),
                        resource: resource.clone(),
                        namespace: namespace.into(),
                        name: name.clone(),
                        path: String::new(),
                    });
                }
            }
        }
        paths
            .chain(resources)
            .all(|wanted| allowed(store, user, &wanted).is_some())
    })
}

/// `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
fn words(rule: &Value) -> String {
    let parts = [
        ("NonResourceURLs", "nonResourceURLs"),
        ("APIGroups", "apiGroups"),
        ("Resources", "resources"),
        ("ResourceNames", "resourceNames"),
        ("Verbs", "verbs"),
    ];
    let parts = parts.iter().filter_map(|(title, field)| {
        let values = rule[field].as_array().filter(|list| !list.is_empty())?;
        let values: Vec<String> = values
            .iter()
            .map(|value| json!(value).to_string())
            .collect();
        Some(format!("{title}:[{}]", values.join(" ")))
    });
    format!("{{{}}}", parts.collect::<Vec<_>>().join(", "))
}
