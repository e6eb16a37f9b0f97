//! Policies: may this request, or this connection, pass? Pure: attributes in, a verdict out.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use mesh_config::{self as model, Cidr};
use regex::Regex;
use serde_json::Value;

use crate::{
    config::{error::CompileError, matching::whole},
    jwt::claim,
    stats::{Counter, HttpStats},
};

/// What policies may ask about.
pub(crate) struct Attributes<'a> {
    /// Identity of the client without `spiffe://`; empty without mutual TLS.
    pub(crate) principal: &'a str,
    pub(crate) source: IpAddr,
    pub(crate) remote: IpAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) server_name: &'a str,
    /// `None` on TCP.
    pub(crate) http: Option<HttpAttributes<'a>>,
}

pub(crate) struct HttpAttributes<'a> {
    pub(crate) method: &'a str,
    /// Lower-case.
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: &'a HeaderMap,
    /// The payload of a valid token.
    pub(crate) claims: Option<&'a Value>,
}

/// The answer. A refusal names the rule of a DENY policy; none: no ALLOW policy matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict<'a> {
    Allowed,
    Denied(Option<&'a str>),
}

/// All policies of a listener.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rbac {
    /// There are AUDIT policies, which everything passes and is counted to have passed.
    audits: bool,
    deny: Option<Policies>,
    allow: Option<Policies>,
    shadow_deny: Option<Policies>,
    shadow_allow: Option<Policies>,
}

/// Rules, each by its name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policies(Vec<(Box<str>, Matcher)>);

#[derive(Clone, Debug)]
enum Matcher {
    All(Vec<Matcher>),
    OneOf(Vec<Matcher>),
    Not(Box<Matcher>),
    Host(Text),
    Method(Text),
    Path(Text),
    DestinationPort(u16),
    DestinationIp(Cidr),
    ServerName(Text),
    Header(HeaderName, Text),
    Principal(Text),
    Namespace(Text),
    SourceIp(Cidr),
    RemoteIp(Cidr),
    RequestPrincipal(Text),
    Claim(Vec<Box<str>>, Text),
}

#[derive(Clone, Debug)]
enum Text {
    Present,
    Exact(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
    Regex(Regex),
}

impl Rbac {
    pub(crate) fn compile(rbac: &model::Rbac) -> Result<Self, CompileError> {
        let optional = |policies: &Option<Vec<model::Policy>>| {
            let compiled = policies
                .as_ref()
                .map(|policies| Policies::compile(policies));
            compiled.transpose()
        };
        let some = |policies: &[model::Policy]| {
            let some = (!policies.is_empty()).then(|| Policies::compile(policies));
            some.transpose()
        };
        Ok(Self {
            audits: !rbac.audit.is_empty(),
            deny: some(&rbac.deny)?,
            allow: optional(&rbac.allow)?,
            shadow_deny: some(&rbac.shadow_deny)?,
            shadow_allow: optional(&rbac.shadow_allow)?,
        })
    }

    /// Lets everything pass, and is not curious either.
    pub(crate) fn is_empty(&self) -> bool {
        let actions = [
            &self.deny,
            &self.allow,
            &self.shadow_deny,
            &self.shadow_allow,
        ];
        !self.audits && actions.into_iter().all(Option::is_none)
    }

    /// Asks each action in its turn, those on trial before those in force, and counts what each says:
    /// Envoy has a filter for each. Nobody counts for connections.
    pub(crate) fn decide(&self, of: &Attributes<'_>, stats: Option<&HttpStats>) -> Verdict<'_> {
        let count = |passes: bool, counters: Counters| {
            if let Some(stats) = stats {
                counters(stats)[usize::from(!passes)].add(1);
            }
        };
        let enforced: Counters = |stats| [&stats.rbac_allowed, &stats.rbac_denied];
        if self.audits {
            count(true, enforced);
        }
        if let Some(shadow) = &self.shadow_deny {
            count(shadow.first(of).is_none(), |stats| {
                [
                    &stats.rbac_istio_dry_run_deny_shadow_allowed,
                    &stats.rbac_istio_dry_run_deny_shadow_denied,
                ]
            });
        }
        if let Some(deny) = &self.deny {
            let refusing = deny.first(of);
            count(refusing.is_none(), enforced);
            if refusing.is_some() {
                return Verdict::Denied(refusing);
            }
        }
        if let Some(shadow) = &self.shadow_allow {
            count(shadow.first(of).is_some(), |stats| {
                [
                    &stats.rbac_istio_dry_run_allow_shadow_allowed,
                    &stats.rbac_istio_dry_run_allow_shadow_denied,
                ]
            });
        }
        if let Some(allow) = &self.allow {
            let passes = allow.first(of).is_some();
            count(passes, enforced);
            if !passes {
                return Verdict::Denied(None);
            }
        }
        Verdict::Allowed
    }

    /// What each action on trial says, and by which policy.
    pub(crate) fn on_trial<'a>(
        &'a self,
        of: &Attributes<'_>,
    ) -> impl Iterator<Item = (&'static str, Option<&'a str>)> {
        let deny = self.shadow_deny.as_ref().map(|shadow| {
            let policy = shadow.first(of);
            (
                if policy.is_some() {
                    "denied"
                } else {
                    "allowed"
                },
                policy,
            )
        });
        let allow = self.shadow_allow.as_ref().map(|shadow| {
            let policy = shadow.first(of);
            (
                if policy.is_some() {
                    "allowed"
                } else {
                    "denied"
                },
                policy,
            )
        });
        deny.into_iter().chain(allow)
    }
}

/// Counts what passes, and what does not.
type Counters = fn(&HttpStats) -> [&Counter; 2];

impl Policies {
    pub(crate) fn compile(policies: &[model::Policy]) -> Result<Self, CompileError> {
        let compiled = policies.iter().map(|policy| {
            let matcher = Matcher::compile(&policy.matches)?;
            Ok((policy.name.as_str().into(), matcher))
        });
        compiled.collect::<Result<_, _>>().map(Self)
    }

    /// The name of the first rule that matches.
    pub(crate) fn first(&self, of: &Attributes<'_>) -> Option<&str> {
        let mut rules = self.0.iter();
        let found = rules.find(|(_, matcher)| matcher.matches(of));
        found.map(|(name, _)| &**name)
    }
}

impl Matcher {
    fn compile(matcher: &model::Matcher) -> Result<Self, CompileError> {
        use model::Matcher as M;
        let list = |parts: &[M]| {
            parts
                .iter()
                .map(Self::compile)
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(match matcher {
            M::All(parts) => Self::All(list(parts)?),
            M::OneOf(parts) => Self::OneOf(list(parts)?),
            M::Not(part) => Self::Not(Box::new(Self::compile(part)?)),
            M::Host(text) => Self::Host(Text::compile(text)?),
            M::Method(text) => Self::Method(Text::compile(text)?),
            M::Path(text) => Self::Path(Text::compile(text)?),
            M::DestinationPort(port) => Self::DestinationPort(*port),
            M::DestinationIp(range) => Self::DestinationIp(*range),
            M::ServerName(text) => Self::ServerName(Text::compile(text)?),
            M::Header { name, value } => Self::Header(
                HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| CompileError::HeaderName(name.clone()))?,
                Text::compile(value)?,
            ),
            M::Principal(text) => Self::Principal(Text::compile(text)?),
            M::Namespace(text) => Self::Namespace(Text::compile(text)?),
            M::SourceIp(range) => Self::SourceIp(*range),
            M::RemoteIp(range) => Self::RemoteIp(*range),
            M::RequestPrincipal(text) => Self::RequestPrincipal(Text::compile(text)?),
            M::Claim { path, value } => Self::Claim(
                path.iter().map(|key| key.as_str().into()).collect(),
                Text::compile(value)?,
            ),
        })
    }

    fn matches(&self, of: &Attributes<'_>) -> bool {
        let http =
            |holds: &dyn Fn(&HttpAttributes<'_>) -> bool| of.http.as_ref().is_some_and(holds);
        match self {
            Self::All(parts) => parts.iter().all(|part| part.matches(of)),
            Self::OneOf(parts) => parts.iter().any(|part| part.matches(of)),
            Self::Not(part) => !part.matches(of),
            Self::Host(text) => http(&|request| text.matches(request.host)),
            Self::Method(text) => http(&|request| text.matches(request.method)),
            Self::Path(text) => http(&|request| text.matches(request.path)),
            Self::DestinationPort(port) => *port == of.destination.port(),
            Self::DestinationIp(range) => range.contains(of.destination.ip()),
            Self::ServerName(text) => text.matches(of.server_name),
            Self::Header(name, text) => http(&|request| {
                let mut values = request.headers.get_all(name).iter();
                values.any(|value| value.to_str().is_ok_and(|value| text.matches(value)))
            }),
            Self::Principal(text) => !of.principal.is_empty() && text.matches(of.principal),
            Self::Namespace(text) => {
                let namespace = of.principal.split_once("/ns/").map(|(_, rest)| rest);
                let namespace = namespace.and_then(|rest| rest.split('/').next());
                namespace.is_some_and(|namespace| text.matches(namespace))
            }
            Self::SourceIp(range) => range.contains(of.source),
            Self::RemoteIp(range) => range.contains(of.remote),
            Self::RequestPrincipal(text) => http(&|request| {
                let principal = request.claims.and_then(request_principal);
                principal.is_some_and(|principal| text.matches(&principal))
            }),
            Self::Claim(path, text) => http(&|request| {
                let claim = request.claims.and_then(|claims| claim(claims, path));
                claim.is_some_and(|claim| text.matches_value(claim))
            }),
        }
    }
}

/// `ISSUER/SUBJECT`.
fn request_principal(claims: &Value) -> Option<String> {
    let text = |name: &str| claims[name].as_str().filter(|text| !text.is_empty());
    Some(format!("{}/{}", text("iss")?, text("sub")?))
}

impl Text {
    fn compile(text: &model::Text) -> Result<Self, CompileError> {
        Ok(match text {
            model::Text::Present => Self::Present,
            model::Text::Exact(text) => Self::Exact(text.as_str().into()),
            model::Text::Prefix(text) => Self::Prefix(text.as_str().into()),
            model::Text::Suffix(text) => Self::Suffix(text.as_str().into()),
            model::Text::Regex(pattern) => Self::Regex(whole(pattern)?),
        })
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Present => !text.is_empty(),
            Self::Exact(exact) => **exact == *text,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::Suffix(suffix) => text.ends_with(&**suffix),
            Self::Regex(regex) => regex.is_match(text),
        }
    }

    /// Of a list one member is enough.
    fn matches_value(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.matches(text),
            Value::Bool(_) | Value::Number(_) => self.matches(&value.to_string()),
            Value::Array(members) => members.iter().any(|member| self.matches_value(member)),
            Value::Null | Value::Object(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rbac(value: Value) -> Rbac {
        Rbac::compile(&serde_json::from_value(value).unwrap()).unwrap()
    }

    /// A rule that matches under these conditions.
    fn rule(matches: Value) -> Value {
        json!([{ "name": "r", "matches": matches }])
    }

    /// Is `GET web.shop/info?x` with header `x-user: u` from the ServiceAccount sleep of namespace
    /// foo, with a token, matched?
    fn matched(matches: Value) -> bool {
        let headers = HeaderMap::from_iter([("x-user".parse().unwrap(), "u".parse().unwrap())]);
        let claims =
            json!({ "iss": "me", "sub": "you", "aud": ["a", "b"], "deep": { "role": "admin" } });
        let of = Attributes {
            principal: "cluster.local/ns/foo/sa/sleep",
            source: "10.1.2.3".parse().unwrap(),
            remote: "192.0.2.1".parse().unwrap(),
            destination: "127.16.0.2:8080".parse().unwrap(),
            server_name: "a.b",
            http: Some(HttpAttributes {
                method: "GET",
                host: "web.shop",
                path: "/info",
                headers: &headers,
                claims: Some(&claims),
            }),
        };
        let verdict = rbac(json!({ "deny": rule(matches) })).decide(&of, None) == Verdict::Allowed;
        !verdict
    }

    #[test]
    fn conditions() {
        for (matches, expected) in [
            (json!({ "all": [] }), true),
            (json!({ "oneOf": [] }), false),
            (json!({ "not": { "oneOf": [] } }), true),
            (json!({ "host": { "exact": "web.shop" } }), true),
            (json!({ "host": { "suffix": ".shop" } }), true),
            (json!({ "method": { "exact": "POST" } }), false),
            (json!({ "path": { "prefix": "/info" } }), true),
            (json!({ "path": { "regex": "/[^/]+" } }), true),
            (json!({ "path": { "regex": "/inf" } }), false),
            (json!({ "destinationPort": 8080 }), true),
            (
                json!({ "destinationIp": { "address": "127.16.0.0", "prefix": 16 } }),
                true,
            ),
            (json!({ "serverName": { "exact": "a.b" } }), true),
            (
                json!({ "header": { "name": "x-user", "value": "present" } }),
                true,
            ),
            (
                json!({ "header": { "name": "x-none", "value": "present" } }),
                false,
            ),
            (json!({ "principal": "present" }), true),
            (json!({ "principal": { "suffix": "/sa/sleep" } }), true),
            (json!({ "namespace": { "exact": "foo" } }), true),
            (json!({ "namespace": { "exact": "fo" } }), false),
            (
                json!({ "sourceIp": { "address": "10.0.0.0", "prefix": 8 } }),
                true,
            ),
            (
                json!({ "remoteIp": { "address": "10.0.0.0", "prefix": 8 } }),
                false,
            ),
            (json!({ "requestPrincipal": { "exact": "me/you" } }), true),
            (
                json!({ "claim": { "path": ["aud"], "value": { "exact": "b" } } }),
                true,
            ),
            (
                json!({ "claim": { "path": ["deep", "role"], "value": { "exact": "admin" } } }),
                true,
            ),
            (
                json!({ "claim": { "path": ["deep"], "value": "present" } }),
                false,
            ),
        ] {
            assert_eq!(matched(matches.clone()), expected, "{matches}");
        }
    }

    #[test]
    fn without_mutual_tls_nobody_is_anybody() {
        let decide = |rules: Value| {
            let rbac = rbac(rules);
            let of = Attributes {
                principal: "",
                source: [10, 0, 0, 1].into(),
                remote: [10, 0, 0, 1].into(),
                destination: ([10, 0, 0, 2], 80).into(),
                server_name: "",
                http: None,
            };
            rbac.decide(&of, None) == Verdict::Allowed
        };
        let someone = json!({ "principal": "present" });
        let sleep = json!({ "principal": { "exact": "cluster.local/ns/foo/sa/sleep" } });
        assert!(!decide(json!({ "allow": rule(someone) })));
        assert!(!decide(
            json!({ "allow": rule(json!({ "namespace": "present" })) })
        ));
        assert!(!decide(json!({ "deny": rule(json!({ "not": sleep })) })));
    }

    #[test]
    fn deny_comes_before_allow_and_nothing_allows_all() {
        let of = Attributes {
            principal: "a",
            source: [10, 0, 0, 1].into(),
            remote: [10, 0, 0, 1].into(),
            destination: ([10, 0, 0, 2], 80).into(),
            server_name: "",
            http: None,
        };
        let (all, none) = (rule(json!({ "all": [] })), rule(json!({ "oneOf": [] })));
        for (rules, verdict) in [
            (json!({}), Verdict::Allowed),
            (json!({ "allow": [] }), Verdict::Denied(None)),
            (json!({ "allow": all }), Verdict::Allowed),
            (json!({ "allow": none }), Verdict::Denied(None)),
            (json!({ "deny": none }), Verdict::Allowed),
            (
                json!({ "deny": all, "allow": all }),
                Verdict::Denied(Some("r")),
            ),
            (json!({ "shadowDeny": all }), Verdict::Allowed),
        ] {
            assert_eq!(rbac(rules.clone()).decide(&of, None), verdict, "{rules}");
        }
        let counted = |rules: Value| {
            let stats = HttpStats::default();
            rbac(rules).decide(&of, Some(&stats));
            let enforced = [&stats.rbac_allowed, &stats.rbac_denied];
            let deny = [
                &stats.rbac_istio_dry_run_deny_shadow_allowed,
                &stats.rbac_istio_dry_run_deny_shadow_denied,
            ];
            let allow = [
                &stats.rbac_istio_dry_run_allow_shadow_allowed,
                &stats.rbac_istio_dry_run_allow_shadow_denied,
            ];
            [enforced, deny, allow].map(|counters| counters.map(Counter::get))
        };
        assert_eq!(counted(json!({})), [[0; 2]; 3]);
        assert_eq!(
            counted(json!({ "audit": all, "deny": none, "allow": all })),
            [[3, 0], [0; 2], [0; 2]]
        );
        assert_eq!(
            counted(json!({ "deny": all, "allow": all, "shadowAllow": all })),
            [[0, 1], [0; 2], [0; 2]]
        );
        assert_eq!(
            counted(json!({ "shadowDeny": all, "shadowAllow": none })),
            [[0; 2], [0, 1], [0, 1]]
        );
    }
}
