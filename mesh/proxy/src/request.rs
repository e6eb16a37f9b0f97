//! The life of a request, top to bottom: prepare, match a route, inject faults, act, answer.

mod check;

use std::{borrow::Cow, convert::Infallible, rc::Rc};

use http::{Method, Request, Response, StatusCode, Version, header, request};
use hyper::body::Incoming;
use mesh_config::TrafficDirection;

use crate::{
    config::{Action, HeaderContext, Http, RequestView, Route},
    context::RequestContext,
    conventions,
    cors::Allowed,
    door,
    downstream::Downstream,
    exchange::Entry,
    exchange::Exchange,
    fault,
    flags::Flags,
    forward::{self, Forwarded},
    headers::ORIGINAL_PATH,
    path,
    reply::LocalReply,
    response_body::ResponseBody,
    rewrite,
    spans::Span,
    trace_context,
    upgrade::{self, Upgrade},
};
use check::{authority, check};

/// Answers a request. Never fails: what goes wrong becomes an answer. `malformed`: status and details
/// of what is wrong with its head, though the codec let it pass.
pub(crate) async fn handle(
    connection: Rc<Downstream>,
    mut request: Request<Incoming>,
    malformed: Option<(StatusCode, &'static str)>,
) -> Result<Response<ResponseBody>, Infallible> {
    let listener = connection.listener.load_full();
    let destination = door::destination(&listener, &connection, &request);
    let worker = &connection.worker;
    let hello = connection.hello.get();
    let own = match &destination {
        Some(to) => door::loopback(worker, to).or_else(|| listener.of_request(Some(to), hello)),
        None => listener.of_request(None, hello),
    };
    let unknown;
    let http = match own {
        Some(http) => http,
        None => {
            unknown = Http {
                stats: worker.shared.registry.http("unmatched"),
                table: None,
                gate: None,
            };
            &unknown
        }
    };
    let mut exchange = Exchange::begin(worker, listener.direction, http.stats.clone());
    exchange.unobserved = destination.as_ref().is_some_and(door::is_loopback);
    match request.version() {
        Version::HTTP_2 => http.stats.downstream_rq_http2_total.add(1),
        _ => http.stats.downstream_rq_http1_total.add(1),
    }
    let upgrade = upgrade::take(&mut request);
    let (mut parts, body) = request.into_parts();
    let context = RequestContext {
        connection: &connection,
        direction: listener.direction,
        authority: authority(&parts).unwrap_or_default().into_owned(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or("").to_owned(),
        version: parts.version,
        destination,
    };
    note(&mut exchange, &context, &parts);
    tracing::debug!(
        "request headers complete: {} {} for {:?}",
        parts.method,
        context.path,
        context.authority
    );
    let head = parts.method == Method::HEAD;
    if let Some((status, details)) = malformed {
        http.stats.downstream_cx_protocol_error.add(1);
        let reply = LocalReply::malformed(status, details);
        return Ok(local(reply, exchange, head));
    }
    match respond(context, http, &mut exchange, &mut parts, body, upgrade).await {
        Ok(forwarded) => Ok(forwarded.into_response(exchange, head)),
        Err(reply) => {
            if let Some(log) = &mut exchange.log {
                // For one that was refused before its headers were prepared.
                log.take_request(&parts.headers);
            }
            Ok(local(reply, exchange, head))
        }
    }
}

/// Routes a request and does what the route says.
async fn respond(
    mut context: RequestContext<'_>,
    http: &Http,
    exchange: &mut Box<Exchange>,
    parts: &mut request::Parts,
    body: Incoming,
    upgrade: Option<Upgrade>,
) -> Result<Forwarded, LocalReply> {
    let connection = context.connection;
    let worker = &connection.worker;
    check(&context, parts, &http.stats)?;
    match path::normalize(&context.path) {
        Some(Cow::Borrowed(_)) => {}
        Some(Cow::Owned(normal)) => context.path = normal,
        None => {
            http.stats.downstream_rq_failed_path_normalization.add(1);
            return Err(LocalReply::bad_path());
        }
    }
    if context.direction == TrafficDirection::Inbound {
        exchange.source = worker.peers.take(&mut parts.headers, &worker.shared.labels);
        exchange.principal = context.connection.principal;
    }
    conventions::prepare_request(&mut parts.headers, context.direction, context.connection);
    let node = worker.shared.node.load();
    let ids = trace_context::propagate(&mut parts.headers, node.trace_sampling, worker);
    if let (Some(ids), Some(tracing)) = (ids, &node.tracing)
        && !exchange.unobserved
    {
        let url = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = &context.authority;
        let span = Span::begin(ids, &node, tracing, parts, authority, url);
        exchange.span = Some(span);
    }
    if let Some(log) = &mut exchange.log {
        log.take_request(&parts.headers);
        if context.direction == TrafficDirection::Gateway
            || !parts.headers.contains_key(ORIGINAL_PATH)
        {
            log.path = context.path_and_query().into();
        }
    }
    let passed = match &http.gate {
        Some(gate) => gate.pass(&mut context, parts, &http.stats).await,
        None => Ok(None),
    };
    let (claims, refused) = match passed {
        Ok(claims) => (claims, None),
        Err(reply) => (None, Some(reply)),
    };
    let view = RequestView {
        claims: claims.as_ref(),
        method: &parts.method,
        scheme: conventions::scheme(&parts.headers),
        authority: &context.authority,
        path: &context.path,
        query: &context.query,
        headers: &parts.headers,
    };
    let Some(route) = http.table.as_ref().and_then(|table| table.route(&view)) else {
        return Err(refused.unwrap_or_else(|| {
            http.stats.rq_total.add(1);
            http.stats.no_route.add(1);
            LocalReply::no_route()
        }));
    };
    if let Some(log) = &mut exchange.log {
        log.route = Some(route.name.clone());
    }
    if let Some(span) = &mut exchange.span {
        span.routed(route.decorator.as_ref(), connection.remote.ip());
    }
    if let Action::Forward(forward) = &route.action {
        forward::select(forward, worker, exchange);
    }
    if let Some(reply) = refused {
        return Err(reply);
    }
    let (outcome, origin) = carry_out(&context, route, http, exchange, parts, body, upgrade).await;
    match outcome {
        Ok(mut forwarded) => {
            if let (Some(cors), Some(origin)) = (&route.cors, origin) {
                cors.allow(&origin, forwarded.headers_mut());
            }
            Ok(forwarded)
        }
        Err(reply) => {
            let mut reply = reply.with_headers(&context, route, exchange, parts);
            if let (Some(cors), Some(origin)) = (&route.cors, origin) {
                cors.allow(&origin, &mut reply.headers);
            }
            Err(reply)
        }
    }
}

/// Does what a route says: faults, then CORS, then its action. With the outcome comes the origin
/// that is allowed to read it.
async fn carry_out(
    context: &RequestContext<'_>,
    route: &Route,
    http: &Http,
    exchange: &mut Box<Exchange>,
    parts: &mut request::Parts,
    body: Incoming,
    upgrade: Option<Upgrade>,
) -> (Result<Forwarded, LocalReply>, Option<Allowed>) {
    let worker = &context.connection.worker;
    if let Some(fault) = &route.fault
        && let Some(reply) = fault::inject(fault, worker, exchange).await
    {
        return (Err(reply), None);
    }
    let origin = match route.cors.as_ref().map(|cors| cors.check(parts)) {
        Some(Err(reply)) => return (Err(reply), None),
        Some(Ok(origin)) => origin,
        None => None,
    };
    http.stats.rq_total.add(1);
    let outcome = match &route.action {
        Action::Forward(forward) => {
            forward::forward(context, route, forward, exchange, parts, body, upgrade).await
        }
        Action::Redirect(redirect) => {
            // Envoy counts a redirect as a direct response, too; its own counter stays.
            http.stats.rq_direct_response.add(1);
            let location = rewrite::location(
                redirect,
                route,
                conventions::scheme(&parts.headers),
                &context.authority,
                &context.path,
                &context.query,
            );
            let status =
                StatusCode::from_u16(redirect.status).unwrap_or(StatusCode::MOVED_PERMANENTLY);
            let mut reply = LocalReply::new(status, "", Flags::default(), "direct_response");
            reply
                .headers
                .extend(location.map(|to| (header::LOCATION, to)));
            Err(reply)
        }
        Action::Direct { status, body } => {
            http.stats.rq_direct_response.add(1);
            let mut reply = LocalReply::new(*status, "", Flags::default(), "direct_response");
            reply.body = body.clone();
            Err(reply)
        }
    };
    (outcome, origin)
}

/// Remembers what statistics and the log need of the request.
fn note(exchange: &mut Exchange, context: &RequestContext<'_>, parts: &request::Parts) {
    exchange.grpc = parts
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| is_grpc(value.as_bytes()));
    let line = parts.method.as_str().len() + context.path.len() + context.query.len() + 12;
    exchange.request_header_bytes = line as u64 + conventions::wire_bytes(&parts.headers);
    let connection = context.connection;
    let shared = &connection.worker.shared;
    let logged = shared.node.load().access_log;
    if !logged && !shared.tap.is_watched() {
        return;
    }
    let original = parts.headers.get(ORIGINAL_PATH);
    let path = match original.and_then(|path| path.to_str().ok()) {
        Some(path) => path,
        None => parts.uri.path_and_query().map_or("/", |path| path.as_str()),
    };
    let mut entry = Entry::new(connection, parts.method.clone(), path);
    entry.logged = logged;
    entry.version = parts.version;
    entry.authority = context.authority.as_str().into();
    exchange.log = Some(Box::new(entry));
}

/// `application/grpc` and its variants (`+proto`), not `application/grpc-web`.
fn is_grpc(content_type: &[u8]) -> bool {
    content_type
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
}

/// Makes a local reply the response.
fn local(reply: LocalReply, mut exchange: Box<Exchange>, head: bool) -> Response<ResponseBody> {
    exchange.flags.insert(reply.flags);
    exchange.details = reply.details.clone();
    let direction = exchange.direction();
    let (response, body) = reply.into_parts(exchange.grpc, exchange.abort_grpc_status);
    let (mut parts, ()) = response.into_parts();
    conventions::name_server(&mut parts.headers, direction);
    // 0 where the client left: no answer reaches it.
    if !exchange
        .flags
        .contains(Flags::DOWNSTREAM_CONNECTION_TERMINATION)
    {
        exchange.status = parts.status.as_u16();
    }
    exchange.note_grpc_status(&parts.headers);
    exchange.response_header_bytes = conventions::wire_bytes(&parts.headers);
    exchange.bodiless = head;
    Response::from_parts(parts, ResponseBody::full(body, exchange))
}

impl LocalReply {
    /// Applies the header operations of the chosen destination and of the route, which count for
    /// the proxy's own answers too.
    fn with_headers(
        mut self,
        context: &RequestContext<'_>,
        route: &Route,
        exchange: &Exchange,
        parts: &request::Parts,
    ) -> Self {
        let target = match &route.action {
            Action::Forward(forward) => forward.target(exchange.target),
            _ => None,
        };
        let of_target = target.map(|target| &target.response_headers);
        let mutations = of_target.into_iter().chain([&route.response_headers]);
        for mutation in mutations.filter(|mutation| !mutation.is_empty()) {
            let operators = HeaderContext {
                status: self.status.as_u16(),
                flags: self.flags,
                upstream_host: exchange.host.as_ref().map(|host| host.address),
                cluster: target.map_or("-", |target| &target.cluster.name),
                ..context.for_headers(&parts.headers, parts.method.as_str(), route)
            };
            mutation.evaluate(&operators).apply(&mut self.headers);
        }
        self
    }
}
