//! The filters that decide whether a request may pass: `jwt_authn`, `ext_authz`, `rbac`.

use serde_json::{Map, Value, json};

use super::any;
use crate::{
    Authorization, Cidr, ExternalAuthorization, JwtProvider, Matcher, Policy, Rbac, Text, duration,
};

/// The HTTP filters, in the order in which they are asked.
pub(super) fn http_filters(authorization: &Authorization) -> Vec<Value> {
    let mut filters = Vec::new();
    for external in &authorization.external {
        let shadow = rules("DENY", &external.policies);
        filters.push(rbac_filter(
            json!({ "shadow_rules": shadow, "shadow_rules_stat_prefix": "istio_ext_authz_" }),
        ));
        filters.push(ext_authz(external));
    }
    if !authorization.jwt.is_empty() {
        filters.push(jwt_authn(&authorization.jwt));
    }
    filters.extend(of_rbac(&authorization.rbac, rbac_filter));
    filters
}

/// The network filters of a TCP port.
pub(super) fn network_filters(rbac: &Rbac) -> Vec<Value> {
    of_rbac(rbac, |mut fields| {
        fields["stat_prefix"] = "tcp.".into();
        json!({
            "name": "envoy.filters.network.rbac",
            "typed_config": any("envoy.extensions.filters.network.rbac.v3.RBAC", fields),
        })
    })
}

fn of_rbac(rbac: &Rbac, filter: fn(Value) -> Value) -> Vec<Value> {
    let mut filters = Vec::new();
    if !rbac.audit.is_empty() {
        filters.push(filter(json!({ "rules": rules("LOG", &rbac.audit) })));
    }
    if !rbac.deny.is_empty() || !rbac.shadow_deny.is_empty() {
        let mut fields = json!({});
        if !rbac.deny.is_empty() {
            fields["rules"] = rules("DENY", &rbac.deny);
        }
        if !rbac.shadow_deny.is_empty() {
            fields["shadow_rules"] = rules("DENY", &rbac.shadow_deny);
            fields["shadow_rules_stat_prefix"] = "istio_dry_run_deny_".into();
        }
        filters.push(filter(fields));
    }
    if rbac.allow.is_some() || rbac.shadow_allow.is_some() {
        let mut fields = json!({});
        if let Some(allow) = &rbac.allow {
            fields["rules"] = rules("ALLOW", allow);
        }
        if let Some(allow) = &rbac.shadow_allow {
            fields["shadow_rules"] = rules("ALLOW", allow);
            fields["shadow_rules_stat_prefix"] = "istio_dry_run_allow_".into();
        }
        filters.push(filter(fields));
    }
    filters
}

fn rbac_filter(fields: Value) -> Value {
    json!({
        "name": "envoy.filters.http.rbac",
        "typed_config": any("envoy.extensions.filters.http.rbac.v3.RBAC", fields),
    })
}

/// Envoy tells permissions from principals; a permission may be any condition on the request, a
/// principal any condition on the caller. A rule of ours becomes one permission for everything that
/// is not about the caller, and one principal for what is.
fn rules(action: &str, policies: &[Policy]) -> Value {
    let policies: Map<String, Value> = policies
        .iter()
        .map(|policy| {
            let (mut permissions, mut principals) = (Vec::new(), Vec::new());
            let parts = match &policy.matches {
                Matcher::All(parts) => parts.as_slice(),
                single => std::slice::from_ref(single),
            };
            for part in parts {
                if about_caller(part) {
                    principals.push(matcher(part, false));
                } else {
                    permissions.push(matcher(part, true));
                }
            }
            let all = |rules: Vec<Value>, key: &str, ids: &str| match rules.is_empty() {
                true => json!({ "any": true }),
                false => json!({ key: { ids: rules } }),
            };
            let body = json!({
                "permissions": [all(permissions, "and_rules", "rules")],
                "principals": [all(principals, "and_ids", "ids")],
            });
            (policy.name.clone(), body)
        })
        .collect();
    json!({ "action": action, "policies": policies })
}

fn about_caller(matcher: &Matcher) -> bool {
    match matcher {
        Matcher::All(parts) | Matcher::OneOf(parts) => parts.iter().any(about_caller),
        Matcher::Not(part) => about_caller(part),
        Matcher::Principal(_)
        | Matcher::Namespace(_)
        | Matcher::SourceIp(_)
        | Matcher::RemoteIp(_)
        | Matcher::RequestPrincipal(_)
        | Matcher::Claim { .. } => true,
        _ => false,
    }
}

fn matcher(of: &Matcher, permission: bool) -> Value {
    let list = |parts: &[Matcher]| -> Vec<Value> {
        parts.iter().map(|part| matcher(part, permission)).collect()
    };
    let (and, or, not, items) = match permission {
        true => ("and_rules", "or_rules", "not_rule", "rules"),
        false => ("and_ids", "or_ids", "not_id", "ids"),
    };
    let header = |name: &str, value: &Text| match value {
        Text::Present => json!({ "header": { "name": name, "present_match": true } }),
        value => json!({ "header": { "name": name, "string_match": text(value) } }),
    };
    let spiffe = |value: &Text| match value {
        Text::Exact(id) => json!({ "exact": format!("spiffe://{id}") }),
        Text::Prefix(id) => json!({ "prefix": format!("spiffe://{id}") }),
        value => text(value),
    };
    let metadata = |path: Vec<&str>, value: &Text| {
        let path: Vec<Value> = path.iter().map(|key| json!({ "key": key })).collect();
        let single = json!({ "string_match": text(value) });
        let value = json!({ "or_match": { "value_matchers": [single, { "list_match": { "one_of": single } }] } });
        json!({ "metadata": { "filter": "envoy.filters.http.jwt_authn", "path": path, "value": value } })
    };
    match of {
        Matcher::All(parts) if parts.is_empty() => json!({ "any": true }),
        Matcher::All(parts) => json!({ and: { items: list(parts) } }),
        Matcher::OneOf(parts) => json!({ or: { items: list(parts) } }),
        Matcher::Not(part) => json!({ not: matcher(part, permission) }),
        Matcher::Host(value) => {
            let mut message = header(":authority", value);
            if message["header"].get("string_match").is_some() && !matches!(value, Text::Regex(_)) {
                message["header"]["string_match"]["ignore_case"] = true.into();
            }
            message
        }
        Matcher::Method(value) => header(":method", value),
        Matcher::Path(value) => json!({ "url_path": { "path": text(value) } }),
        Matcher::DestinationPort(port) => json!({ "destination_port": port }),
        Matcher::DestinationIp(range) => json!({ "destination_ip": cidr(range) }),
        Matcher::ServerName(value) => json!({ "requested_server_name": text(value) }),
        Matcher::Header { name, value } => header(name, value),
        Matcher::Principal(value) => {
            json!({ "authenticated": { "principal_name": spiffe(value) } })
        }
        Matcher::Namespace(value) => {
            let pattern = match value {
                Text::Present => ".*/ns/[^/]+/.*".to_owned(),
                Text::Exact(name) => format!(".*/ns/{name}/.*"),
                Text::Prefix(name) => format!(".*/ns/{name}[^/]*/.*"),
                Text::Suffix(name) => format!(".*/ns/[^/]*{name}/.*"),
                Text::Regex(pattern) => format!(".*/ns/{pattern}/.*"),
            };
            json!({ "authenticated": { "principal_name": { "safe_regex": { "regex": pattern } } } })
        }
        Matcher::SourceIp(range) => json!({ "direct_remote_ip": cidr(range) }),
        Matcher::RemoteIp(range) => json!({ "remote_ip": cidr(range) }),
        Matcher::RequestPrincipal(value) => metadata(vec!["principal"], value),
        Matcher::Claim { path, value } => {
            let mut full = vec!["payload"];
            full.extend(path.iter().map(String::as_str));
            metadata(full, value)
        }
    }
}

fn text(value: &Text) -> Value {
    match value {
        Text::Present => json!({ "safe_regex": { "regex": ".+" } }),
        Text::Exact(text) => json!({ "exact": text }),
        Text::Prefix(text) => json!({ "prefix": text }),
        Text::Suffix(text) => json!({ "suffix": text }),
        Text::Regex(text) => json!({ "safe_regex": { "regex": text } }),
    }
}

fn cidr(range: &Cidr) -> Value {
    json!({ "address_prefix": range.address.to_string(), "prefix_len": range.prefix })
}

fn ext_authz(external: &ExternalAuthorization) -> Value {
    let patterns = |names: &[String]| {
        let patterns: Vec<Value> = names.iter().map(|name| text(&Text::parse(name))).collect();
        json!({ "patterns": patterns })
    };
    // A list must not be empty; absent, it names nothing, and to a client everything.
    let mut response = json!({});
    for (field, names) in [
        ("allowed_upstream_headers", &external.headers_to_upstream),
        ("allowed_client_headers", &external.headers_to_downstream),
    ] {
        if !names.is_empty() {
            response[field] = patterns(names);
        }
    }
    let mut fields = json!({
        "http_service": {
            "server_uri": {
                "uri": format!("http://{}", external.authority),
                "cluster": external.cluster,
                "timeout": duration::format(external.timeout),
            },
            "path_prefix": external.path_prefix,
            "authorization_response": response,
        },
        "failure_mode_allow": external.fail_open,
        "status_on_error": { "code": external.status_on_error },
        "filter_enabled_metadata": {
            "filter": "envoy.filters.http.rbac",
            "path": [{ "key": "istio_ext_authz_shadow_effective_policy_id" }],
            "value": { "string_match": { "prefix": "ns[" } },
        },
    });
    if !external.headers.is_empty() {
        fields["allowed_headers"] = patterns(&external.headers);
    }
    json!({
        "name": "envoy.filters.http.ext_authz",
        "typed_config": any("envoy.extensions.filters.http.ext_authz.v3.ExtAuthz", fields),
    })
}

fn jwt_authn(providers: &[JwtProvider]) -> Value {
    let named: Map<String, Value> = providers
        .iter()
        .enumerate()
        .map(|(index, provider)| (format!("origins-{index}"), jwt_provider(provider)))
        .collect();
    let mut alternatives: Vec<Value> = named
        .keys()
        .map(|name| json!({ "provider_name": name }))
        .collect();
    alternatives.push(json!({ "allow_missing": {} }));
    let fields = json!({
        "providers": named,
        "rules": [{ "match": { "prefix": "/" }, "requires": { "requires_any": { "requirements": alternatives } } }],
        "bypass_cors_preflight": true,
    });
    json!({
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": any("envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication", fields),
    })
}

fn jwt_provider(provider: &JwtProvider) -> Value {
    let mut message = json!({
        "issuer": provider.issuer,
        "local_jwks": { "inline_string": provider.jwks },
        "forward": provider.forward,
        "payload_in_metadata": "payload",
    });
    if !provider.audiences.is_empty() {
        message["audiences"] = json!(provider.audiences);
    }
    if !provider.from_headers.is_empty() {
        let headers = provider.from_headers.iter();
        message["from_headers"] = headers
            .map(|(name, prefix)| json!({ "name": name, "value_prefix": prefix }))
            .collect();
    }
    if !provider.from_params.is_empty() {
        message["from_params"] = json!(provider.from_params);
    }
    if !provider.from_cookies.is_empty() {
        message["from_cookies"] = json!(provider.from_cookies);
    }
    if !provider.payload_header.is_empty() {
        message["forward_payload_header"] = json!(provider.payload_header);
    }
    if !provider.claim_headers.is_empty() {
        let headers = provider.claim_headers.iter();
        message["claim_to_headers"] = headers
            .map(|(header, claim)| json!({ "header_name": header, "claim_name": claim }))
            .collect();
    }
    message
}
