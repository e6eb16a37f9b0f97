//! Istio's standard metrics in Prometheus' text format.

use std::fmt::Write as _;

use mesh_config::{Node, ServiceRef, Workload};

use super::{
    BOUNDS, Histogram,
    istio::{HttpKey, HttpSeries, Labels, PeerId, PrincipalId, Reporter, ServiceId, TcpKey},
};

/// Appends all metrics. `node` is the proxy's own workload.
pub(crate) fn write(out: &mut String, labels: &Labels, node: &Node) {
    // Writing to a String does not fail, here and below.
    let _ = writeln!(
        out,
        "# TYPE istio_build gauge\nistio_build{{component=\"proxy\",tag=\"{}\"}} 1",
        env!("CARGO_PKG_VERSION")
    );
    let mut http: Vec<(String, _)> = labels
        .all_http()
        .into_iter()
        .map(|(key, series)| (http_labels(labels, node, &key), series))
        .collect();
    http.sort_by(|a, b| a.0.cmp(&b.0));
    if !http.is_empty() {
        let _ = writeln!(out, "# TYPE istio_requests_total counter");
        for (text, series) in &http {
            let _ = writeln!(
                out,
                "istio_requests_total{{{text}}} {}",
                series.requests.get()
            );
        }
    }
    type Messages = fn(&HttpSeries) -> u64;
    let messages: [(&str, Messages); 2] = [
        ("istio_request_messages_total", |series| {
            series.request_messages.get()
        }),
        ("istio_response_messages_total", |series| {
            series.response_messages.get()
        }),
    ];
    for (name, get) in messages {
        let mut counted = http.iter().filter(|(_, series)| get(series) > 0).peekable();
        if counted.peek().is_some() {
            let _ = writeln!(out, "# TYPE {name} counter");
        }
        for (text, series) in counted {
            let _ = writeln!(out, "{name}{{{text}}} {}", get(series));
        }
    }
    type Get = fn(&HttpSeries) -> &Histogram;
    let histograms: [(&str, Get); 3] = [
        ("istio_request_duration_milliseconds", |series| {
            &series.duration
        }),
        ("istio_request_bytes", |series| &series.request_bytes),
        ("istio_response_bytes", |series| &series.response_bytes),
    ];
    for (name, get) in histograms {
        if !http.is_empty() {
            let _ = writeln!(out, "# TYPE {name} histogram");
        }
        for (text, series) in &http {
            write_histogram(out, name, text, get(series));
        }
    }
    let mut tcp: Vec<(String, _)> = labels
        .all_tcp()
        .into_iter()
        .map(|(key, series)| (tcp_labels(labels, node, &key), series))
        .collect();
    tcp.sort_by(|a, b| a.0.cmp(&b.0));
    type Count = fn(&super::istio::TcpSeries) -> u64;
    let counters: [(&str, Count); 4] = [
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
    for (name, get) in counters {
        if !tcp.is_empty() {
            let _ = writeln!(out, "# TYPE {name} counter");
        }
        for (text, series) in &tcp {
            let _ = writeln!(out, "{name}{{{text}}} {}", get(series));
        }
    }
}

fn write_histogram(out: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    let counts = histogram.cumulative();
    for (bound, count) in BOUNDS.iter().zip(counts) {
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
    }
    let total = counts[BOUNDS.len()];
    let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {total}");
    let _ = writeln!(out, "{name}_sum{{{labels}}} {}", histogram.sum());
    let _ = writeln!(out, "{name}_count{{{labels}}} {total}");
}

fn http_labels(labels: &Labels, node: &Node, key: &HttpKey) -> String {
    let protocol = if key.grpc { "grpc" } else { "http" };
    let other = (key.peer, key.principal);
    let mut text = common(labels, node, key.reporter, other, key.service, protocol);
    let grpc = key
        .grpc_status
        .map_or_else(String::new, |status| status.to_string());
    let _ = write!(
        text,
        ",response_code=\"{}\",grpc_response_status=\"{grpc}\"",
        key.status
    );
    finish(text, key.reporter, key.principal, key.flags)
}

fn tcp_labels(labels: &Labels, node: &Node, key: &TcpKey) -> String {
    let other = (key.peer, key.principal);
    let text = common(labels, node, key.reporter, other, key.service, "tcp");
    finish(text, key.reporter, key.principal, key.flags)
}

fn finish(
    mut text: String,
    reporter: Reporter,
    principal: PrincipalId,
    flags: crate::flags::Flags,
) -> String {
    let policy = match reporter {
        Reporter::Source => "unknown",
        Reporter::Destination if principal == PrincipalId::NONE => "none",
        Reporter::Destination => "mutual_tls",
    };
    let _ = write!(
        text,
        ",response_flags=\"{flags}\",connection_security_policy=\"{policy}\""
    );
    text
}

/// The labels that HTTP and TCP share, in Istio's order.
fn common(
    labels: &Labels,
    node: &Node,
    reporter: Reporter,
    (peer, principal): (PeerId, PrincipalId),
    service: ServiceId,
    protocol: &str,
) -> String {
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
    let mut text = String::with_capacity(640);
    for (name, value) in pairs {
        let value = if value.is_empty() { "unknown" } else { value };
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        let _ = write!(text, "{name}=\"{value}\",");
    }
    let _ = write!(text, "request_protocol=\"{protocol}\"");
    text
}

fn revision(workload: &Workload) -> &str {
    match workload.canonical_revision.as_str() {
        "" if workload.name.is_empty() => "",
        "" => "latest",
        revision => revision,
    }
}
