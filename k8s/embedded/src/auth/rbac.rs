//! Role-based access control: what a caller may do, by the Role and ClusterRole objects and their
//! bindings.
//!
//! Whoever is in the group `system:masters` (the kubeconfig's owner, the cluster's own parts) may do
//! everything. Everybody else may do what some rule of some role bound to them allows; there are no
//! rules that forbid. Roles are read from the store at each request, so a change counts at once.

pub(crate) mod born;
mod escalation;

pub(crate) use escalation::missing;

use super::User;
use crate::store::Store;
use serde_json::{Value, json};

/// What somebody wants to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or any word.
    pub verb: String,
    /// The API group, empty for the core group.
    pub group: String,
    /// The plural name, with the subresource: `pods`, `pods/exec`. Empty for a path.
    pub resource: String,
    /// The namespace; empty for cluster-scoped requests.
    pub namespace: String,
    /// The object; empty for collections.
    pub name: String,
    /// A path that names no resource, such as `/metrics`.
    pub path: String,
}

impl Attributes {
    /// The attributes in the spec of an access review.
    pub fn of_review(spec: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (wanted, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
        if path.is_object() {
            return Attributes {
                verb: text(&path["verb"]),
                path: text(&path["path"]),
                ..Attributes::default()
            };
        }
        let (resource, sub) = (text(&wanted["resource"]), text(&wanted["subresource"]));
        Attributes {
            verb: text(&wanted["verb"]),
            group: text(&wanted["group"]),
            resource: match sub.as_str() {
                "" => resource,
                sub => format!("{resource}/{sub}"),
            },
            namespace: text(&wanted["namespace"]),
            name: text(&wanted["name"]),
            path: String::new(),
        }
    }

    /// `User "jane" cannot list resource "pods" in API group "" in the namespace "demo"`.
    pub fn refusal(&self, user: &User) -> String {
        if !self.path.is_empty() {
            return format!(
                "User {:?} cannot {} path {:?}",
                user.name, self.verb, self.path
            );
        }
        let place = match self.namespace.as_str() {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        format!(
            "User {:?} cannot {} resource {:?} in API group {:?} {place}",
            user.name, self.verb, self.resource, self.group
        )
    }
}

/// Whether a caller may do something; `Some` with the reason, which is empty for those who may do
/// everything.
pub fn allowed(store: &Store, user: &User, wanted: &Attributes) -> Option<String> {
    if user.groups.iter().any(|group| group == "system:masters") {
        return Some(String::new());
    }
    let mut found = None;
    visit(store, user, &wanted.namespace, |rule, binding| {
        if found.is_none() && allows(rule, wanted) {
            found = Some(format!("RBAC: allowed by {binding}"));
        }
    });
    found
}

/// The rules that hold for a caller in a namespace, as a SelfSubjectRulesReview lists them.
pub fn rules(store: &Store, user: &User, namespace: &str) -> Value {
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    if user.groups.iter().any(|group| group == "system:masters") {
        resources.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        paths.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    visit(store, user, namespace, |rule, _| {
        let list = if rule["nonResourceURLs"].is_array() {
            &mut paths
        } else {
            &mut resources
        };
        if !list.contains(rule) {
            list.push(rule.clone());
        }
    });
    json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
}

/// Shows `see` each rule that holds for a caller, and through which binding.
fn visit(store: &Store, user: &User, namespace: &str, mut see: impl FnMut(&Value, &str)) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    let mut bindings = store
        .list(&format!("{GROUP}/clusterrolebindings"), None)
        .0
        .into_iter()
        .map(|binding| ("ClusterRoleBinding", binding.value()))
        .collect::<Vec<_>>();
    if !namespace.is_empty() {
        let here = store.list(&format!("{GROUP}/rolebindings"), Some(namespace));
        let here = here.0.into_iter();
        bindings.extend(here.map(|binding| ("RoleBinding", binding.value())));
    }
    for (kind, binding) in bindings {
        let within = binding["metadata"]["namespace"].as_str().unwrap_or("");
        let subjects = binding["subjects"].as_array().into_iter().flatten();
        let Some(subject) = subjects.clone().find(|subject| is(user, subject, within)) else {
            continue;
        };
        let role = &binding["roleRef"];
        let (role_kind, role_name) = (
            role["kind"].as_str().unwrap_or_default(),
            role["name"].as_str().unwrap_or_default(),
        );
        let bound = format!(
            "{kind} {} of {role_kind} {role_name:?} to {} {}",
            match within {
                "" => format!("{:?}", binding["metadata"]["name"].as_str().unwrap_or("")),
                within => format!(
                    "\"{}/{within}\"",
                    binding["metadata"]["name"].as_str().unwrap_or("")
                ),
            },
            subject["kind"].as_str().unwrap_or_default(),
            match subject["namespace"].as_str() {
                Some(namespace) => format!(
                    "\"{}/{namespace}\"",
                    subject["name"].as_str().unwrap_or_default()
                ),
                None => format!("{:?}", subject["name"].as_str().unwrap_or_default()),
            }
        );
        for rule in rules_of(store, role_kind, role_name, within) {
            see(&rule, &bound);
        }
    }
}

/// The rules of a role; those of an aggregated ClusterRole are gathered from the roles that it selects.
pub(crate) fn rules_of(store: &Store, kind: &str, name: &str, namespace: &str) -> Vec<Value> {
    let (resource, namespace) = match kind {
        "ClusterRole" => ("rbac.authorization.k8s.io/clusterroles", ""),
        _ => ("rbac.authorization.k8s.io/roles", namespace),
    };
    let Some(role) = store.get(resource, namespace, name) else {
        return Vec::new();
    };
    let role = role.value();
    let list = |role: &Value| role["rules"].as_array().cloned().unwrap_or_default();
    let Some(selectors) = role["aggregationRule"]["clusterRoleSelectors"].as_array() else {
        return list(&role);
    };
    let mut rules = Vec::new();
    for other in store.list(resource, None).0 {
        let other = other.value();
        let labels = &other["metadata"]["labels"];
        let chosen = selectors
            .iter()
            .any(|selector| crate::label_selector::matches(selector, labels));
        if chosen && other["metadata"]["name"] != name {
            // a selected role may itself be gathered, one step deep: view in edit in admin
            let name = other["metadata"]["name"].as_str().unwrap_or_default();
            let rules_of_other = match other["aggregationRule"].is_object() {
                true => rules_of(store, kind, name, ""),
                false => list(&other),
            };
            for rule in rules_of_other {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
    }
    rules
}

/// Whether a binding's subject is the caller. `within`: the binding's namespace.
fn is(user: &User, subject: &Value, within: &str) -> bool {
    let name = subject["name"].as_str().unwrap_or_default();
    match subject["kind"].as_str() {
        Some("User") => user.name == name,
        Some("Group") => user.groups.iter().any(|group| group == name),
        Some("ServiceAccount") => {
            let namespace = subject["namespace"].as_str().unwrap_or(within);
            user.name == format!("system:serviceaccount:{namespace}:{name}")
        }
        _ => false,
    }
}

/// Whether a rule allows what is wanted.
pub(crate) fn allows(rule: &Value, wanted: &Attributes) -> bool {
    let has = |list: &str, is: &dyn Fn(&str) -> bool| {
        let values = rule[list].as_array().into_iter().flatten();
        values.filter_map(Value::as_str).any(is)
    };
    let is_or_all = |wanted: &str, value: &str| value == "*" || value == wanted;
    if !has("verbs", &|verb| is_or_all(&wanted.verb, verb)) {
        return false;
    }
    if !wanted.path.is_empty() {
        return has("nonResourceURLs", &|url| match url.strip_suffix('*') {
            Some(prefix) => wanted.path.starts_with(prefix),
            None => wanted.path == url,
        });
    }
    let below = wanted.resource.split_once('/').map(|(_, sub)| sub);
    let resource = |value: &str| {
        is_or_all(&wanted.resource, value)
            || below.is_some_and(|sub| value.strip_prefix("*/") == Some(sub))
    };
    let names = rule["resourceNames"].as_array();
    has("apiGroups", &|group| is_or_all(&wanted.group, group))
        && has("resources", &resource)
        && (names.is_none_or(Vec::is_empty) || has("resourceNames", &|name| name == wanted.name))
}

#[cfg(test)]
mod tests;
