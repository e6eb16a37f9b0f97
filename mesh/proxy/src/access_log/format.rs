//! The form of a line: texts with Envoy's command operators, compiled once per configuration.

use std::{
    fmt::{self, Write as _},
    net::SocketAddr,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_config::AccessLogFormat;

use crate::{
    flags::Flags,
    operators::{Part, parse},
};

/// A compiled [`AccessLogFormat`].
#[derive(Debug)]
pub(crate) struct Format {
    shape: Shape,
    /// What a request's headers are asked for; each with the one that stands in for it.
    request: Vec<(HeaderName, Option<HeaderName>)>,
    response: Vec<HeaderName>,
}

#[derive(Debug)]
enum Shape {
    Text(Vec<Part<Operator>>),
    Json(Vec<(String, Vec<Part<Operator>>)>),
}

#[derive(Clone, Copy, Debug)]
enum Operator {
    StartTime,
    Method,
    Path,
    Protocol,
    ResponseCode,
    ResponseFlags,
    Details,
    TransportFailure,
    BytesReceived,
    BytesSent,
    Duration,
    ServiceTime,
    Authority,
    UpstreamHost,
    UpstreamCluster,
    UpstreamLocal,
    DownstreamLocal(Port),
    DownstreamRemote(Port),
    ServerName,
    RouteName,
    Request(usize),
    Response(usize),
    /// Known to Envoy, without a value here.
    Absent,
}

#[derive(Clone, Copy, Debug)]
enum Port {
    With,
    Without,
    Only,
}

/// What a line is about; `None`: there is no such thing.
#[derive(Default)]
pub(crate) struct Record<'a> {
    pub(crate) start: jiff::Timestamp,
    pub(crate) method: Option<&'a str>,
    pub(crate) path: Option<&'a str>,
    pub(crate) protocol: Option<&'static str>,
    pub(crate) code: u16,
    pub(crate) flags: Flags,
    pub(crate) details: &'a str,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) duration_ms: u64,
    pub(crate) service_time_ms: Option<u64>,
    pub(crate) authority: Option<&'a str>,
    pub(crate) upstream_host: Option<SocketAddr>,
    pub(crate) cluster: Option<&'a str>,
    pub(crate) upstream_local: Option<SocketAddr>,
    pub(crate) downstream_local: Option<SocketAddr>,
    pub(crate) downstream_remote: Option<SocketAddr>,
    pub(crate) server_name: Option<&'a str>,
    pub(crate) route: Option<&'a str>,
    /// As [`Format::of_request`] and [`Format::of_response`] took them.
    pub(crate) request: &'a [Option<HeaderValue>],
    pub(crate) response: &'a [Option<HeaderValue>],
}

impl Format {
    /// # Errors
    /// The text that cannot be read, or the operator that is not known.
    pub(crate) fn compile(format: &AccessLogFormat) -> Result<Self, String> {
        let mut this = Self {
            shape: Shape::Text(Vec::new()),
            request: Vec::new(),
            response: Vec::new(),
        };
        this.shape = match format {
            AccessLogFormat::Text(text) => Shape::Text(this.parts(text)?),
            AccessLogFormat::Json(fields) => {
                let mut all = Vec::with_capacity(fields.len());
                for (key, text) in fields {
                    all.push((
                        serde_json::Value::from(key.as_str()).to_string(),
                        this.parts(text)?,
                    ));
                }
                Shape::Json(all)
            }
        };
        Ok(this)
    }

    /// The request headers that a line will need.
    pub(crate) fn of_request(&self, headers: &HeaderMap) -> Box<[Option<HeaderValue>]> {
        let get = |(name, other): &(HeaderName, Option<HeaderName>)| {
            let other = || headers.get(other.as_ref()?);
            headers.get(name).or_else(other).cloned()
        };
        self.request.iter().map(get).collect()
    }

    /// The response headers that a line will need.
    pub(crate) fn of_response(&self, headers: &HeaderMap) -> Box<[Option<HeaderValue>]> {
        let get = |name: &HeaderName| headers.get(name).cloned();
        self.response.iter().map(get).collect()
    }

    /// Appends a line.
    pub(crate) fn write(&self, record: &Record<'_>, out: &mut String) {
        match &self.shape {
            Shape::Text(parts) => {
                for part in parts {
                    let start = out.len();
                    if !part.write(record, out) {
                        out.push('-');
                    } else if part.is_header() && out[start..].contains('"') {
                        // A quote in a header must not end the field.
                        let value = out.split_off(start);
                        out.push_str(&value.replace('"', "\\\""));
                    }
                }
            }
            Shape::Json(fields) => {
                let mut separator = '{';
                for (key, parts) in fields {
                    // Writing to a String does not fail.
                    let _ = write!(out, "{separator}{key}:");
                    separator = ',';
                    json_value(parts, record, out);
                }
                out.push_str("}\n");
            }
        }
    }

    fn parts(&mut self, text: &str) -> Result<Vec<Part<Operator>>, String> {
        let parts = parse(text, |name, argument| self.operator(name, argument));
        parts.map_err(|rest| format!("access log format: unknown operator at {rest:?}"))
    }

    fn operator(&mut self, name: &str, argument: &str) -> Option<Operator> {
        Some(match name {
            "START_TIME" => Operator::StartTime,
            "PROTOCOL" => Operator::Protocol,
            "RESPONSE_CODE" => Operator::ResponseCode,
            "RESPONSE_FLAGS" => Operator::ResponseFlags,
            "RESPONSE_CODE_DETAILS" => Operator::Details,
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => Operator::TransportFailure,
            "BYTES_RECEIVED" => Operator::BytesReceived,
            "BYTES_SENT" => Operator::BytesSent,
            "DURATION" => Operator::Duration,
            "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => Operator::UpstreamHost,
            "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Operator::UpstreamCluster,
            "UPSTREAM_LOCAL_ADDRESS" => Operator::UpstreamLocal,
            "DOWNSTREAM_LOCAL_ADDRESS" => Operator::DownstreamLocal(Port::With),
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Operator::DownstreamLocal(Port::Without),
            "DOWNSTREAM_LOCAL_PORT" => Operator::DownstreamLocal(Port::Only),
            "DOWNSTREAM_REMOTE_ADDRESS" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => {
                Operator::DownstreamRemote(Port::With)
            }
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"
            | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => {
                Operator::DownstreamRemote(Port::Without)
            }
            "DOWNSTREAM_REMOTE_PORT" => Operator::DownstreamRemote(Port::Only),
            "REQUESTED_SERVER_NAME" => Operator::ServerName,
            "ROUTE_NAME" => Operator::RouteName,
            "REQ" => self.request_header(argument)?,
            "RESP" => self.response_header(argument)?,
            "CONNECTION_TERMINATION_DETAILS"
            | "TRAILER"
            | "DYNAMIC_METADATA"
            | "FILTER_STATE"
            | "METADATA"
            | "CEL"
            | "UPSTREAM_METADATA"
            | "UPSTREAM_REQUEST_ATTEMPT_COUNT"
            | "DOWNSTREAM_PEER_URI_SAN"
            | "DOWNSTREAM_PEER_SUBJECT"
            | "DOWNSTREAM_TLS_VERSION"
            | "REQUEST_DURATION"
            | "RESPONSE_DURATION"
            | "RESPONSE_TX_DURATION"
            | "REQUEST_TX_DURATION"
            | "GRPC_STATUS"
            | "GRPC_STATUS_NUMBER"
            | "HOSTNAME"
            | "CONNECTION_ID"
            | "STREAM_ID"
            | "TRACE_ID"
            | "VIRTUAL_CLUSTER_NAME"
            | "VIRTUAL_HOST_NAME" => Operator::Absent,
            _ => return None,
        })
    }

    fn request_header(&mut self, argument: &str) -> Option<Operator> {
        let lower = argument.to_ascii_lowercase();
        let (first, other) = match lower.split_once('?') {
            Some((first, other)) => (first, Some(other)),
            None => (lower.as_str(), None),
        };
        match (first, other) {
            (":method", _) => return Some(Operator::Method),
            // The log's path is the one before rewriting anyway.
            (":path", _) | ("x-envoy-original-path", Some(":path")) => return Some(Operator::Path),
            (":authority" | "host", _) => return Some(Operator::Authority),
            _ => {}
        }
        let other = other.map(|other| HeaderName::from_bytes(other.as_bytes()));
        let name = HeaderName::from_bytes(first.as_bytes()).ok()?;
        self.request.push((name, other.transpose().ok()?));
        Some(Operator::Request(self.request.len() - 1))
    }

    fn response_header(&mut self, argument: &str) -> Option<Operator> {
        let lower = argument.to_ascii_lowercase();
        match lower.as_str() {
            ":status" => return Some(Operator::ResponseCode),
            "x-envoy-upstream-service-time" => return Some(Operator::ServiceTime),
            _ => {}
        }
        let first = lower
            .split_once('?')
            .map_or(lower.as_str(), |(first, _)| first);
        self.response
            .push(HeaderName::from_bytes(first.as_bytes()).ok()?);
        Some(Operator::Response(self.response.len() - 1))
    }
}

impl Part<Operator> {
    fn is_header(&self) -> bool {
        matches!(
            self,
            Self::Operator(Operator::Request(_) | Operator::Response(_), _)
        )
    }

    /// Appends the value; `false`: there is none.
    fn write(&self, record: &Record<'_>, out: &mut String) -> bool {
        match self {
            Self::Text(text) => {
                out.push_str(text);
                true
            }
            Self::Operator(operator, limit) => {
                let start = out.len();
                let found = operator.write(record, out);
                if let Some(limit) = limit
                    && let Some((end, _)) = out[start..].char_indices().nth(*limit)
                {
                    out.truncate(start + end);
                }
                found
            }
        }
    }
}

impl Operator {
    fn write(self, record: &Record<'_>, out: &mut String) -> bool {
        fn show(out: &mut String, value: Option<impl fmt::Display>) -> bool {
            // Writing to a String does not fail, here and below.
            value.map(|value| write!(out, "{value}")).is_some()
        }
        let address = |out: &mut String, address: Option<SocketAddr>, port| match port {
            Port::With => show(out, address),
            Port::Without => show(out, address.map(|address| address.ip())),
            Port::Only => show(out, address.map(|address| address.port())),
        };
        let known = |text: Option<&'_ str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        match self {
            Self::StartTime => {
                let time = record.start.strftime("%Y-%m-%dT%H:%M:%S.%3fZ");
                show(out, Some(time))
            }
            Self::Method => show(out, record.method),
            Self::Path => show(out, record.path),
            Self::Protocol => show(out, record.protocol),
            Self::ResponseCode => show(out, Some(record.code)),
            Self::ResponseFlags => show(out, Some(record.flags)),
            Self::Details => {
                let start = out.len();
                out.extend(
                    record
                        .details
                        .chars()
                        .map(|c| if c == ' ' { '_' } else { c }),
                );
                out.len() > start && record.details != "-"
            }
            // Why a connection failed stands behind the reason in the details.
            Self::TransportFailure => {
                let cause = record.details.split_once('|');
                show(out, cause.map(|(_, cause)| cause.trim_end_matches('}')))
            }
            Self::Absent => false,
            Self::BytesReceived => show(out, Some(record.received)),
            Self::BytesSent => show(out, Some(record.sent)),
            Self::Duration => show(out, Some(record.duration_ms)),
            Self::ServiceTime => show(out, record.service_time_ms),
            Self::Authority => show(out, known(record.authority)),
            Self::UpstreamHost => show(out, record.upstream_host),
            Self::UpstreamCluster => show(out, record.cluster),
            Self::UpstreamLocal => show(out, record.upstream_local),
            Self::DownstreamLocal(port) => address(out, record.downstream_local, port),
            Self::DownstreamRemote(port) => address(out, record.downstream_remote, port),
            Self::ServerName => show(out, known(record.server_name)),
            Self::RouteName => show(out, known(record.route)),
            Self::Request(index) => header(record.request, index, out),
            Self::Response(index) => header(record.response, index, out),
        }
    }

    fn is_number(self) -> bool {
        matches!(
            self,
            Self::ResponseCode | Self::BytesReceived | Self::BytesSent | Self::Duration
        )
    }
}

fn header(values: &[Option<HeaderValue>], index: usize, out: &mut String) -> bool {
    let Some(Some(value)) = values.get(index) else {
        return false;
    };
    out.push_str(&String::from_utf8_lossy(value.as_bytes()));
    true
}

fn json_value(parts: &[Part<Operator>], record: &Record<'_>, out: &mut String) {
    let mut text = String::new();
    if let [part @ Part::Operator(operator, _)] = parts {
        match part.write(record, &mut text) {
            false => out.push_str("null"),
            true if operator.is_number() => out.push_str(&text),
            true => out.push_str(&serde_json::Value::from(text).to_string()),
        }
        return;
    }
    for part in parts {
        if !part.write(record, &mut text) {
            text.push('-');
        }
    }
    out.push_str(&serde_json::Value::from(text).to_string());
}

#[cfg(test)]
mod tests;
