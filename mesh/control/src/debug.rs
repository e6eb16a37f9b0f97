//! What the control plane knows and has told: `/debug/*`, `/metrics`, `/ready`, `/version`.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use axum::{
    Json, Router,
    extract::{Query, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::StatusCode;
use mesh_config::envoy::dump;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    push::{Hub, TYPES},
    world::World,
};

/// The monitoring endpoints.
pub(crate) fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/ready", get(ready))
        .route(
            "/version",
            get(|| async { concat!(env!("CARGO_PKG_VERSION"), "\n") }),
        )
        .route("/metrics", get(metrics))
        .route("/debug/syncz", get(syncz))
        .route("/debug/registryz", get(registryz))
        .route("/debug/endpointz", get(endpointz))
        .route("/debug/configz", get(configz))
        .route("/debug/config_dump", get(config_dump))
        .with_state(hub)
}

fn world(hub: &Hub) -> Arc<World> {
    hub.versions.borrow().compiler.world().clone()
}

async fn ready(State(hub): State<Arc<Hub>>) -> Response {
    if hub.versions.borrow().complete {
        return "ready\n".into_response();
    }
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "the first list of objects is not complete\n",
    )
        .into_response()
}

async fn metrics(State(hub): State<Arc<Hub>>) -> Response {
    let world = world(&hub);
    let proxies = hub
        .connections
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .len();
    let text = hub
        .metrics
        .print(proxies, world.services.len(), world.virtual_services.len());
    ([("content-type", "text/plain; version=0.0.4")], text).into_response()
}

async fn syncz(State(hub): State<Arc<Hub>>) -> Json<Value> {
    let newest = hub.versions.borrow().compiler.version();
    let connections = hub
        .connections
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let proxies = connections.values().map(|connection| {
        json!({
            "proxy": format!("{}.{}", connection.proxy.pod, connection.proxy.namespace),
            "proxy_type": connection.proxy.role,
            "node": connection.proxy.node_id(),
            "connected_seconds": connection.since.elapsed().as_secs(),
            "version_sent": connection.version,
            "versions_sent": TYPES.into_iter().zip(connection.of_type).collect::<BTreeMap<_, _>>(),
            "updates": connection.updates,
        })
    });
    Json(json!({ "version": newest, "proxies": proxies.collect::<Vec<_>>() }))
}

async fn registryz(State(hub): State<Arc<Hub>>) -> Json<Value> {
    let world = world(&hub);
    let services = world.services.values().map(|service| {
        let ports = service.ports.iter().map(|port| {
            json!({ "name": port.name, "port": port.number, "protocol": format!("{:?}", port.protocol) })
        });
        json!({
            "hostname": service.host.as_str(),
            "addresses": service.addresses,
            "ports": ports.collect::<Vec<_>>(),
            "selector": service.selector,
        })
    });
    Json(services.collect())
}

async fn endpointz(State(hub): State<Arc<Hub>>) -> Json<Value> {
    let world = world(&hub);
    let slices = world.slices.values().map(|slice| {
        let endpoints = slice.endpoints.iter().map(|endpoint| {
            json!({ "address": endpoint.address, "pod": endpoint.pod, "health": endpoint.health })
        });
        json!({
            "service": format!("{}.{}", slice.service, slice.namespace),
            "ports": slice.ports.iter().map(|(name, port)| json!({ "name": name, "port": port })).collect::<Vec<_>>(),
            "endpoints": endpoints.collect::<Vec<_>>(),
        })
    });
    Json(slices.collect())
}

async fn configz(State(hub): State<Arc<Hub>>) -> Json<Value> {
    let version = hub.versions.borrow().clone();
    let objects = version
        .istio
        .iter()
        .map(|((kind, (namespace, name)), facts)| {
            json!({
                "kind": kind,
                "namespace": namespace,
                "name": name,
                "apiVersion": facts.metadata.api_version,
                "generation": facts.metadata.generation,
                "creationTimestamp": facts.metadata.created.to_string(),
                "messages": facts.messages.iter().map(|message| &message.text).collect::<Vec<_>>(),
            })
        });
    Json(objects.collect())
}

#[derive(Deserialize)]
struct Proxy {
    #[serde(rename = "proxyID")]
    proxy: Option<String>,
}

async fn config_dump(State(hub): State<Arc<Hub>>, Query(query): Query<Proxy>) -> Response {
    let wanted = query.proxy.unwrap_or_default();
    let proxy = {
        let connections = hub
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut proxies = connections.values().map(|connection| &connection.proxy);
        proxies
            .find(|proxy| format!("{}.{}", proxy.pod, proxy.namespace) == wanted)
            .cloned()
    };
    let version = hub.versions.borrow().clone();
    let Some(snapshot) = proxy.and_then(|proxy| version.compiler.snapshot(&proxy)) else {
        let text = format!(
            "no proxy {wanted:?} is connected; say ?proxyID=POD.NAMESPACE (see /debug/syncz)\n"
        );
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    let everything = dump::Query {
        include_eds: true,
        ..dump::Query::default()
    };
    match dump::config_dump(&snapshot, &everything) {
        Ok(dump) => Json(dump).into_response(),
        Err(error) => (StatusCode::NOT_FOUND, error.to_string()).into_response(),
    }
}
