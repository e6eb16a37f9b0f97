//! The built-in kinds: one line each.
//!
//! What is not in this table and is no custom resource does not exist for a client: discovery does
//! not name it, and its path answers 404.

use super::{Origin, Resource, Subresource};
use crate::gvk::Gvk;
use crate::metrics;
use k8s_openapi::api::admissionregistration::v1 as admissionregistration;
use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::authentication::v1 as authentication;
use k8s_openapi::api::authorization::v1 as authorization;
use k8s_openapi::api::autoscaling::v1 as autoscaling_v1;
use k8s_openapi::api::autoscaling::v2 as autoscaling;
use k8s_openapi::api::batch::v1 as batch;
use k8s_openapi::api::coordination::v1 as coordination;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::events::v1 as events;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::api::policy::v1 as policy;
use k8s_openapi::api::rbac::v1 as rbac;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use schemars::{Schema, SchemaGenerator};

const ALL: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
const NO_COLLECTION: &[&str] = &[
    "create", "delete", "get", "list", "patch", "update", "watch",
];
const CREATE: &[&str] = &["create"];
const GET_LIST: &[&str] = &["get", "list"];
const GET: &[&str] = &["get"];
const STREAM: &[&str] = &["create", "get"];
const UPDATE: &[&str] = &["update"];
const READ_WRITE: &[&str] = &["get", "patch", "update"];

/// Adds the JSON schema of a compiled-in type to a generator's definitions; returns a reference to it.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One row of the table.
struct Row {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    namespaced: bool,
    short_names: &'static [&'static str],
    categories: &'static [&'static str],
    verbs: &'static [&'static str],
    subresources: &'static [&'static str],
    storage: &'static str,
    schema: SchemaOf,
}

macro_rules! row {
    ($group:literal $version:literal $module:ident::$kind:ident $plural:literal $scope:ident
     $(short $short:tt)? $(in $category:tt)? $(verbs $verbs:ident)? $(sub $sub:tt)? $(as $storage:literal)?) => {
        Row {
            group: $group,
            version: $version,
            kind: stringify!($kind),
            plural: $plural,
            namespaced: row!(@scope $scope),
            short_names: row!(@list $($short)?),
            categories: row!(@list $($category)?),
            verbs: row!(@verbs $($verbs)?),
            subresources: row!(@list $($sub)?),
            storage: row!(@storage $($storage)?),
            schema: |generator| generator.subschema_for::<$module::$kind>(),
        }
    };
    (@scope namespaced) => { true };
    (@scope cluster) => { false };
    (@list) => { &[] };
    (@list $list:tt) => { &$list };
    (@verbs) => { ALL };
    (@verbs $verbs:ident) => { $verbs };
    (@storage) => { "" };
    (@storage $storage:literal) => { $storage };
}

fn rows() -> Vec<Row> {
    vec![
        row!("" "v1" core::ConfigMap "configmaps" namespaced short ["cm"]),
        row!("" "v1" core::Endpoints "endpoints" namespaced short ["ep"]),
        row!("" "v1" core::Event "events" namespaced short ["ev"]),
        row!("" "v1" core::LimitRange "limitranges" namespaced short ["limits"]),
        row!("" "v1" core::Namespace "namespaces" cluster short ["ns"] verbs NO_COLLECTION sub ["finalize", "status"]),
        row!("" "v1" core::Node "nodes" cluster short ["no"] sub ["status"]),
        row!("" "v1" core::Pod "pods" namespaced short ["po"] in ["all"] 
            sub ["attach", "binding", "eviction", "exec", "log", "portforward", "status"]),
        row!("" "v1" core::ResourceQuota "resourcequotas" namespaced short ["quota"] sub ["status"]),
        row!("" "v1" core::Secret "secrets" namespaced),
        row!("" "v1" core::ServiceAccount "serviceaccounts" namespaced short ["sa"] sub ["token"]),
        row!("" "v1" core::Service "services" namespaced short ["svc"] in ["all"] sub ["status"]),
        row!("admissionregistration.k8s.io" "v1" admissionregistration::MutatingWebhookConfiguration
            "mutatingwebhookconfigurations" cluster in ["api-extensions"]),
        row!("admissionregistration.k8s.io" "v1" admissionregistration::ValidatingWebhookConfiguration
            "validatingwebhookconfigurations" cluster in ["api-extensions"]),
        row!("apiextensions.k8s.io" "v1" apiextensions::CustomResourceDefinition
            "customresourcedefinitions" cluster short ["crd", "crds"] in ["api-extensions"] sub ["status"]),
        row!("apps" "v1" apps::DaemonSet "daemonsets" namespaced short ["ds"] in ["all"] sub ["status"]),
        row!("apps" "v1" apps::Deployment "deployments" namespaced short ["deploy"] in ["all"] sub ["scale", "status"]),
        row!("apps" "v1" apps::ReplicaSet "replicasets" namespaced short ["rs"] in ["all"] sub ["scale", "status"]),
        row!("apps" "v1" apps::StatefulSet "statefulsets" namespaced short ["sts"] in ["all"] sub ["scale", "status"]),
        row!("authentication.k8s.io" "v1" authentication::SelfSubjectReview "selfsubjectreviews" cluster verbs CREATE),
        row!("authentication.k8s.io" "v1" authentication::TokenReview "tokenreviews" cluster verbs CREATE),
        row!("authorization.k8s.io" "v1" authorization::LocalSubjectAccessReview "localsubjectaccessreviews" namespaced verbs CREATE),
        row!("authorization.k8s.io" "v1" authorization::SelfSubjectAccessReview "selfsubjectaccessreviews" cluster verbs CREATE),
        row!("authorization.k8s.io" "v1" authorization::SelfSubjectRulesReview "selfsubjectrulesreviews" cluster verbs CREATE),
        row!("authorization.k8s.io" "v1" authorization::SubjectAccessReview "subjectaccessreviews" cluster verbs CREATE),
        row!("autoscaling" "v2" autoscaling::HorizontalPodAutoscaler "horizontalpodautoscalers" namespaced
            short ["hpa"] in ["all"] sub ["status"]),
        row!("autoscaling" "v1" autoscaling_v1::HorizontalPodAutoscaler "horizontalpodautoscalers" namespaced
            short ["hpa"] in ["all"] sub ["status"]),
        row!("batch" "v1" batch::CronJob "cronjobs" namespaced short ["cj"] in ["all"] sub ["status"]),
        row!("batch" "v1" batch::Job "jobs" namespaced in ["all"] sub ["status"]),
        row!("coordination.k8s.io" "v1" coordination::Lease "leases" namespaced),
        row!("discovery.k8s.io" "v1" discovery::EndpointSlice "endpointslices" namespaced),
        row!("events.k8s.io" "v1" events::Event "events" namespaced short ["ev"] as "core/events"),
        row!("metrics.k8s.io" "v1beta1" metrics::NodeMetrics "nodes" cluster verbs GET_LIST),
        row!("metrics.k8s.io" "v1beta1" metrics::PodMetrics "pods" namespaced verbs GET_LIST),
        row!("networking.k8s.io" "v1" networking::Ingress "ingresses" namespaced short ["ing"] sub ["status"]),
        row!("networking.k8s.io" "v1" networking::IngressClass "ingressclasses" cluster),
        row!("networking.k8s.io" "v1" networking::NetworkPolicy "networkpolicies" namespaced short ["netpol"]),
        row!("policy" "v1" policy::PodDisruptionBudget "poddisruptionbudgets" namespaced short ["pdb"] sub ["status"]),
        row!("rbac.authorization.k8s.io" "v1" rbac::ClusterRoleBinding "clusterrolebindings" cluster),
        row!("rbac.authorization.k8s.io" "v1" rbac::ClusterRole "clusterroles" cluster),
        row!("rbac.authorization.k8s.io" "v1" rbac::RoleBinding "rolebindings" namespaced),
        row!("rbac.authorization.k8s.io" "v1" rbac::Role "roles" namespaced),
    ]
}

/// All built-in resources, in the order in which discovery names them.
pub fn resources() -> Vec<Resource> {
    rows().into_iter().map(resource).collect()
}

fn resource(row: Row) -> Resource {
    let gvk = Gvk::new(row.group, row.version, row.kind);
    let subresources = row
        .subresources
        .iter()
        .map(|name| subresource(name, &gvk))
        .collect();
    let owned = |list: &[&str]| list.iter().map(|&item| item.to_owned()).collect();
    let storage = match (row.storage, row.group) {
        ("", "") => format!("core/{}", row.plural),
        ("", group) => format!("{group}/{}", row.plural),
        (storage, _) => storage.to_owned(),
    };
    Resource {
        plural: row.plural.to_owned(),
        singular: row.kind.to_lowercase(),
        list_kind: format!("{}List", row.kind),
        short_names: owned(row.short_names),
        categories: owned(row.categories),
        namespaced: row.namespaced,
        verbs: row.verbs,
        subresources,
        storage: storage.into(),
        origin: Origin::Builtin(row.schema),
        gvk,
    }
}

/// A subresource, which has the same kind and verbs wherever it appears.
pub(crate) fn subresource(name: &'static str, parent: &Gvk) -> Subresource {
    let (kind, verbs) = match name {
        "scale" => (Gvk::new("autoscaling", "v1", "Scale"), READ_WRITE),
        "binding" => (Gvk::new("", "v1", "Binding"), CREATE),
        "eviction" => (Gvk::new("policy", "v1", "Eviction"), CREATE),
        "token" => (
            Gvk::new("authentication.k8s.io", "v1", "TokenRequest"),
            CREATE,
        ),
        "log" => (parent.clone(), GET),
        "attach" => (Gvk::new("", "v1", "PodAttachOptions"), STREAM),
        "exec" => (Gvk::new("", "v1", "PodExecOptions"), STREAM),
        "portforward" => (Gvk::new("", "v1", "PodPortForwardOptions"), STREAM),
        "finalize" => (parent.clone(), UPDATE),
        _ => (parent.clone(), READ_WRITE),
    };
    Subresource { name, kind, verbs }
}

/// The verbs of a custom resource.
pub(crate) fn custom_verbs() -> &'static [&'static str] {
    ALL
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{self, Arity, Type, of_kind};
    use serde_json::Value;
    use std::collections::BTreeSet;

    /// What is read of an object is what its type has.
    #[test]
    fn the_table_of_fields_agrees_with_the_types() {
        let mut generator = schemars::generate::SchemaSettings::openapi3().into_generator();
        let mut kinds = Vec::new();
        for row in rows() {
            let reference = (row.schema)(&mut generator);
            let Some(message) = of_kind(&Gvk::new(row.group, row.version, row.kind)) else {
                // Measured, never written.
                assert_eq!(row.verbs, GET_LIST, "{}", row.kind);
                continue;
            };
            kinds.push((name_of(reference.as_value()), message.name));
        }
        let schemas = Value::Object(generator.take_definitions(false));
        let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
        while let Some((schema, message)) = kinds.pop() {
            if !seen.insert((schema.clone(), message)) {
                continue;
            }
            let message = types::message(message).unwrap();
            let properties = schemas[&schema]["properties"].as_object();
            let declared: BTreeSet<&str> = properties
                .into_iter()
                .flat_map(|it| it.keys().map(String::as_str))
                .filter(|name| {
                    !matches!(*name, "apiVersion" | "kind") || message.field(name).is_some()
                })
                .collect();
            let known: BTreeSet<&str> = message.names().collect();
            let differences = declared.symmetric_difference(&known);
            wrong.extend(differences.map(|name| format!("{}.{name}", message.name)));
            for (name, property) in properties.into_iter().flatten() {
                let Some(field) = message.field(name) else {
                    continue;
                };
                let element = match field.arity {
                    Arity::List => &property["items"],
                    Arity::Map => &property["additionalProperties"],
                    Arity::One | Arity::Inline => property,
                };
                let place = format!("{}.{name}: {property}", message.name);
                match field.ty {
                    Type::Message(inner) if inner.ends_with(".ExtraValue") => {
                        assert_eq!(element["type"], "array", "{place}");
                    }
                    Type::Message(inner) => kinds.push((name_of(element), inner)),
                    Type::String => assert_eq!(element["type"], "string", "{place}"),
                    Type::Bool => assert_eq!(element["type"], "boolean", "{place}"),
                    Type::Int32 => assert_eq!(element["format"], "int32", "{place}"),
                    Type::Int64 => assert_eq!(element["format"], "int64", "{place}"),
                    Type::Number => assert_eq!(element["type"], "number", "{place}"),
                    _ => assert!(element.is_object(), "{place}"),
                }
            }
        }
        assert!(wrong.is_empty(), "on one side only: {wrong:?}");
        assert!(seen.len() > 200, "{}", seen.len());
    }

    /// The component that a schema refers to.
    fn name_of(schema: &Value) -> String {
        let reference = schema["$ref"]
            .as_str()
            .or_else(|| schema["allOf"][0]["$ref"].as_str())
            .unwrap_or_else(|| panic!("{schema}: a reference"));
        reference.rsplit('/').next().unwrap().to_owned()
    }
}
