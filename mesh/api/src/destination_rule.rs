//! DestinationRule: how a service is called, once a route has chosen it.

use std::collections::BTreeMap;

use crate::{Duration, WorkloadSelector, virtual_service::PortSelector};

messages! {
    /// Names the versions of a service and sets how it is called: load balancing, connection
    /// limits, ejection of failing hosts, TLS.
    #[schemars(extend("required" = ["host"]))]
    DestinationRule {
        /// Name of the service. Without a dot it is completed with the namespace of this resource.
        host: String,
        /// For all ports and subsets that do not set their own.
        traffic_policy: Option<TrafficPolicy>,
        /// Versions of the service.
        subsets: Vec<Subset>,
        /// Namespaces that see this resource: "*" is all, "." its own.
        export_to: Vec<String>,
        /// Calling pods that the rule is for; all when absent.
        workload_selector: Option<WorkloadSelector>,
    }

    /// A version of a service: those of its pods that carry some labels.
    #[schemars(extend("required" = ["name"]))]
    Subset {
        /// Name that routes use.
        name: String,
        /// Labels of the pods.
        labels: BTreeMap<String, String>,
        /// Overrides that of the rule, field by field.
        traffic_policy: Option<TrafficPolicy>,
    }

    /// How a service is called.
    TrafficPolicy {
        /// Which pod gets a request.
        load_balancer: Option<LoadBalancerSettings>,
        /// Limits of connections and requests.
        connection_pool: Option<ConnectionPoolSettings>,
        /// When a failing pod is left out for a while.
        outlier_detection: Option<OutlierDetection>,
        /// TLS towards the service.
        tls: Option<ClientTlsSettings>,
        /// Settings of single ports, in place of those above.
        port_level_settings: Vec<PortTrafficPolicy>,
        /// Sends connections through a proxy.
        tunnel: Option<TunnelSettings>,
        /// Prepends the PROXY protocol.
        proxy_protocol: Option<ProxyProtocol>,
        /// Limit of concurrent retries, relative to the requests.
        retry_budget: Option<RetryBudget>,
    }

    /// Settings of one port of the service.
    PortTrafficPolicy {
        /// The port of the service.
        port: Option<PortSelector>,
        /// Which pod gets a request.
        load_balancer: Option<LoadBalancerSettings>,
        /// Limits of connections and requests.
        connection_pool: Option<ConnectionPoolSettings>,
        /// When a failing pod is left out for a while.
        outlier_detection: Option<OutlierDetection>,
        /// TLS towards the service.
        tls: Option<ClientTlsSettings>,
    }

    /// Which pod gets a request.
    LoadBalancerSettings {
        /// A standard algorithm.
        simple: Option<SimpleLb>,
        /// The same pod for the same value.
        consistent_hash: Option<ConsistentHashLb>,
        /// Preference of near pods.
        locality_lb_setting: Option<LocalityLbSetting>,
        /// Older form of warmup.
        warmup_duration_secs: Option<Duration>,
        /// A new pod gets its full share only after a while.
        warmup: Option<WarmupConfiguration>,
    }

    /// The same pod for the same value.
    ConsistentHashLb {
        /// Value of this header.
        http_header_name: Option<String>,
        /// Value of this cookie, which is set when a request has none.
        http_cookie: Option<HttpCookie>,
        /// Address of the caller.
        use_source_ip: Option<bool>,
        /// Value of this query parameter.
        http_query_parameter_name: Option<String>,
        /// Ring hash.
        ring_hash: Option<RingHash>,
        /// Maglev hash.
        maglev: Option<MagLev>,
        /// Older form of ringHash.minimumRingSize.
        minimum_ring_size: Option<u64>,
    }

    /// A cookie that binds a client to a pod.
    #[schemars(extend("required" = ["name"]))]
    HttpCookie {
        /// Name of the cookie.
        name: String,
        /// Path of the cookie.
        path: String,
        /// Lifetime of the cookie; 0 for the session.
        ttl: Option<Duration>,
        /// Further attributes of the cookie.
        attributes: Vec<HttpCookieAttribute>,
    }

    /// An attribute of a cookie.
    HttpCookieAttribute {
        /// Name, such as SameSite.
        name: String,
        /// Value, such as Strict.
        value: String,
    }

    /// Ring hash.
    RingHash {
        /// Smallest number of virtual nodes; 1024 when absent.
        minimum_ring_size: Option<u64>,
    }

    /// Maglev hash.
    MagLev {
        /// Size of the table, a prime; 65537 when absent.
        table_size: Option<u64>,
    }

    /// Preference of near pods.
    LocalityLbSetting {
        /// Shares per locality.
        distribute: Vec<LocalityDistribute>,
        /// Where traffic goes when a region fails.
        failover: Vec<LocalityFailover>,
        /// Labels that order pods by nearness.
        failover_priority: Vec<String>,
        /// Switches it on or off.
        enabled: Option<bool>,
    }

    /// Shares per locality.
    LocalityDistribute {
        /// Locality of the callers, region/zone/subzone.
        from: String,
        /// Share in percent by locality.
        to: BTreeMap<String, u32>,
    }

    /// Where traffic goes when a region fails.
    LocalityFailover {
        /// The region that fails.
        from: String,
        /// The region that takes over.
        to: String,
    }

    /// A new pod gets its full share only after a while.
    #[schemars(extend("required" = ["duration"]))]
    WarmupConfiguration {
        /// How long it takes.
        duration: Option<Duration>,
        /// Share at the beginning; 10 when absent.
        minimum_percent: Option<f64>,
        /// Form of the ramp; 1 is linear.
        aggression: Option<f64>,
    }

    /// Limits of connections and requests.
    ConnectionPoolSettings {
        /// Limits for all connections.
        tcp: Option<TcpSettings>,
        /// Limits for HTTP.
        http: Option<HttpSettings>,
    }

    /// Limits for all connections.
    TcpSettings {
        /// Most connections to the service.
        max_connections: Option<i32>,
        /// How long connecting may take; 10s when absent.
        connect_timeout: Option<Duration>,
        /// TCP keep-alive.
        tcp_keepalive: Option<TcpKeepalive>,
        /// Longest life of a connection.
        max_connection_duration: Option<Duration>,
        /// A connection without traffic is closed after this.
        idle_timeout: Option<Duration>,
    }

    /// TCP keep-alive.
    TcpKeepalive {
        /// Unanswered probes that make a connection dead.
        probes: Option<u32>,
        /// Idle time before the first probe.
        time: Option<Duration>,
        /// Time between probes.
        interval: Option<Duration>,
    }

    /// Limits for HTTP.
    HttpSettings {
        /// Most requests that wait for a connection.
        http1_max_pending_requests: Option<i32>,
        /// Most requests at the same time, for HTTP/1 too.
        http2_max_requests: Option<i32>,
        /// Requests that a connection serves before it is closed; 0: no limit.
        max_requests_per_connection: Option<i32>,
        /// Most retries at the same time.
        max_retries: Option<i32>,
        /// A connection without requests is closed after this.
        idle_timeout: Option<Duration>,
        /// Whether HTTP/1.1 becomes HTTP/2 on the way.
        h2_upgrade_policy: Option<H2UpgradePolicy>,
        /// Speak to the service what the client speaks.
        use_client_protocol: bool,
        /// Most streams on one HTTP/2 connection.
        max_concurrent_streams: Option<i32>,
        /// HTTP/2 pings.
        http2_keep_alive: Option<Http2KeepAlive>,
    }

    /// HTTP/2 pings.
    Http2KeepAlive {
        /// Time between pings.
        interval: Option<Duration>,
        /// How long the answer may take.
        timeout: Option<Duration>,
    }

    /// When a failing pod is left out for a while.
    OutlierDetection {
        /// Older form of consecutive5xxErrors.
        consecutive_errors: Option<i32>,
        /// Count failures of connecting apart from those of the service.
        split_external_local_origin_errors: bool,
        /// Failures of connecting in a row.
        consecutive_local_origin_failures: Option<u32>,
        /// 502, 503 or 504 in a row.
        consecutive_gateway_errors: Option<u32>,
        /// 5xx in a row; 5 when absent.
        #[serde(rename = "consecutive5xxErrors")]
        consecutive_5xx_errors: Option<u32>,
        /// Time between two looks; 10s when absent.
        interval: Option<Duration>,
        /// How long a pod is left out, times how often it was; 30s when absent.
        base_ejection_time: Option<Duration>,
        /// Most of the pods that may be left out at once, in percent; 10 when absent.
        max_ejection_percent: Option<i32>,
        /// Below this share of healthy pods all of them are used.
        min_health_percent: Option<i32>,
    }

    /// TLS towards a service.
    ClientTlsSettings {
        /// Whether and how TLS is spoken.
        mode: Option<TlsMode>,
        /// File with the client's certificate.
        client_certificate: String,
        /// File with the client's private key.
        private_key: String,
        /// File with the authorities that are trusted.
        ca_certificates: String,
        /// Secret that holds all of these.
        credential_name: String,
        /// Names that the server's certificate must carry.
        subject_alt_names: Vec<String>,
        /// Server name that is asked for.
        sni: String,
        /// Do not check the server's certificate.
        insecure_skip_verify: Option<bool>,
        /// File with revoked certificates.
        ca_crl: String,
    }

    /// Sends connections through a proxy.
    #[schemars(extend("required" = ["targetHost", "targetPort"]))]
    TunnelSettings {
        /// CONNECT or POST.
        protocol: String,
        /// Host that the proxy connects to.
        target_host: String,
        /// Port that the proxy connects to.
        target_port: u32,
    }

    /// The PROXY protocol.
    ProxyProtocol {
        /// Its version.
        version: Option<ProxyProtocolVersion>,
    }

    /// Limit of concurrent retries.
    RetryBudget {
        /// Share of the active requests, in percent; 20 when absent.
        #[schemars(range(min = 0, max = 100))]
        percent: Option<f64>,
        /// Retries that are always allowed; 3 when absent.
        min_retry_concurrency: Option<u32>,
        /// Time over which requests are counted.
        budget_interval: Option<Duration>,
    }
}

choices! {
    /// A standard algorithm of load balancing.
    SimpleLb {
        /// As LEAST_REQUEST.
        Unspecified,
        /// Older name of LEAST_REQUEST.
        LeastConn,
        /// Any pod.
        Random,
        /// The address that the caller dialled.
        Passthrough,
        /// Each pod in turn.
        RoundRobin,
        /// Of two random pods the one with fewer requests.
        LeastRequest,
    }

    /// Whether HTTP/1.1 becomes HTTP/2.
    H2UpgradePolicy {
        /// As the mesh says.
        Default,
        /// No.
        DoNotUpgrade,
        /// Yes.
        Upgrade,
    }

    /// Whether and how TLS is spoken.
    TlsMode {
        /// Plain text.
        Disable,
        /// The server shows a certificate.
        Simple,
        /// Both show certificates, from files.
        Mutual,
        /// Both show the certificates of the mesh.
        IstioMutual,
    }

    /// Version of the PROXY protocol.
    ProxyProtocolVersion {
        /// The text form.
        V1,
        /// The binary form.
        V2,
    }
}

impl DestinationRule {
    /// Every choice of a load balancer that the rule makes, for all, ports and subsets.
    pub fn load_balancers(&self) -> impl Iterator<Item = &LoadBalancerSettings> {
        let of_subsets = self.subsets.iter().map(|subset| &subset.traffic_policy);
        let policies = std::iter::once(&self.traffic_policy)
            .chain(of_subsets)
            .flatten();
        policies.flat_map(|policy| {
            let of_ports = policy.port_level_settings.iter();
            policy
                .load_balancer
                .iter()
                .chain(of_ports.flat_map(|port| &port.load_balancer))
        })
    }
}
