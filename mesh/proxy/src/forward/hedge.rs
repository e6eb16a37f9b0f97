//! Hedging: an attempt that takes too long goes on beside the next; the first good answer wins.

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Instant};

use http::Response;
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

use super::{
    Outgoing,
    attempts::{Attempted, Attempts},
    speaks_http2,
};
use crate::{
    breaker::ActiveRetry,
    config::Host,
    flags::Flags,
    outlier::{self, Outcome},
    pool::Lease,
    reply::LocalReply,
    request_body::Replayed,
    retry,
};

/// An attempt under way, and the time after which it is not waited for alone.
struct Racer {
    host: Arc<Host>,
    attempt: Pin<Box<dyn Future<Output = Attempted>>>,
    patience: Option<Pin<Box<Sleep>>>,
}

/// What happens next in a race.
enum Event {
    Finished(usize, Box<Attempted>),
    /// An attempt has taken too long, and goes on.
    Late(usize),
}

impl Attempts<'_> {
    /// As [`run`](Self::run), with attempts that overlap. A late attempt asks for the next whatever
    /// the conditions of retries say.
    pub(super) async fn hedged(
        &mut self,
        outgoing: Outgoing,
    ) -> Result<(Response<Incoming>, Lease), LocalReply> {
        let retry = &self.forward.retry;
        let started = Instant::now();
        let mut racers: Vec<Racer> = Vec::new();
        let mut tried = Vec::new();
        let mut retries = Vec::new();
        let mut attempts = 0;
        loop {
            if let Some(host) = self.choose(&tried).await? {
                attempts += 1;
                self.exchange.host = Some(host.clone());
                racers.push(self.start(&outgoing, &host, attempts));
                tried.push(host);
            } else if racers.is_empty() {
                self.cluster.stats.upstream_cx_none_healthy.add(1);
                return Err(self.charged(LocalReply::no_healthy_upstream()));
            }
            // Until another attempt is to be started.
            loop {
                let event = poll_fn(|cx| next(&mut racers, cx)).await;
                let body = self.exchange.request_body.as_ref();
                let may_retry = attempts <= retry.attempts && body.is_none_or(Replayed::can_replay);
                let outcome = match event {
                    Event::Late(index) => {
                        let host = &racers[index].host;
                        self.cluster.stats.upstream_rq_per_try_timeout.add(1);
                        host.stats.rq_timeout.add(1);
                        outlier::report(self.cluster, self.members, host, Outcome::TimedOut);
                        if may_retry && self.admit(&mut retries) {
                            break;
                        }
                        continue;
                    }
                    Event::Finished(index, outcome) => {
                        let racer = racers.swap_remove(index);
                        self.observe(&racer.host, &outcome);
                        self.exchange.host = Some(racer.host);
                        *outcome
                    }
                };
                let wanted = match &outcome {
                    Ok((answer, _)) => {
                        retry::retries_answer(retry, answer.status(), answer.headers())
                    }
                    Err(error) => retry::retries_failure(retry, error),
                };
                if wanted && may_retry && self.admit(&mut retries) {
                    if let Ok((answer, _)) = &outcome {
                        self.cluster.retried.add(answer.status().as_u16());
                    }
                    let draw = self.context.connection.worker.draw();
                    sleep(retry::back_off(retry, attempts, draw)).await;
                    break;
                }
                // Others may still do better.
                if wanted && !racers.is_empty() {
                    continue;
                }
                if wanted {
                    self.exchange.flags.insert(Flags::RETRIES_EXHAUSTED);
                    self.cluster.stats.upstream_rq_retry_limit_exceeded.add(1);
                } else if attempts > 1 {
                    self.cluster.stats.upstream_rq_retry_success.add(1);
                }
                return self.pass_on(outcome, started, attempts);
            }
        }
    }

    fn start(&self, outgoing: &Outgoing, host: &Arc<Host>, attempt: u32) -> Racer {
        let http2 = speaks_http2(self.members, self.context);
        let mut request = outgoing.request(http2);
        self.mark(attempt, host, request.headers_mut());
        let worker = self.context.connection.worker.clone();
        let (cluster, to) = (self.cluster.clone(), host.clone());
        let config = self.members.config.clone();
        let sending = async move {
            let mut request = Some(request);
            worker
                .pool
                .send(&cluster, &to, http2, &config, &mut request)
                .await
        };
        let patience = self.forward.retry.per_try_timeout;
        Racer {
            host: host.clone(),
            attempt: Box::pin(sending),
            patience: patience.map(|limit| Box::pin(sleep(limit))),
        }
    }

    /// Another retry may be under way; it counts until the request is answered.
    fn admit(&self, retries: &mut Vec<ActiveRetry>) -> bool {
        let Some(admitted) = ActiveRetry::admit(self.cluster, &self.members.config) else {
            return false;
        };
        retries.push(admitted);
        self.cluster.stats.upstream_rq_retry.add(1);
        true
    }
}

fn next(racers: &mut [Racer], cx: &mut std::task::Context<'_>) -> Poll<Event> {
    for (index, racer) in racers.iter_mut().enumerate() {
        if let Poll::Ready(outcome) = racer.attempt.as_mut().poll(cx) {
            return Poll::Ready(Event::Finished(index, Box::new(outcome)));
        }
        let late = racer.patience.as_mut().map(|sleep| sleep.as_mut().poll(cx));
        if late.is_some_and(|late| late.is_ready()) {
            racer.patience = None;
            return Poll::Ready(Event::Late(index));
        }
    }
    Poll::Pending
}
