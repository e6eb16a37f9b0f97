//! `envoy.config.route.v3.RouteConfiguration`.

use serde_json::{Map, Value, json};

use super::any;
use crate::{
    AbortStatus, Cors, Fault, Forward, HashPolicy, HeaderMatch, HeaderMutation, PathMatch, Percent,
    QueryMatch, Redirect, RedirectPath, RetryPolicy, Rewrite, Route, RouteAction,
    RouteConfiguration, RouteMatch, StringMatch, ValueMatch, VirtualHost, WeightedCluster,
    duration,
};

/// A route table.
pub fn route_configuration(table: &RouteConfiguration) -> Value {
    let inbound = table.name.starts_with("inbound|");
    json!({
        "name": table.name,
        "virtual_hosts": table.virtual_hosts.iter().map(|host| virtual_host(host, inbound)).collect::<Vec<_>>(),
        "validate_clusters": false,
        // The table of a door tells ports apart by the domain.
        "ignore_port_in_host_matching": table.name != super::discovery::DOOR,
    })
}

fn virtual_host(host: &VirtualHost, inbound: bool) -> Value {
    json!({
        "name": host.name,
        "domains": host.domains,
        "routes": host.routes.iter().map(route).collect::<Vec<_>>(),
        // The caller's proxy has said it.
        "include_request_attempt_count": !inbound,
    })
}

fn route(route: &Route) -> Value {
    let mut message = Map::new();
    if !route.name.is_empty() {
        message.insert("name".into(), route.name.clone().into());
    }
    message.insert("match".into(), route_match(&route.matches));
    let (kind, action) = match &route.action {
        RouteAction::Forward(forward) => ("route", route_action(forward, &route.matches)),
        RouteAction::Redirect(to) => ("redirect", redirect(to)),
        RouteAction::DirectResponse(answer) => (
            "direct_response",
            json!({ "status": answer.status, "body": match answer.base64 {
                true => json!({ "inline_bytes": answer.body }),
                false => json!({ "inline_string": answer.body }),
            } }),
        ),
    };
    message.insert(kind.into(), action);
    if !route.decorator.is_empty() {
        message.insert("decorator".into(), json!({ "operation": route.decorator }));
    }
    if let Some(config) = &route.config {
        let metadata = json!({ "filter_metadata": { "istio": { "config": config } } });
        message.insert("metadata".into(), metadata);
    }
    let mut filters = Map::new();
    if let Some(injected) = &route.fault {
        filters.insert("envoy.filters.http.fault".into(), fault(injected));
    }
    if let Some(policy) = &route.cors {
        filters.insert("envoy.filters.http.cors".into(), cors(policy));
    }
    if !filters.is_empty() {
        message.insert("typed_per_filter_config".into(), filters.into());
    }
    add_header_mutations(
        &mut message,
        &route.request_headers,
        &route.response_headers,
    );
    Value::Object(message)
}

fn route_match(condition: &RouteMatch) -> Value {
    let mut message = match &condition.path {
        PathMatch::Prefix(prefix) => json!({ "prefix": prefix }),
        PathMatch::Exact(path) => json!({ "path": path }),
        PathMatch::Regex(regex) => json!({ "safe_regex": { "regex": regex } }),
    };
    message["case_sensitive"] = (!condition.ignore_path_case).into();
    let (claims, headers): (Vec<_>, Vec<_>) = condition
        .headers
        .iter()
        .partition(|header| header.name.starts_with(CLAIMS));
    if !headers.is_empty() {
        message["headers"] = headers.into_iter().map(header_match).collect();
    }
    if !claims.is_empty() {
        message["dynamic_metadata"] = claims.into_iter().map(claim_match).collect();
    }
    if !condition.query.is_empty() {
        message["query_parameters"] = condition.query.iter().map(query_match).collect();
    }
    message
}

fn string_match(condition: &StringMatch) -> Value {
    match condition {
        StringMatch::Exact(value) => json!({ "exact": value }),
        StringMatch::Prefix(value) => json!({ "prefix": value }),
        StringMatch::Regex(regex) => json!({ "safe_regex": { "regex": regex } }),
    }
}

/// What stands for a header where a claim of the request's token is meant.
const CLAIMS: &str = "@request.auth.claims";

fn claim_match(condition: &HeaderMatch) -> Value {
    let keys = condition.name[CLAIMS.len()..].split(['.', '[', ']']);
    let path: Vec<Value> = std::iter::once("payload")
        .chain(keys.filter(|key| !key.is_empty()))
        .map(|key| json!({ "key": key }))
        .collect();
    let single = match &condition.value {
        ValueMatch::Present => json!({ "present_match": true }),
        ValueMatch::Value(value) => json!({ "string_match": string_match(value) }),
    };
    let value = json!({ "or_match": { "value_matchers": [single, { "list_match": { "one_of": single } }] } });
    json!({
        "filter": "envoy.filters.http.jwt_authn", "path": path, "value": value,
        "invert": condition.invert,
    })
}

fn header_match(condition: &HeaderMatch) -> Value {
    let mut message = json!({ "name": condition.name });
    match &condition.value {
        ValueMatch::Present => message["present_match"] = true.into(),
        ValueMatch::Value(value) => message["string_match"] = string_match(value),
    }
    if condition.invert {
        message["invert_match"] = true.into();
        if condition.value != ValueMatch::Present {
            message["treat_missing_header_as_empty"] = true.into();
        }
    }
    message
}

fn query_match(condition: &QueryMatch) -> Value {
    match &condition.value {
        ValueMatch::Present => json!({ "name": condition.name, "present_match": true }),
        ValueMatch::Value(value) => {
            json!({ "name": condition.name, "string_match": string_match(value) })
        }
    }
}

fn route_action(forward: &Forward, condition: &RouteMatch) -> Value {
    let mut message = Map::new();
    match forward.clusters.as_slice() {
        [only] if only.request_headers.is_empty() && only.response_headers.is_empty() => {
            message.insert("cluster".into(), only.name.clone().into());
        }
        several => {
            let clusters: Vec<Value> = several.iter().map(weighted_cluster).collect();
            message.insert("weighted_clusters".into(), json!({ "clusters": clusters }));
        }
    }
    // Absent means 15 s to Envoy; 0 s is its word for no limit.
    let timeout = forward.timeout.map_or("0s".into(), duration::format);
    message.insert("timeout".into(), timeout.into());
    if let Some(retry) = &forward.retry {
        message.insert("retry_policy".into(), retry_policy(retry));
    }
    if forward.hedge_on_per_try_timeout {
        let policy = json!({ "hedge_on_per_try_timeout": true });
        message.insert("hedge_policy".into(), policy);
    }
    if !forward.hash_policy.is_empty() {
        let policies: Vec<Value> = forward.hash_policy.iter().map(hash_policy).collect();
        message.insert("hash_policy".into(), policies.into());
    }
    if let Some(change) = &forward.rewrite {
        rewrite(&mut message, change, condition);
    }
    if !forward.mirrors.is_empty() {
        let mirrors: Vec<Value> = forward
            .mirrors
            .iter()
            .map(|mirror| {
                json!({
                    "cluster": mirror.cluster,
                    "runtime_fraction": { "default_value": fraction(mirror.percent) },
                    "disable_shadow_host_suffix_append": true,
                })
            })
            .collect();
        message.insert("request_mirror_policies".into(), mirrors.into());
    }
    Value::Object(message)
}

fn cors(policy: &Cors) -> Value {
    let origins: Vec<Value> = policy.allow_origins.iter().map(string_match).collect();
    let mut fields = json!({
        "allow_origin_string_match": origins,
        "allow_credentials": policy.allow_credentials,
        "forward_not_matching_preflights": !policy.answer_unmatched_preflights,
    });
    for (name, value) in [
        ("allow_methods", &policy.allow_methods),
        ("allow_headers", &policy.allow_headers),
        ("expose_headers", &policy.expose_headers),
        ("max_age", &policy.max_age),
    ] {
        if !value.is_empty() {
            fields[name] = value.clone().into();
        }
    }
    any("envoy.extensions.filters.http.cors.v3.CorsPolicy", fields)
}

fn weighted_cluster(cluster: &WeightedCluster) -> Value {
    let mut message = Map::new();
    message.insert("name".into(), cluster.name.clone().into());
    message.insert("weight".into(), cluster.weight.into());
    add_header_mutations(
        &mut message,
        &cluster.request_headers,
        &cluster.response_headers,
    );
    Value::Object(message)
}

fn retry_policy(retry: &RetryPolicy) -> Value {
    let mut message = json!({
        "retry_on": retry.retry_on.join(","),
        "num_retries": retry.num_retries,
    });
    if let Some(limit) = retry.per_try_timeout {
        message["per_try_timeout"] = duration::format(limit).into();
    }
    if !retry.retriable_status_codes.is_empty() {
        message["retriable_status_codes"] = retry.retriable_status_codes.clone().into();
    }
    if retry.other_host {
        message["retry_host_predicate"] = json!([{
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": any("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate", json!({})),
        }]);
        message["host_selection_retry_max_attempts"] = "5".into();
    }
    if retry.other_priority {
        message["retry_priority"] = json!({
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": any("envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                json!({ "update_frequency": 2 })),
        });
    }
    if let Some(base) = retry.base_interval {
        let max = retry.max_interval.unwrap_or(base * 10);
        message["retry_back_off"] = json!({ "base_interval": duration::format(base), "max_interval": duration::format(max) });
    }
    message
}

fn hash_policy(policy: &HashPolicy) -> Value {
    match policy {
        HashPolicy::Header(name) => json!({ "header": { "header_name": name } }),
        HashPolicy::QueryParameter(name) => json!({ "query_parameter": { "name": name } }),
        HashPolicy::SourceIp => json!({ "connection_properties": { "source_ip": true } }),
        HashPolicy::Cookie(cookie) => {
            let mut message = json!({ "name": cookie.name });
            if let Some(ttl) = cookie.ttl {
                message["ttl"] = duration::format(ttl).into();
            }
            if !cookie.path.is_empty() {
                message["path"] = cookie.path.clone().into();
            }
            if !cookie.attributes.is_empty() {
                let attributes = cookie.attributes.iter();
                message["attributes"] = attributes
                    .map(|(name, value)| json!({ "name": name, "value": value }))
                    .collect();
            }
            json!({ "cookie": message })
        }
    }
}

fn rewrite(message: &mut Map<String, Value>, change: &Rewrite, condition: &RouteMatch) {
    if let Some(to) = &change.prefix {
        match &condition.path {
            // Only a prefix can be replaced in part; an exact or regex match is replaced whole.
            PathMatch::Prefix(_) => message.insert("prefix_rewrite".into(), to.clone().into()),
            PathMatch::Exact(_) | PathMatch::Regex(_) => message.insert(
                "regex_rewrite".into(),
                json!({ "pattern": { "regex": ".*" }, "substitution": to.replace('\\', "\\\\") }),
            ),
        };
    }
    if let Some(change) = &change.regex {
        message.insert(
            "regex_rewrite".into(),
            json!({ "pattern": { "regex": change.pattern }, "substitution": change.substitution }),
        );
    }
    if let Some(host) = &change.authority {
        message.insert("host_rewrite_literal".into(), host.clone().into());
    }
}

fn redirect(to: &Redirect) -> Value {
    let code = match to.status {
        302 => "FOUND",
        303 => "SEE_OTHER",
        307 => "TEMPORARY_REDIRECT",
        308 => "PERMANENT_REDIRECT",
        _ => "MOVED_PERMANENTLY",
    };
    let mut message = json!({ "response_code": code });
    match &to.path {
        Some(RedirectPath::Full(path)) => message["path_redirect"] = path.clone().into(),
        Some(RedirectPath::Prefix(prefix)) => message["prefix_rewrite"] = prefix.clone().into(),
        None => {}
    }
    if let Some(host) = &to.authority {
        message["host_redirect"] = host.clone().into();
    }
    if let Some(scheme) = &to.scheme {
        message["scheme_redirect"] = scheme.clone().into();
    }
    if let Some(port) = to.port {
        message["port_redirect"] = port.into();
    }
    message
}

fn fault(injected: &Fault) -> Value {
    let mut fields = json!({});
    if let Some(delay) = &injected.delay {
        fields["delay"] = json!({ "fixed_delay": duration::format(delay.fixed), "percentage": fraction(delay.percent) });
    }
    if let Some(abort) = &injected.abort {
        let mut message = json!({ "percentage": fraction(abort.percent) });
        match abort.status {
            AbortStatus::Http(status) => message["http_status"] = status.into(),
            AbortStatus::Grpc(status) => message["grpc_status"] = status.into(),
        }
        fields["abort"] = message;
    }
    any("envoy.extensions.filters.http.fault.v3.HTTPFault", fields)
}

fn fraction(percent: Percent) -> Value {
    json!({ "numerator": percent.millionths(), "denominator": "MILLION" })
}

fn add_header_mutations(
    message: &mut Map<String, Value>,
    request: &HeaderMutation,
    response: &HeaderMutation,
) {
    for (mutation, add, remove) in [
        (
            request,
            "request_headers_to_add",
            "request_headers_to_remove",
        ),
        (
            response,
            "response_headers_to_add",
            "response_headers_to_remove",
        ),
    ] {
        let option = |(key, value): &(String, String), action: &str| json!({ "header": { "key": key, "value": value }, "append_action": action });
        let set = mutation
            .set
            .iter()
            .map(|header| option(header, "OVERWRITE_IF_EXISTS_OR_ADD"));
        let added = mutation
            .add
            .iter()
            .map(|header| option(header, "APPEND_IF_EXISTS_OR_ADD"));
        let headers: Vec<Value> = set.chain(added).collect();
        if !headers.is_empty() {
            message.insert(add.into(), headers.into());
        }
        if !mutation.remove.is_empty() {
            message.insert(remove.into(), mutation.remove.clone().into());
        }
    }
}
