//! Telemetry: metrics, traces and access logs of workloads.

use std::collections::BTreeMap;

use crate::{Duration, PolicyTargetReference, WorkloadSelector};

messages! {
    /// What workloads report about their traffic.
    Telemetry {
        /// Pods that it is for; all of the namespace when absent.
        selector: Option<WorkloadSelector>,
        /// Older form of targetRefs, with one target.
        target_ref: Option<PolicyTargetReference>,
        /// Objects that it is for.
        target_refs: Vec<PolicyTargetReference>,
        /// Traces.
        tracing: Vec<Tracing>,
        /// Metrics.
        metrics: Vec<Metrics>,
        /// Access logs.
        access_logging: Vec<AccessLogging>,
    }

    /// A provider that the mesh configuration defines.
    #[schemars(extend("required" = ["name"]))]
    ProviderRef {
        /// Its name.
        name: String,
    }

    /// Traces.
    Tracing {
        /// Traffic that it is about.
        r#match: Option<TracingSelector>,
        /// Where spans go.
        providers: Vec<ProviderRef>,
        /// Share of the requests that is traced, 0.0 to 100.0.
        #[schemars(range(min = 0, max = 100))]
        random_sampling_percentage: Option<f64>,
        /// Pass the headers on but report nothing.
        disable_span_reporting: Option<bool>,
        /// Further tags of spans.
        custom_tags: BTreeMap<String, CustomTag>,
        /// Derive the trace from the request id.
        use_request_id_for_trace_sampling: Option<bool>,
        /// Whether Istio's own tags are added.
        enable_istio_tags: Option<bool>,
        /// Leave out the tags that Istio adds.
        disable_context_propagation: Option<bool>,
    }

    /// Traffic that tracing is about.
    TracingSelector {
        /// Side of the connection.
        mode: Option<WorkloadMode>,
    }

    /// Value of a tag: a literal, or from the environment, a header or a formatter.
    CustomTag {
        /// A fixed value.
        literal: Option<Literal>,
        /// From an environment variable of the proxy.
        environment: Option<NamedValue>,
        /// From a request header.
        header: Option<NamedValue>,
        /// From an access log operator.
        formatter: Option<Literal>,
    }

    /// A fixed value.
    Literal {
        /// The value.
        value: String,
    }

    /// A value by name, with a default.
    #[schemars(extend("required" = ["name"]))]
    NamedValue {
        /// Name of the variable or header.
        name: String,
        /// Used when there is none.
        default_value: String,
    }

    /// Metrics.
    Metrics {
        /// Who collects them.
        providers: Vec<ProviderRef>,
        /// Changes of single metrics.
        overrides: Vec<MetricsOverrides>,
        /// Time between two reports.
        reporting_interval: Option<Duration>,
    }

    /// Changes of some metrics.
    MetricsOverrides {
        /// Metrics that it is about; all when absent.
        r#match: Option<MetricSelector>,
        /// Switch them off.
        disabled: Option<bool>,
        /// Changes of labels, by name.
        tag_overrides: BTreeMap<String, TagOverride>,
    }

    /// Metrics by name and side.
    MetricSelector {
        /// One of Istio's metrics.
        metric: Option<IstioMetric>,
        /// A metric by its name.
        custom_metric: Option<String>,
        /// Side of the connection.
        mode: Option<WorkloadMode>,
    }

    /// Change of a label.
    TagOverride {
        /// Set or remove.
        operation: Option<TagOperation>,
        /// A CEL expression.
        value: String,
    }

    /// Access logs.
    AccessLogging {
        /// Traffic that it is about.
        r#match: Option<LogSelector>,
        /// Where lines go; envoy is the proxy's standard output.
        providers: Vec<ProviderRef>,
        /// Switch them off.
        disabled: Option<bool>,
        /// Requests that are logged.
        filter: Option<LogFilter>,
    }

    /// Traffic that logging is about.
    LogSelector {
        /// Side of the connection.
        mode: Option<WorkloadMode>,
    }

    /// Requests that are logged.
    LogFilter {
        /// A CEL expression, such as response.code >= 400.
        expression: String,
    }
}

choices! {
    /// Side of the connection.
    WorkloadMode {
        /// Both.
        ClientAndServer,
        /// The caller's.
        Client,
        /// The called one's.
        Server,
    }

    /// Istio's metrics.
    IstioMetric {
        /// All of them.
        AllMetrics,
        /// istio_requests_total.
        RequestCount,
        /// istio_request_duration_milliseconds.
        RequestDuration,
        /// istio_request_bytes.
        RequestSize,
        /// istio_response_bytes.
        ResponseSize,
        /// istio_tcp_connections_opened_total.
        TcpOpenedConnections,
        /// istio_tcp_connections_closed_total.
        TcpClosedConnections,
        /// istio_tcp_sent_bytes_total.
        TcpSentBytes,
        /// istio_tcp_received_bytes_total.
        TcpReceivedBytes,
        /// istio_request_messages_total.
        GrpcRequestMessages,
        /// istio_response_messages_total.
        GrpcResponseMessages,
    }

    /// Change of a label.
    TagOperation {
        /// Set it.
        Upsert,
        /// Remove it.
        Remove,
    }
}
