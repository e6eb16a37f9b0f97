//! Forwarding: choose a cluster, then attempt after attempt until there is an answer to pass on.

use std::{pin::Pin, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header, request, uri};
use hyper::body::{Body, Incoming};
use mesh_config::{Discovery, TrafficDirection, UpstreamProtocol};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use crate::{
    balance,
    body::{Replayed, RequestBody, ResponseBody},
    config::{Cluster, Forward, HeaderContext, Host, Members, Route, Target},
    conventions,
    exchange::Exchange,
    flags::Flags,
    pool::{self, Lease, UpstreamError},
    reply::LocalReply,
    request::{RequestContext, Upgrade},
    retry, rewrite, upgrade,
    worker::Worker,
};

/// An answer on its way back.
pub(crate) struct Forwarded {
    response: Response<Incoming>,
    lease: Lease,
    deadline: Option<Pin<Box<Sleep>>>,
    upgrade: Option<Upgrade>,
}

/// A request as it stands before an attempt.
struct Outgoing {
    method: http::Method,
    uri: Uri,
    headers: HeaderMap,
    body: Option<Replayed>,
}

/// Draws one of the route's clusters; its name is in the log even when the request goes no further.
pub(crate) fn select(forward: &Forward, worker: &Worker, exchange: &mut Exchange) {
    let draw = if forward.is_split() { worker.draw() } else { 0 };
    exchange.target = forward.target_index(draw);
    let Some(target) = forward.target(exchange.target) else {
        return;
    };
    exchange.cluster = Some(target.cluster.clone());
    if let Some(members) = &*target.cluster.members.load() {
        exchange.service = members.service;
    }
}

/// Sends a request to the selected cluster.
pub(crate) async fn forward(
    context: &RequestContext<'_>,
    route: &Route,
    forward: &Forward,
    exchange: &mut Box<Exchange>,
    parts: &mut request::Parts,
    body: Incoming,
    upgrade: Option<Upgrade>,
) -> Result<Forwarded, LocalReply> {
    let Some(target) = forward.target(exchange.target) else {
        return Err(LocalReply::no_cluster());
    };
    let cluster = &target.cluster;
    let Some(members) = cluster.members.load_full() else {
        exchange.http().no_cluster.add(1);
        return Err(LocalReply::no_cluster());
    };
    let outgoing = prepare(
        context, route, forward, target, &members, exchange, parts, body, &upgrade,
    );
    let mut deadline = Deadline::new(forward.timeout, outgoing.body.clone());
    let active = Active::new(cluster);
    let mut attempts = Attempts {
        context,
        forward,
        cluster,
        members: &members,
        exchange,
    };
    let (response, lease) = tokio::select! {
        biased;
        answer = attempts.run(outgoing) => answer?,
        () = deadline.expired() => {
            cluster.stats.upstream_rq_timeout.add(1);
            if let Some(host) = &exchange.host {
                host.stats.rq_timeout.add(1);
            }
            return Err(LocalReply::request_timeout());
        }
    };
    drop(active);
    let response = finish(context, route, target, exchange, parts, response);
    Ok(Forwarded {
        response,
        lease,
        deadline: deadline.running,
        upgrade,
    })
}

/// Applies the route to the request.
#[allow(clippy::too_many_arguments)]
fn prepare(
    context: &RequestContext<'_>,
    route: &Route,
    forward: &Forward,
    target: &Target,
    members: &Members,
    exchange: &mut Exchange,
    parts: &mut request::Parts,
    body: Incoming,
    upgrade: &Option<Upgrade>,
) -> Outgoing {
    let mut authority = None;
    let operators = HeaderContext {
        cluster: &target.cluster.name,
        ..context.for_headers(&parts.headers, parts.method.as_str(), route)
    };
    let mut changes = Vec::new();
    for mutation in [&target.request_headers, &route.request_headers] {
        if !mutation.is_empty() {
            changes.push(mutation.evaluate(&operators));
        }
    }
    // The request's own headers are only needed again for operators in response headers.
    let mut headers = match target.response_headers.is_empty() && route.response_headers.is_empty()
    {
        true => std::mem::take(&mut parts.headers),
        false => parts.headers.clone(),
    };
    for mut change in changes {
        authority = change.authority.take().or(authority);
        change.apply(&mut headers);
    }
    let mut path_and_query = None;
    if let Some(rewrite) = &forward.rewrite {
        path_and_query = rewrite::path(rewrite, route, &context.path, &context.query);
        if path_and_query.is_some() {
            let original = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            if let Ok(original) = HeaderValue::from_str(original) {
                headers.insert(conventions::ORIGINAL_PATH, original);
            }
        }
        authority = rewrite.authority.clone().or(authority);
    }
    if let Some(authority) = &authority {
        if let Ok(original) = HeaderValue::from_str(&context.authority) {
            headers.insert(conventions::ORIGINAL_HOST, original);
        }
        headers.insert(header::HOST, authority.clone());
    } else if let Ok(host) = HeaderValue::from_str(&context.authority) {
        headers.insert(header::HOST, host);
    }
    let path_and_query = path_and_query.unwrap_or_else(|| match context.query.as_str() {
        "" => context.path.clone(),
        query => format!("{}?{query}", context.path),
    });
    if context.direction != TrafficDirection::Inbound {
        if let Some(decorator) = &route.decorator {
            headers.insert(conventions::DECORATOR, decorator.clone());
        }
        if let Some(timeout) = forward.timeout.or(forward.retry.per_try_timeout) {
            let millis = timeout
                .min(forward.retry.per_try_timeout.unwrap_or(timeout))
                .as_millis() as u64;
            headers.insert(conventions::EXPECTED_TIMEOUT, HeaderValue::from(millis));
        }
    }
    if let Some(upgrade) = upgrade {
        headers.insert(header::UPGRADE, upgrade.protocol.clone());
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    let http2 = speaks_http2(members, context);
    let keep = retry::needs_copy(&forward.retry, exchange.grpc, http2);
    let body = (!body.is_end_stream()).then(|| Replayed::new(body, keep));
    exchange.request_body = body.clone();
    Outgoing {
        method: parts.method.clone(),
        uri: path_and_query.parse().unwrap_or_default(),
        headers,
        body,
    }
}

fn speaks_http2(members: &Members, context: &RequestContext<'_>) -> bool {
    match members.config.protocol {
        UpstreamProtocol::Http1 => false,
        UpstreamProtocol::Http2 => true,
        UpstreamProtocol::UseDownstream => context.version == http::Version::HTTP_2,
    }
}

/// The attempts of one request.
struct Attempts<'a> {
    context: &'a RequestContext<'a>,
    forward: &'a Forward,
    cluster: &'a Arc<Cluster>,
    members: &'a Members,
    exchange: &'a mut Exchange,
}

impl Attempts<'_> {
    async fn run(&mut self, outgoing: Outgoing) -> Result<(Response<Incoming>, Lease), LocalReply> {
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
        let host = balance::choose(self.cluster, self.members, avoid, || worker.draw());
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
}

impl Outgoing {
    /// A copy, for an attempt that may be followed by another.
    fn request(&self, http2: bool) -> Request<RequestBody> {
        let body = self.body.clone();
        Outgoing {
            method: self.method.clone(),
            uri: self.uri.clone(),
            headers: self.headers.clone(),
            body,
        }
        .into_request(http2)
    }

    fn into_request(self, http2: bool) -> Request<RequestBody> {
        let body = match &self.body {
            Some(body) => RequestBody::Replay(body.attempt()),
            None => RequestBody::Empty,
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        if http2 {
            absolute(&mut request);
        }
        request
    }
}

/// HTTP/2 carries the host in `:authority` instead of `host`.
fn absolute(request: &mut Request<RequestBody>) {
    *request.version_mut() = http::Version::HTTP_2;
    let Some(host) = request.headers_mut().remove(header::HOST) else {
        return;
    };
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(uri::Scheme::HTTP);
    parts.authority = uri::Authority::try_from(host.as_bytes()).ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

/// Makes the upstream's answer fit to be passed on.
fn finish(
    context: &RequestContext<'_>,
    route: &Route,
    target: &Target,
    exchange: &mut Exchange,
    parts: &request::Parts,
    mut response: Response<Incoming>,
) -> Response<Incoming> {
    let headers = response.headers_mut();
    conventions::prepare_response(headers, context.direction);
    if let Some(millis) = exchange.upstream_time_ms {
        headers.insert(conventions::SERVICE_TIME, HeaderValue::from(millis));
    }
    exchange.details = "via_upstream".into();
    exchange.note_grpc_status(headers);
    let mutations = [&target.response_headers, &route.response_headers];
    if mutations.iter().any(|mutation| !mutation.is_empty()) {
        let received = headers.clone();
        let operators = HeaderContext {
            response: Some(&received),
            upstream_host: exchange.host.as_ref().map(|host| host.address),
            cluster: &target.cluster.name,
            status: response.status().as_u16(),
            flags: exchange.flags,
            ..context.for_headers(&parts.headers, parts.method.as_str(), route)
        };
        for mutation in mutations {
            mutation.evaluate(&operators).apply(response.headers_mut());
        }
    }
    response
}

impl Forwarded {
    /// The response, whose body ends the exchange.
    pub(crate) fn into_response(
        self,
        mut exchange: Box<Exchange>,
        head: bool,
    ) -> Response<ResponseBody> {
        let (mut parts, body) = self.response.into_parts();
        parts.version = http::Version::default();
        exchange.status = parts.status.as_u16();
        exchange.response_header_bytes = conventions::wire_bytes(&parts.headers);
        exchange.bodiless = head
            || parts.status == StatusCode::NO_CONTENT
            || parts.status == StatusCode::NOT_MODIFIED;
        if parts.status == StatusCode::SWITCHING_PROTOCOLS
            && let Some(upgrade) = self.upgrade
        {
            let response = Response::from_parts(parts, body);
            return upgrade::switch(response, upgrade, self.lease, exchange);
        }
        let body = ResponseBody::upstream(body, self.lease, self.deadline, exchange);
        Response::from_parts(parts, body)
    }
}

/// The route's timeout: runs from the end of the request to the end of the response.
struct Deadline {
    limit: Option<Duration>,
    body: Option<Replayed>,
    running: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    fn new(limit: Option<Duration>, body: Option<Replayed>) -> Self {
        Self {
            limit,
            body,
            running: None,
        }
    }

    async fn expired(&mut self) {
        let Some(limit) = self.limit else {
            return std::future::pending().await;
        };
        if let Some(body) = &self.body {
            body.ended().await;
        }
        let running = self
            .running
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + limit)));
        running.as_mut().await;
    }
}

/// Counts a request of a cluster as long as it waits for its answer.
struct Active<'a>(&'a Cluster);

impl<'a> Active<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        cluster.stats.upstream_rq_active.add(1);
        Self(cluster)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.stats.upstream_rq_active.sub(1);
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
