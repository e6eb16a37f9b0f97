//! `metrics.k8s.io`: asked of the node.

use super::selectors::Selectors;
use super::{ApiError, Call, answer};
use crate::node::Usage;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

pub(super) const GROUP: &str = "metrics.k8s.io";

/// Answers `list` and `get`.
pub(super) async fn run(call: &Call<'_>, verb: &str) -> Result<Response, ApiError> {
    let Some(node) = call.api.node.get() else {
        return Err(ApiError::internal("this cluster has no node"));
    };
    let used = node.usage().await;
    let resource = &call.target.resource;
    let items = match resource.gvk.kind.as_str() {
        "PodMetrics" => pods(call, &used),
        _ => nodes(call, &used),
    };
    if verb == "get" {
        let found = items
            .into_iter()
            .find(|item| item["metadata"]["name"] == call.target.name());
        return match found {
            Some(item) => Ok(answer::json(StatusCode::OK, &item)),
            None => Err(ApiError::not_found(resource, call.target.name())),
        };
    }
    let selectors = Selectors::parse(
        resource,
        call.options.get("labelSelector"),
        call.options.get("fieldSelector"),
    )?;
    let items: Vec<Value> = items
        .into_iter()
        .filter(|item| selectors.matches(item))
        .collect();
    let list = json!({
        "kind": resource.list_kind,
        "apiVersion": resource.gvk.api_version(),
        "metadata": {},
        "items": items,
    });
    Ok(answer::json(StatusCode::OK, &list))
}

fn usage<'a>(used: impl Iterator<Item = &'a Usage>) -> Value {
    let (mut cpu, mut memory) = (0.0, 0);
    for one in used {
        cpu += one.cpu;
        memory += one.memory;
    }
    json!({"cpu": format!("{:.0}n", cpu * 1e9), "memory": format!("{}Ki", memory >> 10)})
}

/// An object about another one, whose name and labels it has.
fn about(call: &Call<'_>, measured: &Value, used: &Usage) -> Value {
    let metadata = &measured["metadata"];
    let mut about = json!({"name": metadata["name"]});
    if metadata["namespace"].is_string() {
        about["namespace"] = metadata["namespace"].clone();
    }
    about["creationTimestamp"] = crate::status::timestamp().into();
    if metadata["labels"].is_object() {
        about["labels"] = metadata["labels"].clone();
    }
    let gvk = &call.target.resource.gvk;
    json!({
        "kind": gvk.kind,
        "apiVersion": gvk.api_version(),
        "metadata": about,
        "timestamp": crate::status::timestamp(),
        "window": format!("{:.3}s", used.window.as_secs_f64()),
    })
}

fn pods(call: &Call<'_>, used: &[Usage]) -> Vec<Value> {
    let namespace = call.target.namespace.as_deref();
    let pods = call.api.store.list("core/pods", namespace).0;
    let measured = pods.into_iter().filter_map(|pod| {
        let pod = pod.value();
        let mine = used.iter().filter(|one| {
            pod["metadata"]["name"] == one.pod && pod["metadata"]["namespace"] == one.namespace
        });
        let first = mine.clone().next()?;
        let mut item = about(call, &pod, first);
        item["containers"] = mine
            .map(|one| json!({"name": one.container, "usage": usage(std::iter::once(one))}))
            .collect();
        Some(item)
    });
    measured.collect()
}

fn nodes(call: &Call<'_>, used: &[Usage]) -> Vec<Value> {
    let pods: Vec<Value> = call
        .api
        .store
        .list("core/pods", None)
        .0
        .iter()
        .map(|p| p.value())
        .collect();
    let nodes = call.api.store.list("core/nodes", None).0;
    let measured = nodes.into_iter().filter_map(|node| {
        let node = node.value();
        let here = |one: &&Usage| {
            pods.iter().any(|pod| {
                pod["metadata"]["name"] == one.pod
                    && pod["metadata"]["namespace"] == one.namespace
                    && pod["spec"]["nodeName"] == node["metadata"]["name"]
            })
        };
        let mine: Vec<&Usage> = used.iter().filter(here).collect();
        let mut item = about(call, &node, mine.first()?);
        item["usage"] = usage(mine.into_iter());
        Some(item)
    });
    measured.collect()
}
