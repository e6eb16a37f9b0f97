//! A traffic policy in the words of a cluster: load balancing, connection pool, outlier detection.

use std::time::Duration;

use mesh_api::destination_rule as api;
use mesh_config::{
    CircuitBreakers, Cluster, ConnectionOptions, Http2Keepalive, LbPolicy, OutlierDetection,
    ProxyProtocol, RetryBudget, SlowStart, TcpKeepalive, TcpProxy, UpstreamProtocol,
};

/// What a DestinationRule says for one port and subset; each block is given or takes its defaults.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Policy<'a> {
    pub(crate) load_balancer: Option<&'a api::LoadBalancerSettings>,
    pub(crate) connection_pool: Option<&'a api::ConnectionPoolSettings>,
    pub(crate) outlier_detection: Option<&'a api::OutlierDetection>,
    pub(crate) retry_budget: Option<&'a api::RetryBudget>,
    /// Carried out by [`super::upstream_tls`].
    pub(crate) tls: Option<&'a api::ClientTlsSettings>,
    pub(crate) proxy_protocol: Option<&'a api::ProxyProtocol>,
}

impl Policy<'_> {
    /// Writes the policy into a cluster.
    pub(crate) fn apply(&self, cluster: &mut Cluster) {
        if let Some(balancer) = self.load_balancer {
            cluster.lb_policy = lb_policy(balancer);
            cluster.slow_start = slow_start(balancer);
        }
        if let Some(pool) = self.connection_pool {
            connection_pool(pool, cluster);
        }
        if let Some(budget) = self.retry_budget {
            cluster.circuit_breakers.retry_budget = Some(retry_budget(budget));
        }
        if let Some(detection) = self.outlier_detection {
            cluster.outlier_detection = Some(outlier_detection(detection));
            cluster.healthy_panic_threshold = positive(detection.min_health_percent).unwrap_or(0);
        }
        cluster.proxy_protocol = self
            .proxy_protocol
            .map(|announced| match announced.version {
                None | Some(api::ProxyProtocolVersion::V1) => ProxyProtocol::V1,
                Some(api::ProxyProtocolVersion::V2) => ProxyProtocol::V2,
            });
    }

    /// Connections go where the client was going: `PASSTHROUGH`.
    pub(crate) fn passes_through(&self) -> bool {
        self.load_balancer.is_some_and(|balancer| {
            balancer.consistent_hash.is_none()
                && balancer.simple == Some(api::SimpleLb::Passthrough)
        })
    }
}

fn lb_policy(from: &api::LoadBalancerSettings) -> LbPolicy {
    if let Some(hash) = &from.consistent_hash {
        let size = |size: Option<u64>, default| {
            size.and_then(|size| u32::try_from(size).ok())
                .filter(|size| *size > 0)
                .unwrap_or(default)
        };
        if let Some(maglev) = &hash.maglev {
            return LbPolicy::Maglev {
                table_size: size(maglev.table_size, 65_537),
            };
        }
        let given = hash
            .ring_hash
            .as_ref()
            .and_then(|ring| ring.minimum_ring_size);
        return LbPolicy::RingHash {
            minimum_ring_size: size(given.or(hash.minimum_ring_size), 1024),
        };
    }
    match from.simple {
        Some(api::SimpleLb::RoundRobin) => LbPolicy::RoundRobin,
        Some(api::SimpleLb::Random) => LbPolicy::Random,
        // PASSTHROUGH chooses nothing.
        _ => LbPolicy::LeastRequest,
    }
}

/// Only the policies that count requests or turns know it, as in Envoy.
fn slow_start(from: &api::LoadBalancerSettings) -> Option<SlowStart> {
    if from.consistent_hash.is_some() || from.simple == Some(api::SimpleLb::Random) {
        return None;
    }
    let warmup = from.warmup.as_ref();
    let window = match warmup {
        Some(warmup) => warmup.duration,
        None => from.warmup_duration_secs,
    }?;
    (!window.0.is_zero()).then(|| SlowStart {
        window: window.0,
        aggression: warmup.and_then(|warmup| warmup.aggression).unwrap_or(1.0),
        min_weight_percent: warmup
            .and_then(|warmup| warmup.minimum_percent)
            .unwrap_or(10.0),
    })
}

/// Numbers that are not positive stand for the default, says Istio.
fn positive(number: Option<i32>) -> Option<u32> {
    number
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| *number > 0)
}

fn given(duration: Option<mesh_api::Duration>) -> Option<Duration> {
    duration.map(|duration| duration.0)
}

fn connection_pool(from: &api::ConnectionPoolSettings, cluster: &mut Cluster) {
    let (tcp, http) = (from.tcp.as_ref(), from.http.as_ref());
    let no_limit = u32::MAX;
    cluster.circuit_breakers = CircuitBreakers {
        max_connections: positive(tcp.and_then(|tcp| tcp.max_connections)).unwrap_or(no_limit),
        max_pending_requests: positive(http.and_then(|http| http.http1_max_pending_requests))
            .unwrap_or(no_limit),
        max_requests: positive(http.and_then(|http| http.http2_max_requests)).unwrap_or(no_limit),
        max_retries: positive(http.and_then(|http| http.max_retries)).unwrap_or(no_limit),
        retry_budget: None,
    };
    if let Some(timeout) = given(tcp.and_then(|tcp| tcp.connect_timeout)) {
        cluster.connect_timeout = timeout;
    }
    let tcp_idle_timeout = given(tcp.and_then(|tcp| tcp.idle_timeout));
    let keepalive = http.and_then(|http| http.http2_keep_alive.as_ref());
    cluster.connections = ConnectionOptions {
        idle_timeout: given(http.and_then(|http| http.idle_timeout)).or(tcp_idle_timeout),
        max_connection_duration: given(tcp.and_then(|tcp| tcp.max_connection_duration)),
        max_requests_per_connection: positive(
            http.and_then(|http| http.max_requests_per_connection),
        ),
        max_concurrent_streams: positive(http.and_then(|http| http.max_concurrent_streams)),
        tcp_keepalive: tcp
            .and_then(|tcp| tcp.tcp_keepalive.as_ref())
            .map(|keepalive| TcpKeepalive {
                probes: keepalive.probes.filter(|probes| *probes > 0),
                time: given(keepalive.time),
                interval: given(keepalive.interval),
            }),
        http2_keepalive: keepalive.and_then(|keepalive| {
            Some(Http2Keepalive {
                interval: given(keepalive.interval)?,
                timeout: given(keepalive.timeout).unwrap_or(Duration::from_secs(10)),
            })
        }),
    };
    if let Some(http) = http {
        if http.h2_upgrade_policy == Some(api::H2UpgradePolicy::Upgrade) {
            cluster.protocol = UpstreamProtocol::Http2;
        }
        if http.use_client_protocol {
            cluster.protocol = UpstreamProtocol::UseDownstream;
        }
    }
}

/// What a policy says of connections that carry bytes, and of which host takes them.
pub(super) fn tcp_proxy(policy: &Policy<'_>, tcp: &mut TcpProxy) {
    let pool = policy.connection_pool.and_then(|pool| pool.tcp.as_ref());
    if let Some(pool) = pool {
        tcp.idle_timeout = tcp.idle_timeout.or(given(pool.idle_timeout));
        tcp.max_connection_duration = tcp
            .max_connection_duration
            .or(given(pool.max_connection_duration));
    }
    let hash = policy
        .load_balancer
        .and_then(|balancer| balancer.consistent_hash.as_ref());
    tcp.hash_source_ip |= hash.is_some_and(|hash| hash.use_source_ip == Some(true));
}

fn retry_budget(from: &api::RetryBudget) -> RetryBudget {
    let percent = from.percent.unwrap_or(20.0).clamp(0.0, 100.0);
    RetryBudget {
        basis_points: (percent * 100.0).round() as u32,
        min_retry_concurrency: from.min_retry_concurrency.unwrap_or(3),
    }
}

fn outlier_detection(from: &api::OutlierDetection) -> OutlierDetection {
    let defaults = OutlierDetection::default();
    let nonzero = |duration| given(duration).filter(|duration: &Duration| !duration.is_zero());
    let split = from.split_external_local_origin_errors;
    OutlierDetection {
        consecutive_5xx: from.consecutive_5xx_errors,
        consecutive_gateway_failure: from.consecutive_gateway_errors,
        consecutive_local_origin_failure: from
            .consecutive_local_origin_failures
            .filter(|failures| split && *failures > 0),
        split_external_local_origin_errors: split,
        interval: nonzero(from.interval).unwrap_or(defaults.interval),
        base_ejection_time: nonzero(from.base_ejection_time).unwrap_or(defaults.base_ejection_time),
        max_ejection_percent: positive(from.max_ejection_percent)
            .unwrap_or(defaults.max_ejection_percent)
            .min(100),
    }
}

#[cfg(test)]
mod tests {
    use mesh_config::Discovery;
    use serde_json::{Value, json};

    use super::*;

    fn cluster(policy: Value) -> Cluster {
        let rule = json!({ "metadata": { "name": "rule", "namespace": "shop" },
            "spec": { "host": "web", "trafficPolicy": policy } });
        let parsed =
            mesh_api::parse::<mesh_api::DestinationRule>("DestinationRule", &rule).unwrap();
        let policy = parsed.resource.spec.traffic_policy.unwrap();
        let mut cluster = Cluster::new("web", Discovery::Eds);
        Policy {
            load_balancer: policy.load_balancer.as_ref(),
            connection_pool: policy.connection_pool.as_ref(),
            outlier_detection: policy.outlier_detection.as_ref(),
            retry_budget: policy.retry_budget.as_ref(),
            tls: policy.tls.as_ref(),
            proxy_protocol: policy.proxy_protocol.as_ref(),
        }
        .apply(&mut cluster);
        cluster
    }

    #[test]
    fn limits_are_those_of_istio() {
        let made = cluster(json!({ "connectionPool": {
            "tcp": { "maxConnections": 1, "connectTimeout": "400ms", "idleTimeout": "5s" },
            "http": { "http1MaxPendingRequests": 2, "http2MaxRequests": 3, "maxRetries": 4,
                "maxRequestsPerConnection": 5, "h2UpgradePolicy": "UPGRADE" } } }));
        let limits = made.circuit_breakers;
        assert_eq!(
            (
                limits.max_connections,
                limits.max_pending_requests,
                limits.max_requests,
                limits.max_retries
            ),
            (1, 2, 3, 4)
        );
        assert_eq!(made.connect_timeout, Duration::from_millis(400));
        assert_eq!(made.connections.idle_timeout, Some(Duration::from_secs(5)));
        assert_eq!(made.connections.max_requests_per_connection, Some(5));
        assert_eq!(made.protocol, UpstreamProtocol::Http2);
        let announced = cluster(json!({ "proxyProtocol": { "version": "V2" } }));
        assert_eq!(announced.proxy_protocol, Some(ProxyProtocol::V2));
        let announced = cluster(json!({ "proxyProtocol": {} }));
        assert_eq!(announced.proxy_protocol, Some(ProxyProtocol::V1));
        let unset = cluster(json!({ "connectionPool": { "tcp": { "maxConnections": 0 },
            "http": { "maxRequestsPerConnection": -1 } } }));
        assert_eq!(unset, Cluster::new("web", Discovery::Eds));
    }

    #[test]
    fn outlier_detection_is_on_when_it_is_named() {
        let plain = cluster(json!({ "outlierDetection": {} }));
        assert_eq!(plain.outlier_detection, Some(OutlierDetection::default()));
        let made = cluster(
            json!({ "outlierDetection": { "consecutive5xxErrors": 1, "interval": "1s",
            "baseEjectionTime": "3m", "maxEjectionPercent": 100, "minHealthPercent": 40,
            "consecutiveLocalOriginFailures": 2 } }),
        );
        let detection = made.outlier_detection.unwrap();
        assert_eq!(detection.consecutive_5xx, Some(1));
        assert_eq!(detection.base_ejection_time, Duration::from_secs(180));
        assert_eq!(detection.max_ejection_percent, 100);
        assert_eq!(
            detection.consecutive_local_origin_failure, None,
            "only when split"
        );
        assert_eq!(made.healthy_panic_threshold, 40);
    }

    #[test]
    fn load_balancing_in_all_its_forms() {
        let policy = |value| cluster(json!({ "loadBalancer": value })).lb_policy;
        assert_eq!(
            policy(json!({ "simple": "LEAST_CONN" })),
            LbPolicy::LeastRequest
        );
        assert_eq!(policy(json!({ "simple": "RANDOM" })), LbPolicy::Random);
        assert_eq!(
            policy(json!({ "consistentHash": { "useSourceIp": true } })),
            LbPolicy::RingHash {
                minimum_ring_size: 1024
            }
        );
        assert_eq!(
            policy(
                json!({ "consistentHash": { "httpHeaderName": "x", "maglev": { "tableSize": 101 } } })
            ),
            LbPolicy::Maglev { table_size: 101 }
        );
        let warm = cluster(json!({ "loadBalancer": { "warmup": { "duration": "60s" } } }));
        let slow_start = warm.slow_start.unwrap();
        assert_eq!(
            (slow_start.aggression, slow_start.min_weight_percent),
            (1.0, 10.0)
        );
    }
}
