//! Attempt after attempt, each at a host of its own choice, until there is an answer.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::Incoming;
use mesh_config::{Discovery, TrafficDirection};
use tokio::time::{sleep, timeout};

use super::{Outgoing, speaks_http2};
use crate::{
    balance,
    body::{Replayed, RequestBody},
    config::{Cluster, Forward, Host, Members},
    conventions,
    exchange::Exchange,
    flags::Flags,
    outlier::{self, Outcome},
    pool::{self, Lease, UpstreamError},
    reply::LocalReply,
    request::RequestContext,
    retry,
};

/// The attempts of one request.
pub(super) struct Attempts<'a> {
    pub(super) context: &'a RequestContext<'a>,
    pub(super) forward: &'a Forward,
    pub(super) cluster: &'a Arc<Cluster>,
    pub(super) members: &'a Members,
    pub(super) exchange: &'a mut Exchange,
}

impl Attempts<'_> {
    pub(super) async fn run(
        &mut self,
        outgoing: Outgoing,
    ) -> Result<(Response<Incoming>, Lease), LocalReply> {
        let retry = &self.forward.retry;
        let http2 = speaks_http2(self.members, self.context);
        let keep = retry::needs_copy(retry, self.exchange.grpc, http2);
        let started = std::time::Instant::now();
        let mut tried = Vec::new();
        let mut spare = Some(outgoing);
        let mut unsent = None;
        let mut attempt = 1;
        loop {
            let Some(host) = self.choose(&tried).await? else {
                self.cluster.stats.upstream_cx_none_healthy.add(1);
                return Err(LocalReply::no_healthy_upstream());
            };
            self.exchange.host = Some(host.clone());
            let mut request = match unsent.take() {
                Some(request) => request,
                None if keep => spare.as_ref().map(|outgoing| outgoing.request(http2)),
                None => spare.take().map(|outgoing| outgoing.into_request(http2)),
            };
            if let Some(request) = &mut request
                && self.context.direction != TrafficDirection::Inbound
            {
                let count = HeaderValue::from(attempt);
                request
                    .headers_mut()
                    .insert(conventions::ATTEMPT_COUNT, count);
                self.tell_peer(&host, request.headers_mut());
            }
            let outcome = self.attempt(&host, http2, &mut request).await;
            let retries_left = attempt <= retry.attempts;
            let replayable = self
                .exchange
                .request_body
                .as_ref()
                .is_none_or(Replayed::can_replay);
            let can_send_again = request.is_some() || (keep && replayable);
            let wanted = match &outcome {
                Ok((response, _)) => {
                    retry::retries_answer(retry, response.status(), response.headers())
                }
                Err(error) => retry::retries_failure(retry, error),
            };
            if !wanted || !can_send_again || !retries_left {
                let exhausted = wanted && retry.attempts > 0 && can_send_again;
                if exhausted {
                    self.exchange.flags.insert(Flags::RETRIES_EXHAUSTED);
                    self.cluster.stats.upstream_rq_retry_limit_exceeded.add(1);
                } else if attempt > 1 {
                    self.cluster.stats.upstream_rq_retry_success.add(1);
                }
                if let Ok((_, lease)) = &outcome {
                    if let Some(log) = &mut self.exchange.log {
                        log.upstream_local = lease.local();
                    }
                    let elapsed = started.elapsed().as_millis() as u64;
                    self.exchange.upstream_time_ms = Some(elapsed);
                }
                return outcome.map_err(|error| LocalReply::upstream_failed(&error, attempt > 1));
            }
            self.cluster.stats.upstream_rq_retry.add(1);
            self.cluster
                .stats
                .upstream_rq_retry_backoff_exponential
                .add(1);
            tried.push(host.id);
            unsent = request.map(Some);
            drop(outcome);
            sleep(retry::back_off(
                attempt,
                self.context.connection.worker.draw(),
            ))
            .await;
            attempt += 1;
        }
    }

    /// The host for the next attempt.
    async fn choose(&self, tried: &[u32]) -> Result<Option<Arc<Host>>, LocalReply> {
        let worker = &self.context.connection.worker;
        if self.members.config.discovery == Discovery::OriginalDst {
            return Ok(Some(self.original().await?));
        }
        let avoid = if self.forward.retry.other_host {
            tried
        } else {
            &[]
        };
        let ask = balance::Ask {
            avoid,
            ..balance::Ask::default()
        };
        // Not as they were when the request began: a host may have been ejected since.
        let members = self.cluster.members.load();
        let members = members.as_deref().unwrap_or(self.members);
        let host = balance::choose(self.cluster, members, ask, || worker.draw());
        Ok(host.cloned())
    }

    /// The host that the client named.
    async fn original(&self) -> Result<Arc<Host>, LocalReply> {
        let worker = &self.context.connection.worker;
        let address = crate::original::resolve(worker, self.context).await?;
        Ok(worker.original(self.cluster, address))
    }

    /// Says who calls to a host that has a proxy to take it off again.
    fn tell_peer(&self, host: &Host, headers: &mut HeaderMap) {
        if host.in_mesh
            && let Some(own) = &*self.context.connection.worker.shared.own_metadata.load()
        {
            own.put(headers);
        }
    }

    /// One attempt at one host.
    async fn attempt(
        &mut self,
        host: &Arc<Host>,
        http2: bool,
        request: &mut Option<Request<RequestBody>>,
    ) -> Result<(Response<Incoming>, Lease), UpstreamError> {
        let stats = &self.cluster.stats;
        let worker = &self.context.connection.worker;
        stats.upstream_rq_total.add(1);
        host.stats.rq_total.add(1);
        let busy = Busy::new(host);
        let connect_timeout = self.members.config.connect_timeout;
        let sending = pool::send(worker, self.cluster, host, http2, connect_timeout, request);
        let outcome = match self.forward.retry.per_try_timeout {
            None => sending.await,
            Some(limit) => match timeout(limit, sending).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    stats.upstream_rq_per_try_timeout.add(1);
                    Err(UpstreamError::PerTryTimeout)
                }
            },
        };
        let result = self.outcome(&outcome);
        if matches!(outcome, Ok(_) | Err(UpstreamError::Request(_))) {
            outlier::report(self.cluster, self.members, host, Outcome::Connected);
        }
        outlier::report(self.cluster, self.members, host, result);
        match &outcome {
            Ok((response, _)) => {
                stats.upstream_rq.add(response.status().as_u16());
                stats.upstream_rq_completed.add(1);
                if response.status().is_server_error() {
                    host.stats.rq_error.add(1);
                } else {
                    host.stats.rq_success.add(1);
                }
            }
            Err(error) => {
                host.stats.rq_error.add(1);
                match error {
                    UpstreamError::PerTryTimeout => host.stats.rq_timeout.add(1),
                    UpstreamError::Request(error) if error.is_parse() => {
                        stats.upstream_cx_protocol_error.add(1);
                    }
                    UpstreamError::Request(_) => stats.upstream_rq_rx_reset.add(1),
                    UpstreamError::Connect(_) | UpstreamError::ConnectTimeout => {
                        stats.upstream_rq_pending_failure_eject.add(1);
                    }
                }
            }
        }
        drop(busy);
        outcome
    }

    /// What outlier detection makes of an attempt.
    fn outcome(&self, attempt: &Result<(Response<Incoming>, Lease), UpstreamError>) -> Outcome {
        match attempt {
            Ok((response, _)) => {
                let grpc_status = response
                    .headers()
                    .get("grpc-status")
                    .filter(|_| self.exchange.grpc);
                let grpc_status = grpc_status.and_then(|status| status.to_str().ok()?.parse().ok());
                let status = response.status().as_u16();
                Outcome::Answer(grpc_status.map_or(status, outlier::http_of_grpc))
            }
            Err(UpstreamError::PerTryTimeout | UpstreamError::ConnectTimeout) => Outcome::TimedOut,
            Err(UpstreamError::Connect(_) | UpstreamError::Request(_)) => Outcome::Failed,
        }
    }
}

/// Counts an attempt at a host, for least request.
struct Busy<'a>(&'a Host);

impl<'a> Busy<'a> {
    fn new(host: &'a Host) -> Self {
        host.stats.rq_active.add(1);
        Self(host)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.stats.rq_active.sub(1);
    }
}
