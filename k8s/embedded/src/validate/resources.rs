//! Kinds that neither run pods nor are Services.

use serde_json::{Value, json};

use super::container::port_or_name;
use super::{At, Errors, IMMUTABLE, entries, format, given, list, text};

/// Most bytes of a ConfigMap's or Secret's data.
const DATA: usize = 1024 * 1024;

pub(super) fn config_map(old: Option<&Value>, new: &Value, errors: &mut Errors) {
    let root = At::root();
    let mut size = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in entries(new, field) {
            errors.format(
                &root.key(field).entry(key),
                &key.as_str().into(),
                format::config_key(key),
            );
            size += value.as_str().map_or(0, str::len);
        }
    }
    for (key, _) in entries(new, "binaryData") {
        if new.get("data").is_some_and(|data| data.get(key).is_some()) {
            let why = "duplicate of key present in data";
            errors.invalid(&root.key("data").entry(key), &key.as_str().into(), why);
        }
    }
    if size > DATA {
        errors.too_long(&At("[]".into()), DATA);
    }
    kept(old, new, &["data", "binaryData"], errors);
}

pub(super) fn secret(old: Option<&Value>, new: &Value, errors: &mut Errors) {
    let root = At::root();
    let mut size = 0;
    for (key, value) in entries(new, "data") {
        errors.format(
            &root.key("data").entry(key),
            &key.as_str().into(),
            format::config_key(key),
        );
        size += value.as_str().map_or(0, |text| text.len() / 4 * 3);
    }
    if size > DATA {
        errors.too_long(&root.key("data"), DATA);
    }
    let required: &[&str] = match text(new, "type") {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        _ => &[],
    };
    for key in required {
        if new.get("data").and_then(|data| data.get(key)).is_none() {
            errors.required(&root.key("data").entry(key));
        }
    }
    if let Some(old) = old {
        errors.immutable(
            &root.key("type"),
            old.get("type"),
            new.get("type"),
            IMMUTABLE,
        );
    }
    kept(old, new, &["data"], errors);
}

/// `immutable: true` stays, and so do the fields under it.
fn kept(old: Option<&Value>, new: &Value, fields: &[&str], errors: &mut Errors) {
    let Some(old) = old.filter(|old| old.get("immutable") == Some(&Value::Bool(true))) else {
        return;
    };
    const WHY: &str = "field is immutable when `immutable` is set";
    if new.get("immutable") != Some(&Value::Bool(true)) {
        errors.forbidden(&At::root().key("immutable"), WHY);
    }
    for field in fields {
        if old.get(field) != new.get(field) {
            errors.forbidden(&At::root().key(field), WHY);
        }
    }
}

fn address(value: &Value, at: &At, errors: &mut Errors) {
    if value
        .as_str()
        .is_none_or(|text| text.parse::<std::net::IpAddr>().is_err())
    {
        let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.invalid(at, value, why);
    }
}

pub(super) fn endpoints(new: &Value, errors: &mut Errors) {
    for (index, subset) in list(new, "subsets").iter().enumerate() {
        let at = At::root().key("subsets").index(index);
        if list(subset, "addresses").is_empty() && list(subset, "notReadyAddresses").is_empty() {
            errors.required_because(&at, "must specify `addresses` or `notReadyAddresses`");
        }
        for field in ["addresses", "notReadyAddresses"] {
            for (index, endpoint) in list(subset, field).iter().enumerate() {
                address(
                    endpoint.get("ip").unwrap_or(&json!("")),
                    &at.key(field).index(index).key("ip"),
                    errors,
                );
            }
        }
        let ports = list(subset, "ports");
        for (index, port) in ports.iter().enumerate() {
            let at = at.key("ports").index(index);
            if ports.len() > 1 && text(port, "name").is_empty() {
                errors.required(&at.key("name"));
            }
            let number = port.get("port").and_then(Value::as_i64).unwrap_or(0);
            errors.format(&at.key("port"), &json!(number), format::port_number(number));
        }
    }
}

pub(super) fn endpoint_slice(old: Option<&Value>, new: &Value, errors: &mut Errors) {
    let root = At::root();
    let kind = new.get("addressType").unwrap_or(&Value::Null);
    if text(new, "addressType").is_empty() {
        errors.required(&root.key("addressType"));
    } else {
        errors.one_of(&root, new, "addressType", &["FQDN", "IPv4", "IPv6"]);
    }
    for (index, endpoint) in list(new, "endpoints").iter().enumerate() {
        let at = root.key("endpoints").index(index).key("addresses");
        let addresses = list(endpoint, "addresses");
        if addresses.is_empty() {
            errors.required_because(&at, "must contain at least 1 address");
        }
        if kind != "FQDN" {
            for (index, value) in addresses.iter().enumerate() {
                address(value, &at.index(index), errors);
            }
        }
    }
    let mut names = std::collections::HashSet::new();
    for (index, port) in list(new, "ports").iter().enumerate() {
        let at = root.key("ports").index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            errors.format(&at.key("name"), &json!(name), format::label(name));
        }
        if !names.insert(name) {
            errors.duplicate(&at.key("name"), &json!(name));
        }
        errors.one_of(&at, port, "protocol", &["SCTP", "TCP", "UDP"]);
    }
    if let Some(old) = old {
        errors.immutable(
            &root.key("addressType"),
            old.get("addressType"),
            new.get("addressType"),
            IMMUTABLE,
        );
    }
}

pub(super) fn event(new: &Value, errors: &mut Errors) {
    let about = text(&new["involvedObject"], "namespace");
    let namespace = text(&new["metadata"], "namespace");
    // What is cluster-scoped has its events in `default`.
    if about != namespace && !(about.is_empty() && matches!(namespace, "" | "default")) {
        let at = At::root().key("involvedObject").key("namespace");
        errors.invalid(&at, &json!(about), "does not match event.namespace");
    }
}

pub(super) fn autoscaler(new: &Value, errors: &mut Errors) {
    let at = At::root().key("spec");
    let spec = &new["spec"];
    if let Some(value) =
        given(spec, "minReplicas").filter(|value| value.as_i64().is_some_and(|number| number < 1))
    {
        errors.invalid(
            &at.key("minReplicas"),
            value,
            "must be greater than or equal to 1",
        );
    }
    let most = spec.get("maxReplicas").and_then(Value::as_i64).unwrap_or(0);
    let fewest = spec.get("minReplicas").and_then(Value::as_i64).unwrap_or(1);
    if most < 1 {
        errors.invalid(
            &at.key("maxReplicas"),
            &json!(most),
            "must be greater than 0",
        );
    }
    if most < fewest {
        errors.invalid(
            &at.key("maxReplicas"),
            &json!(most),
            "must be greater than or equal to `minReplicas`",
        );
    }
    let target = &spec["scaleTargetRef"];
    let at = at.key("scaleTargetRef");
    for field in ["kind", "name"] {
        if text(target, field).is_empty() {
            errors.required(&at.key(field));
        }
    }
    if text(target, "apiVersion").is_empty() && text(new, "apiVersion") != "autoscaling/v1" {
        errors.invalid(
            &at.key("apiVersion"),
            &json!(""),
            "apiVersion must specify API group",
        );
    }
}

pub(super) fn ingress(new: &Value, errors: &mut Errors) {
    let at = At::root().key("spec");
    let spec = &new["spec"];
    let rules = list(spec, "rules");
    if rules.is_empty() && given(spec, "defaultBackend").is_none() {
        errors.invalid(
            &at,
            &json!([]),
            "either `defaultBackend` or `rules` must be specified",
        );
    }
    if let Some(value) = given(spec, "defaultBackend") {
        backend(value, &at.key("defaultBackend"), errors);
    }
    for (index, rule) in rules.iter().enumerate() {
        let at = at.key("rules").index(index);
        let host = text(rule, "host");
        if !host.is_empty() {
            let bare = host.strip_prefix("*.").unwrap_or(host);
            errors.format(&at.key("host"), &json!(host), format::subdomain(bare));
        }
        let Some(http) = given(rule, "http") else {
            continue;
        };
        let at = at.key("http").key("paths");
        if list(http, "paths").is_empty() {
            errors.required(&at);
        }
        for (index, path) in list(http, "paths").iter().enumerate() {
            let at = at.index(index);
            match given(path, "pathType") {
                None => errors.required_because(&at.key("pathType"), "pathType must be specified"),
                Some(_) => errors.one_of(
                    &at,
                    path,
                    "pathType",
                    &["Exact", "ImplementationSpecific", "Prefix"],
                ),
            }
            let text_ = text(path, "path");
            let free = text(path, "pathType") == "ImplementationSpecific" && text_.is_empty();
            if !free && !text_.starts_with('/') {
                errors.invalid(&at.key("path"), &json!(text_), "must be an absolute path");
            }
            backend(&path["backend"], &at.key("backend"), errors);
        }
    }
}

fn backend(backend: &Value, at: &At, errors: &mut Errors) {
    let Some(service) = given(backend, "service") else {
        if given(backend, "resource").is_none() {
            errors.required_because(at, "either `service` or `resource` must be specified");
        }
        return;
    };
    let at = at.key("service");
    match text(service, "name") {
        "" => errors.required(&at.key("name")),
        name => errors.format(&at.key("name"), &json!(name), format::label(name)),
    }
    match (
        given(&service["port"], "name"),
        given(&service["port"], "number"),
    ) {
        (None, None) => errors.required_because(&at, "port name or number is required"),
        (Some(_), Some(_)) => errors.invalid(
            &at.key("port"),
            &service["port"],
            "cannot set both port name & port number",
        ),
        (Some(value), None) => port_or_name(value, &at.key("port").key("name"), errors),
        (None, Some(value)) => port_or_name(value, &at.key("port").key("number"), errors),
    }
}

pub(super) fn role(new: &Value, errors: &mut Errors) {
    for (index, rule) in list(new, "rules").iter().enumerate() {
        let at = At::root().key("rules").index(index);
        if list(rule, "verbs").is_empty() {
            errors.required_because(&at.key("verbs"), "verbs must contain at least one value");
        }
        if list(rule, "nonResourceURLs").is_empty() {
            if list(rule, "apiGroups").is_empty() {
                errors.required_because(
                    &at.key("apiGroups"),
                    "resource rules must supply at least one api group",
                );
            }
            if list(rule, "resources").is_empty() {
                errors.required_because(
                    &at.key("resources"),
                    "resource rules must supply at least one resource",
                );
            }
        } else if text(new, "kind") == "Role" {
            errors.invalid(
                &at.key("nonResourceURLs"),
                &rule["nonResourceURLs"],
                "namespaced rules cannot apply to non-resource URLs",
            );
        }
    }
}

pub(super) fn role_binding(old: Option<&Value>, new: &Value, errors: &mut Errors) {
    let root = At::root();
    let role = &new["roleRef"];
    let at = root.key("roleRef");
    errors.one_of(&at, role, "apiGroup", &["rbac.authorization.k8s.io"]);
    let kinds: &[&str] = match text(new, "kind") {
        "ClusterRoleBinding" => &["ClusterRole"],
        _ => &["ClusterRole", "Role"],
    };
    match given(role, "kind") {
        Some(_) => errors.one_of(&at, role, "kind", kinds),
        None => errors.unsupported(&at.key("kind"), &json!(""), kinds),
    }
    match text(role, "name") {
        "" => errors.required(&at.key("name")),
        name => errors.format(&at.key("name"), &json!(name), format::path_segment(name)),
    }
    for (index, subject) in list(new, "subjects").iter().enumerate() {
        let at = root.key("subjects").index(index);
        if text(subject, "name").is_empty() {
            errors.required(&at.key("name"));
        }
        match text(subject, "kind") {
            "ServiceAccount" => {
                if text(subject, "namespace").is_empty() {
                    errors.required(&at.key("namespace"));
                }
            }
            "User" | "Group" => {
                errors.one_of(&at, subject, "apiGroup", &["rbac.authorization.k8s.io"])
            }
            other => errors.unsupported(
                &at.key("kind"),
                &json!(other),
                &["Group", "ServiceAccount", "User"],
            ),
        }
    }
    if let Some(old) = old
        && old.get("roleRef") != new.get("roleRef")
    {
        errors.invalid(&at, role, "cannot change roleRef");
    }
}

pub(super) fn webhooks(new: &Value, errors: &mut Errors) {
    let mut names = std::collections::HashSet::new();
    for (index, webhook) in list(new, "webhooks").iter().enumerate() {
        let at = At::root().key("webhooks").index(index);
        let name = text(webhook, "name");
        let value = json!(name);
        if name.is_empty() {
            errors.required(&at.key("name"));
        } else if name.split('.').count() < 3 {
            errors.invalid(
                &at.key("name"),
                &value,
                "should be a domain with at least three segments separated by dots",
            );
        } else {
            errors.format(&at.key("name"), &value, format::subdomain(name));
        }
        if !name.is_empty() && !names.insert(name) {
            errors.duplicate(&at.key("name"), &value);
        }
        // Carried out, they would keep requests from the webhook; ignored, they would not.
        if !list(webhook, "matchConditions").is_empty() {
            errors.forbidden(
                &at.key("matchConditions"),
                "the embedded cluster does not evaluate CEL expressions yet",
            );
        }
        for (index, rule) in list(webhook, "rules").iter().enumerate() {
            let at = at.key("rules").index(index);
            for field in ["operations", "apiGroups", "apiVersions", "resources"] {
                if list(rule, field).is_empty() {
                    errors.required(&at.key(field));
                }
            }
        }
        errors.one_of(&at, webhook, "failurePolicy", &["Fail", "Ignore"]);
        errors.one_of(&at, webhook, "matchPolicy", &["Equivalent", "Exact"]);
        match given(webhook, "sideEffects") {
            None => errors.required_because(
                &at.key("sideEffects"),
                "must specify one of None, NoneOnDryRun",
            ),
            Some(_) => errors.one_of(&at, webhook, "sideEffects", &["None", "NoneOnDryRun"]),
        }
        if let Some(seconds) = given(webhook, "timeoutSeconds").filter(|value| {
            value
                .as_i64()
                .is_some_and(|number| !(1..=30).contains(&number))
        }) {
            errors.invalid(
                &at.key("timeoutSeconds"),
                seconds,
                "the timeout value must be between 1 and 30 seconds",
            );
        }
        let client = &webhook["clientConfig"];
        if given(client, "url").is_some() == given(client, "service").is_some() {
            errors.required_because(
                &at.key("clientConfig"),
                "exactly one of url or service is required",
            );
        }
        let versions = list(webhook, "admissionReviewVersions");
        if versions.is_empty() {
            errors.required_because(
                &at.key("admissionReviewVersions"),
                "must specify one of v1, v1beta1",
            );
        } else if !versions
            .iter()
            .any(|version| version == "v1" || version == "v1beta1")
        {
            errors.invalid(
                &at.key("admissionReviewVersions"),
                &webhook["admissionReviewVersions"],
                "must include at least one of v1, v1beta1",
            );
        }
    }
}
