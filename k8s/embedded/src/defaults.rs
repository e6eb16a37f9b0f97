//! What the API server adds to an object that leaves things out.
//!
//! [`apply`] fills in what depends on nothing but the object itself, kind by kind. What needs the
//! cluster's state is not here: names, uids, cluster IPs and node ports, the ServiceAccount's
//! token volume, a namespace's ConfigMap.

use serde_json::{Map, Value, json};

use crate::gvk::Gvk;

mod pod;
mod resources;
mod workload;

/// Fills in the defaults of a built-in kind. Objects of other kinds are left as they are (the
/// defaults of custom resources are in their schema), and so is what has an unexpected type:
/// validation will speak of it.
pub fn apply(gvk: &Gvk, object: &mut Value) {
    let Some(object) = object.as_object_mut() else {
        return;
    };
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Pod") => pod::pod(object),
        ("", "PodTemplate") => template(object, "template"),
        ("", "Service") => resources::service(object),
        ("", "Endpoints") => resources::endpoints(object),
        ("", "Namespace") => resources::namespace(object),
        ("", "Node") => drop(object_at(object, "status")),
        ("", "Secret") => resources::secret(object),
        ("", "Event") => resources::event(object),
        ("events.k8s.io", "Event") => resources::events_event(object),
        ("", "ReplicationController") => workload::replication_controller(object),
        ("apps", "Deployment") => workload::deployment(object),
        ("apps", "ReplicaSet") => workload::replica_set(object),
        ("apps", "StatefulSet") => workload::stateful_set(object),
        ("apps", "DaemonSet") => workload::daemon_set(object),
        ("batch", "Job") => workload::job(object),
        ("batch", "CronJob") => workload::cron_job(object),
        ("autoscaling", "HorizontalPodAutoscaler") => {
            resources::autoscaler(object, gvk.version == "v1");
        }
        ("networking.k8s.io", "Ingress") => resources::ingress(object),
        ("discovery.k8s.io", "EndpointSlice") => resources::endpoint_slice(object),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            resources::role_binding(object);
        }
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => {
            default(object, "rules", Value::Null)
        }
        (
            "admissionregistration.k8s.io",
            "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration",
        ) => resources::webhooks(object, gvk.kind.starts_with("Mutating")),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => resources::crd(object),
        _ => {}
    }
}

type Object = Map<String, Value>;

/// Sets `key` unless it is there already.
fn default(object: &mut Object, key: &str, value: impl Into<Value>) {
    if !object.contains_key(key) {
        object.insert(key.to_owned(), value.into());
    }
}

/// As [`default`], also over null, the empty string and 0: what Go's zero value cannot tell from
/// absent.
fn default_zero(object: &mut Object, key: &str, value: impl Into<Value>) {
    let zero = match object.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Number(number)) => number.as_i64() == Some(0),
        _ => false,
    };
    if zero {
        object.insert(key.to_owned(), value.into());
    }
}

/// The object at `key`, made when absent or null; `None` when something else is there.
fn object_at<'o>(object: &'o mut Object, key: &str) -> Option<&'o mut Object> {
    if object.get(key).is_none_or(Value::is_null) {
        object.insert(key.to_owned(), json!({}));
    }
    object.get_mut(key)?.as_object_mut()
}

/// The object at `key`, when there is one.
fn existing<'o>(object: &'o mut Object, key: &str) -> Option<&'o mut Object> {
    object.get_mut(key)?.as_object_mut()
}

/// The objects in the list at `key`.
fn each<'o>(object: &'o mut Object, key: &str) -> impl Iterator<Item = &'o mut Object> {
    object
        .get_mut(key)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}

/// Defaults of the pod template at `key`.
fn template(object: &mut Object, key: &str) {
    let Some(template) = object_at(object, key) else {
        return;
    };
    object_at(template, "metadata");
    if let Some(spec) = object_at(template, "spec") {
        pod::spec(spec);
    }
}

#[cfg(test)]
mod tests;
