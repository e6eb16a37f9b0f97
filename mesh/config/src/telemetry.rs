//! What a proxy tells about itself and about requests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Which statistics a proxy shows: what matches any of these, and always those of the process.
/// Istio's annotations `sidecar.istio.io/statsInclusion...` and `proxyStatsMatcher`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatsMatcher {
    /// Beginnings of names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
    /// Ends of names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub suffixes: Vec<String>,
    /// Regular expressions for whole names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub regexps: Vec<String>,
}

impl StatsMatcher {
    /// Nothing is said: all statistics are shown.
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty() && self.suffixes.is_empty() && self.regexps.is_empty()
    }
}

/// Which side of a request a metric is about: label `reporter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reporter {
    /// That of the caller.
    #[default]
    Source,
    /// That of the called one.
    Destination,
}

/// A change of Istio's metrics, which later ones may change again. There is nothing like it in
/// Envoy: the metrics are Istio's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricOverride {
    /// `istio_requests_total`; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// Absent: both sides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reporter: Option<Reporter>,
    /// Not told, or told again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Labels with a fixed value; without one they are left out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Option<String>>,
}

impl MetricOverride {
    /// It changes this metric of this side.
    pub fn is_about(&self, metric: &str, reporter: Reporter) -> bool {
        self.metric.as_deref().is_none_or(|name| name == metric)
            && self.reporter.is_none_or(|side| side == reporter)
    }
}

/// The form of a line of the access log. Values are texts with Envoy's command operators
/// (`%RESPONSE_CODE%`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AccessLogFormat {
    /// One text, with its line break.
    Text(String),
    /// One JSON object, by key; a value that is one operator keeps its type.
    Json(BTreeMap<String, String>),
}

impl Default for AccessLogFormat {
    /// Istio's default text.
    fn default() -> Self {
        let quoted = |text: &str| format!("\"{text}\"");
        let fields = [
            "[%START_TIME%]".into(),
            quoted("%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%"),
            "%RESPONSE_CODE%".into(),
            "%RESPONSE_FLAGS%".into(),
            "%RESPONSE_CODE_DETAILS%".into(),
            "%CONNECTION_TERMINATION_DETAILS%".into(),
            quoted("%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
            "%BYTES_RECEIVED%".into(),
            "%BYTES_SENT%".into(),
            "%DURATION%".into(),
            "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%".into(),
            quoted("%REQ(X-FORWARDED-FOR)%"),
            quoted("%REQ(USER-AGENT)%"),
            quoted("%REQ(X-REQUEST-ID)%"),
            quoted("%REQ(:AUTHORITY)%"),
            quoted("%UPSTREAM_HOST%"),
            "%UPSTREAM_CLUSTER_RAW%".into(),
            "%UPSTREAM_LOCAL_ADDRESS%".into(),
            "%DOWNSTREAM_LOCAL_ADDRESS%".into(),
            "%DOWNSTREAM_REMOTE_ADDRESS%".into(),
            "%REQUESTED_SERVER_NAME%".into(),
            "%ROUTE_NAME%\n".to_owned(),
        ];
        Self::Text(fields.join(" "))
    }
}

impl AccessLogFormat {
    /// Istio's default with `accessLogEncoding: JSON`.
    pub fn istio_json() -> Self {
        let fields = [
            ("start_time", "%START_TIME%"),
            ("route_name", "%ROUTE_NAME%"),
            ("method", "%REQ(:METHOD)%"),
            ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
            ("protocol", "%PROTOCOL%"),
            ("response_code", "%RESPONSE_CODE%"),
            ("response_flags", "%RESPONSE_FLAGS%"),
            ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
            (
                "connection_termination_details",
                "%CONNECTION_TERMINATION_DETAILS%",
            ),
            ("bytes_received", "%BYTES_RECEIVED%"),
            ("bytes_sent", "%BYTES_SENT%"),
            ("duration", "%DURATION%"),
            (
                "upstream_service_time",
                "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
            ),
            ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
            ("user_agent", "%REQ(USER-AGENT)%"),
            ("request_id", "%REQ(X-REQUEST-ID)%"),
            ("authority", "%REQ(:AUTHORITY)%"),
            ("upstream_host", "%UPSTREAM_HOST%"),
            ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
            ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
            ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
            ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
            ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
            (
                "upstream_transport_failure_reason",
                "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
            ),
        ];
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        Self::Json(fields.into_iter().map(owned).collect())
    }
}

/// Where the spans of sampled requests go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tracing {
    /// `http://jaeger-collector.istio-system:4318/v1/traces`.
    pub collector: String,
    /// How they are told there.
    #[serde(default)]
    pub protocol: SpanProtocol,
    /// Added to every span, by tag.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, SpanTag>,
}

/// How spans are told to a collector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SpanProtocol {
    /// OpenTelemetry's, over HTTP.
    #[default]
    Otlp,
    /// Zipkin's, version 2.
    Zipkin,
}

/// Where the value of a tag comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SpanTag {
    /// Always this.
    Literal(String),
    /// A variable of the proxy's environment.
    #[serde(rename_all = "camelCase")]
    Environment {
        /// Its name.
        name: String,
        /// Without the variable; empty: no tag.
        default_value: String,
    },
    /// A header of the request.
    #[serde(rename_all = "camelCase")]
    Header {
        /// Its name.
        name: String,
        /// Without the header; empty: no tag.
        default_value: String,
    },
}
