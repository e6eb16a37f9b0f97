//! What the proxy is and what it was told: `/server_info`, `/listeners`, `/config_dump`.

use http::StatusCode;
use serde_json::{Value, json};

use super::query::Query;
use crate::{proxy::Proxy, serve::Page};

pub(super) fn server_info(proxy: &Proxy, state: &str) -> Value {
    let uptime = format!("{}s", proxy.shared.started.elapsed().as_secs());
    let identity = &proxy.shared.identity;
    let node = &proxy.config.snapshot.node;
    json!({
        "version": concat!("mesh-proxy/", env!("CARGO_PKG_VERSION"), "/Clean/RELEASE/rustls"),
        "state": state,
        "hot_restart_version": "disabled",
        "command_line_options": {},
        "node": {
            "id": identity.node_id(),
            "cluster": format!("{}.{}", node.workload.canonical_name, identity.namespace),
            "metadata": {
                "NAME": identity.pod,
                "NAMESPACE": identity.namespace,
                "CLUSTER_ID": node.cluster_id,
                "WORKLOAD_NAME": node.workload.name,
            },
        },
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
    })
}

pub(super) fn listeners(proxy: &Proxy, as_json: bool) -> Page {
    let mut bound: Vec<_> = proxy.bound().collect();
    bound.sort();
    if as_json {
        let statuses: Vec<Value> = bound
            .iter()
            .map(|(name, address)| {
                json!({ "name": name, "local_address": { "socket_address": {
                    "address": address.ip().to_string(),
                    "port_value": address.port(),
                } } })
            })
            .collect();
        return Page::json(&json!({ "listener_statuses": statuses }));
    }
    let lines = bound
        .iter()
        .map(|(name, address)| format!("{name}::{address}\n"));
    Page::text(lines.collect())
}

/// What is still waited for before the proxy can serve.
pub(super) fn init_dump(state: &str) -> Value {
    let waiting = match state {
        "INITIALIZING" => {
            vec![json!({ "name": "init manager Server", "target_names": ["CDS", "LDS"] })]
        }
        _ => vec![],
    };
    json!({ "unready_targets_dumps": waiting })
}

/// `?include_eds&resource=NAME&mask=PATHS&name_regex=RE`.
pub(super) fn config_dump(proxy: &Proxy, query: &Query<'_>) -> Page {
    let name = match query.get("name_regex").map(|text| regex::Regex::new(&text)) {
        None => None,
        Some(Ok(regex)) => Some(regex),
        Some(Err(error)) => {
            return Page::text(format!("Error while parsing name_regex: {error}\n"))
                .status(StatusCode::BAD_REQUEST);
        }
    };
    let passes = |text: &str| name.as_ref().is_none_or(|name| name.is_match(text));
    let (resource, mask) = (query.get("resource"), query.get("mask"));
    let secrets = proxy.shared.secrets.all().into_iter();
    let own: Vec<_> = secrets
        .filter(|secret| !proxy.config.snapshot.secrets.contains_key(&secret.name))
        .map(|secret| (*secret).clone())
        .collect();
    let wanted = mesh_config::envoy::dump::Query {
        include_eds: query.has("include_eds"),
        resource: resource.as_deref(),
        mask: mask.as_deref(),
        name: Some(&passes),
        own_secrets: &own,
        refused: &proxy.config.refused,
    };
    match mesh_config::envoy::dump::config_dump(&proxy.config.snapshot, &wanted) {
        Ok(dump) => Page::json(&dump),
        Err(error) => Page::text(format!("{error}\n")).status(StatusCode::NOT_FOUND),
    }
}
