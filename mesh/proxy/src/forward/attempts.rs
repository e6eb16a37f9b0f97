//! Attempt after attempt, each at a host of its own choice, until there is an answer.

use std::{sync::Arc, time::Instant};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use mesh_config::{Discovery, TrafficDirection};
use tokio::time::{sleep, timeout};

use super::{Outgoing, speaks_http2};
use crate::{
    balance::{self, Ask},
    breaker::ActiveRetry,
    config::{Cluster, Forward, Host, Members},
    context::RequestContext,
    exchange::Exchange,
    flags::Flags,
    headers::ATTEMPT_COUNT,
    original,
    outlier::{self, Outcome},
    pool::Lease,
    reply::LocalReply,
    request_body::{Replayed, RequestBody},
    retry,
    stats::istio::PrincipalId,
    upstream_error::{UpstreamError, is_stream_reset},
};

/// The attempts of one request.
pub(super) struct Attempts<'a> {
    pub(super) context: &'a RequestContext<'a>,
    pub(super) forward: &'a Forward,
    pub(super) cluster: &'a Arc<Cluster>,
    pub(super) members: &'a Members,
    pub(super) exchange: &'a mut Exchange,
    /// For clusters that balance by hash.
    pub(super) hash: Option<u64>,
}

/// What came of an attempt.
pub(super) type Attempted = Result<(Response<Incoming>, Lease), UpstreamError>;

/// Failed attempts before other priorities are tried, where the route asks for that.
const PRIORITY_PATIENCE: usize = 2;

impl Attempts<'_> {
    pub(super) async fn run(
        &mut self,
        outgoing: Outgoing,
    ) -> Result<(Response<Incoming>, Lease), LocalReply> {
        let retry = &self.forward.retry;
        if retry.hedge && self.members.config.discovery != Discovery::OriginalDst {
            return self.hedged(outgoing).await;
        }
        let http2 = speaks_http2(self.members, self.context);
        let keep = retry::needs_copy(retry, self.exchange.grpc, http2);
        let started = Instant::now();
        let mut tried: Vec<Arc<Host>> = Vec::new();
        // Held while a retry waits and is under way.
        let mut active_retry = None;
        let mut spare = Some(outgoing);
        let mut unsent = None;
        let mut attempt = 1;
        loop {
            let Some(host) = self.choose(&tried).await? else {
                self.cluster.stats.upstream_cx_none_healthy.add(1);
                return Err(self.charged(LocalReply::no_healthy_upstream()));
            };
            self.exchange.host = Some(host.clone());
            if self.context.direction != TrafficDirection::Inbound {
                let proven = self.members.tls_to(&host).is_some();
                self.exchange.principal = if proven {
                    host.principal
                } else {
                    PrincipalId::NONE
                };
            }
            let mut request = match unsent.take() {
                Some(request) => request,
                None if keep => spare.as_ref().map(|outgoing| outgoing.request(http2)),
                None => spare.take().map(|outgoing| outgoing.into_request(http2)),
            };
            if let Some(request) = &mut request {
                self.mark(attempt, &host, request.headers_mut());
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
            let again = wanted && can_send_again && retries_left;
            drop(active_retry.take());
            if again {
                active_retry = ActiveRetry::admit(self.cluster, &self.members.config);
            }
            if active_retry.is_none() {
                if again {
                    self.exchange.flags.insert(Flags::UPSTREAM_OVERFLOW);
                } else if wanted && retry.attempts > 0 && can_send_again {
                    self.exchange.flags.insert(Flags::RETRIES_EXHAUSTED);
                    self.cluster.stats.upstream_rq_retry_limit_exceeded.add(1);
                } else if attempt > 1 {
                    self.cluster.stats.upstream_rq_retry_success.add(1);
                }
                return self.pass_on(outcome, started, attempt);
            }
            let stats = &self.cluster.stats;
            stats.upstream_rq_retry.add(1);
            stats.upstream_rq_retry_backoff_exponential.add(1);
            if let Ok((response, _)) = &outcome {
                self.cluster.retried.add(response.status().as_u16());
            }
            tried.push(host);
            unsent = request.map(Some);
            drop(outcome);
            let draw = self.context.connection.worker.draw();
            sleep(retry::back_off(retry, attempt, draw)).await;
            attempt += 1;
        }
    }

    /// The outcome of the last attempt is what the client gets.
    pub(super) fn pass_on(
        &mut self,
        outcome: Attempted,
        started: Instant,
        attempts: u32,
    ) -> Result<(Response<Incoming>, Lease), LocalReply> {
        if let Ok((response, lease)) = &outcome {
            self.charge(response.status());
            if let Some(log) = &mut self.exchange.log {
                log.upstream_local = lease.local();
            }
            self.exchange.upstream_time_ms = Some(started.elapsed().as_millis() as u64);
        }
        outcome.map_err(|error| {
            let reply = LocalReply::upstream_failed(&error, attempts > 1);
            let body = self.exchange.request_body.as_ref();
            // Not the upstream's fault when the client broke off.
            match body.and_then(Replayed::failure) {
                Some(_) => reply,
                None => self.charged(reply),
            }
        })
    }

    /// Counts what the client gets.
    fn charge(&self, status: StatusCode) {
        self.cluster.stats.upstream_rq.add(status.as_u16());
    }

    pub(super) fn charged(&self, reply: LocalReply) -> LocalReply {
        self.charge(reply.status);
        reply
    }

    /// The host for the next attempt.
    pub(super) async fn choose(
        &self,
        tried: &[Arc<Host>],
    ) -> Result<Option<Arc<Host>>, LocalReply> {
        let worker = &self.context.connection.worker;
        if original::is_asked(self.members, self.context.destination.as_ref()) {
            return Ok(Some(self.original().await?));
        }
        let retry = &self.forward.retry;
        // Empty lists, as for every first attempt, take no memory.
        let avoid: Vec<u32> = match retry.other_host {
            true => tried.iter().map(|host| host.id).collect(),
            false => Vec::new(),
        };
        let skip: Vec<u32> = match retry.other_priority && tried.len() >= PRIORITY_PATIENCE {
            true => tried.iter().map(|host| host.priority).collect(),
            false => Vec::new(),
        };
        let ask = Ask {
            avoid: &avoid,
            skip: &skip,
            hash: self.hash,
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
        let address = original::resolve(worker, self.context).await?;
        Ok(worker.original(self.cluster, address))
    }

    /// Which attempt it is; and who calls, to a host that has a proxy to take that off again.
    pub(super) fn mark(&self, attempt: u32, host: &Host, headers: &mut HeaderMap) {
        if self.context.direction == TrafficDirection::Inbound {
            return;
        }
        headers.insert(ATTEMPT_COUNT, HeaderValue::from(attempt));
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
    ) -> Attempted {
        let worker = &self.context.connection.worker;
        let config = &self.members.config;
        let sending = worker.pool.send(self.cluster, host, http2, config, request);
        let outcome = match self.forward.retry.per_try_timeout {
            None => sending.await,
            Some(limit) => match timeout(limit, sending).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    let stats = &self.cluster.stats;
                    stats.upstream_rq_per_try_timeout.add(1);
                    Err(UpstreamError::PerTryTimeout)
                }
            },
        };
        self.observe(host, &outcome);
        outcome
    }

    /// Counts what came of an attempt.
    pub(super) fn observe(&self, host: &Arc<Host>, outcome: &Attempted) {
        let stats = &self.cluster.stats;
        if matches!(outcome, Ok(_) | Err(UpstreamError::Request(_))) {
            outlier::report(self.cluster, self.members, host, Outcome::Connected);
        }
        if let Some(result) = self.outcome(outcome) {
            outlier::report(self.cluster, self.members, host, result);
        }
        match outcome {
            Ok((response, _)) if response.status().is_server_error() => host.stats.rq_error.add(1),
            Ok(_) => host.stats.rq_success.add(1),
            // No fault of the host's.
            Err(UpstreamError::Overflow) => {}
            Err(error) => {
                host.stats.rq_error.add(1);
                match error {
                    UpstreamError::PerTryTimeout => host.stats.rq_timeout.add(1),
                    UpstreamError::Request(error) if error.is_parse() => {
                        stats.upstream_cx_protocol_error.add(1);
                    }
                    UpstreamError::Request(error) if is_stream_reset(error) => {
                        stats.upstream_rq_rx_reset.add(1);
                    }
                    _ => {}
                }
            }
        }
    }

    /// What outlier detection makes of an attempt.
    fn outcome(&self, attempt: &Attempted) -> Option<Outcome> {
        Some(match attempt {
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
            Err(UpstreamError::Overflow) => return None,
        })
    }
}
