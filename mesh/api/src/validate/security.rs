//! Rules of the security kinds.

use crate::{WorkloadSelector, security::*};

fn selects(selector: &Option<WorkloadSelector>) -> bool {
    selector
        .as_ref()
        .is_some_and(|selector| !selector.match_labels.is_empty())
}

pub(super) fn peer_authentication(spec: &PeerAuthentication, errors: &mut Vec<String>) {
    if !spec.port_level_mtls.is_empty() && !selects(&spec.selector) {
        errors.push("mesh/namespace peer authentication cannot have port level mTLS".into());
    }
}

pub(super) fn authorization_policy(spec: &AuthorizationPolicy, errors: &mut Vec<String>) {
    one_target(
        spec.selector.is_some(),
        spec.target_ref.is_some(),
        !spec.target_refs.is_empty(),
        errors,
    );
    let rules = spec.rules.as_deref().unwrap_or_default();
    if spec.action == Some(AuthorizationAction::Deny) && rules.is_empty() {
        errors.push(
            "DENY action without `rules` is meaningless as it will never be triggered, add an empty rule `{}` if you want it be triggered for every request"
                .into(),
        );
    }
    if spec.action == Some(AuthorizationAction::Custom)
        && spec.provider.as_ref().is_none_or(|p| p.name.is_empty())
    {
        errors.push("`provider.name` must not be empty".into());
    }
    for (index, rule) in rules.iter().enumerate() {
        for from in rule.from.iter().flatten() {
            if from
                .source
                .as_ref()
                .is_none_or(|source| *source == Source::default())
            {
                errors.push(format!(
                    "`from.source` must not be empty, found at rule {index}"
                ));
            }
        }
        for to in rule.to.iter().flatten() {
            if to
                .operation
                .as_ref()
                .is_none_or(|operation| *operation == Operation::default())
            {
                errors.push(format!(
                    "`to.operation` must not be empty, found at rule {index}"
                ));
            }
        }
    }
}

pub(super) fn request_authentication(spec: &RequestAuthentication, errors: &mut Vec<String>) {
    one_target(
        spec.selector.is_some(),
        spec.target_ref.is_some(),
        !spec.target_refs.is_empty(),
        errors,
    );
    if spec
        .jwt_rules
        .iter()
        .any(|rule| rule.issuer.is_empty() && rule.jwks_uri.is_empty())
    {
        errors.push("issuer or jwksUri must be non-empty string".into());
    }
}

fn one_target(selector: bool, target: bool, targets: bool, errors: &mut Vec<String>) {
    if [selector, target, targets]
        .into_iter()
        .filter(|given| *given)
        .count()
        > 1
    {
        errors.push("only one of targetRefs or workloadSelector can be set".into());
    }
}
