//! `metadata.managedFields`: which manager owns which fields.
//!
//! The caller tells of every write: [`updated`] after a create, update or patch; server-side
//! apply (`patch::apply`) does its own book-keeping. A manager is told apart by its name,
//! operation, apiVersion and subresource.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::fields::{Comparison, FieldSet};
use super::shape::Shape;
use crate::gvk::Gvk;

/// Who makes a write, and through what.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The `fieldManager` parameter, else the first part of the User-Agent (`kubectl/v1.32` is
    /// `kubectl`); at most 128 characters.
    pub manager: &'a str,
    /// `status`, `scale`, ...: the subresource that was written.
    pub subresource: Option<&'a str>,
    /// Structural schema of a custom resource's version.
    pub schema: Option<&'a Value>,
    /// When.
    pub now: Timestamp,
}

/// Records a create (`old` is `None`), update or non-apply patch in `new`'s managedFields.
///
/// Call it with `new` defaulted, before addresses and ports are allocated. When the request set
/// managedFields itself they are taken as they are, and `[{}]` clears them.
pub fn updated(old: Option<&Value>, new: &mut Value, writer: Writer) {
    let Some(gvk) = Gvk::of(new) else {
        return;
    };
    let previous = old.and_then(entries).unwrap_or_default();
    let mut managers = match entries(new) {
        Some(given) if given.iter().all(|entry| *entry == json!({})) && !given.is_empty() => {
            Managers::default()
        }
        Some(given) if !given.is_empty() && writer.subresource.is_none() => Managers::read(&given),
        _ => Managers::read(&previous),
    };
    let shape = Shape::root(&gvk, writer.schema);
    let before = tracked(old.unwrap_or(&Value::Null));
    let after = tracked(new);
    let mut change = Comparison::of(&with_empty_structs(&before, &gvk), &after, shape);
    let ignored = ignored(&gvk, old.is_none(), writer.subresource);
    change.added = change.added.recursive_difference(&ignored);
    change.modified = change.modified.recursive_difference(&ignored);

    if !change.is_empty() {
        let id = Id {
            manager: writer.manager.to_owned(),
            operation: "Update".to_owned(),
            api_version: gvk.api_version(),
            subresource: writer.subresource.map(str::to_owned),
        };
        managers.take(&id, &change);
        let mine = managers
            .set(&id)
            .difference(&change.removed)
            .union(&change.set());
        managers.put(id, mine, Some(writer.now));
    }
    managers.write(new);
}

/// The managedFields of an object; `None` when it has none.
fn entries(object: &Value) -> Option<Vec<Value>> {
    object
        .pointer("/metadata/managedFields")?
        .as_array()
        .cloned()
}

/// Identity of a manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Id {
    pub(super) manager: String,
    pub(super) operation: String,
    pub(super) api_version: String,
    pub(super) subresource: Option<String>,
}

impl Id {
    /// As conflicts name it: `"kubectl" with subresource "scale" using apps/v1`.
    pub(super) fn describe(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if let Some(subresource) = &self.subresource {
            text.push_str(&format!(" with subresource {subresource:?}"));
        }
        if self.operation == "Update" {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}

/// A manager with its fields.
#[derive(Clone, Debug)]
pub(super) struct Manager {
    pub(super) id: Id,
    pub(super) fields: FieldSet,
    time: Option<String>,
}

/// All managers of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Managers(pub(super) Vec<Manager>);

impl Managers {
    /// The managers of an object.
    pub(super) fn of(object: &Value) -> Managers {
        Managers::read(&entries(object).unwrap_or_default())
    }

    fn read(entries: &[Value]) -> Managers {
        let text = |entry: &Value, key: &str| {
            entry
                .get(key)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        Managers(
            entries
                .iter()
                .filter(|entry| text(entry, "operation").is_some())
                .map(|entry| Manager {
                    id: Id {
                        manager: text(entry, "manager").unwrap_or_default(),
                        operation: text(entry, "operation").unwrap_or_default(),
                        api_version: text(entry, "apiVersion").unwrap_or_default(),
                        subresource: text(entry, "subresource"),
                    },
                    fields: entry
                        .get("fieldsV1")
                        .map(FieldSet::from_json)
                        .unwrap_or_default(),
                    time: text(entry, "time"),
                })
                .collect(),
        )
    }

    /// The fields of a manager; empty when it has none.
    pub(super) fn set(&self, id: &Id) -> FieldSet {
        self.0
            .iter()
            .find(|m| m.id == *id)
            .map(|m| m.fields.clone())
            .unwrap_or_default()
    }

    /// Replaces the fields of a manager, and the time when they were written.
    pub(super) fn put(&mut self, id: Id, fields: FieldSet, now: Option<Timestamp>) {
        let time = now.map(|now| now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        match self.0.iter_mut().find(|manager| manager.id == id) {
            Some(manager) => {
                manager.fields = fields;
                manager.time = time.or(manager.time.take());
            }
            None => self.0.push(Manager { id, fields, time }),
        }
    }

    /// A change by `by`: others lose what it set, and what it removed.
    pub(super) fn take(&mut self, by: &Id, change: &Comparison) {
        let set = change.set();
        for manager in self.0.iter_mut().filter(|manager| manager.id != *by) {
            let fields = std::mem::take(&mut manager.fields);
            manager.fields = fields
                .difference(&set)
                .recursive_difference(&change.removed);
        }
    }

    /// Writes `metadata.managedFields`: applies before updates, older before newer.
    pub(super) fn write(mut self, object: &mut Value) {
        self.0.retain(|manager| !manager.fields.is_empty());
        self.0.sort_by(|a, b| {
            let key = |m: &Manager| {
                let id = &m.id;
                (
                    id.operation.clone(),
                    m.time.clone(),
                    id.manager.clone(),
                    id.api_version.clone(),
                    id.subresource.clone(),
                )
            };
            key(a).cmp(&key(b))
        });
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
            return;
        };
        if self.0.is_empty() {
            metadata.shift_remove("managedFields");
            return;
        }
        let entries = self.0.iter().map(|manager| {
            let mut entry = Map::new();
            entry.insert("manager".into(), manager.id.manager.clone().into());
            entry.insert("operation".into(), manager.id.operation.clone().into());
            entry.insert("apiVersion".into(), manager.id.api_version.clone().into());
            if let Some(time) = &manager.time {
                entry.insert("time".into(), time.clone().into());
            }
            entry.insert("fieldsType".into(), "FieldsV1".into());
            entry.insert("fieldsV1".into(), manager.fields.to_json());
            if let Some(subresource) = &manager.id.subresource {
                entry.insert("subresource".into(), subresource.clone().into());
            }
            Value::Object(entry)
        });
        let entries = entries.collect();
        metadata.insert("managedFields".into(), Value::Array(entries));
    }
}

/// Fields that nobody owns: the server's own.
pub(super) const UNOWNED_METADATA: &[&str] = &[
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// The parts of an object that have owners.
pub(super) fn tracked(object: &Value) -> Value {
    let mut tracked = object.clone();
    let Some(fields) = tracked.as_object_mut() else {
        return json!({"metadata": {}});
    };
    fields.shift_remove("apiVersion");
    fields.shift_remove("kind");
    match fields.get_mut("metadata").and_then(Value::as_object_mut) {
        Some(metadata) => metadata.retain(|key, _| !UNOWNED_METADATA.contains(&key.as_str())),
        None => {
            fields.insert("metadata".into(), json!({}));
        }
    }
    tracked
}

/// What is there in an empty object of the kind: Go structs that are not pointers, and lists
/// that are written when nil. They are nobody's.
fn with_empty_structs(object: &Value, gvk: &Gvk) -> Value {
    let pod_template = || json!({"metadata": {}, "spec": {"containers": null}});
    let empty = match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Pod") => json!({"spec": {"containers": null}, "status": {}}),
        ("", "Service") => json!({"spec": {}, "status": {"loadBalancer": {}}}),
        ("", "Namespace" | "Node" | "ResourceQuota") => json!({"spec": {}, "status": {}}),
        ("", "Event") => {
            json!({"source": {}, "firstTimestamp": null, "lastTimestamp": null, "eventTime": null, "involvedObject": {}, "reportingComponent": null, "reportingInstance": null})
        }
        ("apps", "Deployment") => {
            json!({"spec": {"selector": null, "strategy": {}, "template": pod_template()}, "status": {}})
        }
        ("apps", "ReplicaSet") => {
            json!({"spec": {"selector": null, "template": pod_template()}, "status": {}})
        }
        ("apps", "StatefulSet" | "DaemonSet") => {
            json!({"spec": {"selector": null, "updateStrategy": {}, "template": pod_template()}, "status": {}})
        }
        ("batch", "Job") => json!({"spec": {"template": pod_template()}, "status": {}}),
        ("batch", "CronJob") => {
            json!({"spec": {"jobTemplate": {"metadata": {}, "spec": {"template": pod_template()}}}, "status": {}})
        }
        ("autoscaling", "HorizontalPodAutoscaler") => {
            json!({"spec": {"scaleTargetRef": {}}, "status": {}})
        }
        ("networking.k8s.io", "Ingress") => json!({"spec": {}, "status": {"loadBalancer": {}}}),
        ("coordination.k8s.io", "Lease") | ("networking.k8s.io", "NetworkPolicy") => {
            json!({"spec": {}})
        }
        ("policy", "PodDisruptionBudget") => json!({"spec": {}, "status": {}}),
        ("discovery.k8s.io", "EndpointSlice") => json!({"endpoints": null, "ports": null}),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => json!({"rules": null}),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            json!({"roleRef": {}})
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            json!({"spec": {"names": {}, "versions": null}, "status": {"conditions": null, "acceptedNames": {}, "storedVersions": null}})
        }
        _ => return object.clone(),
    };
    let mut filled = object.clone();
    fill(&mut filled, &empty);
    filled
}

fn fill(object: &mut Value, empty: &Value) {
    let (Some(object), Some(empty)) = (object.as_object_mut(), empty.as_object()) else {
        return;
    };
    for (key, below) in empty {
        match object.get_mut(key) {
            Some(present) => fill(present, below),
            None => {
                object.insert(key.clone(), below.clone());
            }
        }
    }
}

/// Fields that a write does not own although it has set them: the status, through the main
/// resource; what the server adds to a new object after the request was decoded.
fn ignored(gvk: &Gvk, create: bool, subresource: Option<&str>) -> FieldSet {
    let mut ignored = FieldSet::default();
    let mut add = |path: &[&str]| {
        ignored.insert(
            &path
                .iter()
                .map(|field| format!("f:{field}"))
                .collect::<Vec<_>>(),
        );
    };
    if subresource.is_none() && crate::types::of_kind(gvk).is_some() {
        add(&["status"]);
    }
    let added: &[&str] = match (gvk.group.as_str(), gvk.kind.as_str()) {
        _ if !create => &[],
        ("", "Service") => &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"],
        ("", "Pod") => &[
            "tolerations",
            "priority",
            "preemptionPolicy",
            "serviceAccount",
            "serviceAccountName",
        ],
        ("", "Namespace") => &["finalizers"],
        _ => &[],
    };
    for field in added {
        add(&["spec", field]);
    }
    ignored
}
