//! Which cluster a request goes to, and what happens to it on the way.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

/// The route table of a listener, found by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteConfiguration {
    /// `9080` for a sidecar's outbound port, `http.8080` for a gateway's, `inbound|9080||`.
    pub name: String,
    /// Chosen by the `Host` header without its port, ignoring case: exact domain, then the longest
    /// `*.suffix`, then the longest `prefix.*`, then `*`. None: 404 NR.
    pub virtual_hosts: Vec<Arc<VirtualHost>>,
}

/// The routes of some host names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualHost {
    /// `reviews.default.svc.cluster.local:9080`, `allow_any`, `block_all`.
    pub name: String,
    /// Lower-case, without ports. `*`, `*.suffix` and `prefix.*` are wildcards.
    pub domains: Vec<String>,
    /// Tried in order; the first match wins. None: 404 NR.
    pub routes: Vec<Route>,
}

/// One route: when it applies and what it does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// As logged: `default`, or the name in the VirtualService; empty is logged as `-`.
    #[serde(default)]
    pub name: String,
    /// All conditions must hold.
    #[serde(rename = "match")]
    pub matches: RouteMatch,
    /// What becomes of the request.
    pub action: RouteAction,
    /// Injected before the action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Which pages of other origins may call; after the fault, before the action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Applied after those of the chosen destination.
    #[serde(default, skip_serializing_if = "HeaderMutation::is_empty")]
    pub request_headers: HeaderMutation,
    /// Applied after those of the chosen destination.
    #[serde(default, skip_serializing_if = "HeaderMutation::is_empty")]
    pub response_headers: HeaderMutation,
    /// Name of the span and value of `x-envoy-decorator-operation`:
    /// `reviews.default.svc.cluster.local:9080/*`.
    #[serde(default)]
    pub decorator: String,
    /// The resource that it was made of: its path as [`names::config`](crate::names::config) writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Arc<str>>,
}

/// What is done with a request that matched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::large_enum_variant, reason = "nearly every route forwards")]
pub enum RouteAction {
    /// Send it to a cluster.
    Forward(Forward),
    /// Answer with a redirect.
    Redirect(Redirect),
    /// Answer at once.
    DirectResponse(DirectResponse),
}

/// Conditions on a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteMatch {
    /// On the path without the query.
    pub path: PathMatch,
    /// `exact` and `prefix` paths ignore case (Istio's `ignoreUriCase`).
    #[serde(default)]
    pub ignore_path_case: bool,
    /// On headers and the pseudo headers `:method`, `:authority`, `:scheme`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
    /// On query parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<QueryMatch>,
}

impl RouteMatch {
    /// Matches every request.
    pub fn any() -> Self {
        Self {
            path: PathMatch::Prefix("/".into()),
            ignore_path_case: false,
            headers: Vec::new(),
            query: Vec::new(),
        }
    }
}

/// A condition on the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PathMatch {
    /// A plain string prefix: `/foo` matches `/foobar` too.
    Prefix(String),
    /// The whole path.
    Exact(String),
    /// The whole path matches this RE2 expression.
    Regex(String),
}

/// A condition on one value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StringMatch {
    /// Equal.
    Exact(String),
    /// Starts with.
    Prefix(String),
    /// The whole value matches this RE2 expression.
    Regex(String),
}

/// A condition on a value that may be absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ValueMatch {
    /// Is there, whatever its value.
    Present,
    /// Is there and matches.
    Value(StringMatch),
}

/// A condition on a header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMatch {
    /// Lower-case name, or a pseudo header (`:method`, `:authority`, `:scheme`).
    pub name: String,
    /// One value that matches is enough when the header is repeated.
    pub value: ValueMatch,
    /// The condition must not hold (Istio's `withoutHeaders`). An absent header then counts as the
    /// empty value.
    #[serde(default)]
    pub invert: bool,
}

/// A condition on a query parameter: on the raw value of its first occurrence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryMatch {
    /// Name of the parameter.
    pub name: String,
    /// `?p` and `?p=` both are present with an empty value.
    pub value: ValueMatch,
}

/// Send the request to one of some clusters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Forward {
    /// One is drawn by weight for each request. A name without a cluster answers 503 NC.
    pub clusters: Vec<WeightedCluster>,
    /// From the end of the request to the end of the response, retries included; absent: no limit.
    /// Expired: 504 UT.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::duration::option"
    )]
    pub timeout: Option<Duration>,
    /// When a failed attempt is made again; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// Change of path and authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
    /// Clusters that get a copy of the request; what they answer is thrown away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Mirror>,
    /// What clusters that balance by hash make their hash of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hash_policy: Vec<HashPolicy>,
    /// An attempt that outlasts `per_try_timeout` goes on beside the next; the first good answer wins.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hedge_on_per_try_timeout: bool,
}

/// A cluster that gets copies of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mirror {
    /// Name of the cluster.
    pub cluster: String,
    /// Share of the requests; each is drawn by itself.
    pub percent: Percent,
}

/// Cross-origin resource sharing, as Envoy's `cors` filter does it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cors {
    /// Origins that may call; the exact text `*` stands for all.
    pub allow_origins: Vec<StringMatch>,
    /// Value of `access-control-allow-methods`; empty: not sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub allow_methods: String,
    /// Value of `access-control-allow-headers`; empty: not sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub allow_headers: String,
    /// Value of `access-control-expose-headers`; empty: not sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub expose_headers: String,
    /// Value of `access-control-max-age`, in seconds; empty: not sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub max_age: String,
    /// Sends `access-control-allow-credentials: true`.
    pub allow_credentials: bool,
    /// Preflight requests of other origins are answered without allowing anything, instead of being
    /// forwarded.
    pub answer_unmatched_preflights: bool,
}

/// A destination and its share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WeightedCluster {
    /// Name of the cluster.
    pub name: String,
    /// Relative to the sum of all; never 0 when there are several.
    pub weight: u32,
    /// Applied before those of the route.
    #[serde(default, skip_serializing_if = "HeaderMutation::is_empty")]
    pub request_headers: HeaderMutation,
    /// Applied before those of the route.
    #[serde(default, skip_serializing_if = "HeaderMutation::is_empty")]
    pub response_headers: HeaderMutation,
}

/// When a failed attempt is made again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryPolicy {
    /// Envoy's words: `connect-failure`, `refused-stream`, `reset`, `5xx`, ...
    pub retry_on: Vec<String>,
    /// Attempts after the first.
    pub num_retries: u32,
    /// Limit of one attempt; absent: the route's timeout.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::duration::option"
    )]
    pub per_try_timeout: Option<Duration>,
    /// Status codes that `retriable-status-codes` means.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retriable_status_codes: Vec<u16>,
    /// Do not go to a host that has failed this request while another is there.
    #[serde(default)]
    pub other_host: bool,
    /// After two failed attempts, leave out the priorities of the hosts that failed.
    #[serde(default)]
    pub other_priority: bool,
    /// First bound of the wait before a retry, which doubles with each; absent: Envoy's 25 ms.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::duration::option"
    )]
    pub base_interval: Option<Duration>,
    /// Last bound of the wait; absent: ten times the base.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::duration::option"
    )]
    pub max_interval: Option<Duration>,
}

/// What makes a request go to the same endpoint as another, in clusters that balance by hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HashPolicy {
    /// Value of a request header; none: no hash.
    Header(String),
    /// Value of a cookie.
    Cookie(HashCookie),
    /// Value of a query parameter; none: no hash.
    QueryParameter(String),
    /// Address of the client.
    SourceIp,
}

/// A cookie that binds a client to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HashCookie {
    /// Its name.
    pub name: String,
    /// A request without the cookie is answered with a new one of this lifetime; 0: until the
    /// browser ends. Absent: no cookie is set, and such requests have no hash.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::duration::option"
    )]
    pub ttl: Option<Duration>,
    /// Its path; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Names and values of further attributes; a value may be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<(String, String)>,
}

/// Change of path and authority on the way to the upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rewrite {
    /// Replaces the matched prefix (or the whole matched path), literally.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Search and replace on the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<RegexRewrite>,
    /// Replaces `Host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

/// RE2 search and replace; `\1` stands for the first group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegexRewrite {
    /// What is searched.
    pub pattern: String,
    /// What replaces it.
    pub substitution: String,
}

/// Answer with a redirect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Change of path; absent: as requested. The query is kept either way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<RedirectPath>,
    /// Replaces the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// `http` or `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// Replaces the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// How a redirect changes the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RedirectPath {
    /// The whole path.
    Full(String),
    /// The matched prefix.
    Prefix(String),
}

/// An answer without an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectResponse {
    /// 200 to 599.
    pub status: u16,
    /// `text/plain`; empty: no body.
    #[serde(default)]
    pub body: String,
    /// `body` is the base64 of the bytes to send.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub base64: bool,
}

/// Changes of headers. `remove`, then `set`, then `add`, as Envoy evaluates a mutation list.
/// Values may hold Envoy's operators (`%REQ(x)%`, `%DOWNSTREAM_REMOTE_ADDRESS%`); `%%` is a percent sign.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeaderMutation {
    /// Overwrite.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<(String, String)>,
    /// Append another line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<(String, String)>,
    /// Delete.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

impl HeaderMutation {
    /// Changes nothing.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// Failures made on purpose: the delay first, then the abort, drawn independently.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Fault {
    /// Hold the request back. Flag DI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Delay>,
    /// Answer instead of the upstream. Flag FI, body `fault filter abort`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort: Option<Abort>,
}

/// Hold a share of requests back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delay {
    /// For how long.
    #[serde(with = "crate::duration")]
    pub fixed: Duration,
    /// Which share.
    pub percent: Percent,
}

/// Answer a share of requests with a failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Abort {
    /// With what.
    pub status: AbortStatus,
    /// Which share.
    pub percent: Percent,
}

/// What an abort answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AbortStatus {
    /// An HTTP status, 200 to 599.
    Http(u16),
    /// HTTP 200 with this `grpc-status`.
    Grpc(u32),
}

/// A share of requests in millionths, Envoy's finest denominator; 0 to 1,000,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Percent(u32);

impl Percent {
    /// Never.
    pub const ZERO: Self = Self(0);
    /// Always.
    pub const HUNDRED: Self = Self(1_000_000);

    /// From Istio's `percentage.value`, 0.0 to 100.0 in steps of 0.0001; `None` outside.
    pub fn from_percent(value: f64) -> Option<Self> {
        (0.0..=100.0)
            .contains(&value)
            .then(|| Self((value * 10_000.0).round() as u32))
    }

    /// Millionths.
    pub fn millionths(self) -> u32 {
        self.0
    }

    /// Whether a draw (uniform in 0..1,000,000) hits.
    pub fn hits(self, draw: u32) -> bool {
        draw < self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_keeps_four_decimals_and_its_range() {
        assert_eq!(Percent::from_percent(0.0001), Some(Percent(1)));
        assert_eq!(Percent::from_percent(50.0).unwrap().millionths(), 500_000);
        assert_eq!(Percent::from_percent(100.0), Some(Percent::HUNDRED));
        assert_eq!(Percent::from_percent(100.1), None);
        assert_eq!(Percent::from_percent(-1.0), None);
        assert_eq!(Percent::from_percent(f64::NAN), None);
    }

    #[test]
    fn percent_draws() {
        assert!(!Percent::ZERO.hits(0));
        assert!(Percent::HUNDRED.hits(999_999));
    }
}
