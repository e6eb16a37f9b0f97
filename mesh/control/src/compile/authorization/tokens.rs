//! RequestAuthentication: the issuers whose tokens a workload checks.

use mesh_api::{RequestAuthentication, Resource, security::JwtRule};
use mesh_config::JwtProvider;

use super::{super::Compiler, applies};
use crate::world::Pod;

/// A key set without keys: no token is valid.
const NO_KEYS: &str = r#"{"keys":[]}"#;

/// The issuers of all resources about a pod, oldest first.
pub(super) fn providers(compiler: &Compiler, pod: &Pod) -> Vec<JwtProvider> {
    let about = |resource: &Resource<RequestAuthentication>| {
        let spec = &resource.spec;
        spec.target_ref.is_none()
            && spec.target_refs.is_empty()
            && applies(&resource.metadata.namespace, spec.selector.as_ref(), pod)
    };
    compiler
        .request_authentications
        .iter()
        .filter(|resource| about(resource))
        .flat_map(|resource| &resource.spec.jwt_rules)
        .map(|rule| provider(compiler, rule))
        .collect()
}

fn provider(compiler: &Compiler, rule: &JwtRule) -> JwtProvider {
    let keys = if rule.jwks.is_empty() {
        let fetched = compiler.world.jwks.get(&source(rule));
        fetched.map_or(NO_KEYS, |keys| keys)
    } else {
        &rule.jwks
    };
    let mut provider = JwtProvider {
        issuer: rule.issuer.clone(),
        audiences: rule.audiences.clone(),
        jwks: keys.to_owned(),
        from_headers: rule
            .from_headers
            .iter()
            .map(|header| (header.name.to_ascii_lowercase(), header.prefix.clone()))
            .collect(),
        from_params: rule.from_params.clone(),
        from_cookies: rule.from_cookies.clone(),
        forward: rule.forward_original_token,
        payload_header: rule.output_payload_to_header.to_ascii_lowercase(),
        claim_headers: rule
            .output_claim_to_headers
            .iter()
            .map(|output| (output.header.to_ascii_lowercase(), output.claim.clone()))
            .collect(),
    };
    if provider.from_headers.is_empty()
        && provider.from_params.is_empty()
        && provider.from_cookies.is_empty()
    {
        provider.from_headers = vec![("authorization".into(), "Bearer ".into())];
        provider.from_params = vec!["access_token".into()];
    }
    provider
}

/// Where the keys of a rule are: an address of keys, or of an issuer that tells where they are.
pub(crate) fn source(rule: &JwtRule) -> String {
    if rule.jwks_uri.is_empty() {
        let issuer = rule.issuer.trim_end_matches('/');
        format!("{issuer}/.well-known/openid-configuration")
    } else {
        rule.jwks_uri.clone()
    }
}
