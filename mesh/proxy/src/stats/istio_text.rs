//! Istio's standard metrics in Prometheus' text format.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use mesh_config::{Node, ServiceRef, Workload};

use super::{
    BOUNDS, Histogram,
    istio::{
        HttpKey, HttpSeries, Labels, PeerId, PrincipalId, Reporter, ServiceId, TcpKey, TcpSeries,
    },
};
use crate::flags::Flags;

type Pairs = Vec<(&'static str, String)>;

/// What is counted of traffic with the same labels.
struct Row<S> {
    reporter: Reporter,
    labels: Pairs,
    series: Arc<S>,
}

type Count<S> = (&'static str, fn(&S) -> u64);
type Measure = (&'static str, fn(&HttpSeries) -> &Histogram);

const HISTOGRAMS: [Measure; 3] = [
    ("istio_request_duration_milliseconds", |series| {
        &series.duration
    }),
    ("istio_request_bytes", |series| &series.request_bytes),
    ("istio_response_bytes", |series| &series.response_bytes),
];
/// Of gRPC calls alone.
const MESSAGES: [Count<HttpSeries>; 2] = [
    ("istio_request_messages_total", |series| {
        series.request_messages.get()
    }),
    ("istio_response_messages_total", |series| {
        series.response_messages.get()
    }),
];
const TCP: [Count<TcpSeries>; 4] = [
    ("istio_tcp_connections_opened_total", |series| {
        series.opened.get()
    }),
    ("istio_tcp_connections_closed_total", |series| {
        series.closed.get()
    }),
    ("istio_tcp_sent_bytes_total", |series| series.sent.get()),
    ("istio_tcp_received_bytes_total", |series| {
        series.received.get()
    }),
];

/// Appends the metrics whose names pass. `node` is the proxy's own workload.
pub(crate) fn write(out: &mut String, labels: &Labels, node: &Node, passes: impl Fn(&str) -> bool) {
    if passes("istio_build") {
        // Writing to a String does not fail, here and below.
        let _ = writeln!(
            out,
            "# TYPE istio_build gauge\nistio_build{{component=\"proxy\",tag=\"{}\"}} 1",
            env!("CARGO_PKG_VERSION")
        );
    }
    let http = labels.all_http().into_iter().map(|(key, series)| Row {
        reporter: key.reporter,
        labels: http_labels(labels, node, &key),
        series,
    });
    let http: Vec<_> = http.collect();
    let requests: Count<HttpSeries> = ("istio_requests_total", |series| series.requests.get());
    for count in std::iter::once(requests).chain(MESSAGES) {
        if passes(count.0) {
            write_counter(out, count, &http, node, |value| value > 0);
        }
    }
    for (name, get) in HISTOGRAMS.into_iter().filter(|(name, _)| passes(name)) {
        for (index, (text, series)) in of_metric(name, &http, node).into_iter().enumerate() {
            if index == 0 {
                let _ = writeln!(out, "# TYPE {name} histogram");
            }
            let all: Vec<&Histogram> = series.into_iter().map(get).collect();
            write_histogram(out, name, &text, &all);
        }
    }
    let tcp = labels.all_tcp().into_iter().map(|(key, series)| Row {
        reporter: key.reporter,
        labels: tcp_labels(labels, node, &key),
        series,
    });
    let tcp: Vec<_> = tcp.collect();
    for count in TCP.into_iter().filter(|(name, _)| passes(name)) {
        write_counter(out, count, &tcp, node, |_| true);
    }
}

/// The rows of a metric by their labels, as the node's overrides leave them: rows that become equal
/// are one.
fn of_metric<'a, S>(name: &str, rows: &'a [Row<S>], node: &Node) -> BTreeMap<String, Vec<&'a S>> {
    let mut found: BTreeMap<String, Vec<&S>> = BTreeMap::new();
    for row in rows {
        let mut disabled = false;
        let mut changes = BTreeMap::new();
        for change in node
            .metrics
            .iter()
            .filter(|o| o.is_about(name, row.reporter))
        {
            disabled = change.disabled.unwrap_or(disabled);
            let labels = change.labels.iter();
            changes.extend(labels.map(|(name, value)| (name.as_str(), value.as_deref())));
        }
        if !disabled {
            let text = text(&row.labels, changes);
            found.entry(text).or_default().push(&row.series);
        }
    }
    found
}

/// Labels as they are printed.
fn text(labels: &Pairs, mut changes: BTreeMap<&str, Option<&str>>) -> String {
    let mut text = String::with_capacity(768);
    let mut add = |name: &str, value: &str| {
        let comma = if text.is_empty() { "" } else { "," };
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        let _ = write!(text, "{comma}{name}=\"{value}\"");
    };
    for (name, value) in labels {
        match changes.remove(name) {
            None => add(name, value),
            Some(Some(other)) => add(name, other),
            Some(None) => {}
        }
    }
    for (name, value) in changes {
        if let Some(value) = value {
            add(name, value);
        }
    }
    text
}

fn write_counter<S>(
    out: &mut String,
    (name, get): Count<S>,
    rows: &[Row<S>],
    node: &Node,
    shown: impl Fn(u64) -> bool,
) {
    let mut begun = false;
    for (text, series) in of_metric(name, rows, node) {
        let value = series.into_iter().map(get).sum();
        if !shown(value) {
            continue;
        }
        if !std::mem::replace(&mut begun, true) {
            let _ = writeln!(out, "# TYPE {name} counter");
        }
        let _ = writeln!(out, "{name}{{{text}}} {value}");
    }
}

fn write_histogram(out: &mut String, name: &str, labels: &str, all: &[&Histogram]) {
    let mut counts = [0; BOUNDS.len() + 1];
    for histogram in all {
        for (total, count) in counts.iter_mut().zip(histogram.cumulative()) {
            *total += count;
        }
    }
    for (bound, count) in BOUNDS.iter().zip(counts) {
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
    }
    let total = counts[BOUNDS.len()];
    let sum: f64 = all.iter().map(|histogram| histogram.sum()).sum();
    let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {total}");
    let _ = writeln!(out, "{name}_sum{{{labels}}} {sum}");
    let _ = writeln!(out, "{name}_count{{{labels}}} {total}");
}

fn http_labels(labels: &Labels, node: &Node, key: &HttpKey) -> Pairs {
    let protocol = if key.grpc { "grpc" } else { "http" };
    let other = (key.peer, key.principal);
    let mut pairs = shared(labels, node, key.reporter, other, key.service, protocol);
    let grpc = key.grpc_status.map(|status| status.to_string());
    pairs.push(("response_code", key.status.to_string()));
    pairs.push(("grpc_response_status", grpc.unwrap_or_default()));
    pairs.extend(ends(key.reporter, key.principal, key.flags));
    pairs
}

fn tcp_labels(labels: &Labels, node: &Node, key: &TcpKey) -> Pairs {
    let other = (key.peer, key.principal);
    let mut pairs = shared(labels, node, key.reporter, other, key.service, "tcp");
    pairs.extend(ends(key.reporter, key.principal, key.flags));
    pairs
}

fn ends(reporter: Reporter, principal: PrincipalId, flags: Flags) -> [(&'static str, String); 2] {
    let policy = match reporter {
        Reporter::Source => "unknown",
        Reporter::Destination if principal == PrincipalId::NONE => "none",
        Reporter::Destination => "mutual_tls",
    };
    [
        ("response_flags", flags.to_string()),
        ("connection_security_policy", policy.into()),
    ]
}

/// The labels that HTTP and TCP share, in Istio's order.
fn shared(
    labels: &Labels,
    node: &Node,
    reporter: Reporter,
    (peer, principal): (PeerId, PrincipalId),
    service: ServiceId,
    protocol: &str,
) -> Pairs {
    let peer = labels.workload(peer);
    let own = &node.workload;
    // Ours is proven where the other side's is: one handshake proves both.
    let principal = labels.identity(principal);
    let own_principal = match principal.as_str() {
        "" => "",
        _ => &own.identity,
    };
    let (source_principal, destination_principal) = match reporter {
        Reporter::Source => (own_principal, principal.as_str()),
        Reporter::Destination => (principal.as_str(), own_principal),
    };
    let (name, source, destination): (_, &Workload, &Workload) = match reporter {
        Reporter::Source => ("source", own, &peer),
        Reporter::Destination => ("destination", &peer, own),
    };
    let service: &ServiceRef = &labels.service_ref(service);
    // A peer that nothing is known of has no cluster either.
    let cluster = |workload: &Workload| match workload.name.as_str() {
        "" => String::new(),
        _ => node.cluster_id.clone(),
    };
    let pairs: [(&str, &str); 20] = [
        ("reporter", name),
        ("source_workload", &source.name),
        ("source_canonical_service", &source.canonical_name),
        ("source_canonical_revision", revision(source)),
        ("source_workload_namespace", &source.namespace),
        ("source_principal", source_principal),
        ("source_app", &source.app),
        ("source_version", &source.version),
        ("source_cluster", &cluster(source)),
        ("destination_workload", &destination.name),
        ("destination_workload_namespace", &destination.namespace),
        ("destination_principal", destination_principal),
        ("destination_app", &destination.app),
        ("destination_version", &destination.version),
        ("destination_service", &service.host),
        ("destination_canonical_service", &destination.canonical_name),
        ("destination_canonical_revision", revision(destination)),
        ("destination_service_name", &service.name),
        ("destination_service_namespace", &service.namespace),
        ("destination_cluster", &cluster(destination)),
    ];
    let known = |value: &str| match value {
        "" => "unknown".to_owned(),
        value => value.to_owned(),
    };
    let mut pairs: Pairs = pairs.map(|(name, value)| (name, known(value))).to_vec();
    pairs.push(("request_protocol", protocol.into()));
    pairs
}

fn revision(workload: &Workload) -> &str {
    match workload.canonical_revision.as_str() {
        "" if workload.name.is_empty() => "",
        "" => "latest",
        revision => revision,
    }
}
