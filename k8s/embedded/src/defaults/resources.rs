//! Defaults of all kinds but pods and what makes them.

use base64::Engine;
use serde_json::{Value, json};

use super::{Object, default, default_zero, each, existing, object_at};

/// A Service, without addresses and node ports: those are allocated by the server.
pub(super) fn service(object: &mut Object) {
    if let Some(spec) = object_at(object, "spec") {
        default_zero(spec, "type", "ClusterIP");
        default_zero(spec, "sessionAffinity", "None");
        let kind = spec["type"].as_str().unwrap_or_default().to_owned();
        for port in each(spec, "ports") {
            default_zero(port, "protocol", "TCP");
            if let Some(number) = port.get("port").cloned() {
                default_zero(port, "targetPort", number);
            }
        }
        if spec["sessionAffinity"] == "ClientIP" {
            if let Some(client) = object_at(spec, "sessionAffinityConfig")
                .and_then(|config| object_at(config, "clientIP"))
            {
                default(client, "timeoutSeconds", 10800);
            }
        } else {
            spec.shift_remove("sessionAffinityConfig");
        }
        if kind == "NodePort" || kind == "LoadBalancer" {
            default_zero(spec, "externalTrafficPolicy", "Cluster");
        } else {
            // Left over from another type.
            for port in each(spec, "ports") {
                if kind != "ExternalName" && port.get("nodePort").is_some_and(|port| *port == 0) {
                    port.shift_remove("nodePort");
                }
            }
        }
        if kind == "LoadBalancer" {
            default(spec, "allocateLoadBalancerNodePorts", true);
        }
        if kind != "ExternalName" {
            default_zero(spec, "internalTrafficPolicy", "Cluster");
            let selectorless = spec
                .get("selector")
                .and_then(Value::as_object)
                .is_none_or(serde_json::Map::is_empty);
            // Without a selector a headless service may have endpoints of either family.
            if spec.get("clusterIP").is_some_and(|ip| *ip == "None") && selectorless {
                default(spec, "ipFamilies", json!(["IPv4", "IPv6"]));
                default_zero(spec, "ipFamilyPolicy", "RequireDualStack");
            } else {
                default(spec, "ipFamilies", json!(["IPv4"]));
                default_zero(spec, "ipFamilyPolicy", "SingleStack");
            }
        }
    }
    if let Some(status) = object_at(object, "status") {
        object_at(status, "loadBalancer");
    }
}

pub(super) fn endpoints(object: &mut Object) {
    for subset in each(object, "subsets") {
        for port in each(subset, "ports") {
            default_zero(port, "protocol", "TCP");
        }
    }
}

pub(super) fn endpoint_slice(object: &mut Object) {
    // an empty list is stored as none
    for list in ["endpoints", "ports"] {
        if object
            .get(list)
            .and_then(Value::as_array)
            .is_some_and(Vec::is_empty)
        {
            object.insert(list.to_owned(), Value::Null);
        }
    }
    default(object, "endpoints", Value::Null);
    for endpoint in each(object, "endpoints") {
        object_at(endpoint, "conditions");
    }
    default(object, "ports", Value::Null);
    for port in each(object, "ports") {
        default(port, "name", "");
        default_zero(port, "protocol", "TCP");
    }
}

pub(super) fn namespace(object: &mut Object) {
    let name = object
        .get("metadata")
        .and_then(|metadata| metadata.get("name"))
        .cloned();
    if let Some(name) = name.filter(|name| name.as_str().is_some_and(|name| !name.is_empty()))
        && let Some(labels) =
            object_at(object, "metadata").and_then(|metadata| object_at(metadata, "labels"))
    {
        labels.insert("kubernetes.io/metadata.name".into(), name);
    }
    if let Some(spec) = object_at(object, "spec") {
        default(spec, "finalizers", json!(["kubernetes"]));
    }
    if let Some(status) = object_at(object, "status") {
        default_zero(status, "phase", "Active");
    }
}

/// `stringData` moves into `data`.
pub(super) fn secret(object: &mut Object) {
    if let Some(Value::Object(plain)) = object.shift_remove("stringData")
        && !plain.is_empty()
        && let Some(data) = object_at(object, "data")
    {
        for (key, value) in plain {
            let text = value.as_str().unwrap_or_default();
            let encoded = base64::engine::general_purpose::STANDARD.encode(text);
            data.insert(key, encoded.into());
        }
    }
    default_zero(object, "type", "Opaque");
}

pub(super) fn event(object: &mut Object) {
    object_at(object, "source");
    for time in ["firstTimestamp", "lastTimestamp", "eventTime"] {
        default(object, time, Value::Null);
    }
    default(object, "reportingComponent", "");
    default(object, "reportingInstance", "");
}

pub(super) fn events_event(object: &mut Object) {
    object_at(object, "regarding");
    object_at(object, "deprecatedSource");
    for time in [
        "deprecatedFirstTimestamp",
        "deprecatedLastTimestamp",
        "eventTime",
    ] {
        default(object, time, Value::Null);
    }
}

/// An autoscaler of version 1 or 2: without metrics, 80 % of the requested cpu.
pub(super) fn autoscaler(object: &mut Object, version_1: bool) {
    if let Some(spec) = object_at(object, "spec") {
        default(spec, "minReplicas", 1);
        if version_1 {
            default(spec, "targetCPUUtilizationPercentage", 80);
        } else {
            let metrics = spec.get("metrics").and_then(Value::as_array);
            if metrics.is_none_or(Vec::is_empty) {
                spec.insert(
                    "metrics".into(),
                    json!([{"type": "Resource", "resource": {
                        "name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": 80},
                    }}]),
                );
            }
            if let Some(behavior) = existing(spec, "behavior") {
                scaling_rules(behavior);
            }
        }
    }
    if let Some(status) = object_at(object, "status") {
        default(status, "desiredReplicas", 0);
        if version_1 {
            default(status, "currentReplicas", 0);
        } else {
            default(status, "currentMetrics", Value::Null);
        }
    }
}

fn scaling_rules(behavior: &mut Object) {
    if let Some(up) = object_at(behavior, "scaleUp") {
        default(up, "stabilizationWindowSeconds", 0);
        default_zero(up, "selectPolicy", "Max");
        default(
            up,
            "policies",
            json!([{"type": "Pods", "value": 4, "periodSeconds": 15},
                   {"type": "Percent", "value": 100, "periodSeconds": 15}]),
        );
    }
    if let Some(down) = object_at(behavior, "scaleDown") {
        default_zero(down, "selectPolicy", "Max");
        default(
            down,
            "policies",
            json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]),
        );
    }
}

pub(super) fn ingress(object: &mut Object) {
    if let Some(status) = object_at(object, "status") {
        object_at(status, "loadBalancer");
    }
}

pub(super) fn role_binding(object: &mut Object) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    for subject in each(object, "subjects") {
        if subject
            .get("kind")
            .is_some_and(|kind| kind == "User" || kind == "Group")
        {
            default_zero(subject, "apiGroup", GROUP);
        }
    }
    if let Some(role) = existing(object, "roleRef") {
        default_zero(role, "apiGroup", GROUP);
    }
}

pub(super) fn webhooks(object: &mut Object, mutating: bool) {
    for webhook in each(object, "webhooks") {
        if let Some(service) =
            existing(webhook, "clientConfig").and_then(|client| existing(client, "service"))
        {
            default(service, "port", 443);
        }
        for rule in each(webhook, "rules") {
            default_zero(rule, "scope", "*");
        }
        default_zero(webhook, "failurePolicy", "Fail");
        default_zero(webhook, "matchPolicy", "Equivalent");
        object_at(webhook, "namespaceSelector");
        object_at(webhook, "objectSelector");
        default(webhook, "timeoutSeconds", 10);
        if mutating {
            default_zero(webhook, "reinvocationPolicy", "Never");
        }
    }
}

/// A CustomResourceDefinition: names from the kind, and the first status.
pub(super) fn crd(object: &mut Object) {
    let mut stored = Vec::new();
    if let Some(spec) = object_at(object, "spec") {
        if let Some(names) = object_at(spec, "names")
            && let Some(kind) = names.get("kind").and_then(Value::as_str).map(str::to_owned)
        {
            default_zero(names, "singular", kind.to_lowercase());
            default_zero(names, "listKind", format!("{kind}List"));
        }
        let conversion = object_at(spec, "conversion");
        if let Some(conversion) = conversion {
            default_zero(conversion, "strategy", "None");
        }
        stored = each(spec, "versions")
            .filter(|version| version.get("storage") == Some(&Value::Bool(true)))
            .filter_map(|version| version.get("name").cloned())
            .collect();
    }
    if let Some(status) = object_at(object, "status") {
        default(status, "conditions", Value::Null);
        default(status, "acceptedNames", json!({"plural": "", "kind": ""}));
        default(status, "storedVersions", Value::Array(stored));
    }
}
