//! `/clusters`: each cluster with its limits and hosts.

use std::fmt::Write as _;

use mesh_config::HealthStatus;
use serde_json::{Value, json};

use crate::{config::Host, proxy::Proxy, stats::Kind};

pub(crate) fn text(proxy: &Proxy) -> String {
    let mut out = String::new();
    for cluster in proxy.config.clusters.iter() {
        let Some(members) = cluster.members.load_full() else {
            continue;
        };
        let name = &cluster.name;
        // Writing to a String does not fail, here and below.
        let _ = writeln!(out, "{name}::observability_name::{name};");
        if members.config.outlier_detection.is_some() {
            for kind in ["", "local_origin_"] {
                let _ = writeln!(out, "{name}::outlier::{kind}success_rate_average::-1");
                let _ = writeln!(
                    out,
                    "{name}::outlier::{kind}success_rate_ejection_threshold::-1"
                );
            }
        }
        let limits = &members.config.circuit_breakers;
        for (limit, value) in [
            ("max_connections", limits.max_connections),
            ("max_pending_requests", limits.max_pending_requests),
            ("max_requests", limits.max_requests),
            ("max_retries", limits.max_retries),
        ] {
            let _ = writeln!(out, "{name}::default_priority::{limit}::{value}");
        }
        for (limit, value) in [
            ("max_connections", 1024),
            ("max_pending_requests", 1024),
            ("max_requests", 1024),
            ("max_retries", 3),
        ] {
            let _ = writeln!(out, "{name}::high_priority::{limit}::{value}");
        }
        let _ = writeln!(out, "{name}::added_via_api::true");
        for host in &members.hosts {
            write_host(&mut out, name, host);
        }
    }
    out
}

fn write_host(out: &mut String, cluster: &str, host: &Host) {
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(out, "{cluster}::{}::{name}::{value}", host.address);
    };
    host.stats.each(|name, _, value| line(name, &value));
    line("hostname", &"");
    line("health_flags", &health(host));
    line("weight", &host.weight);
    line("region", &host.locality.region);
    line("zone", &host.locality.zone);
    line("sub_zone", &host.locality.sub_zone);
    line("canary", &false);
    line("priority", &host.priority);
    line("success_rate", &-1);
    line("local_origin_success_rate", &-1);
}

/// `healthy`, or each reason why it is not.
fn health(host: &Host) -> String {
    let mut flags = String::new();
    if host.monitor.is_ejected() {
        flags.push_str("/failed_outlier_check");
    }
    if host.health != HealthStatus::Healthy {
        flags.push_str("/failed_eds_health");
    }
    if flags.is_empty() {
        flags.push_str("healthy");
    }
    flags
}

pub(super) fn json(proxy: &Proxy) -> Value {
    let statuses: Vec<Value> = proxy
        .config
        .clusters
        .iter()
        .filter_map(|cluster| {
            let members = cluster.members.load_full()?;
            let hosts: Vec<Value> = members.hosts.iter().map(|host| host_json(host)).collect();
            Some(json!({
                "name": &*cluster.name,
                "observability_name": format!("{};", cluster.name),
                "added_via_api": true,
                "host_statuses": hosts,
            }))
        })
        .collect();
    json!({ "cluster_statuses": statuses })
}

fn host_json(host: &Host) -> Value {
    let mut stats = Vec::new();
    host.stats.each(|name, kind, value| {
        let kind = match kind {
            Kind::Counter => "COUNTER",
            Kind::Gauge => "GAUGE",
        };
        // Envoy's JSON has 64-bit numbers as strings.
        stats.push(json!({ "name": name, "type": kind, "value": value.to_string() }));
    });
    let health = match host.health {
        HealthStatus::Healthy => "HEALTHY",
        HealthStatus::Unhealthy => "UNHEALTHY",
        HealthStatus::Draining => "DRAINING",
    };
    let mut health_status = json!({ "eds_health_status": health });
    if host.monitor.is_ejected() {
        health_status["failed_outlier_check"] = true.into();
    }
    let mut locality = json!({});
    for (name, value) in [
        ("region", &host.locality.region),
        ("zone", &host.locality.zone),
        ("sub_zone", &host.locality.sub_zone),
    ] {
        if !value.is_empty() {
            locality[name] = value.as_str().into();
        }
    }
    let mut message = json!({
        "address": { "socket_address": {
            "address": host.address.ip().to_string(),
            "port_value": host.address.port(),
        } },
        "stats": stats,
        "health_status": health_status,
        "weight": host.weight,
        "locality": locality,
    });
    if host.priority > 0 {
        message["priority"] = host.priority.into();
    }
    message
}
