//! Route tables: from a host name and a request to what is done with it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use http::{HeaderValue, StatusCode};
use mesh_config as model;

use super::{
    Clusters,
    error::CompileError,
    matching::{RequestView, RouteMatcher, search},
    mutation::Mutation,
    retry_on::RetryOn,
};
use crate::cors::Cors;

/// The virtual hosts of one table, indexed by domain.
#[derive(Debug)]
pub(crate) struct RouteTable {
    pub(crate) name: Box<str>,
    exact: HashMap<Box<str>, usize>,
    /// Longest first; without the star.
    suffixes: Vec<(Box<str>, usize)>,
    prefixes: Vec<(Box<str>, usize)>,
    any: Option<usize>,
    hosts: Vec<Compiled>,
}

/// The routes of a virtual host, and what they were compiled from.
#[derive(Clone, Debug)]
struct Compiled {
    from: Arc<model::VirtualHost>,
    routes: Arc<[Route]>,
}

#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: Arc<str>,
    pub(crate) matcher: RouteMatcher,
    pub(crate) action: Action,
    pub(crate) fault: Option<model::Fault>,
    pub(crate) cors: Option<Box<Cors>>,
    pub(crate) request_headers: Mutation,
    pub(crate) response_headers: Mutation,
    pub(crate) decorator: Option<HeaderValue>,
}

#[derive(Debug)]
pub(crate) enum Action {
    Forward(Forward),
    Redirect(model::Redirect),
    Direct {
        status: StatusCode,
        body: bytes::Bytes,
    },
}

#[derive(Debug)]
pub(crate) struct Forward {
    targets: Vec<Target>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Retry,
    pub(crate) rewrite: Option<Rewrite>,
    pub(crate) hash_policy: Vec<model::HashPolicy>,
    pub(crate) mirrors: Vec<(Arc<super::Cluster>, model::Percent)>,
}

/// One arm of a weighted split.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) cluster: Arc<super::Cluster>,
    weight: u32,
    pub(crate) request_headers: Mutation,
    pub(crate) response_headers: Mutation,
}

#[derive(Debug, Default)]
pub(crate) struct Retry {
    pub(crate) on: RetryOn,
    pub(crate) status_codes: Vec<u16>,
    pub(crate) attempts: u32,
    pub(crate) per_try_timeout: Option<Duration>,
    pub(crate) other_host: bool,
    pub(crate) other_priority: bool,
    pub(crate) base_interval: Option<Duration>,
    pub(crate) max_interval: Option<Duration>,
    /// An attempt that takes too long goes on beside the next.
    pub(crate) hedge: bool,
}

#[derive(Debug)]
pub(crate) struct Rewrite {
    pub(crate) prefix: Option<Box<str>>,
    pub(crate) regex: Option<(regex::Regex, Box<str>)>,
    pub(crate) authority: Option<HeaderValue>,
}

impl RouteTable {
    /// A table that splits everything between clusters by weight and changes nothing.
    pub(crate) fn plain(clusters: &[(Arc<super::Cluster>, u32)]) -> Self {
        let target = |(cluster, weight): &(Arc<super::Cluster>, u32)| Target {
            cluster: cluster.clone(),
            weight: *weight,
            request_headers: Mutation::default(),
            response_headers: Mutation::default(),
        };
        let route = Route {
            name: "".into(),
            matcher: RouteMatcher::any(),
            action: Action::Forward(Forward {
                targets: clusters.iter().map(target).collect(),
                timeout: None,
                retry: Retry::default(),
                rewrite: None,
                hash_policy: Vec::new(),
                mirrors: Vec::new(),
            }),
            fault: None,
            cors: None,
            request_headers: Mutation::default(),
            response_headers: Mutation::default(),
            decorator: None,
        };
        Self {
            name: "".into(),
            exact: HashMap::new(),
            suffixes: Vec::new(),
            prefixes: Vec::new(),
            any: Some(0),
            hosts: vec![Compiled {
                from: Arc::default(),
                routes: Arc::new([route]),
            }],
        }
    }

    /// Virtual hosts that are the very same as in the version before are taken from there.
    pub(crate) fn compile(
        table: &model::RouteConfiguration,
        before: Option<&RouteTable>,
        clusters: &mut Clusters,
    ) -> Result<Self, CompileError> {
        let before = before.into_iter().flat_map(|table| &table.hosts);
        let before: HashMap<_, _> = before.map(|host| (Arc::as_ptr(&host.from), host)).collect();
        let mut compiled = Self {
            name: table.name.as_str().into(),
            exact: HashMap::new(),
            suffixes: Vec::new(),
            prefixes: Vec::new(),
            any: None,
            hosts: Vec::with_capacity(table.virtual_hosts.len()),
        };
        for (index, host) in table.virtual_hosts.iter().enumerate() {
            for domain in &host.domains {
                compiled.index(domain, index);
            }
            if let Some(same) = before.get(&Arc::as_ptr(host)) {
                compiled.hosts.push((*same).clone());
                continue;
            }
            let routes = host
                .routes
                .iter()
                .map(|route| Route::compile(route, clusters));
            compiled.hosts.push(Compiled {
                from: host.clone(),
                routes: routes.collect::<Result<_, _>>()?,
            });
        }
        let longest_first = |list: &mut Vec<(Box<str>, usize)>| {
            list.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        };
        longest_first(&mut compiled.suffixes);
        longest_first(&mut compiled.prefixes);
        Ok(compiled)
    }

    /// The first host to claim a domain keeps it.
    fn index(&mut self, domain: &str, host: usize) {
        let domain = domain.to_ascii_lowercase();
        if domain == "*" {
            self.any.get_or_insert(host);
        } else if let Some(suffix) = domain.strip_prefix('*') {
            self.suffixes.push((suffix.into(), host));
        } else if let Some(prefix) = domain.strip_suffix('*') {
            self.prefixes.push((prefix.into(), host));
        } else {
            self.exact.entry(domain.into()).or_insert(host);
        }
    }

    /// The first route of the most specific virtual host that matches.
    pub(crate) fn route(&self, request: &RequestView<'_>) -> Option<&Route> {
        let (_, routes) = self.virtual_host(request.authority)?;
        routes.iter().find(|route| route.matcher.matches(request))
    }

    /// The virtual host of an authority, and its routes in the same order as compiled.
    pub(crate) fn virtual_host(&self, authority: &str) -> Option<(&model::VirtualHost, &[Route])> {
        let host = &self.hosts[self.host(without_port(authority))?];
        Some((&host.from, &host.routes))
    }

    fn host(&self, name: &str) -> Option<usize> {
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.host_of_lower(&name.to_ascii_lowercase());
        }
        self.host_of_lower(name)
    }

    fn host_of_lower(&self, name: &str) -> Option<usize> {
        if let Some(host) = self.exact.get(name) {
            return Some(*host);
        }
        let wildcard = |list: &[(Box<str>, usize)], matches: fn(&str, &str) -> bool| {
            // A star stands for at least one character.
            let found =
                |(part, _): &&(Box<str>, usize)| name.len() > part.len() && matches(name, part);
            list.iter().find(found).map(|(_, host)| *host)
        };
        wildcard(&self.suffixes, |name, suffix| name.ends_with(suffix))
            .or_else(|| wildcard(&self.prefixes, |name, prefix| name.starts_with(prefix)))
            .or(self.any)
    }
}

/// The host of an authority: `web:80` and `[::1]:80` lose their ports.
pub(crate) fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => {
            let digits = &authority[colon + 1..];
            if digits.bytes().all(|byte| byte.is_ascii_digit()) {
                &authority[..colon]
            } else {
                authority
            }
        }
        _ => authority,
    }
}

impl Route {
    fn compile(route: &model::Route, clusters: &mut Clusters) -> Result<Self, CompileError> {
        let action = match &route.action {
            model::RouteAction::Forward(forward) => {
                Action::Forward(Forward::compile(forward, clusters)?)
            }
            model::RouteAction::Redirect(redirect) => Action::Redirect(redirect.clone()),
            model::RouteAction::DirectResponse(direct) => Action::Direct {
                status: StatusCode::from_u16(direct.status)
                    .map_err(|_| CompileError::Status(direct.status))?,
                body: if direct.base64 {
                    let bytes = BASE64.decode(&direct.body);
                    bytes.map_err(|_| CompileError::Base64)?.into()
                } else {
                    direct.body.clone().into()
                },
            },
        };
        Ok(Self {
            name: route.name.as_str().into(),
            matcher: RouteMatcher::compile(&route.matches)?,
            action,
            fault: route.fault.clone(),
            cors: route
                .cors
                .as_ref()
                .map(|policy| Cors::compile(policy).map(Box::new))
                .transpose()?,
            request_headers: Mutation::compile(&route.request_headers)?,
            response_headers: Mutation::compile(&route.response_headers)?,
            decorator: HeaderValue::from_str(&route.decorator)
                .ok()
                .filter(|value| !value.is_empty()),
        })
    }
}

impl Forward {
    fn compile(forward: &model::Forward, clusters: &mut Clusters) -> Result<Self, CompileError> {
        let target = |target: &model::WeightedCluster| {
            Ok(Target {
                cluster: clusters.named(&target.name),
                weight: target.weight,
                request_headers: Mutation::compile(&target.request_headers)?,
                response_headers: Mutation::compile(&target.response_headers)?,
            })
        };
        let targets: Vec<Target> = forward
            .clusters
            .iter()
            .map(target)
            .collect::<Result<_, CompileError>>()?;
        Ok(Self {
            targets,
            timeout: forward.timeout.filter(|timeout| !timeout.is_zero()),
            retry: forward
                .retry
                .as_ref()
                .map(|retry| Retry::compile(retry, forward.hedge_on_per_try_timeout))
                .unwrap_or_default(),
            rewrite: forward.rewrite.as_ref().map(Rewrite::compile).transpose()?,
            hash_policy: forward.hash_policy.clone(),
            mirrors: forward
                .mirrors
                .iter()
                .map(|mirror| (clusters.named(&mirror.cluster), mirror.percent))
                .collect(),
        })
    }

    /// Which arm a draw, uniform over all of `u32`, falls on.
    pub(crate) fn target_index(&self, draw: u32) -> usize {
        by_weight(self.targets.iter().map(|target| target.weight), draw)
    }

    pub(crate) fn target(&self, index: usize) -> Option<&Target> {
        self.targets.get(index)
    }

    /// There are several arms, so a draw is needed.
    pub(crate) fn is_split(&self) -> bool {
        self.targets.len() > 1
    }
}

/// Which of several weights a draw, uniform over all of `u32`, falls on.
pub(crate) fn by_weight(weights: impl Iterator<Item = u32> + Clone, draw: u32) -> usize {
    let total: u64 = weights.clone().map(u64::from).sum();
    let mut point = (u64::from(draw) * total) >> 32;
    for (index, weight) in weights.map(u64::from).enumerate() {
        if point < weight {
            return index;
        }
        point -= weight;
    }
    0
}

impl Retry {
    fn compile(retry: &model::RetryPolicy, hedge: bool) -> Self {
        let (on, mut status_codes) = RetryOn::parse(&retry.retry_on);
        status_codes.extend(&retry.retriable_status_codes);
        Self {
            on,
            status_codes,
            attempts: retry.num_retries,
            per_try_timeout: retry.per_try_timeout.filter(|timeout| !timeout.is_zero()),
            other_host: retry.other_host,
            other_priority: retry.other_priority,
            base_interval: retry.base_interval,
            max_interval: retry.max_interval,
            hedge: hedge && retry.num_retries > 0 && retry.per_try_timeout.is_some(),
        }
    }
}

impl Rewrite {
    fn compile(rewrite: &model::Rewrite) -> Result<Self, CompileError> {
        let authority = rewrite
            .authority
            .as_deref()
            .map(|text| {
                HeaderValue::from_str(text).map_err(|_| CompileError::HeaderValue(text.into()))
            })
            .transpose()?;
        let regex = rewrite
            .regex
            .as_ref()
            .map(|regex| {
                Ok((
                    search(&regex.pattern)?,
                    replacement(&regex.substitution).into(),
                ))
            })
            .transpose()?;
        Ok(Self {
            prefix: rewrite.prefix.as_deref().map(Into::into),
            regex,
            authority,
        })
    }
}

/// From RE2's substitution (`\1`, `\\`) to that of the regex crate (`${1}`).
fn replacement(substitution: &str) -> String {
    let mut out = String::with_capacity(substitution.len() + 4);
    let mut chars = substitution.chars();
    while let Some(char) = chars.next() {
        match char {
            '$' => out.push_str("$$"),
            '\\' => match chars.next() {
                Some(digit) if digit.is_ascii_digit() => {
                    out.push_str("${");
                    out.push(digit);
                    out.push('}');
                }
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests;
