//! What HTTP itself forbids of a request, whatever the routes say.

use std::borrow::Cow;

use http::{Method, StatusCode, Version, header, request};

use crate::{
    context::RequestContext, flags::Flags, malformed, reply::LocalReply, stats::HttpStats, upgrade,
};

/// What HTTP itself forbids.
pub(super) fn check(
    context: &RequestContext<'_>,
    parts: &request::Parts,
    stats: &HttpStats,
) -> Result<(), LocalReply> {
    if matches!(context.version, Version::HTTP_10 | Version::HTTP_09) {
        stats.downstream_cx_protocol_error.add(1);
        return Err(LocalReply::upgrade_required());
    }
    if context.version == Version::HTTP_11 && !is_known(&parts.method) {
        stats.downstream_cx_protocol_error.add(1);
        let status = StatusCode::BAD_REQUEST;
        return Err(LocalReply::malformed(status, malformed::CODEC_ERROR));
    }
    if context.authority.is_empty() {
        return Err(LocalReply::bad_request("missing_host_header"));
    }
    let names_path = context.path.starts_with('/');
    let names_target = names_path || context.path == "*" || parts.method == Method::CONNECT;
    if !names_target || !context.authority.bytes().all(in_authority) {
        stats.downstream_cx_protocol_error.add(1);
        let status = StatusCode::BAD_REQUEST;
        return Err(LocalReply::malformed(status, malformed::CODEC_ERROR));
    }
    // A door has taken its own before.
    if parts.method == Method::CONNECT {
        stats.rq_total.add(1);
        stats.no_route.add(1);
        return Err(LocalReply::no_route());
    }
    // `OPTIONS *`.
    if !names_path {
        stats.downstream_rq_non_relative_path.add(1);
        return Err(LocalReply::no_route());
    }
    if upgrade::is_refused(context.version, &parts.headers) {
        stats.downstream_cx_upgrades_total.add(1);
        stats.downstream_rq_ws_on_non_ws_route.add(1);
        let (status, flags) = (StatusCode::FORBIDDEN, Flags::default());
        return Err(LocalReply::new(status, "", flags, "upgrade_failed"));
    }
    Ok(())
}

/// Whether Envoy's codec of HTTP/1 takes the method; that of HTTP/2 takes any.
fn is_known(method: &Method) -> bool {
    const RARE: [&str; 25] = [
        "ACL",
        "BIND",
        "CHECKOUT",
        "COPY",
        "LINK",
        "LOCK",
        "MERGE",
        "MKACTIVITY",
        "MKCALENDAR",
        "MKCOL",
        "MOVE",
        "MSEARCH",
        "NOTIFY",
        "PROPFIND",
        "PROPPATCH",
        "PURGE",
        "REBIND",
        "REPORT",
        "SEARCH",
        "SOURCE",
        "SUBSCRIBE",
        "UNBIND",
        "UNLINK",
        "UNLOCK",
        "UNSUBSCRIBE",
    ];
    match *method {
        Method::GET | Method::POST | Method::PUT | Method::DELETE | Method::HEAD => true,
        Method::OPTIONS | Method::CONNECT | Method::PATCH | Method::TRACE => true,
        _ => RARE.contains(&method.as_str()),
    }
}

/// Whether a host with a port, or with user information, may have this byte (RFC 3986).
fn in_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%[]".contains(&byte)
}

/// The host that the request is for. Several are joined, so that none of them is trusted.
pub(super) fn authority(parts: &request::Parts) -> Option<Cow<'_, str>> {
    if let Some(authority) = parts.uri.authority() {
        return Some(authority.as_str().into());
    }
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let first = hosts.next()?.to_str().ok()?;
    let rest = hosts.filter_map(|host| host.to_str().ok());
    Some(rest.fold(first.into(), |all, host| format!("{all},{host}").into()))
}
