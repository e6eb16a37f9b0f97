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
    stats::OutlierStats,
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
    detected(stats, cause);
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
    enforce(stats, cause);
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

fn detected(stats: &OutlierStats, cause: Cause) {
    match cause {
        Cause::Consecutive5xx => {
            stats.ejections_consecutive_5xx.add(1);
            stats.ejections_detected_consecutive_5xx.add(1);
        }
        Cause::ConsecutiveGatewayFailure => {
            stats.ejections_detected_consecutive_gateway_failure.add(1);
        }
        Cause::ConsecutiveLocalOriginFailure => {
            stats
                .ejections_detected_consecutive_local_origin_failure
                .add(1);
        }
    }
}

fn enforce(stats: &OutlierStats, cause: Cause) {
    stats.ejections_enforced_total.add(1);
    match cause {
        Cause::Consecutive5xx => {
            stats.ejections_total.add(1);
            stats.ejections_enforced_consecutive_5xx.add(1);
        }
        Cause::ConsecutiveGatewayFailure => {
            stats.ejections_enforced_consecutive_gateway_failure.add(1);
        }
        Cause::ConsecutiveLocalOriginFailure => {
            stats
                .ejections_enforced_consecutive_local_origin_failure
                .add(1);
        }
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
mod tests {
    use super::*;

    fn detection() -> OutlierDetection {
        OutlierDetection {
            consecutive_5xx: Some(3),
            interval: Duration::from_secs(1),
            base_ejection_time: Duration::from_secs(2),
            ..OutlierDetection::default()
        }
    }

    fn causes(detection: &OutlierDetection, outcomes: &[Outcome]) -> Vec<Cause> {
        let monitor = Monitor::default();
        let noted = outcomes
            .iter()
            .map(|outcome| monitor.note(detection, *outcome));
        noted.flatten().flatten().collect()
    }

    #[test]
    fn only_failures_in_a_row_count() {
        let statuses = |statuses: &[u16]| -> Vec<_> {
            statuses
                .iter()
                .map(|status| Outcome::Answer(*status))
                .collect()
        };
        assert_eq!(
            causes(&detection(), &statuses(&[500, 500, 200, 500, 500])),
            []
        );
        assert_eq!(
            causes(&detection(), &statuses(&[500, 503, 501])),
            [Cause::Consecutive5xx]
        );
        let gateway = OutlierDetection {
            consecutive_5xx: Some(0),
            consecutive_gateway_failure: Some(2),
            ..detection()
        };
        assert_eq!(causes(&gateway, &statuses(&[500, 500, 500, 500])), []);
        assert_eq!(causes(&gateway, &statuses(&[502, 500, 503])), []);
        assert_eq!(
            causes(&gateway, &statuses(&[503, 504])),
            [Cause::ConsecutiveGatewayFailure]
        );
    }

    #[test]
    fn failures_without_an_answer_count_as_answers_unless_split() {
        let failures = [Outcome::Failed, Outcome::TimedOut, Outcome::Failed];
        assert_eq!(causes(&detection(), &failures), [Cause::Consecutive5xx]);
        let split = OutlierDetection {
            split_external_local_origin_errors: true,
            consecutive_local_origin_failure: Some(2),
            ..detection()
        };
        assert_eq!(
            causes(&split, &failures),
            [Cause::ConsecutiveLocalOriginFailure]
        );
        let apart = [
            Outcome::Failed,
            Outcome::Connected,
            Outcome::Answer(500),
            Outcome::Failed,
        ];
        assert_eq!(causes(&split, &apart), []);
    }

    #[test]
    fn ejections_grow_and_good_ticks_take_them_back() {
        let at = |seconds: u64, ejections, returned| {
            next_return(
                &detection(),
                Duration::from_secs(seconds),
                History {
                    ejections,
                    returned,
                },
            )
        };
        assert_eq!(at(0, 0, 0), (1, 2));
        // Again right after it came back: 4 s, then 6 s.
        assert_eq!(at(2, 1, 2), (2, 6));
        assert_eq!(at(6, 2, 6), (3, 12));
        // A good while later.
        assert_eq!(at(14, 3, 12), (2, 18));
        assert_eq!(at(100, 3, 12), (1, 102));
        // Between ticks the time is rounded up.
        let between = next_return(&detection(), Duration::from_millis(100), History::default());
        assert_eq!(between, (1, 3));
    }

    #[test]
    fn an_ejection_ends_after_five_minutes() {
        let long = OutlierDetection {
            base_ejection_time: Duration::from_secs(180),
            ..detection()
        };
        let history = History {
            ejections: 1,
            returned: 0,
        };
        assert_eq!(next_return(&long, Duration::ZERO, history), (2, 300));
    }
}
