//! `envoy.config.cluster.v3.Cluster` and `envoy.config.endpoint.v3.ClusterLoadAssignment`.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::{Value, json};

use super::{any, socket_address};
use crate::{
    CircuitBreakers, Cluster, ClusterLoadAssignment, Discovery, Endpoint, HealthStatus, LbPolicy,
    Locality, OutlierDetection, ProxyProtocol, TcpKeepalive, UpstreamProtocol, duration,
};

/// A cluster that learns its endpoints from the control plane.
pub fn cluster(cluster: &Cluster) -> Value {
    let mut message = json!({
        "name": cluster.name,
        // The semicolon ends the name within the name of a statistic.
        "alt_stat_name": format!("{};", cluster.name),
    });
    match cluster.discovery {
        Discovery::Eds => {
            message["type"] = "EDS".into();
            message["eds_cluster_config"] =
                json!({ "eds_config": { "ads": {}, "resource_api_version": "V3" } });
            lb_policy(&mut message, cluster);
        }
        Discovery::OriginalDst => {
            message["type"] = "ORIGINAL_DST".into();
            message["lb_policy"] = "CLUSTER_PROVIDED".into();
        }
        Discovery::StrictDns | Discovery::LogicalDns => {
            let strict = cluster.discovery == Discovery::StrictDns;
            message["type"] = if strict { "STRICT_DNS" } else { "LOGICAL_DNS" }.into();
            message["dns_lookup_family"] = "V4_PREFERRED".into();
            message["dns_refresh_rate"] = "60s".into();
            message["respect_dns_ttl"] = true.into();
            lb_policy(&mut message, cluster);
        }
    }
    message["connect_timeout"] = duration::format(cluster.connect_timeout).into();
    message["circuit_breakers"] = json!({ "thresholds": [thresholds(&cluster.circuit_breakers)] });
    if let Some(detection) = &cluster.outlier_detection {
        message["outlier_detection"] = outlier_detection(detection);
    }
    let panic = cluster.healthy_panic_threshold;
    message["common_lb_config"] = json!({ "healthy_panic_threshold": { "value": panic } });
    if cluster.locality_weighted {
        message["common_lb_config"]["locality_weighted_lb_config"] = json!({});
    }
    if let Some(keepalive) = &cluster.connections.tcp_keepalive {
        message["upstream_connection_options"] =
            json!({ "tcp_keepalive": tcp_keepalive(keepalive) });
    }
    const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    message["typed_extension_protocol_options"] =
        json!({ OPTIONS: super::any(OPTIONS, http_protocol_options(cluster)) });
    if let Some((first, others)) = cluster.source_addresses.split_first() {
        let socket = |source: &IpAddr| json!({ "address": source.to_string(), "port_value": 0 });
        let extra = others
            .iter()
            .map(|source| json!({ "address": socket(source) }));
        message["upstream_bind_config"] = json!({
            "source_address": socket(first),
            "extra_source_addresses": extra.collect::<Vec<_>>(),
        });
    }
    if let Some(metadata) = istio_metadata(cluster) {
        message["metadata"] = metadata;
    }
    if let Some(context) = &cluster.tls {
        super::tls::upstream(context, &mut message);
    }
    if let Some(version) = cluster.proxy_protocol {
        announce(version, &mut message);
    }
    message
}

/// What Istio's tools read: the service, the subset, the DestinationRule.
fn istio_metadata(cluster: &Cluster) -> Option<Value> {
    let mut istio = json!({});
    if let Some(config) = &cluster.config {
        istio["config"] = (**config).into();
    }
    if let Some(service) = &cluster.service {
        istio["services"] = json!([service]);
    }
    let subset = cluster.name.split('|').nth(2);
    if let Some(subset) = subset.filter(|subset| !subset.is_empty()) {
        istio["subset"] = subset.into();
    }
    (istio != json!({})).then(|| json!({ "filter_metadata": { "istio": istio } }))
}

/// Puts the PROXY protocol around each transport socket of a cluster.
fn announce(version: ProxyProtocol, cluster: &mut Value) {
    let version = match version {
        ProxyProtocol::V1 => "V1",
        ProxyProtocol::V2 => "V2",
    };
    let around = |socket: Value| {
        let kind =
            "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport";
        let fields = json!({ "config": { "version": version }, "transport_socket": socket });
        json!({ "name": "envoy.transport_sockets.upstream_proxy_protocol", "typed_config": any(kind, fields) })
    };
    if let Some(matches) = cluster["transport_socket_matches"].as_array_mut() {
        for matched in matches {
            matched["transport_socket"] = around(matched["transport_socket"].take());
        }
        return;
    }
    let socket = match cluster["transport_socket"].take() {
        Value::Null => super::tls::raw_buffer(),
        socket => socket,
    };
    cluster["transport_socket"] = around(socket);
}

fn lb_policy(message: &mut Value, cluster: &Cluster) {
    let slow_start = cluster.slow_start.map(|slow_start| {
        json!({ "slow_start_config": {
            "slow_start_window": duration::format(slow_start.window),
            "aggression": { "default_value": slow_start.aggression,
                "runtime_key": "slow_start.aggression" },
            "min_weight_percent": { "value": slow_start.min_weight_percent },
        } })
    });
    let (name, field, config) = match cluster.lb_policy {
        LbPolicy::LeastRequest => ("LEAST_REQUEST", "least_request_lb_config", slow_start),
        LbPolicy::RoundRobin => ("ROUND_ROBIN", "round_robin_lb_config", slow_start),
        LbPolicy::Random => ("RANDOM", "", None),
        LbPolicy::RingHash { minimum_ring_size } => {
            let config = json!({ "minimum_ring_size": minimum_ring_size });
            ("RING_HASH", "ring_hash_lb_config", Some(config))
        }
        LbPolicy::Maglev { table_size } => {
            let config = json!({ "table_size": table_size });
            ("MAGLEV", "maglev_lb_config", Some(config))
        }
    };
    message["lb_policy"] = name.into();
    if let Some(config) = config {
        message[field] = config;
    }
}

fn thresholds(limits: &CircuitBreakers) -> Value {
    let mut message = json!({
        "max_connections": limits.max_connections,
        "max_pending_requests": limits.max_pending_requests,
        "max_requests": limits.max_requests,
        "max_retries": limits.max_retries,
        "track_remaining": true,
    });
    if let Some(budget) = &limits.retry_budget {
        message["retry_budget"] = json!({
            "budget_percent": { "value": f64::from(budget.basis_points) / 100.0 },
            "min_retry_concurrency": budget.min_retry_concurrency,
        });
    }
    message
}

fn outlier_detection(detection: &OutlierDetection) -> Value {
    let mut message = json!({});
    let enforcing = |threshold: u32| if threshold > 0 { 100 } else { 0 };
    if let Some(threshold) = detection.consecutive_5xx {
        message["consecutive_5xx"] = threshold.into();
        message["enforcing_consecutive_5xx"] = enforcing(threshold).into();
    }
    message["interval"] = duration::format(detection.interval).into();
    message["base_ejection_time"] = duration::format(detection.base_ejection_time).into();
    message["max_ejection_percent"] = detection.max_ejection_percent.into();
    message["enforcing_success_rate"] = 0.into();
    if let Some(threshold) = detection.consecutive_gateway_failure {
        message["consecutive_gateway_failure"] = threshold.into();
        message["enforcing_consecutive_gateway_failure"] = enforcing(threshold).into();
    }
    if detection.split_external_local_origin_errors {
        message["split_external_local_origin_errors"] = true.into();
        if let Some(threshold) = detection.consecutive_local_origin_failure {
            message["consecutive_local_origin_failure"] = threshold.into();
            message["enforcing_consecutive_local_origin_failure"] = enforcing(threshold).into();
        }
        message["enforcing_local_origin_success_rate"] = 0.into();
    }
    message
}

fn tcp_keepalive(keepalive: &TcpKeepalive) -> Value {
    let mut message = json!({});
    let seconds = |time: Option<std::time::Duration>| time.map(|time| time.as_secs());
    for (name, value) in [
        ("keepalive_probes", keepalive.probes.map(u64::from)),
        ("keepalive_time", seconds(keepalive.time)),
        ("keepalive_interval", seconds(keepalive.interval)),
    ] {
        if let Some(value) = value {
            message[name] = value.into();
        }
    }
    message
}

fn http_protocol_options(cluster: &Cluster) -> Value {
    let options = &cluster.connections;
    let mut http2 = json!({});
    if let Some(streams) = options.max_concurrent_streams {
        http2["max_concurrent_streams"] = streams.into();
    }
    if let Some(keepalive) = &options.http2_keepalive {
        http2["connection_keepalive"] = json!({
            "interval": duration::format(keepalive.interval),
            "timeout": duration::format(keepalive.timeout),
        });
    }
    let mut message = match cluster.protocol {
        UpstreamProtocol::Http1 => {
            json!({ "explicit_http_config": { "http_protocol_options": {} } })
        }
        UpstreamProtocol::Http2 => {
            json!({ "explicit_http_config": { "http2_protocol_options": http2 } })
        }
        UpstreamProtocol::UseDownstream => {
            json!({ "use_downstream_protocol_config": { "http_protocol_options": {}, "http2_protocol_options": http2 } })
        }
    };
    let mut common = json!({});
    if let Some(limit) = options.idle_timeout {
        common["idle_timeout"] = duration::format(limit).into();
    }
    if let Some(limit) = options.max_connection_duration {
        common["max_connection_duration"] = duration::format(limit).into();
    }
    if let Some(requests) = options.max_requests_per_connection {
        common["max_requests_per_connection"] = requests.into();
    }
    if common != json!({}) {
        message["common_http_protocol_options"] = common;
    }
    message
}

/// A cluster with its endpoints written into it, for an Envoy without a control plane.
pub(super) fn with_endpoints_inline(
    of: &Cluster,
    endpoints: Option<&ClusterLoadAssignment>,
) -> Value {
    let mut message = cluster(of);
    if of.discovery != Discovery::OriginalDst {
        if of.discovery == Discovery::Eds {
            message["type"] = "STATIC".into();
        }
        let none = ClusterLoadAssignment {
            cluster_name: of.name.clone(),
            endpoints: Vec::new(),
        };
        message["load_assignment"] = load_assignment(endpoints.unwrap_or(&none));
        if let Some(fields) = message.as_object_mut() {
            fields.remove("eds_cluster_config");
        }
    }
    message
}

/// The endpoints of a cluster, by priority and locality.
pub fn load_assignment(assignment: &ClusterLoadAssignment) -> Value {
    let mut groups: BTreeMap<(u32, &Locality), Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in &assignment.endpoints {
        let key = (endpoint.priority, &*endpoint.locality);
        groups.entry(key).or_default().push(endpoint);
    }
    let groups = groups.into_iter().map(|((priority, locality), endpoints)| {
        let mut group = json!({
            "locality": locality_message(locality),
            "lb_endpoints": endpoints.iter().copied().map(endpoint).collect::<Vec<_>>(),
        });
        if priority > 0 {
            group["priority"] = priority.into();
        }
        // Without a weight of its own, a locality counts for the endpoints that it has.
        let sum = endpoints.iter().map(|endpoint| endpoint.weight).sum();
        let own = endpoints
            .first()
            .and_then(|endpoint| endpoint.locality_weight);
        group["load_balancing_weight"] = own.unwrap_or(sum).into();
        group
    });
    json!({
        "cluster_name": assignment.cluster_name,
        "endpoints": groups.collect::<Vec<_>>(),
    })
}

fn locality_message(locality: &Locality) -> Value {
    let mut message = json!({});
    for (name, value) in [
        ("region", &locality.region),
        ("zone", &locality.zone),
        ("sub_zone", &locality.sub_zone),
    ] {
        if !value.is_empty() {
            message[name] = value.as_str().into();
        }
    }
    message
}

fn endpoint(endpoint: &Endpoint) -> Value {
    let health = match endpoint.health {
        HealthStatus::Healthy => "HEALTHY",
        HealthStatus::Unhealthy => "UNHEALTHY",
        HealthStatus::Draining => "DRAINING",
    };
    let mut message = json!({
        "endpoint": { "address": match &endpoint.hostname {
            Some(name) => json!({ "socket_address": { "address": name, "port_value": endpoint.address.port() } }),
            None => socket_address(endpoint.address),
        } },
        "health_status": health,
        "metadata": { "filter_metadata": { "istio": {
            "workload": format!("{};{};{};{};Kubernetes",
                endpoint.workload.name, endpoint.workload.namespace,
                endpoint.workload.canonical_name, endpoint.workload.canonical_revision),
        } } },
        "load_balancing_weight": endpoint.weight,
    });
    if endpoint.mutual_tls {
        message["metadata"]["filter_metadata"]["envoy.transport_socket_match"] =
            json!({ "tlsMode": "istio" });
    }
    message
}
