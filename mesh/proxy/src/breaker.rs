//! Circuit breakers: limits of what a cluster has under way, over all workers of the proxy.
//!
//! The gauges that are printed are what is limited. They are read and raised without a lock, so
//! that several workers may exceed a limit by one each, as in Envoy.

use std::sync::Arc;

use mesh_config as model;

use crate::config::Cluster;

/// A request that waits for a connection.
pub(crate) struct PendingRequest(Arc<Cluster>);

impl PendingRequest {
    /// `None`: too many wait.
    pub(crate) fn admit(cluster: &Arc<Cluster>, config: &model::Cluster) -> Option<Self> {
        let stats = &cluster.stats;
        let limit = config.circuit_breakers.max_pending_requests;
        if stats.upstream_rq_pending_active.get() >= limit.into() {
            stats.upstream_rq_pending_overflow.add(1);
            return None;
        }
        stats.upstream_rq_pending_total.add(1);
        stats.upstream_rq_pending_active.add(1);
        Some(Self(cluster.clone()))
    }
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        self.0.stats.upstream_rq_pending_active.sub(1);
    }
}

/// A retry that waits or is under way.
pub(crate) struct ActiveRetry(Arc<Cluster>);

impl ActiveRetry {
    /// `None`: too many are under way.
    pub(crate) fn admit(cluster: &Arc<Cluster>, config: &model::Cluster) -> Option<Self> {
        let stats = &cluster.stats;
        let requests = stats.upstream_rq_active.get() + stats.upstream_rq_pending_active.get();
        if cluster.retries.get() >= most_retries(&config.circuit_breakers, requests) {
            stats.upstream_rq_retry_overflow.add(1);
            return None;
        }
        cluster.retries.add(1);
        Some(Self(cluster.clone()))
    }
}

impl Drop for ActiveRetry {
    fn drop(&mut self) {
        self.0.retries.sub(1);
    }
}

/// Another connection may be opened.
pub(crate) fn admits_connection(cluster: &Cluster, config: &model::Cluster) -> bool {
    cluster.stats.upstream_cx_active.get() < config.circuit_breakers.max_connections.into()
}

/// A connection may take another request.
pub(crate) fn admits_request(cluster: &Cluster, config: &model::Cluster) -> bool {
    cluster.stats.upstream_rq_active.get() < config.circuit_breakers.max_requests.into()
}

/// How many retries may be under way beside so many requests.
fn most_retries(limits: &model::CircuitBreakers, requests: u64) -> u64 {
    match &limits.retry_budget {
        None => limits.max_retries.into(),
        Some(budget) => {
            let share = requests * u64::from(budget.basis_points) / 10_000;
            share.max(budget.min_retry_concurrency.into())
        }
    }
}

/// What is printed of the breakers of a cluster: whether each is open, and what is left.
pub(crate) fn gauges(
    cluster: &Cluster,
    limits: &model::CircuitBreakers,
) -> [(&'static str, u64); 9] {
    let stats = &cluster.stats;
    let requests = stats.upstream_rq_active.get() + stats.upstream_rq_pending_active.get();
    let left = |used: u64, limit: u64| limit.saturating_sub(used);
    let connections = left(
        stats.upstream_cx_active.get(),
        limits.max_connections.into(),
    );
    let pending = left(
        stats.upstream_rq_pending_active.get(),
        limits.max_pending_requests.into(),
    );
    let active = left(stats.upstream_rq_active.get(), limits.max_requests.into());
    let retries = left(cluster.retries.get(), most_retries(limits, requests));
    let open = |left| u64::from(left == 0);
    [
        ("cx_open", open(connections)),
        ("cx_pool_open", 0),
        ("rq_open", open(active)),
        ("rq_pending_open", open(pending)),
        ("rq_retry_open", open(retries)),
        ("remaining_cx", connections),
        ("remaining_rq", active),
        ("remaining_pending", pending),
        ("remaining_retries", retries),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_budget_grows_with_the_requests() {
        let limits = model::CircuitBreakers {
            max_retries: 1,
            ..model::CircuitBreakers::default()
        };
        assert_eq!(most_retries(&limits, 1000), 1);
        let budget = model::RetryBudget {
            basis_points: 2_000,
            min_retry_concurrency: 3,
        };
        let limits = model::CircuitBreakers {
            retry_budget: Some(budget),
            ..limits
        };
        assert_eq!(most_retries(&limits, 0), 3);
        assert_eq!(most_retries(&limits, 100), 20);
    }
}
