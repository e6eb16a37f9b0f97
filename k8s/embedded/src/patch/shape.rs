//! What merging must know of a value: is it a struct, a map, a list, and how do lists merge.
//!
//! A [`Shape`] walks beside a value: from a kind down its fields. Built-in kinds are described by
//! [`crate::types`] and the table of list rules below; custom resources by their structural
//! schema; what neither describes is deduced (objects merge, lists are replaced), as Kubernetes
//! does.

use serde_json::Value;

use crate::gvk::Gvk;
use crate::types::{self, Arity, Message, Type};

/// How server-side apply treats a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListRule {
    /// One owner for the whole list; replaced whole.
    Atomic,
    /// A set of scalars; each element has owners.
    Set,
    /// Objects told apart by these keys; each has owners.
    Keyed(Vec<String>),
}

/// How a strategic merge patch treats a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListMerge {
    /// The patch's list replaces the object's.
    Replace,
    /// Objects are merged by this key.
    By(&'static str),
    /// Scalars are added when absent.
    Union,
}

/// The description of one value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape<'a> {
    /// An object with declared fields.
    Struct(&'static Message),
    /// A map from strings to values of this type; the name of message and field it is.
    Map(Type, &'static str, &'static str),
    /// A list of this type; the name of message and field it is.
    List(Type, &'static str, &'static str),
    /// Anything without parts.
    Scalar,
    /// As an OpenAPI structural schema says.
    Schema(&'a Value),
    /// The root of a custom resource with this schema: `metadata` is an ObjectMeta.
    CustomRoot(Option<&'a Value>),
    /// Not described.
    Deduced,
}

impl<'a> Shape<'a> {
    /// The shape of an object of this kind. `schema` is the structural schema of a custom
    /// resource's version.
    pub(crate) fn root(gvk: &Gvk, schema: Option<&'a Value>) -> Shape<'a> {
        match types::of_kind(gvk) {
            Some(message) => Shape::Struct(message),
            None => Shape::CustomRoot(schema),
        }
    }

    /// The shape of the field (of a struct) or entry (of a map) named `key`.
    pub(crate) fn child(&self, key: &str) -> Shape<'a> {
        match *self {
            Shape::Struct(message) => match message.field(key) {
                Some(field) => {
                    let owner = owner_of(message, key);
                    match field.arity {
                        Arity::One => of_type(field.ty),
                        Arity::List => Shape::List(field.ty, owner, field.name),
                        Arity::Map => Shape::Map(field.ty, owner, field.name),
                        Arity::Inline => Shape::Deduced,
                    }
                }
                None => Shape::Deduced,
            },
            Shape::Map(ty, _, _) => of_type(ty),
            Shape::CustomRoot(schema) => match key {
                "metadata" => types::message("ObjectMeta").map_or(Shape::Deduced, Shape::Struct),
                "apiVersion" | "kind" => Shape::Scalar,
                _ => schema.map_or(Shape::Deduced, |schema| schema_child(schema, key)),
            },
            Shape::Schema(schema) => schema_child(schema, key),
            Shape::List(..) | Shape::Scalar => Shape::Scalar,
            Shape::Deduced => Shape::Deduced,
        }
    }

    /// The shape of a list's elements.
    pub(crate) fn element(&self) -> Shape<'a> {
        match *self {
            Shape::List(ty, _, _) => of_type(ty),
            Shape::Schema(schema) => schema.get("items").map_or(Shape::Deduced, Shape::Schema),
            _ => Shape::Deduced,
        }
    }

    /// True for an object that has one owner and is replaced whole.
    pub(crate) fn is_atomic_object(&self) -> bool {
        match *self {
            Shape::Struct(message) => ATOMIC_STRUCTS.contains(&message.name),
            Shape::Map(_, message, field) => ATOMIC_MAPS.contains(&(message, field)),
            Shape::Schema(schema) => {
                schema.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic")
            }
            _ => false,
        }
    }

    /// True when `key` is a declared field (not an entry of a map).
    pub(crate) fn declares(&self, key: &str) -> bool {
        match *self {
            Shape::Struct(message) => {
                message.field(key).is_some() || matches!(key, "apiVersion" | "kind")
            }
            Shape::CustomRoot(schema) => {
                matches!(key, "apiVersion" | "kind" | "metadata")
                    || schema.is_some_and(|schema| schema_declares(schema, key))
            }
            Shape::Schema(schema) => schema_declares(schema, key),
            _ => false,
        }
    }

    /// True when every field of this object must be declared: a built-in struct.
    pub(crate) fn is_struct(&self) -> bool {
        matches!(self, Shape::Struct(_))
    }

    /// How server-side apply treats this list.
    pub(crate) fn list_rule(&self) -> ListRule {
        match *self {
            Shape::List(_, message, field) => apply_rule(message, field),
            Shape::Schema(schema) => {
                match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
                    Some("set") => ListRule::Set,
                    Some("map") => ListRule::Keyed(
                        schema
                            .get("x-kubernetes-list-map-keys")
                            .and_then(Value::as_array)
                            .map(|keys| {
                                keys.iter()
                                    .filter_map(Value::as_str)
                                    .map(str::to_owned)
                                    .collect()
                            })
                            .unwrap_or_default(),
                    ),
                    _ => ListRule::Atomic,
                }
            }
            _ => ListRule::Atomic,
        }
    }

    /// How a strategic merge patch treats this list.
    pub(crate) fn list_merge(&self) -> ListMerge {
        match *self {
            Shape::List(_, message, field) => strategic_rule(message, field),
            _ => ListMerge::Replace,
        }
    }
}

fn of_type<'a>(ty: Type) -> Shape<'a> {
    match ty {
        Type::Message(name) if name.ends_with(".ExtraValue") => Shape::Deduced,
        Type::Message(name) => types::message(name).map_or(Shape::Deduced, Shape::Struct),
        Type::FieldsV1 | Type::Json | Type::SchemaOr(_) => Shape::Deduced,
        _ => Shape::Scalar,
    }
}

/// The message that declares `key`: `message` itself, or the inline struct that brings it.
fn owner_of(message: &'static Message, key: &str) -> &'static str {
    for field in &message.fields {
        if field.arity == Arity::Inline
            && let Type::Message(name) = field.ty
            && let Some(inner) = types::message(name)
            && inner.field(key).is_some()
        {
            return owner_of(inner, key);
        }
    }
    message.name
}

fn schema_child<'a>(schema: &'a Value, key: &str) -> Shape<'a> {
    if let Some(child) = schema
        .get("properties")
        .and_then(|properties| properties.get(key))
    {
        return Shape::Schema(child);
    }
    match schema.get("additionalProperties") {
        Some(child @ Value::Object(_)) => Shape::Schema(child),
        _ => Shape::Deduced,
    }
}

fn schema_declares(schema: &Value, key: &str) -> bool {
    schema
        .get("properties")
        .is_some_and(|properties| properties.get(key).is_some())
}

/// Structs with one owner, by the API's `structType=atomic`.
const ATOMIC_STRUCTS: &[&str] = &[
    "ConfigMapKeySelector",
    "EndpointAddress",
    "EndpointPort",
    "FileKeySelector",
    "LabelSelector",
    "LocalObjectReference",
    "NodeSelector",
    "NodeSelectorTerm",
    "ObjectFieldSelector",
    "ObjectReference",
    "OwnerReference",
    "ResourceFieldSelector",
    "ScopeSelector",
    "ScopedResourceSelectorRequirement",
    "SecretKeySelector",
    "TypedLocalObjectReference",
    "autoscaling.v1.CrossVersionObjectReference",
    "discovery.v1.EndpointPort",
    "networking.v1.ServiceBackendPort",
    "rbac.v1.RoleRef",
    "rbac.v1.Subject",
];

/// Maps with one owner, by the API's `mapType=atomic`.
const ATOMIC_MAPS: &[(&str, &str)] = &[("PodSpec", "nodeSelector"), ("ServiceSpec", "selector")];

/// (message, field, strategic merge key or "" for a union of scalars, apply keys or "" for a set).
/// `-` in a column: not merged there. Lists that are not here are atomic and replaced.
const LISTS: &[(&str, &str, &str, &str)] = &[
    ("ObjectMeta", "ownerReferences", "uid", "uid"),
    ("ObjectMeta", "finalizers", "", ""),
    ("PodSpec", "containers", "name", "name"),
    ("PodSpec", "initContainers", "name", "name"),
    ("PodSpec", "ephemeralContainers", "name", "name"),
    ("PodSpec", "volumes", "name", "name"),
    ("PodSpec", "imagePullSecrets", "name", "name"),
    ("PodSpec", "hostAliases", "ip", "ip"),
    (
        "PodSpec",
        "topologySpreadConstraints",
        "topologyKey",
        "topologyKey,whenUnsatisfiable",
    ),
    ("PodSpec", "resourceClaims", "name", "name"),
    ("PodSpec", "schedulingGates", "name", "name"),
    (
        "Container",
        "ports",
        "containerPort",
        "containerPort,protocol",
    ),
    ("Container", "env", "name", "name"),
    ("Container", "volumeMounts", "mountPath", "mountPath"),
    ("Container", "volumeDevices", "devicePath", "devicePath"),
    (
        "EphemeralContainerCommon",
        "ports",
        "containerPort",
        "containerPort,protocol",
    ),
    ("EphemeralContainerCommon", "env", "name", "name"),
    (
        "EphemeralContainerCommon",
        "volumeMounts",
        "mountPath",
        "mountPath",
    ),
    (
        "EphemeralContainerCommon",
        "volumeDevices",
        "devicePath",
        "devicePath",
    ),
    ("ResourceRequirements", "claims", "-", "name"),
    ("PodStatus", "podIPs", "ip", "ip"),
    ("PodStatus", "hostIPs", "ip", "-"),
    ("PodStatus", "resourceClaimStatuses", "name", "name"),
    ("ServiceSpec", "ports", "port", "port,protocol"),
    ("ServiceAccount", "secrets", "name", "name"),
    ("NodeSpec", "podCIDRs", "", ""),
    ("NodeStatus", "addresses", "type", "type"),
    ("batch.v1.JobStatus", "conditions", "type", "-"),
    (
        "admissionregistration.v1.MutatingWebhookConfiguration",
        "webhooks",
        "name",
        "name",
    ),
    (
        "admissionregistration.v1.ValidatingWebhookConfiguration",
        "webhooks",
        "name",
        "name",
    ),
    (
        "admissionregistration.v1.MutatingWebhook",
        "matchConditions",
        "name",
        "name",
    ),
    (
        "admissionregistration.v1.ValidatingWebhook",
        "matchConditions",
        "name",
        "name",
    ),
];

fn row(message: &str, field: &str) -> Option<(&'static str, &'static str)> {
    let listed = LISTS.iter().find(|row| row.0 == message && row.1 == field);
    listed.map(|row| (row.2, row.3)).or_else(|| {
        (field == "conditions" && message.ends_with("Status")).then_some(("type", "type"))
    })
}

fn apply_rule(message: &str, field: &str) -> ListRule {
    match row(message, field) {
        None | Some((_, "-")) => ListRule::Atomic,
        Some((_, "")) => ListRule::Set,
        Some((_, keys)) => ListRule::Keyed(keys.split(',').map(str::to_owned).collect()),
    }
}

fn strategic_rule(message: &str, field: &str) -> ListMerge {
    match row(message, field) {
        None | Some(("-", _)) => ListMerge::Replace,
        Some(("", _)) => ListMerge::Union,
        Some((key, _)) => ListMerge::By(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn walk<'a>(root: Shape<'a>, path: &[&str]) -> Shape<'a> {
        path.iter().fold(root, |shape, key| match *key {
            "[]" => shape.element(),
            key => shape.child(key),
        })
    }

    #[test]
    fn the_lists_of_pods_and_templates_have_keys() {
        let root = Shape::root(&Gvk::new("apps", "v1", "Deployment"), None);
        let containers = walk(root, &["spec", "template", "spec", "containers"]);
        assert_eq!(containers.list_merge(), ListMerge::By("name"));
        let ports = containers.element().child("ports");
        assert_eq!(ports.list_merge(), ListMerge::By("containerPort"));
        assert_eq!(
            ports.list_rule(),
            ListRule::Keyed(vec!["containerPort".into(), "protocol".into()])
        );
        assert!(root.child("spec").child("selector").is_atomic_object());
        let args = containers.element().child("args");
        assert_eq!(args.list_rule(), ListRule::Atomic);
        assert_eq!(args.list_merge(), ListMerge::Replace);
    }

    #[test]
    fn every_rule_names_a_list_that_exists() {
        for (message, field, ..) in LISTS {
            let found = types::message(message).and_then(|message| message.field(field));
            assert_eq!(
                found.map(|field| field.arity),
                Some(Arity::List),
                "{message}.{field}"
            );
        }
        for (message, field) in ATOMIC_MAPS {
            assert!(types::message(message).unwrap().field(field).is_some());
        }
        for message in ATOMIC_STRUCTS {
            assert!(types::message(message).is_some(), "{message}");
        }
    }

    #[test]
    fn a_schema_says_how_its_lists_merge() {
        let schema = json!({"properties": {"spec": {"properties": {"servers": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
            "items": {"properties": {"hosts": {"type": "array", "x-kubernetes-list-type": "set"}}}
        }}}}});
        let root = Shape::root(&Gvk::new("a.example", "v1", "A"), Some(&schema));
        let servers = walk(root, &["spec", "servers"]);
        assert_eq!(servers.list_rule(), ListRule::Keyed(vec!["id".into()]));
        assert_eq!(servers.element().child("hosts").list_rule(), ListRule::Set);
        let finalizers = walk(root, &["metadata", "finalizers"]);
        assert_eq!(finalizers.list_rule(), ListRule::Set);
    }
}
