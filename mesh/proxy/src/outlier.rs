//! Outlier detection: a host that fails several times in a row is left out for a while.
//!
//! Counting is a few atomics per answer. Ejecting is rare: it takes a lock of the cluster and makes
//! its [`Balancer`](crate::balance::Balancer) anew. A host that is left out has one timer, on the
//! worker that noticed, set to the tick of the interval at which it may come back.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use mesh_config::OutlierDetection;

use crate::{
    config::{Cluster, Host, Members},
    stats::{Counter, OutlierStats},
};

/// Failures in a row when a threshold is not given.
const THRESHOLD: u32 = 5;

/// What is remembered of one host, whichever worker saw it.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    ejected: AtomicBool,
    consecutive_5xx: AtomicU32,
    consecutive_gateway_failure: AtomicU32,
    consecutive_local_origin_failure: AtomicU32,
    history: Mutex<History>,
}

/// How often a host was ejected lately.
#[derive(Clone, Copy, Debug, Default)]
struct History {
    ejections: u32,
    /// The tick at which it came back.
    returned: u64,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An HTTP status; that of a gRPC answer stands for its `grpc-status`.
    Answer(u16),
    /// A connection was made.
    Connected,
    /// No connection, or no answer on it.
    Failed,
    /// No connection, or no answer, in time.
    TimedOut,
}

/// Why a host is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Consecutive5xx,
    ConsecutiveGatewayFailure,
    ConsecutiveLocalOriginFailure,
}

impl Monitor {
    /// The host is left out.
    pub(crate) fn is_ejected(&self) -> bool {
        self.ejected.load(Relaxed)
    }

    /// Counts an outcome; the causes that reached their thresholds with it.
    fn note(&self, detection: &OutlierDetection, outcome: Outcome) -> [Option<Cause>; 2] {
        let split = detection.split_external_local_origin_errors;
        let local = |failed: bool| {
            let threshold = detection
                .consecutive_local_origin_failure
                .unwrap_or(THRESHOLD);
            let reached = count(&self.consecutive_local_origin_failure, failed, threshold);
            [
                reached.then_some(Cause::ConsecutiveLocalOriginFailure),
                None,
            ]
        };
        let status = match outcome {
            Outcome::Connected => return if split { local(false) } else { [None; 2] },
            Outcome::Failed | Outcome::TimedOut if split => return local(true),
            Outcome::Failed => 503,
            Outcome::TimedOut => 504,
            Outcome::Answer(status) => status,
        };
        let threshold = detection.consecutive_gateway_failure.unwrap_or(THRESHOLD);
        let gateway = count(
            &self.consecutive_gateway_failure,
            matches!(status, 502..=504),
            threshold,
        );
        let threshold = detection.consecutive_5xx.unwrap_or(THRESHOLD);
        let any = count(
            &self.consecutive_5xx,
            (500..600).contains(&status),
            threshold,
        );
        [
            gateway.then_some(Cause::ConsecutiveGatewayFailure),
            any.then_some(Cause::Consecutive5xx),
        ]
    }

    fn counter(&self, cause: Cause) -> &AtomicU32 {
        match cause {
            Cause::Consecutive5xx => &self.consecutive_5xx,
            Cause::ConsecutiveGatewayFailure => &self.consecutive_gateway_failure,
            Cause::ConsecutiveLocalOriginFailure => &self.consecutive_local_origin_failure,
        }
    }
}

/// Another failure, or an end to them; whether this one reached the threshold.
fn count(counter: &AtomicU32, failed: bool, threshold: u32) -> bool {
    if failed {
        counter.fetch_add(1, Relaxed) + 1 == threshold
    } else {
        if counter.load(Relaxed) != 0 {
            counter.store(0, Relaxed);
        }
        false
    }
}

/// Counts what came of an attempt at a host, and ejects the host when it was one failure too many.
/// Call it on a worker.
pub(crate) fn report(
    cluster: &Arc<Cluster>,
    members: &Members,
    host: &Arc<Host>,
    outcome: Outcome,
) {
    let Some(detection) = &members.config.outlier_detection else {
        return;
    };
    for cause in host.monitor.note(detection, outcome).into_iter().flatten() {
        let Some((return_at, tick)) = eject(cluster, host, cause) else {
            continue;
        };
        let (cluster, host) = (Arc::downgrade(cluster), Arc::downgrade(&host.monitor));
        tokio::task::spawn_local(async move {
            tokio::time::sleep_until(return_at.into()).await;
            if let (Some(cluster), Some(monitor)) = (cluster.upgrade(), host.upgrade()) {
                come_back(&cluster, &monitor, tick);
            }
        });
    }
}

/// Leaves a host out, unless too many are. When, and at which tick, it may come back.
fn eject(cluster: &Cluster, host: &Host, cause: Cause) -> Option<(Instant, u64)> {
    let _one_at_a_time = cluster
        .ejecting
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let members = cluster.members.load_full()?;
    let detection = members.config.outlier_detection.as_ref()?;
    let stats = cluster.outlier_stats();
    let monitor = &host.monitor;
    let member = members
        .hosts
        .iter()
        .any(|other| Arc::ptr_eq(&other.monitor, monitor));
    if !member || monitor.is_ejected() {
        return None;
    }
    monitor.counter(cause).store(0, Relaxed);
    let (detected, enforced_for_it) = counters(stats, cause);
    detected.add(1);
    // Envoy's older counters know of this cause alone.
    let oldest_cause = cause == Cause::Consecutive5xx;
    if oldest_cause {
        stats.ejections_consecutive_5xx.add(1);
    }
    let ejected = members
        .hosts
        .iter()
        .filter(|host| host.monitor.is_ejected())
        .count();
    if (ejected + 1) * 100 > detection.max_ejection_percent as usize * members.hosts.len() {
        stats.ejections_overflow.add(1);
        return None;
    }
    if !enforced(detection, cause) {
        return None;
    }
    stats.ejections_enforced_total.add(1);
    enforced_for_it.add(1);
    if oldest_cause {
        stats.ejections_total.add(1);
    }
    let mut history = monitor
        .history
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let since = members.detecting_since;
    let elapsed = since.elapsed();
    let (ejections, returned) = next_return(detection, elapsed, *history);
    *history = History {
        ejections,
        returned,
    };
    drop(history);
    monitor.ejected.store(true, Relaxed);
    cluster.rebalance();
    let at = detection
        .interval
        .saturating_mul(u32::try_from(returned).unwrap_or(u32::MAX));
    Some((since.checked_add(at)?, returned))
}

/// The host may be chosen again.
fn come_back(cluster: &Cluster, monitor: &Monitor, tick: u64) {
    let _one_at_a_time = cluster
        .ejecting
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let history = *monitor
        .history
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if history.returned != tick {
        return;
    }
    for counter in [
        &monitor.consecutive_5xx,
        &monitor.consecutive_gateway_failure,
        &monitor.consecutive_local_origin_failure,
    ] {
        counter.store(0, Relaxed);
    }
    monitor.ejected.store(false, Relaxed);
    cluster.rebalance();
}

/// How often the host now counts as ejected, and the tick at which it may come back: the first at
/// which its ejections times the base time have passed. A tick that finds a host in use takes one
/// of its ejections back.
fn next_return(detection: &OutlierDetection, now: Duration, history: History) -> (u32, u64) {
    let interval = detection.interval.max(Duration::from_millis(1)).as_nanos();
    let good_ticks = ((now.as_nanos() / interval) as u64).saturating_sub(history.returned);
    let before = history
        .ejections
        .saturating_sub(u32::try_from(good_ticks).unwrap_or(u32::MAX));
    let base = detection.base_ejection_time;
    let longest = OutlierDetection::MAX_EJECTION_TIME.max(base);
    let ejections = if base.saturating_mul(before) < longest + base {
        before + 1
    } else {
        before
    };
    let end = now + base.saturating_mul(ejections).min(longest);
    (ejections, end.as_nanos().div_ceil(interval) as u64)
}

/// A cause of which the configuration says nothing is only counted, except Envoy's default.
fn enforced(detection: &OutlierDetection, cause: Cause) -> bool {
    match cause {
        Cause::Consecutive5xx => detection.consecutive_5xx != Some(0),
        Cause::ConsecutiveGatewayFailure => detection
            .consecutive_gateway_failure
            .is_some_and(|threshold| threshold > 0),
        Cause::ConsecutiveLocalOriginFailure => {
            detection.consecutive_local_origin_failure != Some(0)
        }
    }
}

/// Where a cause is counted when it is met, and when the host is left out for it.
fn counters(stats: &OutlierStats, cause: Cause) -> (&Counter, &Counter) {
    match cause {
        Cause::Consecutive5xx => (
            &stats.ejections_detected_consecutive_5xx,
            &stats.ejections_enforced_consecutive_5xx,
        ),
        Cause::ConsecutiveGatewayFailure => (
            &stats.ejections_detected_consecutive_gateway_failure,
            &stats.ejections_enforced_consecutive_gateway_failure,
        ),
        Cause::ConsecutiveLocalOriginFailure => (
            &stats.ejections_detected_consecutive_local_origin_failure,
            &stats.ejections_enforced_consecutive_local_origin_failure,
        ),
    }
}

/// The HTTP status that outlier detection takes a gRPC status for.
pub(crate) fn http_of_grpc(status: u32) -> u16 {
    match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

#[cfg(test)]
mod tests;
