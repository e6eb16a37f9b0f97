//! AuthorizationPolicy and RequestAuthentication: what a workload's requests must pass.

mod conditions;
mod tokens;

use std::{collections::BTreeMap, sync::Arc};

use mesh_api::{
    AuthorizationPolicy, Resource, WorkloadSelector,
    security::{AuthorizationAction as Action, Rule},
};
use mesh_config::{Authorization, ExternalAuthorization, Matcher, Policy, Rbac, names};

use super::Compiler;
use crate::{
    ROOT_NAMESPACE,
    world::{ExtAuthzProvider, Pod, selects},
};

/// What all requests to a pod, or through a gateway, must pass; `None`: nothing.
pub(super) fn http(compiler: &Compiler, pod: &Pod) -> Option<Arc<Authorization>> {
    let authorization = Authorization {
        external: external(compiler, pod),
        jwt: tokens::providers(compiler, pod),
        rbac: rbac(compiler, pod, Protocol::Http),
    };
    (authorization != Authorization::default()).then(|| Arc::new(authorization))
}

/// What connections to a TCP port of a pod must pass.
pub(super) fn tcp(compiler: &Compiler, pod: &Pod) -> Rbac {
    rbac(compiler, pod, Protocol::Tcp)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http,
    Tcp,
}

/// A resource of `namespace` with this selector is about the pod: those of the root namespace are
/// about all namespaces.
fn applies(namespace: &str, selector: Option<&WorkloadSelector>, pod: &Pod) -> bool {
    (namespace == ROOT_NAMESPACE || namespace == pod.namespace)
        && selector.is_none_or(|selector| selects(&selector.match_labels, &pod.labels))
}

/// The policies about a pod, oldest first. Those that name a target are for proxies of another kind.
fn policies<'a>(
    compiler: &'a Compiler,
    pod: &'a Pod,
) -> impl Iterator<Item = &'a Resource<AuthorizationPolicy>> {
    let all = compiler
        .authorization_policies
        .iter()
        .map(|policy| &**policy);
    all.filter(|policy| {
        let spec = &policy.spec;
        spec.target_ref.is_none()
            && spec.target_refs.is_empty()
            && applies(&policy.metadata.namespace, spec.selector.as_ref(), pod)
    })
}

fn rbac(compiler: &Compiler, pod: &Pod, protocol: Protocol) -> Rbac {
    let mut rbac = Rbac::default();
    for policy in policies(compiler, pod) {
        let action = policy.spec.action.unwrap_or_default();
        let compiled = compile(policy, action, protocol);
        match (action, policy.metadata.dry_run) {
            (Action::Deny, false) => rbac.deny.extend(compiled),
            (Action::Deny, true) => rbac.shadow_deny.extend(compiled),
            (Action::Allow, false) => rbac.allow.get_or_insert_default().extend(compiled),
            (Action::Allow, true) => rbac.shadow_allow.get_or_insert_default().extend(compiled),
            (Action::Audit, _) => rbac.audit.extend(compiled),
            (Action::Custom, _) => {}
        }
    }
    rbac
}

/// The rules of a policy, each by its name. One that cannot hold on the protocol is left out.
fn compile(
    policy: &Resource<AuthorizationPolicy>,
    action: Action,
    protocol: Protocol,
) -> Vec<Policy> {
    let metadata = &policy.metadata;
    let rules = policy.spec.rules.iter().flatten().enumerate();
    rules
        .filter_map(|(index, rule)| {
            Some(Policy {
                name: format!(
                    "ns[{}]-policy[{}]-rule[{index}]",
                    metadata.namespace, metadata.name
                ),
                matches: rule_matcher(rule, action, protocol, &metadata.namespace)?,
            })
        })
        .collect()
}

/// From any source AND to any operation AND under all conditions. Attributes of HTTP do not exist
/// on TCP: such a rule allows nothing there, and refuses without regard to them.
fn rule_matcher(
    rule: &Rule,
    action: Action,
    protocol: Protocol,
    namespace: &str,
) -> Option<Matcher> {
    let sources = rule.from.iter().flatten().flat_map(|from| &from.source);
    let operations = rule.to.iter().flatten().flat_map(|to| &to.operation);
    let sources: Vec<Fields> = sources.map(|s| conditions::source(s, namespace)).collect();
    let operations: Vec<Fields> = operations.map(conditions::operation).collect();
    let conditions: Fields = rule.when.iter().flat_map(conditions::condition).collect();
    let of_http = |fields: &Fields| fields.iter().any(|field| field.http);
    if protocol == Protocol::Tcp
        && action != Action::Deny
        && (sources.iter().chain(&operations).any(of_http) || of_http(&conditions))
    {
        return None;
    }
    let kept = |fields: &Fields| -> Vec<Matcher> {
        let kept = fields
            .iter()
            .filter(|field| protocol == Protocol::Http || !field.http);
        kept.map(|field| field.matcher.clone()).collect()
    };
    let any = |alternatives: &[Fields]| -> Option<Matcher> {
        let mut all: Vec<Matcher> = alternatives
            .iter()
            .map(|fields| one(kept(fields)))
            .collect();
        match all.len() {
            0 => None,
            1 => all.pop(),
            _ => Some(Matcher::OneOf(all)),
        }
    };
    let mut parts: Vec<Matcher> = [any(&sources), any(&operations)]
        .into_iter()
        .flatten()
        .collect();
    parts.extend(kept(&conditions));
    Some(Matcher::All(parts))
}

fn one(mut parts: Vec<Matcher>) -> Matcher {
    match parts.len() {
        1 => parts.remove(0),
        _ => Matcher::All(parts),
    }
}

/// Conditions of which all must hold.
type Fields = Vec<Field>;

/// One condition.
#[derive(Clone, Debug)]
struct Field {
    matcher: Matcher,
    /// It asks for something that only HTTP has.
    http: bool,
}

/// CUSTOM policies by their provider.
fn external(compiler: &Compiler, pod: &Pod) -> Vec<ExternalAuthorization> {
    let mut by_provider: BTreeMap<&str, Vec<Policy>> = BTreeMap::new();
    for policy in policies(compiler, pod) {
        if policy.spec.action == Some(Action::Custom) {
            let name = policy
                .spec
                .provider
                .as_ref()
                .map_or("", |provider| &provider.name);
            let rules = compile(policy, Action::Custom, Protocol::Http);
            by_provider.entry(name).or_default().extend(rules);
        }
    }
    by_provider
        .into_iter()
        .map(|(name, policies)| {
            let known = &compiler.world.settings.ext_authz;
            // A provider that does not exist refuses: its cluster does not exist either.
            let provider = known.iter().find(|provider| provider.name == name);
            asked(
                provider.unwrap_or(&ExtAuthzProvider::unknown(name)),
                policies,
            )
        })
        .collect()
}

fn asked(provider: &ExtAuthzProvider, policies: Vec<Policy>) -> ExternalAuthorization {
    let host = match provider.service.rsplit_once('/') {
        Some((_, host)) => host,
        None => &provider.service,
    };
    ExternalAuthorization {
        provider: provider.name.clone(),
        policies,
        cluster: names::outbound(provider.port, "", host),
        authority: host.to_owned(),
        timeout: provider.timeout,
        path_prefix: provider.path_prefix.clone(),
        headers: provider.headers.clone(),
        headers_to_upstream: provider.headers_to_upstream.clone(),
        headers_to_downstream: provider.headers_to_downstream.clone(),
        fail_open: provider.fail_open,
        status_on_error: provider.status_on_error,
    }
}

pub(crate) use conditions::is_known as is_condition;
pub(crate) use tokens::source as keys_of;

#[cfg(test)]
mod tests;
