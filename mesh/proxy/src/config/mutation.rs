//! Header operations, with Envoy's operators in their values.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_config as model;

use super::error::CompileError;
use crate::operators::{Part, parse};

/// A compiled [`model::HeaderMutation`].
#[derive(Debug, Default)]
pub(crate) struct Mutation {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, Value)>,
    add: Vec<(HeaderName, Value)>,
    /// `set: {":authority"|"host": x}`: the Host is not an ordinary header.
    authority: Option<Value>,
}

#[derive(Debug)]
enum Value {
    Literal(HeaderValue),
    Template(Vec<Part<Operator>>),
}

#[derive(Debug)]
enum Operator {
    RequestHeader(Box<str>, Option<Box<str>>),
    ResponseHeader(Box<str>, Option<Box<str>>),
    DownstreamRemoteAddress,
    DownstreamRemoteAddressWithoutPort,
    DownstreamLocalAddress,
    DownstreamLocalAddressWithoutPort,
    DownstreamLocalPort,
    UpstreamHost,
    UpstreamCluster,
    UpstreamClusterRaw,
    Protocol,
    ResponseCode,
    ResponseFlags,
    RouteName,
    Hostname,
    StartTime,
    Environment(Box<str>),
    /// Known to Envoy, without a value here: prints `-`.
    Absent,
}

/// What operators may refer to. Empty strings stand for what is not known (yet).
pub(crate) struct Context<'a> {
    pub(crate) request: &'a HeaderMap,
    pub(crate) response: Option<&'a HeaderMap>,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) authority: &'a str,
    pub(crate) scheme: &'a str,
    pub(crate) protocol: &'a str,
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) upstream_host: Option<SocketAddr>,
    pub(crate) cluster: &'a str,
    pub(crate) route: &'a str,
    pub(crate) status: u16,
    pub(crate) flags: crate::flags::Flags,
}

impl Mutation {
    pub(crate) fn compile(mutation: &model::HeaderMutation) -> Result<Self, CompileError> {
        let mut compiled = Self::default();
        for name in &mutation.remove {
            compiled.remove.push(header_name(name)?);
        }
        for (name, value) in &mutation.set {
            let value = Value::compile(value)?;
            match name.to_ascii_lowercase().as_str() {
                ":authority" | "host" => compiled.authority = Some(value),
                name => compiled.set.push((header_name(name)?, value)),
            }
        }
        for (name, value) in &mutation.add {
            compiled
                .add
                .push((header_name(name)?, Value::compile(value)?));
        }
        Ok(compiled)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.remove.is_empty()
            && self.set.is_empty()
            && self.add.is_empty()
            && self.authority.is_none()
    }

    /// Resolves the values first, since they may refer to headers that the operation changes.
    pub(crate) fn evaluate(&self, context: &Context<'_>) -> Changes<'_> {
        let all = |list: &[(HeaderName, Value)]| {
            list.iter()
                .filter_map(|(name, value)| Some((name.clone(), value.evaluate(context)?)))
                .collect()
        };
        Changes {
            remove: &self.remove,
            set: all(&self.set),
            add: all(&self.add),
            authority: self.authority.as_ref().and_then(|v| v.evaluate(context)),
        }
    }
}

/// An evaluated mutation, ready to be applied.
pub(crate) struct Changes<'a> {
    remove: &'a [HeaderName],
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    pub(crate) authority: Option<HeaderValue>,
}

impl Changes<'_> {
    pub(crate) fn apply(self, headers: &mut HeaderMap) {
        for name in self.remove {
            headers.remove(name);
        }
        for (name, value) in self.set {
            headers.insert(name, value);
        }
        for (name, value) in self.add {
            headers.append(name, value);
        }
    }
}

fn header_name(name: &str) -> Result<HeaderName, CompileError> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| CompileError::HeaderName(name.into()))
}

impl Value {
    fn compile(text: &str) -> Result<Self, CompileError> {
        let parts = parse(text, operator).map_err(|_| CompileError::Operator(text.into()))?;
        let literal = match &parts[..] {
            [] => Some(""),
            [Part::Text(text)] => Some(&**text),
            _ => None,
        };
        match literal {
            Some(literal) => HeaderValue::from_str(literal)
                .map(Self::Literal)
                .map_err(|_| CompileError::HeaderValue(text.into())),
            None => Ok(Self::Template(parts)),
        }
    }

    /// `None` when all of it is empty: Envoy then adds no header.
    fn evaluate(&self, context: &Context<'_>) -> Option<HeaderValue> {
        match self {
            Self::Literal(value) => Some(value.clone()),
            Self::Template(parts) => {
                let mut out = String::new();
                for part in parts {
                    match part {
                        Part::Text(text) => out.push_str(text),
                        Part::Operator(operator, limit) => {
                            let value = operator.evaluate(context);
                            let end = limit.map_or(value.len(), |limit| limit.min(value.len()));
                            out.push_str(value.get(..end).unwrap_or(&value));
                        }
                    }
                }
                HeaderValue::from_str(&out).ok().filter(|v| !v.is_empty())
            }
        }
    }
}

fn operator(name: &str, argument: &str) -> Option<Operator> {
    let header = |argument: &str| {
        let (first, second) = match argument.split_once('?') {
            Some((first, second)) => (first, Some(second.to_ascii_lowercase().into())),
            None => (argument, None),
        };
        (first.to_ascii_lowercase().into(), second)
    };
    Some(match name {
        "REQ" => {
            let (first, second) = header(argument);
            Operator::RequestHeader(first, second)
        }
        "RESP" => {
            let (first, second) = header(argument);
            Operator::ResponseHeader(first, second)
        }
        "DOWNSTREAM_REMOTE_ADDRESS" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => {
            Operator::DownstreamRemoteAddress
        }
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"
        | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => {
            Operator::DownstreamRemoteAddressWithoutPort
        }
        "DOWNSTREAM_LOCAL_ADDRESS" => Operator::DownstreamLocalAddress,
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Operator::DownstreamLocalAddressWithoutPort,
        "DOWNSTREAM_LOCAL_PORT" => Operator::DownstreamLocalPort,
        "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => Operator::UpstreamHost,
        "UPSTREAM_CLUSTER" => Operator::UpstreamCluster,
        "UPSTREAM_CLUSTER_RAW" => Operator::UpstreamClusterRaw,
        "PROTOCOL" => Operator::Protocol,
        "RESPONSE_CODE" => Operator::ResponseCode,
        "RESPONSE_FLAGS" => Operator::ResponseFlags,
        "ROUTE_NAME" => Operator::RouteName,
        "HOSTNAME" => Operator::Hostname,
        "START_TIME" => Operator::StartTime,
        "ENVIRONMENT" => Operator::Environment(argument.into()),
        "REQUESTED_SERVER_NAME"
        | "DOWNSTREAM_PEER_URI_SAN"
        | "DOWNSTREAM_PEER_SUBJECT"
        | "DOWNSTREAM_TLS_VERSION"
        | "UPSTREAM_METADATA"
        | "DYNAMIC_METADATA"
        | "FILTER_STATE"
        | "PER_REQUEST_STATE" => Operator::Absent,
        _ => return None,
    })
}

impl Operator {
    fn evaluate(&self, context: &Context<'_>) -> String {
        let dash = || String::from("-");
        match self {
            Self::RequestHeader(first, second) => context
                .request_field(first)
                .or_else(|| context.request_field(second.as_deref()?))
                .unwrap_or_default(),
            Self::ResponseHeader(first, second) => {
                let field = |name: &str| text(context.response?.get(name)?);
                field(first)
                    .or_else(|| field(second.as_deref()?))
                    .unwrap_or_default()
            }
            Self::DownstreamRemoteAddress => context.remote.to_string(),
            Self::DownstreamRemoteAddressWithoutPort => context.remote.ip().to_string(),
            Self::DownstreamLocalAddress => context.local.to_string(),
            Self::DownstreamLocalAddressWithoutPort => context.local.ip().to_string(),
            Self::DownstreamLocalPort => context.local.port().to_string(),
            Self::UpstreamHost => context.upstream_host.map_or_else(dash, |a| a.to_string()),
            // As in the names of statistics.
            Self::UpstreamCluster => format!("{};", context.cluster),
            Self::UpstreamClusterRaw => context.cluster.to_owned(),
            Self::Protocol => context.protocol.to_owned(),
            Self::ResponseCode => context.status.to_string(),
            Self::ResponseFlags => context.flags.to_string(),
            Self::RouteName => context.route.to_owned(),
            Self::Hostname => std::env::var("HOSTNAME").unwrap_or_else(|_| dash()),
            Self::StartTime => jiff::Timestamp::now().strftime("%FT%T%.3fZ").to_string(),
            Self::Environment(name) => std::env::var(&**name).unwrap_or_else(|_| dash()),
            Self::Absent => dash(),
        }
    }
}

impl Context<'_> {
    fn request_field(&self, name: &str) -> Option<String> {
        match name {
            ":method" => Some(self.method.to_owned()),
            ":path" if self.query.is_empty() => Some(self.path.to_owned()),
            ":path" => Some(format!("{}?{}", self.path, self.query)),
            ":authority" | "host" => Some(self.authority.to_owned()),
            ":scheme" => Some(self.scheme.to_owned()),
            name => text(self.request.get(name)?),
        }
    }
}

fn text(value: &HeaderValue) -> Option<String> {
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests;
