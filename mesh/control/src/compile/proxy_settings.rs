//! What a proxy is told of itself: the mesh's settings, and what Telemetry says for its pod.

use mesh_api::{
    Resource, Telemetry, WorkloadSelector,
    telemetry::{AccessLogging, IstioMetric, MetricsOverrides, TagOperation, WorkloadMode},
};
use mesh_config::{MetricOverride, Node, Percent, ProxyId, Reporter, SpanTag, Tracing};

use super::Compiler;
use crate::{
    ROOT_NAMESPACE,
    world::{Pod, selects},
};

/// The provider of access logs that is always there: the proxy's standard output.
const STANDARD_OUTPUT: &str = "envoy";
/// The provider of metrics that is always there, and the only one.
pub(crate) const PROMETHEUS: &str = "prometheus";

pub(super) fn node(compiler: &Compiler, proxy: &ProxyId, pod: &Pod) -> Node {
    let settings = &compiler.world.settings;
    let nearest = nearest_first(compiler, pod);
    let logging = nearest
        .iter()
        .map(|t| &t.spec.access_logging)
        .find(|all| !all.is_empty());
    let sampling = nearest
        .iter()
        .flat_map(|telemetry| &telemetry.spec.tracing)
        .find_map(|tracing| {
            let off = tracing.disable_span_reporting == Some(true);
            if off {
                Some(0.0)
            } else {
                tracing.random_sampling_percentage
            }
        });
    Node {
        id: proxy.node_id(),
        cluster_id: "Kubernetes".into(),
        workload: (*pod.workload).clone(),
        access_log: match logging {
            Some(entries) => logs(compiler, entries),
            None => settings.access_log,
        },
        trace_sampling: sampling
            .and_then(Percent::from_percent)
            .unwrap_or(settings.trace_sampling),
        stats_inclusion: pod.stats_inclusion.clone(),
        access_log_format: settings.access_log_format.clone(),
        tracing: tracing(compiler, &nearest),
        metrics: nearest.iter().rev().flat_map(|t| metrics(t)).collect(),
    }
}

/// What one Telemetry changes of the metrics that Prometheus collects.
fn metrics(telemetry: &Resource<Telemetry>) -> Vec<MetricOverride> {
    let entries = telemetry.spec.metrics.iter().filter(|entry| {
        let mut providers = entry.providers.iter();
        entry.providers.is_empty() || providers.any(|provider| provider.name == PROMETHEUS)
    });
    let overrides = entries.flat_map(|entry| &entry.overrides);
    let change = |from: &MetricsOverrides| {
        let about = from.r#match.as_ref();
        let labels = from.tag_overrides.iter().filter_map(|(name, change)| {
            let value = match change.operation {
                Some(TagOperation::Remove) => None,
                _ => Some(cel_text(&change.value)?.to_owned()),
            };
            Some((name.clone(), value))
        });
        // A metric of the user's own is none that the proxy has.
        let custom = about.is_some_and(|about| about.custom_metric.is_some());
        (!custom).then(|| MetricOverride {
            metric: about
                .and_then(|about| metric(about.metric?))
                .map(str::to_owned),
            reporter: match about.and_then(|about| about.mode) {
                None | Some(WorkloadMode::ClientAndServer) => None,
                Some(WorkloadMode::Client) => Some(Reporter::Source),
                Some(WorkloadMode::Server) => Some(Reporter::Destination),
            },
            disabled: from.disabled,
            labels: labels.collect(),
        })
    };
    overrides.filter_map(change).collect()
}

/// The text that a CEL expression always has; `None`: it depends on the request.
pub(crate) fn cel_text(expression: &str) -> Option<&str> {
    let expression = expression.trim();
    let within = |quote| expression.strip_prefix(quote)?.strip_suffix(quote);
    let text = within('"').or_else(|| within('\''))?;
    (!text.contains(['"', '\'', '\\'])).then_some(text)
}

/// Name of a metric; `None`: all of them.
fn metric(metric: IstioMetric) -> Option<&'static str> {
    Some(match metric {
        IstioMetric::AllMetrics => return None,
        IstioMetric::RequestCount => "istio_requests_total",
        IstioMetric::RequestDuration => "istio_request_duration_milliseconds",
        IstioMetric::RequestSize => "istio_request_bytes",
        IstioMetric::ResponseSize => "istio_response_bytes",
        IstioMetric::TcpOpenedConnections => "istio_tcp_connections_opened_total",
        IstioMetric::TcpClosedConnections => "istio_tcp_connections_closed_total",
        IstioMetric::TcpSentBytes => "istio_tcp_sent_bytes_total",
        IstioMetric::TcpReceivedBytes => "istio_tcp_received_bytes_total",
        IstioMetric::GrpcRequestMessages => "istio_request_messages_total",
        IstioMetric::GrpcResponseMessages => "istio_response_messages_total",
    })
}

/// The Telemetry resources that are for a pod: its own, its namespace's, the mesh's; of several the
/// oldest.
fn nearest_first<'a>(compiler: &'a Compiler, pod: &Pod) -> Vec<&'a Resource<Telemetry>> {
    let of = |namespace: &str, selecting: bool| {
        compiler.telemetries.iter().find(|telemetry| {
            let labels = telemetry.spec.selector.as_ref().map(selector_labels);
            telemetry.metadata.namespace == namespace
                && telemetry.spec.target_refs.is_empty()
                && telemetry.spec.target_ref.is_none()
                && match labels.filter(|labels| !labels.is_empty()) {
                    Some(labels) => selecting && selects(labels, &pod.labels),
                    None => !selecting,
                }
        })
    };
    let own = [of(&pod.namespace, true), of(&pod.namespace, false)];
    let root = of(ROOT_NAMESPACE, false).filter(|_| pod.namespace != ROOT_NAMESPACE);
    own.into_iter()
        .chain([root])
        .flatten()
        .map(|telemetry| &**telemetry)
        .collect()
}

fn selector_labels(selector: &WorkloadSelector) -> &super::Labels {
    &selector.match_labels
}

/// Where the pod's spans go, and with which tags.
fn tracing(compiler: &Compiler, nearest: &[&Resource<Telemetry>]) -> Option<Tracing> {
    let settings = &compiler.world.settings;
    let entries = || nearest.iter().flat_map(|telemetry| &telemetry.spec.tracing);
    let provider = entries().find_map(|entry| entry.providers.first());
    let mut tracing = match provider {
        Some(provider) => settings.providers.tracing.get(&provider.name).cloned(),
        None => settings.tracing.clone(),
    }?;
    let tags = entries()
        .map(|entry| &entry.custom_tags)
        .find(|tags| !tags.is_empty());
    for (tag, value) in tags.into_iter().flatten() {
        let source = if let Some(literal) = &value.literal {
            SpanTag::Literal(literal.value.clone())
        } else if let Some(from) = &value.environment {
            let (name, default_value) = (from.name.clone(), from.default_value.clone());
            SpanTag::Environment {
                name,
                default_value,
            }
        } else if let Some(from) = &value.header {
            let (name, default_value) = (from.name.clone(), from.default_value.clone());
            SpanTag::Header {
                name,
                default_value,
            }
        } else {
            continue;
        };
        tracing.tags.insert(tag.clone(), source);
    }
    Some(tracing)
}

/// Some entry writes to standard output.
fn logs(compiler: &Compiler, entries: &[AccessLogging]) -> bool {
    let known = &compiler.world.settings.providers.access_logs;
    let writes = |name: &str| name == STANDARD_OUTPUT || known.iter().any(|known| known == name);
    entries.iter().any(|entry| {
        entry.disabled != Some(true)
            && (entry.providers.is_empty() || entry.providers.iter().any(|p| writes(&p.name)))
    })
}
