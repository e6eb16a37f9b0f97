//! Envoy's counters and gauges, one struct per scope.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use super::Distribution;

/// A counter or a gauge.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(crate) fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Relaxed);
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What a line of `/stats` is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
}

macro_rules! scope {
    ($(#[$doc:meta])* $name:ident { counters: $($counter:ident)*; gauges: $($gauge:ident)*; codes: $($codes:ident)*; $(histograms: $($histogram:ident)*;)? }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(crate) struct $name {
            $(pub(crate) $counter: Counter,)*
            $(pub(crate) $gauge: Counter,)*
            $(pub(crate) $codes: Codes,)*
            $($(pub(crate) $histogram: Distribution,)*)?
        }

        impl $name {
            /// Each value with its name, codes apart.
            pub(crate) fn each(&self, mut visit: impl FnMut(&'static str, Kind, u64)) {
                $(visit(stringify!($counter), Kind::Counter, self.$counter.get());)*
                $(visit(stringify!($gauge), Kind::Gauge, self.$gauge.get());)*
            }

            $(
                /// Each histogram with its name.
                pub(crate) fn each_histogram(&self, mut visit: impl FnMut(&'static str, &Distribution)) {
                    $(visit(stringify!($histogram), &self.$histogram);)*
                }
            )?

            /// Counters become 0; gauges and histograms stay.
            pub(crate) fn reset(&self) {
                $(self.$counter.set(0);)*
                $(self.$codes.reset();)*
            }
        }
    };
}

scope! {
    /// `cluster.<name>;.*`
    ClusterStats {
        counters:
            upstream_cx_total upstream_cx_http1_total upstream_cx_http2_total
            upstream_cx_connect_fail upstream_cx_connect_timeout
            upstream_cx_connect_attempts_exceeded upstream_cx_overflow
            upstream_cx_pool_overflow upstream_cx_none_healthy upstream_cx_destroy
            upstream_cx_idle_timeout upstream_cx_max_duration_reached upstream_cx_max_requests
            upstream_cx_protocol_error
            upstream_cx_rx_bytes_total upstream_cx_tx_bytes_total
            upstream_rq_total upstream_rq_pending_total
            upstream_rq_pending_overflow upstream_rq_active_overflow
            upstream_rq_pending_failure_eject upstream_rq_timeout upstream_rq_per_try_timeout
            upstream_rq_cancelled upstream_rq_maintenance_mode upstream_rq_rx_reset
            upstream_rq_tx_reset upstream_rq_retry upstream_rq_retry_success
            upstream_rq_retry_limit_exceeded upstream_rq_retry_overflow
            upstream_rq_retry_backoff_exponential upstream_rq_retry_backoff_ratelimited lb_healthy_panic update_success
            ssl_handshake ssl_connection_error ssl_fail_verify_san ssl_fail_verify_error;
        gauges:
            upstream_cx_active upstream_rq_active upstream_rq_pending_active
            membership_total membership_healthy;
        codes: upstream_rq;
        histograms: upstream_cx_connect_ms upstream_cx_length_ms upstream_rq_time;
    }
}

scope! {
    /// `cluster.<name>;.outlier_detection.*`
    OutlierStats {
        counters:
            ejections_consecutive_5xx ejections_detected_consecutive_5xx
            ejections_detected_consecutive_gateway_failure
            ejections_detected_consecutive_local_origin_failure
            ejections_detected_failure_percentage
            ejections_detected_local_origin_failure_percentage
            ejections_detected_local_origin_success_rate ejections_detected_success_rate
            ejections_enforced_consecutive_5xx ejections_enforced_consecutive_gateway_failure
            ejections_enforced_consecutive_local_origin_failure
            ejections_enforced_failure_percentage
            ejections_enforced_local_origin_failure_percentage
            ejections_enforced_local_origin_success_rate ejections_enforced_success_rate
            ejections_enforced_total ejections_overflow ejections_success_rate ejections_total;
        gauges: ejections_active;
        codes:;
    }
}

scope! {
    /// One endpoint, as printed by `/clusters`.
    HostStats {
        counters: cx_connect_fail cx_total rq_error rq_success rq_timeout rq_total;
        gauges: cx_active rq_active;
        codes:;
    }
}

scope! {
    /// `http.<stat_prefix>.*`
    HttpStats {
        counters:
            downstream_cx_total downstream_cx_http1_total downstream_cx_http2_total
            downstream_cx_upgrades_total downstream_cx_destroy
            downstream_cx_protocol_error
            downstream_rq_total downstream_rq_completed downstream_rq_http1_total
            downstream_rq_http2_total downstream_rq_rx_reset
            downstream_rq_failed_path_normalization downstream_rq_non_relative_path
            downstream_rq_ws_on_non_ws_route
            downstream_cx_rx_bytes_total downstream_cx_tx_bytes_total
            no_route no_cluster rq_direct_response rq_redirect rq_total fault_aborts_injected fault_delays_injected
            rbac_allowed rbac_denied
            rbac_istio_dry_run_deny_shadow_allowed rbac_istio_dry_run_deny_shadow_denied
            rbac_istio_dry_run_allow_shadow_allowed rbac_istio_dry_run_allow_shadow_denied
            rbac_istio_ext_authz_shadow_allowed rbac_istio_ext_authz_shadow_denied
            ext_authz_ok ext_authz_denied ext_authz_error jwt_authn_allowed jwt_authn_denied;
        gauges: downstream_cx_active downstream_rq_active;
        codes: downstream_rq;
        histograms: downstream_cx_length_ms downstream_rq_time;
    }
}

scope! {
    /// `tcp.<stat_prefix>.*`
    TcpStats {
        counters:
            downstream_cx_total downstream_cx_no_route idle_timeout
            max_downstream_connection_duration
            downstream_cx_rx_bytes_total downstream_cx_tx_bytes_total;
        gauges: downstream_cx_active;
        codes:;
    }
}

scope! {
    /// `server.*`, `listener_manager.*` and the like, by their whole names' last part.
    ServerStats {
        counters: config_updates config_rejected discovery_connects access_log_dropped
            spans_sent spans_dropped downstream_cx_overflow tls_handshake_failures;
        gauges: total_connections listeners;
        codes:;
    }
}

/// Answers by status code.
#[derive(Debug, Default)]
pub(crate) struct Codes {
    classes: [AtomicU64; 5],
    /// 100 to 599; made when first needed, since most clusters never carry a request.
    each: OnceLock<Box<[AtomicU32]>>,
}

impl Codes {
    pub(crate) fn add(&self, status: u16) {
        let index = usize::from(status.saturating_sub(100));
        if index >= 500 {
            return;
        }
        self.classes[index / 100].fetch_add(1, Relaxed);
        let each = self
            .each
            .get_or_init(|| (0..500).map(|_| AtomicU32::new(0)).collect());
        each[index].fetch_add(1, Relaxed);
    }

    /// How often each class occurred: `(2, n)` for `2xx`.
    pub(crate) fn classes(&self) -> impl Iterator<Item = (u16, u64)> {
        let counts = self.classes.iter().map(|class| class.load(Relaxed));
        (1..).zip(counts)
    }

    /// Each status that occurred.
    pub(crate) fn each(&self) -> impl Iterator<Item = (u16, u64)> {
        let all = self.each.get().map_or(&[][..], |each| each);
        let counts = all.iter().map(|count| u64::from(count.load(Relaxed)));
        (100..).zip(counts).filter(|(_, count)| *count > 0)
    }

    pub(crate) fn reset(&self) {
        for class in &self.classes {
            class.store(0, Relaxed);
        }
        for count in self.each.get().into_iter().flatten() {
            count.store(0, Relaxed);
        }
    }
}

/// The scopes that are found by name; the lock is taken when configuration is compiled or printed.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    http: Mutex<BTreeMap<String, Arc<HttpStats>>>,
    tcp: Mutex<BTreeMap<String, Arc<TcpStats>>>,
    pub(crate) server: ServerStats,
}

impl Registry {
    pub(crate) fn http(&self, prefix: &str) -> Arc<HttpStats> {
        named(&self.http, prefix)
    }

    pub(crate) fn tcp(&self, prefix: &str) -> Arc<TcpStats> {
        named(&self.tcp, prefix)
    }

    pub(crate) fn all_http(&self) -> Vec<(String, Arc<HttpStats>)> {
        all(&self.http)
    }

    /// Requests and TCP connections of all listeners.
    pub(crate) fn traffic(&self) -> Traffic {
        let mut traffic = Traffic::default();
        for (_, http) in self.all_http() {
            traffic.total += http.downstream_rq_total.get();
            traffic.active += http.downstream_rq_active.get();
        }
        for (_, tcp) in self.all_tcp() {
            traffic.total += tcp.downstream_cx_total.get();
            traffic.active += tcp.downstream_cx_active.get();
        }
        traffic
    }

    pub(crate) fn all_tcp(&self) -> Vec<(String, Arc<TcpStats>)> {
        all(&self.tcp)
    }
}

/// What there was, and what is under way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) total: u64,
    pub(crate) active: u64,
}

fn named<T: Default>(map: &Mutex<BTreeMap<String, Arc<T>>>, name: &str) -> Arc<T> {
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = map.get(name) {
        return found.clone();
    }
    map.entry(name.to_owned()).or_default().clone()
}

fn all<T>(map: &Mutex<BTreeMap<String, Arc<T>>>) -> Vec<(String, Arc<T>)> {
    let map = map.lock().unwrap_or_else(PoisonError::into_inner);
    map.iter()
        .map(|(name, stats)| (name.clone(), stats.clone()))
        .collect()
}
