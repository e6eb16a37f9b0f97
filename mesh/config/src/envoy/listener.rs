//! `envoy.config.listener.v3.Listener`.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{any, authorization, route_configuration, socket_address};
use crate::{
    Accept, FilterChain, HttpConnectionManager, Listener, NetworkFilter, RouteConfiguration,
    TcpProxy, TrafficDirection,
};

type Routes = BTreeMap<String, Arc<RouteConfiguration>>;

/// A listener that learns its routes from the control plane.
pub fn listener(listener: &Listener) -> Value {
    message(listener, None)
}

/// A listener with its route tables written into it.
pub(super) fn with_routes_inline(listener: &Listener, routes: &Routes) -> Value {
    message(listener, Some(routes))
}

fn message(listener: &Listener, routes: Option<&Routes>) -> Value {
    let mut message = json!({
        "name": listener.name,
        "address": socket_address(listener.address),
        "traffic_direction": match listener.direction {
            TrafficDirection::Inbound => "INBOUND",
            TrafficDirection::Outbound | TrafficDirection::Gateway => "OUTBOUND",
        },
        "filter_chains": listener.filter_chains.iter().map(|chain| filter_chain(chain, routes)).collect::<Vec<_>>(),
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
    if !filters.is_empty() {
        message["listener_filters"] = filters.into();
    }
    message
}

fn filter_chain(chain: &FilterChain, routes: Option<&Routes>) -> Value {
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
    let filters = match &chain.filter {
        NetworkFilter::Http(http) => vec![connection_manager(http, routes)],
        NetworkFilter::Tcp(tcp) => {
            let mut filters = authorization::network_filters(&tcp.rbac);
            filters.push(tcp_proxy(tcp));
            filters
        }
        // In Envoy sniffing is a listener filter and two chains; here the HTTP one stands for both.
        NetworkFilter::Sniff { http, .. } => vec![connection_manager(http, routes)],
    };
    let mut message =
        json!({ "name": chain.name, "filter_chain_match": matches, "filters": filters });
    if let Some(context) = &chain.transport.tls {
        message["transport_socket"] = super::tls::downstream(context);
    }
    message
}

fn connection_manager(http: &HttpConnectionManager, routes: Option<&Routes>) -> Value {
    let mut fields = json!({
        "stat_prefix": http.stat_prefix,
        "normalize_path": true,
        "upgrade_configs": [{ "upgrade_type": "websocket" }],
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
    match routes.and_then(|routes| routes.get(&http.route_config)) {
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

fn tcp_proxy(tcp: &TcpProxy) -> Value {
    let mut fields = json!({ "stat_prefix": tcp.stat_prefix });
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
