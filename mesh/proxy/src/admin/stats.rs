//! `/stats`: all statistics as text, JSON or in Prometheus' format.

use std::fmt::Write as _;

use serde_json::json;

use super::Query;
use crate::{
    proxy::Proxy,
    serve::Page,
    stats::{Codes, Kind, istio_text},
};

/// One value under its full name, and the same as Prometheus has it.
struct Stat {
    name: String,
    kind: Kind,
    value: u64,
    family: String,
    labels: String,
}

/// `?filter=REGEX&usedonly&format=text|json|prometheus&type=Counters|Gauges|Histograms`.
pub(super) fn page(proxy: &Proxy, query: &Query<'_>) -> Page {
    if query.is("format", "prometheus") {
        return Page::text(prometheus(proxy));
    }
    let filter = match query.get("filter").map(|filter| regex::Regex::new(&filter)) {
        None => None,
        Some(Ok(filter)) => Some(filter),
        Some(Err(error)) => {
            return Page::text(format!("Invalid regex: {error}\n"))
                .status(http::StatusCode::BAD_REQUEST);
        }
    };
    let kind = query.get("type");
    let mut stats = collect(proxy);
    stats.retain(|stat| {
        filter
            .as_ref()
            .is_none_or(|filter| filter.is_match(&stat.name))
            && (stat.value > 0 || !query.has("usedonly"))
            && match kind.as_deref() {
                Some("Counters") => stat.kind == Kind::Counter,
                Some("Gauges") => stat.kind == Kind::Gauge,
                Some("Histograms") => false,
                _ => true,
            }
    });
    stats.sort_by(|a, b| a.name.cmp(&b.name));
    if query.is("format", "json") {
        let stats: Vec<_> = stats
            .iter()
            .map(|stat| json!({ "name": stat.name, "value": stat.value }))
            .collect();
        return Page::json(&json!({ "stats": stats }));
    }
    let mut out = String::new();
    for stat in stats {
        // Writing to a String does not fail.
        let _ = writeln!(out, "{}: {}", stat.name, stat.value);
    }
    Page::text(out)
}

/// All values by name.
#[cfg(test)]
pub(crate) fn lines(proxy: &Proxy) -> Vec<(String, u64)> {
    let stats = collect(proxy).into_iter();
    stats.map(|stat| (stat.name, stat.value)).collect()
}

/// Envoy's statistics with the prefix `envoy_`, and Istio's metrics.
pub(crate) fn prometheus(proxy: &Proxy) -> String {
    let mut stats = collect(proxy);
    stats.sort_by(|a, b| (&a.family, &a.labels).cmp(&(&b.family, &b.labels)));
    let mut out = String::new();
    let mut family = "";
    for stat in &stats {
        if stat.family != family {
            family = &stat.family;
            let kind = match stat.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            let _ = writeln!(out, "# TYPE {family} {kind}");
        }
        let _ = writeln!(out, "{family}{{{}}} {}", stat.labels, stat.value);
    }
    istio_text::write(&mut out, &proxy.shared.labels, &proxy.shared.node.load());
    out
}

fn collect(proxy: &Proxy) -> Vec<Stat> {
    let mut stats = Vec::new();
    for cluster in proxy.config.clusters.iter() {
        let scope = Scope {
            prefix: format!("cluster.{};.", cluster.name),
            family: "envoy_cluster_",
            label: format!("cluster_name=\"{}\"", escape(&cluster.name)),
        };
        cluster
            .stats
            .each(|name, kind, value| stats.push(scope.stat(name, kind, value)));
        scope.codes("upstream_rq", &cluster.stats.upstream_rq, &mut stats);
        if let Some(outlier) = cluster.known_outlier_stats() {
            outlier.each(|name, kind, value| {
                stats.push(scope.stat(&format!("outlier_detection.{name}"), kind, value));
            });
        }
    }
    for (prefix, http) in proxy.shared.registry.all_http() {
        let scope = Scope {
            label: format!("http_conn_manager_prefix=\"{}\"", escape(&prefix)),
            prefix: format!("http.{prefix}."),
            family: "envoy_http_",
        };
        http.each(|name, kind, value| {
            let name = match name {
                "fault_aborts_injected" => "fault.aborts_injected",
                "fault_delays_injected" => "fault.delays_injected",
                name => name,
            };
            stats.push(scope.stat(name, kind, value));
        });
        scope.codes("downstream_rq", &http.downstream_rq, &mut stats);
    }
    for (prefix, tcp) in proxy.shared.registry.all_tcp() {
        let scope = Scope {
            label: format!("tcp_prefix=\"{}\"", escape(&prefix)),
            prefix: format!("tcp.{prefix}."),
            family: "envoy_tcp_",
        };
        tcp.each(|name, kind, value| stats.push(scope.stat(name, kind, value)));
    }
    let server = Scope {
        prefix: "server.".into(),
        family: "envoy_server_",
        label: String::new(),
    };
    let registry = &proxy.shared.registry.server;
    registry.each(|name, kind, value| stats.push(server.stat(name, kind, value)));
    let uptime = proxy.shared.started.elapsed().as_secs();
    stats.push(server.stat("uptime", Kind::Gauge, uptime));
    stats.push(server.stat("live", Kind::Gauge, 1));
    let version = proxy.config.snapshot.version;
    stats.push(server.stat("config_version", Kind::Gauge, version));
    stats
}

/// Where a group of statistics belongs.
struct Scope {
    prefix: String,
    family: &'static str,
    label: String,
}

impl Scope {
    fn stat(&self, name: &str, kind: Kind, value: u64) -> Stat {
        Stat {
            name: format!("{}{name}", self.prefix),
            kind,
            value,
            family: format!("{}{}", self.family, name.replace('.', "_")),
            labels: self.label.clone(),
        }
    }

    /// `upstream_rq_2xx` and `upstream_rq_200`.
    fn codes(&self, name: &str, codes: &Codes, stats: &mut Vec<Stat>) {
        for (class, value) in codes.classes() {
            let mut stat = self.stat(&format!("{name}_{class}xx"), Kind::Counter, value);
            stat.family = format!("{}{name}_xx", self.family);
            let _ = write!(stat.labels, ",response_code_class=\"{class}\"");
            stats.push(stat);
        }
        for (code, value) in codes.each() {
            let mut stat = self.stat(&format!("{name}_{code}"), Kind::Counter, value);
            stat.family = format!("{}{name}", self.family);
            let _ = write!(stat.labels, ",response_code=\"{code}\"");
            stats.push(stat);
        }
    }
}

/// Counters become 0; gauges and histograms stay.
pub(super) fn reset(proxy: &Proxy) {
    for cluster in proxy.config.clusters.iter() {
        cluster.stats.reset();
        if let Some(outlier) = cluster.known_outlier_stats() {
            outlier.reset();
        }
        if let Some(members) = &*cluster.members.load() {
            for host in &members.hosts {
                host.stats.reset();
            }
        }
    }
    for (_, http) in proxy.shared.registry.all_http() {
        http.reset();
    }
    for (_, tcp) in proxy.shared.registry.all_tcp() {
        tcp.reset();
    }
    proxy.shared.registry.server.reset();
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
