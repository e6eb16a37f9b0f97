//! `meta.k8s.io/v1` Tables: the server prints, `kubectl get` lays out.
//!
//! Each kind has columns and a function from an object to its cells. Cells are final: ages are
//! computed at `now`, and `<none>`, `<pending>`, `<unknown>` are written here. Columns of
//! priority 1 are shown with `-o wide`.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::gvk::Gvk;

mod age;
mod custom;
mod network;
mod pod;
mod resources;
mod text;
mod workload;

pub use age::age;

/// A column: name, type, priority, description. The first column is always the name.
type Column = (&'static str, &'static str, u8, &'static str);

/// The cells of an object.
type Cells = fn(&Value, Timestamp) -> Vec<Value>;

/// What a kind prints.
struct Printer {
    columns: &'static [Column],
    cells: Cells,
}

/// Renders objects of one kind as a Table, without `metadata` (the caller knows the list's
/// resourceVersion).
///
/// * `crd_columns`: the `additionalPrinterColumns` of a custom resource's version; `None` for
///   built-in kinds, and custom resources without any.
/// * `include_object`: what each row carries of its object: `None`, `Object`, or its metadata.
pub fn render(
    gvk: &Gvk,
    objects: &[Value],
    crd_columns: Option<&[Value]>,
    include_object: &str,
    now: Timestamp,
) -> Value {
    let printer = printer(gvk);
    let columns = match (&printer, crd_columns) {
        (Some(printer), _) => definitions(printer.columns),
        (None, columns) => custom::definitions(columns),
    };
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let cells = match (&printer, crd_columns) {
                (Some(printer), _) => (printer.cells)(object, now),
                (None, columns) => custom::cells(object, columns, now),
            };
            row(gvk, object, cells, include_object)
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": columns,
        "rows": rows,
    })
}

/// The metadata of an object, as `PartialObjectMetadata`.
pub fn partial_metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

fn row(gvk: &Gvk, object: &Value, cells: Vec<Value>, include_object: &str) -> Value {
    let included = match include_object {
        "None" => Value::Null,
        "Object" => object.clone(),
        _ => partial_metadata(object),
    };
    let mut row = json!({"cells": cells});
    if gvk.group.is_empty()
        && gvk.kind == "Pod"
        && let Some(condition) = pod::row_condition(object)
    {
        row["conditions"] = json!([condition]);
    }
    row["object"] = included;
    row
}

const NAME_DESCRIPTION: &str = "Name of the object, unique within its namespace and kind.";
const AGE_DESCRIPTION: &str = "Time since the object was created.";

const fn age_column() -> Column {
    ("Age", "string", 0, AGE_DESCRIPTION)
}

fn definitions(columns: &[Column]) -> Value {
    columns
        .iter()
        .map(|(name, kind, priority, description)| {
            let format = if *name == "Name" { "name" } else { "" };
            definition(name, kind, format, description, u64::from(*priority))
        })
        .collect()
}

fn definition(name: &str, kind: &str, format: &str, description: &str, priority: u64) -> Value {
    json!({
        "name": name, "type": kind, "format": format,
        "description": description, "priority": priority,
    })
}

/// The printer of a built-in kind; `None`: name and age, or a custom resource's columns.
fn printer(gvk: &Gvk) -> Option<Printer> {
    let (columns, cells): (&'static [Column], Cells) = match (gvk.group.as_str(), gvk.kind.as_str())
    {
        ("", "Pod") => (pod::COLUMNS, pod::cells),
        ("", "Service") => (network::SERVICE, network::service),
        ("", "Endpoints") => (network::ENDPOINTS, network::endpoints),
        ("discovery.k8s.io", "EndpointSlice") => (network::ENDPOINT_SLICE, network::endpoint_slice),
        ("networking.k8s.io", "Ingress") => (network::INGRESS, network::ingress),
        ("networking.k8s.io", "IngressClass") => (network::INGRESS_CLASS, network::ingress_class),
        ("networking.k8s.io", "NetworkPolicy") => {
            (network::NETWORK_POLICY, network::network_policy)
        }
        ("apps", "Deployment") => (workload::DEPLOYMENT, workload::deployment),
        ("apps", "ReplicaSet") | ("", "ReplicationController") => {
            (workload::REPLICA_SET, workload::replica_set)
        }
        ("apps", "StatefulSet") => (workload::STATEFUL_SET, workload::stateful_set),
        ("apps", "DaemonSet") => (workload::DAEMON_SET, workload::daemon_set),
        ("batch", "Job") => (workload::JOB, workload::job),
        ("batch", "CronJob") => (workload::CRON_JOB, workload::cron_job),
        ("autoscaling", "HorizontalPodAutoscaler") => (workload::AUTOSCALER, workload::autoscaler),
        ("policy", "PodDisruptionBudget") => {
            (workload::DISRUPTION_BUDGET, workload::disruption_budget)
        }
        ("", "Namespace") => (resources::NAMESPACE, resources::namespace),
        ("", "Node") => (resources::NODE, resources::node),
        ("", "ConfigMap") => (resources::CONFIG_MAP, resources::config_map),
        ("", "Secret") => (resources::SECRET, resources::secret),
        ("", "Event") | ("events.k8s.io", "Event") => (resources::EVENT, resources::event),
        ("", "ResourceQuota") => (resources::QUOTA, resources::quota),
        ("coordination.k8s.io", "Lease") => (resources::LEASE, resources::lease),
        (
            "admissionregistration.k8s.io",
            "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration",
        ) => (resources::WEBHOOKS, resources::webhooks),
        ("apiextensions.k8s.io", "CustomResourceDefinition")
        | ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => {
            (resources::CREATED_AT, resources::created_at)
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            (resources::ROLE_BINDING, resources::role_binding)
        }
        ("scheduling.k8s.io", "PriorityClass") => {
            (resources::PRIORITY_CLASS, resources::priority_class)
        }
        ("", "ServiceAccount" | "LimitRange" | "PodTemplate") => {
            (resources::NAME_AND_AGE, resources::name_and_age)
        }
        _ => return None,
    };
    Some(Printer { columns, cells })
}

#[cfg(test)]
mod tests;
