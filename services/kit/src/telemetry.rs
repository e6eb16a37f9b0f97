//! What a service tells about itself: logs on standard output, and spans to an OTLP collector when
//! `OTEL_EXPORTER_OTLP_ENDPOINT` names one.

use std::str::FromStr;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::trace::SdkTracerProvider;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use opentelemetry_sdk::{Resource, runtime};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::identity::Identity;
use crate::trace_context;

/// The variables that name a collector; either switches spans on.
const ENDPOINT_VARIABLES: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];
/// How long the last spans may take to reach the collector when a service stops.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);
/// The target of the spans that are exported.
const SPANS: &str = "dojo_kit::spans";

/// The flags that say what a service tells about itself.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Telemetry")]
pub struct TelemetryArgs {
    /// The form of log lines.
    #[arg(
        long,
        env = "LOG_FORMAT",
        value_name = "plain|json",
        default_value = "plain"
    )]
    pub log_format: LogFormat,
    /// What is logged: a level, or levels by target (`info,hyper=debug`).
    #[arg(long, env = "LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: Targets,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Plain,
    /// One JSON object per line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "plain" | "text" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{text}` is not a log format; write plain or json")),
        }
    }
}

/// Telemetry under way.
#[derive(Default)]
pub struct Telemetry {
    spans: Option<SdkTracerProvider>,
}

/// Starts logging, and spans when a collector is named. In a process where this was done before,
/// the first call stands.
///
/// # Errors
/// When the collector's address or other `OTEL_...` variables cannot be used.
pub fn init(
    args: &TelemetryArgs,
    identity: &Identity,
    client: &reqwest::Client,
) -> Result<Telemetry, opentelemetry_otlp::ExporterBuildError> {
    let logs = match args.log_format {
        LogFormat::Plain => fmt::layer().with_ansi(false).with_target(false).boxed(),
        LogFormat::Json => fmt::layer().json().flatten_event(true).boxed(),
    };
    let logs = logs
        .with_filter(filter_fn(|metadata| metadata.is_event()))
        .with_filter(args.log_level.clone());
    let named = ENDPOINT_VARIABLES
        .iter()
        .any(|name| std::env::var(name).is_ok_and(|value| !value.is_empty()));
    let spans = if named {
        Some(provider(identity, client)?)
    } else {
        None
    };
    let layer = spans.as_ref().map(|spans| {
        tracing_opentelemetry::layer()
            .with_tracer(spans.tracer(identity.service))
            .with_location(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_threads(false)
            .with_filter(filter_fn(|metadata| {
                metadata.is_span() && metadata.target() == SPANS
            }))
    });
    if tracing_subscriber::registry()
        .with(logs)
        .with(layer)
        .try_init()
        .is_err()
    {
        tracing::debug!("logging was started before");
    }
    Ok(Telemetry { spans })
}

fn provider(
    identity: &Identity,
    client: &reqwest::Client,
) -> Result<SdkTracerProvider, opentelemetry_otlp::ExporterBuildError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(client.clone())
        .build()?;
    let mut attributes = vec![KeyValue::new("service.version", identity.version.clone())];
    if let Some(pod) = &identity.pod {
        attributes.push(KeyValue::new("k8s.pod.name", pod.clone()));
    }
    let mut resource = Resource::builder().with_attributes(attributes);
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(identity.service);
    }
    Ok(SdkTracerProvider::builder()
        .with_span_processor(BatchSpanProcessor::builder(exporter, runtime::Tokio).build())
        .with_resource(resource.build())
        .build())
}

impl Telemetry {
    /// Sends the spans that are still waiting.
    pub async fn finish(self) {
        let Some(spans) = self.spans else { return };
        // The provider waits for its own task, which needs this thread.
        let flushed = tokio::task::spawn_blocking(move || spans.shutdown());
        match tokio::time::timeout(FLUSH_TIMEOUT, flushed).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last spans were not sent"),
            Ok(Err(error)) => tracing::warn!(%error, "the last spans were not sent"),
            Err(_) => tracing::warn!("the last spans were not sent in time"),
        }
    }
}

/// The span of a request being served; its parent is the one that the request's headers name.
pub(crate) fn server_span(method: &str, path: &str, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        target: SPANS,
        "serve",
        otel.name = format_args!("{method} {path}"),
        otel.kind = "server",
        http.request.method = method,
        url.path = path,
        http.response.status_code = tracing::field::Empty,
        otel.status_code = tracing::field::Empty,
    );
    if !span.is_disabled()
        && let Some(parent) = trace_context::extract(headers)
        && let Err(error) = span.set_parent(Context::new().with_remote_span_context(parent))
    {
        tracing::debug!(?error, "the span keeps no parent");
    }
    span
}

/// The span of a call to another service.
pub(crate) fn client_span(method: &str, url: &str) -> Span {
    tracing::info_span!(
        target: SPANS,
        "call",
        otel.name = format_args!("{method} {url}"),
        otel.kind = "client",
        http.request.method = method,
        url.full = url,
        http.response.status_code = tracing::field::Empty,
        otel.status_code = tracing::field::Empty,
    )
}

/// Notes the outcome of a request in its span.
pub(crate) fn record_status(span: &Span, status: http::StatusCode) {
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}

/// Makes an outgoing request a child of this span, if spans are being recorded.
pub(crate) fn inject(span: &Span, headers: &mut HeaderMap) {
    if span.is_disabled() {
        return;
    }
    let context = span.context();
    let span = context.span();
    if span.span_context().is_valid() {
        trace_context::inject(span.span_context(), headers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_sdk::trace::SdkTracerProvider;

    /// What a service in the middle sends on, given what it received.
    fn sent_on(received: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut incoming = HeaderMap::new();
        for (name, value) in received {
            incoming.insert(*name, value.parse().expect("a header value"));
        }
        let tracer = SdkTracerProvider::builder().build().tracer("test");
        let layer = tracing_opentelemetry::layer().with_tracer(tracer);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let served = server_span("GET", "/reviews/0", &incoming);
            let _entered = served.enter();
            let mut outgoing =
                crate::propagation::propagated(&incoming, &[crate::propagation::TRACE_HEADERS]);
            inject(
                &client_span("GET", "http://ratings:9080/ratings/0"),
                &mut outgoing,
            );
            outgoing
        })
    }

    #[test]
    fn a_trace_goes_on_under_a_new_span_in_both_families() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let old = "b7ad6b7169203331";
        let outgoing = sent_on(&[
            ("x-b3-traceid", trace),
            ("x-b3-spanid", old),
            ("x-b3-sampled", "1"),
            ("x-request-id", "kept"),
        ]);
        assert_eq!(outgoing["x-b3-traceid"], trace);
        assert_ne!(outgoing["x-b3-spanid"], old);
        let w3c = outgoing["traceparent"].to_str().expect("text");
        let span = outgoing["x-b3-spanid"].to_str().expect("text");
        assert_eq!(w3c, format!("00-{trace}-{span}-01"));
        assert_eq!(outgoing["x-request-id"], "kept");
    }

    #[test]
    fn a_trace_that_is_not_sampled_stays_so() {
        let outgoing = sent_on(&[(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        )]);
        assert_eq!(outgoing["x-b3-sampled"], "0");
    }

    #[test]
    fn without_a_collector_headers_pass_unchanged() {
        let incoming = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", incoming.parse().expect("a header value"));
        inject(&client_span("GET", "http://ratings:9080/"), &mut headers);
        assert_eq!(headers["traceparent"], incoming);
        assert_eq!(headers.len(), 1);
    }
}
