//! May a request pass? First outside judges, then tokens, then policies: Istio's order of filters.

mod external;

use std::time::{Duration, SystemTime};

use http::{HeaderValue, Method, StatusCode, header, request};
use mesh_config as model;
use serde_json::Value;

use crate::{
    config::gate::Gate,
    context::RequestContext,
    downstream::Downstream,
    flags::Flags,
    jwt::{self, JwtError},
    rbac::{Attributes, HttpAttributes, Verdict},
    reply::LocalReply,
    stats::HttpStats,
};

impl Gate {
    /// Asks everybody; the payload of the request's token, if it has one.
    pub(crate) async fn pass(
        &self,
        context: &mut RequestContext<'_>,
        parts: &mut request::Parts,
        stats: &HttpStats,
    ) -> Result<Option<Value>, LocalReply> {
        for judge in &self.external {
            let concerned = judge.concerns(&attributes(context, parts, &host(context), None));
            if concerned {
                stats.rbac_istio_ext_authz_shadow_denied.add(1);
                judge.ask(context, parts, stats).await?;
            } else {
                stats.rbac_istio_ext_authz_shadow_allowed.add(1);
            }
        }
        let mut claims = None;
        if !self.tokens.is_empty() && !is_preflight(parts) {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let now = now.unwrap_or(Duration::ZERO);
            match jwt::check(&self.tokens, &mut parts.headers, &mut context.query, now) {
                Ok(payload) => {
                    stats.jwt_authn_allowed.add(1);
                    claims = payload;
                }
                Err(error) => {
                    stats.jwt_authn_denied.add(1);
                    return Err(bad_token(error, context));
                }
            }
        }
        if self.rbac.is_empty() {
            return Ok(claims);
        }
        let host = host(context);
        let attributes = attributes(context, parts, &host, claims.as_ref());
        self.say(&attributes);
        match self.rbac.decide(&attributes, Some(stats)) {
            Verdict::Allowed => Ok(claims),
            Verdict::Denied(policy) => Err(denied(policy)),
        }
    }

    /// What Envoy's filter logs of a request where its level is `debug`: who asks, and what policies on
    /// trial would do. The places of the fields are what scripts cut them out by.
    fn say(&self, of: &Attributes<'_>) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let http = of.http.as_ref();
        tracing::debug!(
            "checking request: requestedServerName: {}, sourceIP: {}, directRemoteIP: {}, remoteIP: {}, localAddress: {}, ssl: {}, method: {}, path: {}",
            of.server_name,
            of.source,
            of.source,
            of.remote,
            of.destination,
            if of.principal.is_empty() {
                "none"
            } else {
                of.principal
            },
            http.map_or("", |http| http.method),
            http.map_or("", |http| http.path),
        );
        for (verdict, policy) in self.rbac.on_trial(of) {
            tracing::debug!(
                "shadow {verdict}, matched policy {}",
                policy.unwrap_or("none")
            );
        }
    }
}

/// What is known of a connection.
pub(crate) fn of_connection(connection: &Downstream) -> Attributes<'_> {
    let identity = connection.peer.as_ref().map_or("", |peer| &peer.identity);
    Attributes {
        principal: identity.strip_prefix("spiffe://").unwrap_or(identity),
        source: connection.remote.ip(),
        remote: connection.remote.ip(),
        destination: connection.local,
        server_name: connection
            .hello
            .get()
            .map_or("", |hello| &hello.server_name),
        http: None,
    }
}

fn attributes<'a>(
    context: &'a RequestContext<'_>,
    parts: &'a request::Parts,
    host: &'a str,
    claims: Option<&'a Value>,
) -> Attributes<'a> {
    let mut attributes = of_connection(context.connection);
    // The last proxy before us says where the request came from; a gateway sees it itself.
    if context.direction == model::TrafficDirection::Inbound {
        let forwarded = parts.headers.get(crate::headers::X_FORWARDED_FOR);
        let last = forwarded.and_then(|value| value.to_str().ok()?.rsplit(',').next());
        attributes.remote = last
            .and_then(|address| address.trim().parse().ok())
            .unwrap_or(attributes.remote);
    }
    attributes.http = Some(HttpAttributes {
        method: parts.method.as_str(),
        host,
        path: &context.path,
        headers: &parts.headers,
        claims,
    });
    attributes
}

fn host(context: &RequestContext<'_>) -> String {
    context.authority.to_ascii_lowercase()
}

fn is_preflight(parts: &request::Parts) -> bool {
    parts.method == Method::OPTIONS
        && parts.headers.contains_key(header::ORIGIN)
        && parts
            .headers
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The details of a refusal.
pub(crate) fn details(policy: Option<&str>) -> String {
    format!(
        "rbac_access_denied_matched_policy[{}]",
        policy.unwrap_or("none")
    )
}

fn denied(policy: Option<&str>) -> LocalReply {
    let mut reply = LocalReply::new(
        StatusCode::FORBIDDEN,
        "RBAC: access denied",
        Flags::default(),
        "",
    );
    reply.details = details(policy).into();
    reply
}

fn bad_token(error: JwtError, context: &RequestContext<'_>) -> LocalReply {
    let mut reply = LocalReply::new(error.status(), "", Flags::default(), "");
    let text = error.to_string();
    reply.details = format!("jwt_authn_access_denied{{{}}}", text.replace(' ', "_")).into();
    reply.body = text.into();
    if error.status() == StatusCode::UNAUTHORIZED {
        let (host, path) = (&context.authority, &context.path);
        let realm = format!("Bearer realm=\"http://{host}{path}\", error=\"invalid_token\"");
        if let Ok(value) = HeaderValue::from_str(&realm) {
            reply.headers.insert(header::WWW_AUTHENTICATE, value);
        }
    }
    reply
}
