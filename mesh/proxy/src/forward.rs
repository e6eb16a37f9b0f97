//! Forwarding: choose a cluster, then attempt after attempt until there is an answer to pass on.

mod attempts;
mod hedge;
mod mirror;
mod outgoing;

use std::{pin::Pin, time::Duration};

use http::{HeaderValue, Response, StatusCode, header, request};
use hyper::body::{Body, Incoming};
use mesh_config::{TrafficDirection, UpstreamProtocol};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    config::{Forward, HeaderContext, Members, Route, Target},
    context::RequestContext,
    conventions,
    exchange::Exchange,
    flags::Flags,
    hash_policy::{self, Subject},
    headers::{DECORATOR, EXPECTED_TIMEOUT, ORIGINAL_HOST, ORIGINAL_PATH, SERVICE_TIME},
    malformed,
    outlier::{self, Outcome},
    pool::Lease,
    reply::LocalReply,
    request_body::{Failure, Replayed},
    response_body::ResponseBody,
    retry, rewrite,
    upgrade::{self, Upgrade},
    worker::Worker,
};

use attempts::Attempts;
use outgoing::Outgoing;

/// An answer on its way back.
pub(crate) struct Forwarded {
    response: Response<Incoming>,
    lease: Lease,
    deadline: Option<Pin<Box<Sleep>>>,
    upgrade: Option<Upgrade>,
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
    tracing::debug!(
        "cluster '{}' match for URL '{}'",
        cluster.name,
        context.path
    );
    let Some(members) = cluster.members.load_full() else {
        exchange.http().no_cluster.add(1);
        return Err(LocalReply::no_cluster());
    };
    let hashed = hash_policy::hash(
        &forward.hash_policy,
        &Subject {
            headers: &parts.headers,
            query: &context.query,
            remote: context.connection.remote,
            local: context.connection.local,
        },
    );
    let mirrors = mirror::draw(forward, &context.connection.worker);
    let outgoing = prepare(
        context,
        route,
        forward,
        target,
        &members,
        exchange,
        parts,
        body,
        &upgrade,
        !mirrors.is_empty(),
    );
    mirror::send(context, forward, mirrors, &outgoing);
    let mut deadline = Deadline::new(forward.timeout, outgoing.body.clone());
    let mut attempts = Attempts {
        context,
        forward,
        cluster,
        members: &members,
        exchange,
        hash: hashed.hash,
    };
    let (response, lease) = tokio::select! {
        biased;
        answer = attempts.run(outgoing) => match answer {
            Ok(answer) => answer,
            Err(reply) => return Err(blame_client(exchange).unwrap_or(reply)),
        },
        () = deadline.expired() => {
            cluster.stats.upstream_rq_timeout.add(1);
            cluster.stats.upstream_rq.add(StatusCode::GATEWAY_TIMEOUT.as_u16());
            if let Some(host) = &exchange.host {
                host.stats.rq_timeout.add(1);
                outlier::report(cluster, &members, host, Outcome::TimedOut);
            }
            return Err(LocalReply::request_timeout());
        }
    };
    let mut response = finish(context, route, target, exchange, parts, response);
    if let Some(cookie) = hashed.set_cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(Forwarded {
        response,
        lease,
        deadline: deadline.running,
        upgrade,
    })
}

/// The request's own body broke off: no fault of the upstream's.
fn blame_client(exchange: &mut Exchange) -> Option<LocalReply> {
    let failure = exchange.request_body.as_ref()?.failure()?;
    exchange.flags = Flags::default();
    match failure {
        Failure::Malformed => {
            exchange.http().downstream_cx_protocol_error.add(1);
            Some(LocalReply::malformed(
                StatusCode::BAD_REQUEST,
                malformed::CODEC_ERROR,
            ))
        }
        Failure::Gone => Some(LocalReply::client_gone()),
    }
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
    mirrored: bool,
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
                headers.insert(ORIGINAL_PATH, original);
            }
        }
        authority = rewrite.authority.clone().or(authority);
    }
    if let Some(authority) = &authority {
        if let Ok(original) = HeaderValue::from_str(&context.authority) {
            headers.insert(ORIGINAL_HOST, original);
        }
        headers.insert(header::HOST, authority.clone());
        if let Some(log) = &mut exchange.log {
            log.authority = String::from_utf8_lossy(authority.as_bytes()).into();
        }
    } else if let Ok(host) = HeaderValue::from_str(&context.authority) {
        headers.insert(header::HOST, host);
    }
    let path_and_query = path_and_query.unwrap_or_else(|| context.path_and_query());
    if context.direction != TrafficDirection::Inbound {
        if let Some(decorator) = &route.decorator {
            headers.insert(DECORATOR, decorator.clone());
        }
        if let Some(timeout) = forward.timeout.or(forward.retry.per_try_timeout) {
            let millis = timeout
                .min(forward.retry.per_try_timeout.unwrap_or(timeout))
                .as_millis() as u64;
            headers.insert(EXPECTED_TIMEOUT, HeaderValue::from(millis));
        }
    }
    if let Some(upgrade) = upgrade {
        headers.insert(header::UPGRADE, upgrade.protocol.clone());
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    let http2 = speaks_http2(members, context);
    let keep = mirrored || retry::needs_copy(&forward.retry, exchange.grpc, http2);
    let body = (!body.is_end_stream()).then(|| Replayed::new(body, keep, exchange.grpc));
    exchange.request_body = body.clone();
    Outgoing {
        method: parts.method.clone(),
        uri: path_and_query.parse().unwrap_or_default(),
        headers,
        body,
    }
}

fn speaks_http2(members: &Members, context: &RequestContext<'_>) -> bool {
    speaks(members.config.protocol, context.version)
}

fn speaks(protocol: UpstreamProtocol, downstream: http::Version) -> bool {
    match protocol {
        UpstreamProtocol::Http1 => false,
        UpstreamProtocol::Http2 => true,
        UpstreamProtocol::UseDownstream => downstream == http::Version::HTTP_2,
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
        headers.insert(SERVICE_TIME, HeaderValue::from(millis));
    }
    if let (TrafficDirection::Inbound, Some(decorator)) = (context.direction, &route.decorator) {
        headers.insert(DECORATOR, decorator.clone());
    }
    exchange.details = "via_upstream".into();
    exchange.note_grpc_status(headers);
    if let Some(log) = &mut exchange.log {
        log.take_response(headers);
    }
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
    pub(crate) fn headers_mut(&mut self) -> &mut http::HeaderMap {
        self.response.headers_mut()
    }

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
