//! Everything that a proxy counts, under its full names.

use std::fmt::Write as _;

use super::inclusion::Inclusion;
use crate::{
    breaker,
    proxy::{LOOPBACK, Proxy},
    stats::{Codes, Distribution, Kind, Recorded},
};

/// One value under its full name, and the same as Prometheus has it.
pub(super) struct Stat {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) value: u64,
    pub(super) family: String,
    pub(super) labels: String,
}

/// One histogram; `None`: nothing was recorded.
pub(super) struct Histogram {
    pub(super) name: String,
    pub(super) recorded: Option<Recorded>,
    pub(super) family: String,
    pub(super) labels: String,
}

/// Everything that is counted.
#[derive(Default)]
pub(super) struct Stats {
    pub(super) values: Vec<Stat>,
    pub(super) histograms: Vec<Histogram>,
}

/// All values by name.
#[cfg(test)]
pub(crate) fn lines(proxy: &Proxy) -> Vec<(String, u64)> {
    let stats = collect(proxy).values.into_iter();
    stats.map(|stat| (stat.name, stat.value)).collect()
}

/// Everything, as far as the pod wants it collected.
pub(super) fn collect(proxy: &Proxy) -> Stats {
    let mut stats = Stats::default();
    for cluster in proxy.config.clusters.iter() {
        let scope = Scope {
            prefix: format!("cluster.{};.", cluster.name),
            family: "envoy_cluster_",
            label: format!("cluster_name=\"{}\"", escape(&cluster.name)),
        };
        cluster.stats.each(|name, kind, value| {
            let value = match name.strip_prefix("ssl_") {
                Some(rest) => scope.stat(&format!("ssl.{rest}"), kind, value),
                None => scope.stat(name, kind, value),
            };
            stats.values.push(value);
        });
        cluster
            .stats
            .each_histogram(|name, values| stats.histograms.push(scope.histogram(name, values)));
        // No request in a mesh is internal to Envoy.
        let answered = &cluster.stats.upstream_rq;
        for (prefix, codes) in [
            ("", answered),
            ("external.", answered),
            ("retry.", &cluster.retried),
        ] {
            scope.codes(&format!("{prefix}upstream_rq"), codes, &mut stats.values);
            let completed = codes.classes().map(|(_, count)| count).sum();
            let name = format!("{prefix}upstream_rq_completed");
            let stat = scope.stat(&name, Kind::Counter, completed);
            stats.values.push(stat);
        }
        if let Some(members) = &*cluster.members.load() {
            for (name, value) in breaker::gauges(cluster, &members.config.circuit_breakers) {
                let name = format!("circuit_breakers.default.{name}");
                stats.values.push(scope.stat(&name, Kind::Gauge, value));
            }
        }
        if let Some(outlier) = cluster.known_outlier_stats() {
            outlier.each(|name, kind, value| {
                let name = format!("outlier_detection.{name}");
                stats.values.push(scope.stat(&name, kind, value));
            });
        }
    }
    let shown = |prefix: &str| prefix != LOOPBACK;
    let all_http = proxy.shared.registry.all_http().into_iter();
    for (prefix, http) in all_http.filter(|(prefix, _)| shown(prefix)) {
        let scope = Scope {
            label: format!("http_conn_manager_prefix=\"{}\"", escape(&prefix)),
            prefix: format!("http.{prefix}."),
            family: "envoy_http_",
        };
        http.each(|name, kind, value| {
            // Filters have scopes of their own.
            let filters = ["rbac", "ext_authz", "jwt_authn", "fault"];
            let of_filter = filters
                .iter()
                .find_map(|filter| Some((filter, name.strip_prefix(filter)?.strip_prefix('_')?)));
            let name = match of_filter {
                Some((filter, name)) => format!("{filter}.{name}"),
                None => name.to_owned(),
            };
            stats.values.push(scope.stat(&name, kind, value));
        });
        http.each_histogram(|name, values| stats.histograms.push(scope.histogram(name, values)));
        let answered = http.downstream_rq.classes();
        scope.classes("downstream_rq", answered, &mut stats.values);
    }
    let all_tcp = proxy.shared.registry.all_tcp().into_iter();
    for (prefix, tcp) in all_tcp.filter(|(prefix, _)| shown(prefix)) {
        let scope = Scope {
            label: format!("tcp_prefix=\"{}\"", escape(&prefix)),
            prefix: format!("tcp.{prefix}."),
            family: "envoy_tcp_",
        };
        tcp.each(|name, kind, value| stats.values.push(scope.stat(name, kind, value)));
    }
    server(proxy, &mut stats.values);
    let node = proxy.shared.node.load();
    if let Some(shown) = Inclusion::of(&node.stats_inclusion) {
        stats.values.retain(|stat| shown.includes(&stat.name));
        stats
            .histograms
            .retain(|histogram| shown.includes(&histogram.name));
    }
    stats
}

/// What belongs to the process.
fn server(proxy: &Proxy, stats: &mut Vec<Stat>) {
    let scope = |prefix: &str, family| Scope {
        prefix: prefix.into(),
        family,
        label: String::new(),
    };
    let server = scope("server.", "envoy_server_");
    let registry = &proxy.shared.registry.server;
    registry.each(|name, kind, value| stats.push(server.stat(name, kind, value)));
    let gauge = |name: &str, value: u64| server.stat(name, Kind::Gauge, value);
    stats.push(gauge("uptime", proxy.shared.started.elapsed().as_secs()));
    stats.push(gauge("live", 1));
    stats.push(gauge("concurrency", proxy.workers() as u64));
    stats.push(gauge("memory_allocated", super::memory::resident()));
    stats.push(gauge("config_version", proxy.config.snapshot.version));
    let (updates, rejected) = (
        registry.config_updates.get(),
        registry.config_rejected.get(),
    );
    let accepted = updates.saturating_sub(rejected);
    for (prefix, family) in [
        ("cluster_manager.cds.", "envoy_cluster_manager_cds_"),
        ("listener_manager.lds.", "envoy_listener_manager_lds_"),
    ] {
        let scope = scope(prefix, family);
        stats.push(scope.stat("update_success", Kind::Counter, accepted));
        stats.push(scope.stat("update_rejected", Kind::Counter, rejected));
    }
    let clusters = scope("cluster_manager.", "envoy_cluster_manager_");
    let active = proxy.config.snapshot.clusters.len() as u64;
    stats.push(clusters.stat("active_clusters", Kind::Gauge, active));
    let listeners = scope("listener_manager.", "envoy_listener_manager_");
    let active = registry.listeners.get();
    stats.push(listeners.stat("total_listeners_active", Kind::Gauge, active));
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

    fn histogram(&self, name: &str, values: &Distribution) -> Histogram {
        Histogram {
            name: format!("{}{name}", self.prefix),
            recorded: values.recorded(),
            family: format!("{}{name}", self.family),
            labels: self.label.clone(),
        }
    }

    /// `upstream_rq_2xx` and `upstream_rq_200`.
    fn codes(&self, name: &str, codes: &Codes, stats: &mut Vec<Stat>) {
        let classes = codes.classes().filter(|(_, count)| *count > 0);
        self.classes(name, classes, stats);
        for (code, value) in codes.each() {
            let mut stat = self.stat(&format!("{name}_{code}"), Kind::Counter, value);
            stat.family = format!("{}{}", self.family, name.replace('.', "_"));
            let _ = write!(stat.labels, ",response_code=\"{code}\"");
            stats.push(stat);
        }
    }

    /// `downstream_rq_2xx`.
    fn classes(
        &self,
        name: &str,
        classes: impl Iterator<Item = (u16, u64)>,
        stats: &mut Vec<Stat>,
    ) {
        for (class, value) in classes {
            let mut stat = self.stat(&format!("{name}_{class}xx"), Kind::Counter, value);
            stat.family = format!("{}{}_xx", self.family, name.replace('.', "_"));
            let _ = write!(stat.labels, ",response_code_class=\"{class}\"");
            stats.push(stat);
        }
    }
}

/// Counters become 0; gauges and histograms stay.
pub(super) fn reset(proxy: &Proxy) {
    for cluster in proxy.config.clusters.iter() {
        cluster.stats.reset();
        cluster.retried.reset();
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
