//! A real Envoy accepts what we say in its words.

use std::{collections::BTreeMap, process::Command, sync::Arc, time::Duration};

use dojo_tests::envoy;
use mesh_config::*;

/// Every kind of resource with every field set.
fn everything() -> Snapshot {
    let text = |s: &str| s.to_owned();
    let mutation = HeaderMutation {
        set: vec![(text("x-set"), text("1"))],
        add: vec![(text("x-add"), text("%REQ(x-b)%"))],
        remove: vec![text("x-gone")],
    };
    let forward = Forward {
        clusters: vec![
            WeightedCluster {
                name: names::outbound(80, "v1", "a"),
                weight: 90,
                request_headers: mutation.clone(),
                response_headers: mutation.clone(),
            },
            WeightedCluster {
                name: names::outbound(80, "v2", "a"),
                weight: 10,
                request_headers: HeaderMutation::default(),
                response_headers: HeaderMutation::default(),
            },
        ],
        timeout: Some(Duration::from_millis(1500)),
        mirrors: vec![Mirror {
            cluster: names::outbound(80, "v2", "a"),
            percent: Percent::HUNDRED,
        }],
        retry: Some(RetryPolicy {
            retry_on: vec![text("connect-failure"), text("retriable-status-codes")],
            num_retries: 2,
            per_try_timeout: Some(Duration::from_millis(250)),
            retriable_status_codes: vec![503],
            other_host: true,
            other_priority: true,
            base_interval: Some(Duration::from_millis(50)),
            max_interval: Some(Duration::from_secs(1)),
        }),
        rewrite: Some(Rewrite {
            prefix: Some(text("/")),
            regex: None,
            authority: Some(text("b")),
        }),
        hash_policy: vec![
            HashPolicy::Header(text("x-user")),
            HashPolicy::Cookie(HashCookie {
                name: text("user"),
                ttl: Some(Duration::from_secs(10)),
                path: text("/"),
                attributes: vec![(text("SameSite"), text("Strict"))],
            }),
            HashPolicy::QueryParameter(text("q")),
            HashPolicy::SourceIp,
        ],
        hedge_on_per_try_timeout: true,
    };
    let route = |matches, action| Route {
        name: text("named"),
        matches,
        action,
        fault: Some(Fault {
            delay: Some(Delay {
                fixed: Duration::from_secs(7),
                percent: Percent::from_percent(12.5).unwrap(),
            }),
            abort: Some(Abort {
                status: AbortStatus::Http(500),
                percent: Percent::HUNDRED,
            }),
        }),
        cors: Some(Cors {
            allow_origins: vec![StringMatch::Exact(text("http://a.test"))],
            allow_methods: text("GET"),
            allow_headers: text("x-a"),
            expose_headers: text("x-b"),
            max_age: text("60"),
            allow_credentials: true,
            answer_unmatched_preflights: true,
        }),
        request_headers: mutation.clone(),
        response_headers: mutation.clone(),
        decorator: text("a:80/*"),
        config: Some(names::config("virtual-service", "default", "a").into()),
    };
    let picky = RouteMatch {
        path: PathMatch::Prefix(text("/api")),
        ignore_path_case: true,
        headers: vec![
            HeaderMatch {
                name: text("end-user"),
                value: ValueMatch::Value(StringMatch::Exact(text("jason"))),
                invert: false,
            },
            HeaderMatch {
                name: text("x-off"),
                value: ValueMatch::Value(StringMatch::Regex(text("a.*"))),
                invert: true,
            },
            HeaderMatch {
                name: text(":method"),
                value: ValueMatch::Present,
                invert: false,
            },
        ],
        query: vec![QueryMatch {
            name: text("q"),
            value: ValueMatch::Value(StringMatch::Prefix(text("x"))),
        }],
    };
    let exact = RouteMatch {
        path: PathMatch::Exact(text("/old")),
        ..RouteMatch::any()
    };
    let regex = RouteMatch {
        path: PathMatch::Regex(text("/v[12]/.*")),
        ..RouteMatch::any()
    };
    let redirect = Redirect {
        status: 302,
        path: Some(RedirectPath::Full(text("/new"))),
        authority: Some(text("c")),
        scheme: Some(text("https")),
        port: Some(8443),
    };
    let regex_rewrite = Forward {
        rewrite: Some(Rewrite {
            regex: Some(RegexRewrite {
                pattern: text("/v(.)/"),
                substitution: text(r"/\1/"),
            }),
            ..Rewrite::default()
        }),
        ..forward.clone()
    };
    let table = RouteConfiguration {
        name: text("80"),
        virtual_hosts: vec![std::sync::Arc::new(VirtualHost {
            name: text("a:80"),
            domains: vec![text("a"), text("*.a"), text("a.*")],
            routes: vec![
                route(picky, RouteAction::Forward(forward)),
                route(exact, RouteAction::Redirect(redirect)),
                route(regex, RouteAction::Forward(regex_rewrite)),
                route(
                    RouteMatch::any(),
                    RouteAction::DirectResponse(DirectResponse {
                        status: 418,
                        body: text("tea"),
                        base64: false,
                    }),
                ),
            ],
        })],
    };
    let http = HttpConnectionManager {
        stat_prefix: text("outbound_80"),
        route_config: text("80"),
        authorization: None,
    };
    let tcp = TcpProxy {
        stat_prefix: text("tcp"),
        clusters: vec![
            TcpCluster {
                name: names::outbound(80, "v1", "a"),
                weight: 3,
            },
            TcpCluster {
                name: names::outbound(80, "v2", "a"),
                weight: 1,
            },
        ],
        rbac: Rbac::default(),
        idle_timeout: Some(Duration::from_secs(60)),
        max_connection_duration: Some(Duration::from_secs(3600)),
        hash_source_ip: true,
    };
    let chain = |name: &str, destination_port, filter| FilterChain {
        name: text(name),
        destination_port,
        destinations: vec![],
        server_names: vec![],
        transport: Transport::default(),
        filter,
    };
    let listener = |name: &str, direction, accept, filter_chains| Listener {
        name: text(name),
        address: "127.0.0.1:0".parse().unwrap(),
        direction,
        accept,
        filter_chains,
    };
    let listeners = [
        listener(
            "virtualOutbound",
            TrafficDirection::Outbound,
            Accept::HttpProxy,
            vec![chain("80", None, NetworkFilter::Http(http.clone()))],
        ),
        listener(
            "redirected",
            TrafficDirection::Outbound,
            Accept::Redirected,
            vec![
                chain("80", Some(80), NetworkFilter::Http(http.clone())),
                chain("rest", None, NetworkFilter::Tcp(tcp.clone())),
            ],
        ),
        listener(
            "inbound",
            TrafficDirection::Inbound,
            Accept::Direct,
            vec![chain("any", None, NetworkFilter::Sniff { http, tcp })],
        ),
    ];
    let second = Some(Duration::from_secs(1));
    let cluster = |name: String, discovery, lb_policy, protocol| Cluster {
        lb_policy,
        protocol,
        circuit_breakers: CircuitBreakers {
            max_connections: 1,
            max_pending_requests: 2,
            max_requests: 3,
            max_retries: 4,
            retry_budget: Some(RetryBudget {
                basis_points: 2500,
                min_retry_concurrency: 3,
            }),
        },
        connections: ConnectionOptions {
            idle_timeout: second,
            max_connection_duration: second,
            max_requests_per_connection: Some(10),
            max_concurrent_streams: Some(100),
            tcp_keepalive: Some(TcpKeepalive {
                probes: Some(3),
                time: second,
                interval: second,
            }),
            http2_keepalive: Some(Http2Keepalive {
                interval: Duration::from_secs(30),
                timeout: Duration::from_secs(5),
            }),
        },
        outlier_detection: (discovery == Discovery::Eds).then(|| OutlierDetection {
            consecutive_5xx: Some(1),
            consecutive_gateway_failure: Some(2),
            consecutive_local_origin_failure: Some(3),
            split_external_local_origin_errors: true,
            ..OutlierDetection::default()
        }),
        healthy_panic_threshold: 10,
        locality_weighted: discovery == Discovery::Eds,
        slow_start: Some(SlowStart {
            window: Duration::from_secs(60),
            aggression: 1.0,
            min_weight_percent: 10.0,
        }),
        source_addresses: vec!["127.0.0.6".parse().unwrap(), "::6".parse().unwrap()],
        proxy_protocol: match discovery {
            Discovery::Eds => Some(ProxyProtocol::V1),
            _ => Some(ProxyProtocol::V2),
        },
        service: Some(ServiceRef {
            host: text("a"),
            name: text("a"),
            namespace: text("default"),
        }),
        ..Cluster::new(&name, discovery)
    };
    let clusters = [
        cluster(
            names::outbound(80, "v1", "a"),
            Discovery::Eds,
            LbPolicy::RoundRobin,
            UpstreamProtocol::Http1,
        ),
        cluster(
            names::outbound(80, "v2", "a"),
            Discovery::Eds,
            LbPolicy::LeastRequest,
            UpstreamProtocol::Http2,
        ),
        cluster(
            names::outbound(81, "", "a"),
            Discovery::Eds,
            LbPolicy::RingHash {
                minimum_ring_size: 1024,
            },
            UpstreamProtocol::Http1,
        ),
        cluster(
            names::outbound(82, "", "a"),
            Discovery::Eds,
            LbPolicy::Maglev { table_size: 65537 },
            UpstreamProtocol::Http1,
        ),
        cluster(
            names::PASSTHROUGH_CLUSTER.into(),
            Discovery::OriginalDst,
            LbPolicy::Random,
            UpstreamProtocol::UseDownstream,
        ),
    ];
    let endpoint = |address: &str, health| Endpoint {
        health,
        in_mesh: true,
        weight: 3,
        locality: Arc::new(Locality {
            region: text("r"),
            zone: text("z"),
            sub_zone: text("s"),
        }),
        priority: 0,
        locality_weight: Some(7),
        ..Endpoint::new(address.parse().unwrap(), Arc::default())
    };
    let assignment = ClusterLoadAssignment {
        cluster_name: names::outbound(80, "v1", "a"),
        endpoints: vec![
            endpoint("127.0.0.1:1", HealthStatus::Healthy),
            endpoint("[::1]:2", HealthStatus::Draining),
        ],
    };
    let by_name = |l: Listener| (l.name.clone(), Arc::new(l));
    Snapshot {
        version: 1,
        secrets: BTreeMap::new(),
        node: Arc::new(Node {
            id: text("sidecar~127.0.0.1~a.default~default.svc.cluster.local"),
            ..Node::default()
        }),
        listeners: listeners.map(by_name).into(),
        routes: BTreeMap::from([(table.name.clone(), Arc::new(table))]),
        clusters: clusters.map(|c| (c.name.clone(), Arc::new(c))).into(),
        endpoints: BTreeMap::from([(assignment.cluster_name.clone(), Arc::new(assignment))]),
    }
}

#[test]
fn a_snapshot_in_envoys_words_is_a_valid_bootstrap() {
    let Some(envoy) = envoy::binary() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("envoy.json");
    let bootstrap = mesh_config::envoy::bootstrap(&everything(), "127.0.0.1:0".parse().unwrap());
    std::fs::write(&file, serde_json::to_vec_pretty(&bootstrap).unwrap()).unwrap();
    let output = Command::new(envoy)
        .args(["--mode", "validate", "-l", "error", "-c"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
