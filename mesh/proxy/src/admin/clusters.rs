//! `/clusters`: each cluster with its limits and hosts.

use std::fmt::Write as _;

use mesh_config::HealthStatus;
use serde_json::{Value, json};

use crate::{config::Host, proxy::Proxy, stats::Kind};

pub(super) fn text(proxy: &Proxy) -> String {
    let mut out = String::new();
    for cluster in proxy.config.clusters.iter() {
        let Some(members) = cluster.members.load_full() else {
            continue;
        };
        let name = &cluster.name;
        // Writing to a String does not fail, here and below.
        let _ = writeln!(out, "{name}::observability_name::{name};");
        for (limit, value) in [
            ("max_connections", u32::MAX),
            ("max_pending_requests", u32::MAX),
            ("max_requests", u32::MAX),
            ("max_retries", u32::MAX),
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
    line("weight", &1);
    line("region", &"");
    line("zone", &"");
    line("sub_zone", &"");
    line("canary", &false);
    line("priority", &0);
    line("success_rate", &-1);
    line("local_origin_success_rate", &-1);
}

fn health(host: &Host) -> &'static str {
    match host.health {
        HealthStatus::Healthy => "healthy",
        HealthStatus::Unhealthy | HealthStatus::Draining => "/failed_eds_health",
    }
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
    json!({
        "address": { "socket_address": {
            "address": host.address.ip().to_string(),
            "port_value": host.address.port(),
        } },
        "stats": stats,
        "health_status": { "eds_health_status": health },
        "weight": 1,
        "locality": {},
    })
}
