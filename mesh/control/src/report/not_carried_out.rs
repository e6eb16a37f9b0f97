//! Fields and kinds that the mesh accepts but does not carry out yet.

use serde_json::Value;

use crate::compile::{PROMETHEUS, cel_text, complaints_about_filter};

/// Fields that have no effect, as paths from the object; `[]` stands for every item of a list or
/// a map.
const FIELDS: &[(&str, &[&str])] = &[
    (
        "VirtualService",
        &[
            "spec.tcp[].match[].sourceSubnet",
            "spec.http[].match[].statPrefix",
            "spec.http[].fault.delay.exponentialDelay",
            "spec.http[].fault.abort.http2Error",
        ],
    ),
    ("ServiceEntry", &["spec.subjectAltNames"]),
    ("WorkloadEntry", &["spec.network"]),
    (
        "Sidecar",
        &[
            "spec.inboundConnectionPool",
            "spec.ingress[].bind",
            "spec.ingress[].captureMode",
            "spec.ingress[].tls",
            "spec.ingress[].connectionPool",
            "spec.egress[].bind",
            "spec.egress[].captureMode",
        ],
    ),
    (
        "Telemetry",
        &[
            "spec.targetRef",
            "spec.targetRefs",
            "spec.metrics[].reportingInterval",
            "spec.metrics[].overrides[].match.customMetric",
            "spec.accessLogging[].match",
            "spec.accessLogging[].filter",
            "spec.tracing[].match",
            "spec.tracing[].customTags[].formatter",
            "spec.tracing[].useRequestIdForTraceSampling",
            "spec.tracing[].enableIstioTags",
            "spec.tracing[].disableContextPropagation",
        ],
    ),
    (
        "Gateway",
        &[
            "spec.servers[].bind",
            "spec.servers[].defaultEndpoint",
            "spec.servers[].tls.caCrl",
            "spec.servers[].tls.verifyCertificateSpki",
            "spec.servers[].tls.verifyCertificateHash",
        ],
    ),
    (
        "AuthorizationPolicy",
        &["spec.targetRef", "spec.targetRefs"],
    ),
    (
        "RequestAuthentication",
        &[
            "spec.targetRef",
            "spec.targetRefs",
            "spec.jwtRules[].spaceDelimitedClaims",
        ],
    ),
];

/// Fields of a `trafficPolicy` (and of the settings of a port) that have no effect.
const TRAFFIC_POLICY: &[&str] = &["tls.caCrl", "tunnel", "retryBudget.budgetInterval"];

/// One sentence per field, or one for the whole kind.
pub(super) fn of_object(kind: &str, object: &Value) -> Vec<String> {
    if mesh_api::kind(kind).is_some_and(|kind| !kind.carried_out) {
        return vec![format!(
            "{kind} is stored, but this version of the mesh does not carry it out"
        )];
    }
    let mut found = Vec::new();
    for path in FIELDS
        .iter()
        .filter(|(of, _)| *of == kind)
        .flat_map(|(_, paths)| paths.iter())
    {
        walk(object, path, String::new(), &mut found);
    }
    match kind {
        "DestinationRule" => traffic_policies(object, &mut found),
        "Gateway" => servers(object, &mut found),
        "EnvoyFilter" => {
            return mesh_api::parse(kind, object)
                .map(|parsed| complaints_about_filter(&parsed.resource.spec))
                .unwrap_or_default();
        }
        "AuthorizationPolicy" => conditions(object, &mut found),
        "Telemetry" => metrics(object, &mut found),
        _ => {}
    }
    found
        .into_iter()
        .map(|path| {
            format!("{path} is accepted, but this version of the mesh does not carry it out")
        })
        .collect()
}

fn traffic_policies(object: &Value, found: &mut Vec<String>) {
    for policy in ["spec.trafficPolicy", "spec.subsets[].trafficPolicy"] {
        for level in [policy.to_owned(), format!("{policy}.portLevelSettings[]")] {
            for field in TRAFFIC_POLICY {
                walk(object, &format!("{level}.{field}"), String::new(), found);
            }
        }
    }
}

fn servers(object: &Value, found: &mut Vec<String>) {
    for (index, server) in object["spec"]["servers"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let protocol = server["port"]["protocol"]
            .as_str()
            .unwrap_or_default()
            .to_ascii_uppercase();
        let passes_on = matches!(
            server["tls"]["mode"].as_str(),
            Some("PASSTHROUGH" | "AUTO_PASSTHROUGH")
        );
        let plain = matches!(
            protocol.as_str(),
            "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" | "TCP" | "MONGO" | "REDIS" | "MYSQL"
        );
        let ends = serde_json::from_value(server.clone());
        let ends = ends.is_ok_and(|server| crate::compile::ends_tls(&server).is_some());
        if !plain && !passes_on && !ends {
            found.push(format!("spec.servers[{index}] (protocol {protocol})"));
        }
    }
}

/// Other providers of metrics, and labels whose value depends on the request.
fn metrics(object: &Value, found: &mut Vec<String>) {
    let items = |list: &Value| list.as_array().cloned().unwrap_or_default();
    for (entry, metrics) in items(&object["spec"]["metrics"]).iter().enumerate() {
        for (index, provider) in items(&metrics["providers"]).iter().enumerate() {
            if provider["name"] != PROMETHEUS {
                found.push(format!("spec.metrics[{entry}].providers[{index}]"));
            }
        }
        for (index, change) in items(&metrics["overrides"]).iter().enumerate() {
            let tags = change["tagOverrides"].as_object().into_iter().flatten();
            for (name, tag) in tags.filter(|(_, tag)| tag["operation"] != "REMOVE") {
                if cel_text(tag["value"].as_str().unwrap_or_default()).is_none() {
                    found.push(format!(
                        "spec.metrics[{entry}].overrides[{index}].tagOverrides.{name}.value"
                    ));
                }
            }
        }
    }
}

/// Conditions on attributes that do not exist.
fn conditions(object: &Value, found: &mut Vec<String>) {
    let rules = object["spec"]["rules"].as_array().into_iter().flatten();
    for (rule, conditions) in rules
        .enumerate()
        .map(|(index, rule)| (index, &rule["when"]))
    {
        for (index, condition) in conditions.as_array().into_iter().flatten().enumerate() {
            let key = condition["key"].as_str().unwrap_or_default();
            if !crate::compile::is_condition(key) {
                found.push(format!("spec.rules[{rule}].when[{index}].key {key:?}"));
            }
        }
    }
}

/// Appends the concrete path of every value at `pattern`; false, null and empty lists are nothing.
fn walk(value: &Value, pattern: &str, at: String, found: &mut Vec<String>) {
    let (step, rest) = pattern
        .split_once('.')
        .map_or((pattern, None), |(step, rest)| (step, Some(rest)));
    let (name, each) = step
        .strip_suffix("[]")
        .map_or((step, false), |name| (name, true));
    let Some(value) = value.get(name) else { return };
    let at = if at.is_empty() {
        name.to_owned()
    } else {
        format!("{at}.{name}")
    };
    let mut go = |value: &Value, at: String| match rest {
        Some(rest) => walk(value, rest, at, found),
        None if value.is_null()
            || *value == Value::Bool(false)
            || value.as_array().is_some_and(Vec::is_empty) => {}
        None => found.push(at),
    };
    if let (true, Some(fields)) = (each, value.as_object()) {
        for (key, item) in fields {
            go(item, format!("{at}.{key}"));
        }
    } else if each {
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            go(item, format!("{at}[{index}]"));
        }
    } else {
        go(value, at);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn paths(kind: &str, spec: Value) -> Vec<String> {
        let texts = of_object(kind, &json!({ "spec": spec }));
        texts
            .iter()
            .map(|text| text.split(" is ").next().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn fields_are_named_where_they_are() {
        let spec = json!({"http": [{"route": []}, {"match": [{"statPrefix": "a"}]}]});
        assert_eq!(
            paths("VirtualService", spec),
            ["spec.http[1].match[0].statPrefix"]
        );
        let spec = json!({"subsets": [{"name": "v1", "trafficPolicy": {
            "tunnel": {"targetHost": "a"}, "tls": {"mode": "SIMPLE", "caCrl": "/x"}}}],
            "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}, "connectionPool": {"tcp": {"connectTimeout": "1s"}}}});
        assert_eq!(
            paths("DestinationRule", spec),
            [
                "spec.subsets[0].trafficPolicy.tls.caCrl",
                "spec.subsets[0].trafficPolicy.tunnel",
            ]
        );
        let spec = json!({"metrics": [{"providers": [{"name": "prometheus"}, {"name": "other"}],
            "overrides": [{"disabled": true, "tagOverrides": {
                "a": {"operation": "REMOVE"}, "b": {"value": "'text'"}, "c": {"value": "request.host"}}}]}]});
        assert_eq!(
            paths("Telemetry", spec),
            [
                "spec.metrics[0].providers[1]",
                "spec.metrics[0].overrides[0].tagOverrides.c.value",
            ]
        );
        let spec =
            json!({"servers": [{"port": {"protocol": "HTTPS"}}, {"port": {"protocol": "http"}}]});
        assert_eq!(paths("Gateway", spec), ["spec.servers[0] (protocol HTTPS)"]);
    }

    #[test]
    fn whole_kinds_are_named() {
        assert_eq!(paths("ProxyConfig", json!({})), ["ProxyConfig"]);
        assert!(paths("Unknown", json!({})).is_empty());
    }
}
