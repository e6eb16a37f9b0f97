//! `envoy.config.listener.v3.Listener`.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{any, authorization, route_configuration, socket_address};
use crate::{
    Accept, AccessLogFormat, FilterChain, HttpConnectionManager, Listener, NetworkFilter, Node,
    RouteConfiguration, TcpProxy, TrafficDirection, duration,
};

type Routes = BTreeMap<String, Arc<RouteConfiguration>>;

/// What a listener takes from elsewhere in the snapshot.
#[derive(Clone, Copy)]
struct Around<'a> {
    direction: TrafficDirection,
    /// The route tables, to be written into it; absent: it learns them from the control plane.
    routes: Option<&'a Routes>,
    node: &'a Node,
}

/// A listener that learns its routes from the control plane.
pub fn listener(listener: &Listener, node: &Node) -> Value {
    message(listener, None, node)
}

/// A listener with its route tables written into it.
pub(super) fn with_routes_inline(listener: &Listener, routes: &Routes, node: &Node) -> Value {
    message(listener, Some(routes), node)
}

fn message(listener: &Listener, routes: Option<&Routes>, node: &Node) -> Value {
    let around = Around {
        direction: listener.direction,
        routes,
        node,
    };
    let mut message = json!({
        "name": listener.name,
        "address": socket_address(listener.address),
        "traffic_direction": match listener.direction {
            TrafficDirection::Inbound => "INBOUND",
            TrafficDirection::Outbound | TrafficDirection::Gateway => "OUTBOUND",
        },
        "filter_chains": listener.filter_chains.iter().flat_map(|chain| filter_chains(chain, around)).collect::<Vec<_>>(),
    });
    let filter =
        |name: &str, kind: &str| json!({ "name": name, "typed_config": any(kind, json!({})) });
    let mut filters = Vec::new();
    let inspects =
        |chain: &FilterChain| chain.transport.protocol.is_some() || !chain.server_names.is_empty();
    if listener.filter_chains.iter().any(inspects) {
        filters.push(filter(
            "envoy.filters.listener.tls_inspector",
            "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
        ));
    }
    match listener.accept {
        Accept::Redirected => {
            message["use_original_dst"] = true.into();
            filters.push(filter(
                "envoy.filters.listener.original_dst",
                "envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
            ));
        }
        // Envoy has no listener that is an HTTP proxy by its connection; routing by the authority
        // of an absolute-form request is what its HTTP filter chain does anyway.
        Accept::HttpProxy | Accept::Direct => {}
    }
    let sniffs = |chain: &FilterChain| matches!(chain.filter, NetworkFilter::Sniff { .. });
    if listener.filter_chains.iter().any(sniffs) {
        filters.push(filter(
            "envoy.filters.listener.http_inspector",
            "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",
        ));
        // A client that waits for the server to speak first is taken as not HTTP.
        message["listener_filters_timeout"] = "5s".into();
        message["continue_on_listener_filters_timeout"] = true.into();
    }
    if !filters.is_empty() {
        message["listener_filters"] = filters.into();
    }
    message
}

/// One chain; sniffing is two, of which the one for HTTP asks for what the inspector found.
fn filter_chains(chain: &FilterChain, around: Around<'_>) -> Vec<Value> {
    let mut matches = json!({});
    if let Some(port) = chain.destination_port {
        matches["destination_port"] = port.into();
    }
    // Envoy sees addresses alone: names are what a door is told.
    let prefixes: Vec<Value> = chain
        .destinations
        .iter()
        .filter_map(|text| {
            let (ip, bits) = text.split_once('/').unwrap_or((text, ""));
            let ip = ip.parse::<std::net::IpAddr>().ok()?;
            let all = if ip.is_ipv4() { 32 } else { 128 };
            Some(json!({ "address_prefix": ip.to_string(), "prefix_len": bits.parse().unwrap_or(all) }))
        })
        .collect();
    if !prefixes.is_empty() {
        matches["prefix_ranges"] = prefixes.into();
    }
    if !chain.server_names.is_empty() {
        matches["transport_protocol"] = "tls".into();
    }
    super::tls::chain_match(&chain.transport, &mut matches);
    if !chain.server_names.is_empty() && chain.server_names != ["*"] {
        matches["server_names"] = chain.server_names.clone().into();
    }
    let one = |name: &str, matches: Value, filters: Vec<Value>| {
        let mut message =
            json!({ "name": name, "filter_chain_match": matches, "filters": filters });
        if let Some(context) = &chain.transport.tls {
            message["transport_socket"] = super::tls::downstream(context);
        }
        message
    };
    let of_tcp = |tcp: &TcpProxy| {
        let mut filters = authorization::network_filters(&tcp.rbac);
        filters.push(tcp_proxy(tcp, around));
        filters
    };
    match &chain.filter {
        NetworkFilter::Tcp(tcp) => vec![one(&chain.name, matches, of_tcp(tcp))],
        NetworkFilter::Sniff { http, tcp } if chain.transport.tls.is_none() => {
            let mut looks_like_http = matches.clone();
            looks_like_http["application_protocols"] = json!(["http/1.0", "http/1.1", "h2c"]);
            let tcp_name = format!("{}-tcp", chain.name);
            vec![
                one(
                    &chain.name,
                    looks_like_http,
                    vec![connection_manager(http, around)],
                ),
                one(&tcp_name, matches, of_tcp(tcp)),
            ]
        }
        // Within TLS the inspector sees nothing; there the HTTP chain stands for both.
        NetworkFilter::Http(http) | NetworkFilter::Sniff { http, .. } => {
            vec![one(
                &chain.name,
                matches,
                vec![connection_manager(http, around)],
            )]
        }
    }
}

fn access_log(node: &Node) -> Value {
    if !node.access_log {
        return json!([]);
    }
    let format = match node.access_log_format.clone().unwrap_or_default() {
        AccessLogFormat::Text(text) => json!({ "text_format_source": { "inline_string": text } }),
        AccessLogFormat::Json(fields) => json!({ "json_format": fields }),
    };
    json!([{
        "name": "envoy.access_loggers.file",
        "typed_config": any(
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            json!({ "path": "/dev/stdout", "log_format": format }),
        ),
    }])
}

fn connection_manager(http: &HttpConnectionManager, around: Around<'_>) -> Value {
    let gateway = around.direction == TrafficDirection::Gateway;
    let mut fields = json!({
        "stat_prefix": http.stat_prefix,
        "server_name": match around.direction {
            TrafficDirection::Outbound => "envoy",
            TrafficDirection::Inbound | TrafficDirection::Gateway => "istio-envoy",
        },
        "use_remote_address": gateway,
        "normalize_path": true,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "stream_idle_timeout": "0s",
        "proxy_100_continue": true,
        "upgrade_configs": [{ "upgrade_type": "websocket" }],
        "tracing": {
            "client_sampling": { "value": 100.0 },
            "random_sampling": { "value": f64::from(around.node.trace_sampling.millionths()) / 10_000.0 },
            "overall_sampling": { "value": 100.0 },
        },
        "access_log": access_log(around.node),
    });
    let authorization = http.authorization.as_deref();
    let mut filters = authorization.map_or_else(Vec::new, authorization::http_filters);
    filters.extend([
        json!({ "name": "envoy.filters.http.fault",
          "typed_config": any("envoy.extensions.filters.http.fault.v3.HTTPFault", json!({})) }),
        json!({ "name": "envoy.filters.http.cors",
          "typed_config": any("envoy.extensions.filters.http.cors.v3.Cors", json!({})) }),
        json!({ "name": "envoy.filters.http.router",
          "typed_config": any("envoy.extensions.filters.http.router.v3.Router", json!({})) }),
    ]);
    fields["http_filters"] = filters.into();
    match around
        .routes
        .and_then(|routes| routes.get(&http.route_config))
    {
        Some(table) => fields["route_config"] = route_configuration(table),
        None => {
            fields["rds"] = json!({
                "route_config_name": http.route_config,
                "config_source": { "ads": {}, "resource_api_version": "V3" },
            });
        }
    }
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": any("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", fields),
    })
}

fn tcp_proxy(tcp: &TcpProxy, around: Around<'_>) -> Value {
    let mut fields =
        json!({ "stat_prefix": tcp.stat_prefix, "access_log": access_log(around.node) });
    if let Some(limit) = tcp.idle_timeout {
        fields["idle_timeout"] = duration::format(limit).into();
    }
    if let Some(limit) = tcp.max_connection_duration {
        fields["max_downstream_connection_duration"] = duration::format(limit).into();
    }
    if tcp.hash_source_ip {
        fields["hash_policy"] = json!([{ "source_ip": {} }]);
    }
    match tcp.clusters.as_slice() {
        [only] => fields["cluster"] = only.name.clone().into(),
        several => {
            let clusters: Vec<Value> = several
                .iter()
                .map(|to| json!({ "name": to.name, "weight": to.weight }))
                .collect();
            fields["weighted_clusters"] = json!({ "clusters": clusters });
        }
    }
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": any("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", fields),
    })
}
