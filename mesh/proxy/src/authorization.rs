//! May a request pass? First outside judges, then tokens, then policies: Istio's order of filters.

mod external;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderValue, Method, StatusCode, header, request};
use mesh_config as model;
use serde_json::Value;

use crate::{
    config::{Clusters, CompileError},
    flags::Flags,
    jwt::{self, JwtError, Provider},
    rbac::{Attributes, HttpAttributes, Rbac, Verdict},
    reply::LocalReply,
    request::{Downstream, RequestContext},
    stats::HttpStats,
};

/// What the requests of a filter chain must pass.
#[derive(Debug)]
pub(crate) struct Gate {
    external: Vec<external::Judge>,
    tokens: Vec<Provider>,
    rbac: Rbac,
}

impl Gate {
    pub(crate) fn compile(
        from: &model::Authorization,
        clusters: &mut Clusters,
    ) -> Result<Self, CompileError> {
        let external = from.external.iter();
        Ok(Self {
            external: external
                .map(|external| external::Judge::compile(external, clusters))
                .collect::<Result<_, _>>()?,
            tokens: from.jwt.iter().map(Provider::compile).collect(),
            rbac: Rbac::compile(&from.rbac)?,
        })
    }

    /// Lets nothing pass: what stands in for policies that cannot be had.
    fn closed() -> Self {
        Self {
            external: Vec::new(),
            tokens: Vec::new(),
            rbac: nobody(),
        }
    }

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
        match self.rbac.decide(&attributes, Some(stats)) {
            Verdict::Allowed => Ok(claims),
            Verdict::Denied(policy) => Err(denied(policy)),
        }
    }
}

/// Gates by what they were made from: keys and expressions are not read again at each update.
#[derive(Debug, Default)]
pub(crate) struct Gates(Vec<(Arc<model::Authorization>, Arc<Gate>)>);

impl Gates {
    /// The gate of a configuration. One that cannot be had lets nothing pass.
    pub(crate) fn gate(
        &mut self,
        from: &Arc<model::Authorization>,
        clusters: &mut Clusters,
    ) -> Arc<Gate> {
        let known = self
            .0
            .iter()
            .find(|(known, _)| Arc::ptr_eq(known, from) || known == from);
        if let Some((_, gate)) = known {
            return gate.clone();
        }
        let gate = Arc::new(Gate::compile(from, clusters).unwrap_or_else(|error| {
            tracing::error!("authorization: {error}; nothing passes");
            Gate::closed()
        }));
        self.0.push((from.clone(), gate.clone()));
        gate
    }

    pub(crate) fn forget_unused(&mut self) {
        self.0.retain(|(_, gate)| Arc::strong_count(gate) > 1);
    }
}

/// The policies of a TCP port; such as cannot be had let nothing pass.
pub(crate) fn of_tcp(rbac: &model::Rbac) -> Rbac {
    Rbac::compile(rbac).unwrap_or_else(|error| {
        tracing::error!("authorization: {error}; nothing passes");
        nobody()
    })
}

fn nobody() -> Rbac {
    let nothing = model::Rbac {
        allow: Some(Vec::new()),
        ..model::Rbac::default()
    };
    Rbac::compile(&nothing).expect("no rule, no expression")
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
        let forwarded = parts.headers.get(crate::conventions::X_FORWARDED_FOR);
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
