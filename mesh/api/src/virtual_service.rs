//! VirtualService: where requests for a host go.

use std::collections::BTreeMap;

use crate::Duration;

messages! {
    /// Tells what becomes of the traffic for some host names: how it is matched, split between
    /// versions, delayed, rewritten or refused.
    VirtualService {
        /// Host names that the rules are for. A name without a dot is a service of the same
        /// namespace. Wildcards (*, *.example.com) are allowed.
        hosts: Vec<String>,
        /// Gateways that apply the rules, as NAME or NAMESPACE/NAME. The word mesh stands for all
        /// sidecars, and is what an empty list means.
        gateways: Vec<String>,
        /// Rules for HTTP and gRPC; the first that matches is used.
        http: Vec<HttpRoute>,
        /// Rules for TLS that is passed through, chosen by SNI.
        tls: Vec<TlsRoute>,
        /// Rules for other TCP traffic.
        tcp: Vec<TcpRoute>,
        /// Namespaces that see this resource: "*" is all, "." its own.
        export_to: Vec<String>,
    }

    /// One HTTP rule: when it applies and what it does.
    HttpRoute {
        /// Shown in access logs and in the proxy's configuration.
        name: String,
        /// Alternatives: one matching block is enough. Absent: every request.
        r#match: Vec<HttpMatchRequest>,
        /// Destinations, each with its share of the requests.
        route: Vec<HttpRouteDestination>,
        /// Answers with a redirect instead of a route.
        redirect: Option<HttpRedirect>,
        /// Answers at once, without a destination.
        direct_response: Option<HttpDirectResponse>,
        /// Another VirtualService whose rules take over here.
        delegate: Option<Delegate>,
        /// Changes path and host on the way to the destination.
        rewrite: Option<HttpRewrite>,
        /// How long the whole request may take, retries included. No limit when absent.
        timeout: Option<Duration>,
        /// When a failed attempt is made again.
        retries: Option<HttpRetry>,
        /// Failures made on purpose, to see how callers cope.
        fault: Option<HttpFaultInjection>,
        /// A destination that gets a copy of the requests; its answers are thrown away.
        mirror: Option<Destination>,
        /// Several destinations that get copies.
        mirrors: Vec<HttpMirrorPolicy>,
        /// Share of the requests that is mirrored; all when absent.
        mirror_percentage: Option<Percent>,
        /// Older form of mirrorPercentage.
        #[schemars(range(min = 0, max = 100))]
        mirror_percent: Option<u32>,
        /// Which web pages of other origins may call.
        cors_policy: Option<CorsPolicy>,
        /// Changes of headers, for all destinations.
        headers: Option<Headers>,
    }

    /// Conditions on a request; all that are given must hold.
    HttpMatchRequest {
        /// Added to the name of the route.
        name: String,
        /// The path, without the query.
        uri: Option<StringMatch>,
        /// The scheme, http or https.
        scheme: Option<StringMatch>,
        /// The method, in capitals.
        method: Option<StringMatch>,
        /// The Host header, with its port if the client sent one.
        authority: Option<StringMatch>,
        /// Headers by lower-case name. An empty condition asks for presence alone.
        headers: BTreeMap<String, StringMatch>,
        /// Port of the service that is called.
        #[schemars(range(min = 0, max = 65535))]
        port: Option<u32>,
        /// Labels of the calling pod.
        source_labels: BTreeMap<String, String>,
        /// Gateways, out of those of the resource, that this block is for.
        gateways: Vec<String>,
        /// Query parameters, compared as they were sent.
        query_params: BTreeMap<String, StringMatch>,
        /// Compare the path without regard to case; not for regular expressions.
        ignore_uri_case: bool,
        /// Headers that must be absent or not match.
        without_headers: BTreeMap<String, StringMatch>,
        /// Namespace of the calling pod.
        source_namespace: String,
        /// Prefix of extra statistics for this route.
        stat_prefix: String,
    }

    /// A condition on a text: exact, prefix or regex.
    #[schemars(extend("oneOf" = [
        {"not": {"anyOf": [{"required": ["exact"]}, {"required": ["prefix"]}, {"required": ["regex"]}]}},
        {"required": ["exact"]}, {"required": ["prefix"]}, {"required": ["regex"]},
    ]))]
    StringMatch {
        /// Equal to this.
        exact: Option<String>,
        /// Starts with this.
        prefix: Option<String>,
        /// Matches this RE2 expression from beginning to end.
        regex: Option<String>,
    }

    /// A destination and its share.
    #[schemars(extend("required" = ["destination"]))]
    HttpRouteDestination {
        /// The service, and which version of it.
        destination: Destination,
        /// Share of the requests, relative to the sum of all weights.
        #[schemars(range(min = 0))]
        weight: Option<i32>,
        /// Changes of headers, for this destination alone.
        headers: Option<Headers>,
    }

    /// A service, or a version of it.
    #[schemars(extend("required" = ["host"]))]
    Destination {
        /// Name of the service. Without a dot it is completed with the namespace of this resource.
        host: String,
        /// A subset that a DestinationRule defines.
        subset: String,
        /// Port of the service; may be left out when it has only one.
        port: Option<PortSelector>,
    }

    /// A port by its number.
    PortSelector {
        /// Number of the port.
        #[schemars(range(min = 0, max = 65535))]
        number: u32,
    }

    /// Changes of headers on the way there and on the way back.
    Headers {
        /// On requests.
        request: Option<HeaderOperations>,
        /// On responses.
        response: Option<HeaderOperations>,
    }

    /// Changes of headers.
    HeaderOperations {
        /// Replace, or create.
        set: BTreeMap<String, String>,
        /// Append another value.
        add: BTreeMap<String, String>,
        /// Delete.
        remove: Vec<String>,
    }

    /// A redirect.
    HttpRedirect {
        /// New path; the query of the request is kept.
        uri: String,
        /// New host.
        authority: String,
        /// New port.
        #[schemars(range(min = 0, max = 65535))]
        port: Option<u32>,
        /// Where the port comes from when it is not given.
        derive_port: Option<RedirectPortSelection>,
        /// New scheme, http or https.
        scheme: String,
        /// 301 (the default), 302, 303, 307 or 308.
        #[schemars(range(min = 0))]
        redirect_code: Option<u32>,
        /// Replaces the prefix that matched.
        prefix_rewrite: Option<String>,
    }

    /// An answer from the proxy itself.
    #[schemars(extend("required" = ["status"]))]
    HttpDirectResponse {
        /// Status code, 200 to 599.
        #[schemars(range(min = 0))]
        status: u32,
        /// What the answer holds.
        body: Option<HttpBody>,
    }

    /// The body of an answer: text or bytes.
    HttpBody {
        /// As text.
        string: Option<String>,
        /// As base64.
        #[schemars(extend("format" = "byte"))]
        bytes: Option<String>,
    }

    /// Names another VirtualService.
    Delegate {
        /// Its name.
        name: String,
        /// Its namespace; that of this resource when absent.
        namespace: String,
    }

    /// Changes path and host of a request.
    HttpRewrite {
        /// Replaces the path, or the prefix that matched.
        uri: String,
        /// Replaces the host.
        authority: String,
        /// Search and replace on the path.
        uri_regex_rewrite: Option<RegexRewrite>,
    }

    /// Search and replace with an RE2 expression.
    RegexRewrite {
        /// What is searched.
        r#match: String,
        /// What replaces it; \1 stands for the first group.
        rewrite: String,
    }

    /// When a failed attempt is made again.
    HttpRetry {
        /// How many more times. 0 switches retries off.
        attempts: Option<i32>,
        /// Limit of one attempt; the timeout of the route when absent.
        per_try_timeout: Option<Duration>,
        /// Conditions and status codes, separated by commas: connect-failure, 5xx, 503, ...
        retry_on: String,
        /// May go to another locality.
        retry_remote_localities: Option<bool>,
        /// Avoid hosts that have failed this request; on unless set to false.
        retry_ignore_previous_hosts: Option<bool>,
        /// Shortest pause before another attempt; 25ms when absent.
        backoff: Option<Duration>,
    }

    /// Failures made on purpose.
    HttpFaultInjection {
        /// Holds requests back.
        delay: Option<Delay>,
        /// Answers instead of the destination.
        abort: Option<Abort>,
    }

    /// Holds requests back.
    Delay {
        /// For how long.
        fixed_delay: Option<Duration>,
        /// Not implemented by Istio; has no effect.
        exponential_delay: Option<Duration>,
        /// Share of the requests, 0 to 100. None when absent.
        percentage: Option<Percent>,
        /// Older form of percentage.
        #[schemars(range(min = 0, max = 100))]
        percent: Option<i32>,
    }

    /// Answers instead of the destination.
    Abort {
        /// With this status code.
        http_status: Option<i32>,
        /// With this gRPC status: a name such as UNAVAILABLE, or a number.
        grpc_status: Option<String>,
        /// Not implemented by Istio; has no effect.
        http2_error: Option<String>,
        /// Share of the requests, 0 to 100. None when absent.
        percentage: Option<Percent>,
    }

    /// A share, 0.0 to 100.0 in steps of 0.0001.
    Percent {
        /// The share in percent.
        #[schemars(range(min = 0, max = 100))]
        value: f64,
    }

    /// A destination that gets copies of requests.
    #[schemars(extend("required" = ["destination"]))]
    HttpMirrorPolicy {
        /// The service that gets them.
        destination: Destination,
        /// Share of the requests; all when absent.
        percentage: Option<Percent>,
    }

    /// Cross-origin resource sharing.
    CorsPolicy {
        /// Origins that may call.
        allow_origins: Vec<StringMatch>,
        /// Older form of allowOrigins: exact names only.
        allow_origin: Vec<String>,
        /// Methods that may be used.
        allow_methods: Vec<String>,
        /// Request headers that may be sent.
        allow_headers: Vec<String>,
        /// Response headers that a page may read.
        expose_headers: Vec<String>,
        /// How long a browser may remember the answer.
        max_age: Option<Duration>,
        /// Cookies may be sent.
        allow_credentials: Option<bool>,
        /// What becomes of preflight requests of other origins.
        unmatched_preflights: Option<UnmatchedPreflights>,
    }

    /// One rule for TLS that is passed through.
    #[schemars(extend("required" = ["match"]))]
    TlsRoute {
        /// Alternatives: one matching block is enough.
        r#match: Vec<TlsMatchAttributes>,
        /// Destinations, each with its share of the connections.
        route: Vec<RouteDestination>,
    }

    /// Conditions on a TLS connection.
    #[schemars(extend("required" = ["sniHosts"]))]
    TlsMatchAttributes {
        /// Server names that the client asks for; must lie within the hosts of the resource.
        sni_hosts: Vec<String>,
        /// Addresses that were dialled, as CIDR.
        destination_subnets: Vec<String>,
        /// Port of the service.
        #[schemars(range(min = 0, max = 65535))]
        port: Option<u32>,
        /// Labels of the calling pod.
        source_labels: BTreeMap<String, String>,
        /// Gateways that this block is for.
        gateways: Vec<String>,
        /// Namespace of the calling pod.
        source_namespace: String,
    }

    /// One rule for TCP.
    TcpRoute {
        /// Alternatives: one matching block is enough. Absent: every connection.
        r#match: Vec<L4MatchAttributes>,
        /// Destinations, each with its share of the connections.
        route: Vec<RouteDestination>,
    }

    /// Conditions on a TCP connection.
    L4MatchAttributes {
        /// Addresses that were dialled, as CIDR.
        destination_subnets: Vec<String>,
        /// Port of the service.
        #[schemars(range(min = 0, max = 65535))]
        port: Option<u32>,
        /// Deprecated and without effect.
        source_subnet: String,
        /// Labels of the calling pod.
        source_labels: BTreeMap<String, String>,
        /// Gateways that this block is for.
        gateways: Vec<String>,
        /// Namespace of the calling pod.
        source_namespace: String,
    }

    /// A destination of connections and its share.
    #[schemars(extend("required" = ["destination"]))]
    RouteDestination {
        /// The service, and which version of it.
        destination: Destination,
        /// Share of the connections, relative to the sum of all weights.
        #[schemars(range(min = 0))]
        weight: Option<i32>,
    }
}

choices! {
    /// Where the port of a redirect comes from.
    RedirectPortSelection {
        /// The default port of the scheme.
        FromProtocolDefault,
        /// The port of the request.
        FromRequestPort,
    }

    /// What becomes of preflight requests of origins that are not allowed.
    UnmatchedPreflights {
        /// As FORWARD.
        Unspecified,
        /// They go to the destination.
        Forward,
        /// The proxy answers without allowing anything.
        Ignore,
    }
}

impl StringMatch {
    /// No condition but presence: `{}`.
    pub fn is_empty(&self) -> bool {
        self.exact.is_none() && self.prefix.is_none() && self.regex.is_none()
    }
}

/// Number of a gRPC status, given by name or number.
pub fn grpc_status(text: &str) -> Option<u32> {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let by_name = NAMES
        .iter()
        .position(|name| *name == text)
        .map(|index| index as u32);
    by_name.or_else(|| text.parse().ok().filter(|code| *code < NAMES.len() as u32))
}
