//! Defaults of pods and pod templates.

use serde_json::{Value, json};

use super::{Object, default, default_zero, each, existing, object_at};

/// A Pod: its spec, what admission adds to it, and the first status.
pub(super) fn pod(pod: &mut Object) {
    if let Some(pod_spec) = object_at(pod, "spec") {
        spec(pod_spec);
        let containers = ["initContainers", "containers"];
        for list in containers {
            for container in each(pod_spec, list) {
                requests_from_limits(container);
            }
        }
        admission(pod_spec);
        default(pod_spec, "enableServiceLinks", true);
        for container in containers {
            host_ports(pod_spec, container);
        }
    }
    let class = pod.get("spec").map(qos_class);
    if let Some(status) = object_at(pod, "status") {
        default_zero(status, "phase", "Pending");
        if let Some(class) = class {
            default_zero(status, "qosClass", class);
        }
    }
}

/// A pod spec, in a Pod or in a template.
pub(super) fn spec(spec: &mut Object) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in each(spec, list) {
            defaults_of_container(container);
        }
    }
    for volume in each(spec, "volumes") {
        defaults_of_volume(volume);
    }
    default_zero(spec, "restartPolicy", "Always");
    default(spec, "terminationGracePeriodSeconds", 30);
    default_zero(spec, "dnsPolicy", "ClusterFirst");
    if let Some(account) = spec
        .get("serviceAccountName")
        .filter(|name| *name != "")
        .cloned()
    {
        spec.insert("serviceAccount".into(), account);
    } else if let Some(account) = spec
        .get("serviceAccount")
        .filter(|name| *name != "")
        .cloned()
    {
        spec.insert("serviceAccountName".into(), account);
    }
    object_at(spec, "securityContext");
    default_zero(spec, "schedulerName", "default-scheduler");
    if spec.get("nodeName").is_some_and(|name| *name == "") {
        spec.shift_remove("nodeName");
    }
}

/// What the admission plugins ServiceAccount, DefaultTolerationSeconds and Priority add.
fn admission(spec: &mut Object) {
    default_zero(spec, "serviceAccountName", "default");
    if let Some(account) = spec.get("serviceAccountName").cloned() {
        spec.insert("serviceAccount".into(), account);
    }
    default(spec, "tolerations", json!([]));
    if let Some(tolerations) = spec.get_mut("tolerations").and_then(Value::as_array_mut) {
        for key in [
            "node.kubernetes.io/not-ready",
            "node.kubernetes.io/unreachable",
        ] {
            let tolerated = tolerations.iter().any(|toleration| {
                let effect = toleration
                    .get("effect")
                    .and_then(Value::as_str)
                    .unwrap_or("");
                let has = toleration.get("key").and_then(Value::as_str).unwrap_or("");
                (has == key || has.is_empty()) && (effect == "NoExecute" || effect.is_empty())
            });
            if !tolerated {
                tolerations.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
            }
        }
    }
    default(spec, "priority", 0);
    default(spec, "preemptionPolicy", "PreemptLowerPriority");
}

fn defaults_of_container(container: &mut Object) {
    for port in each(container, "ports") {
        default_zero(port, "protocol", "TCP");
    }
    for variable in each(container, "env") {
        if let Some(field) =
            existing(variable, "valueFrom").and_then(|from| existing(from, "fieldRef"))
        {
            default_zero(field, "apiVersion", "v1");
        }
        if let Some(resource) =
            existing(variable, "valueFrom").and_then(|from| existing(from, "resourceFieldRef"))
        {
            default_zero(resource, "divisor", "0");
        }
    }
    object_at(container, "resources");
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = existing(container, probe) {
            handler(probe);
            if let Some(grpc) = existing(probe, "grpc") {
                default(grpc, "service", "");
            }
            default_zero(probe, "timeoutSeconds", 1);
            default_zero(probe, "periodSeconds", 10);
            default_zero(probe, "successThreshold", 1);
            default_zero(probe, "failureThreshold", 3);
        }
    }
    if let Some(lifecycle) = existing(container, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(hook) = existing(lifecycle, hook) {
                handler(hook);
            }
        }
    }
    default_zero(container, "terminationMessagePath", "/dev/termination-log");
    default_zero(container, "terminationMessagePolicy", "File");
    let image = container.get("image").and_then(Value::as_str).unwrap_or("");
    let policy = if is_latest(image) {
        "Always"
    } else {
        "IfNotPresent"
    };
    default_zero(container, "imagePullPolicy", policy);
}

fn handler(handler: &mut Object) {
    if let Some(get) = existing(handler, "httpGet") {
        default_zero(get, "path", "/");
        default_zero(get, "scheme", "HTTP");
    }
}

/// No tag and no digest, or the tag `latest`.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => true,
    }
}

/// A limit without a request is the request too.
fn requests_from_limits(container: &mut Object) {
    let Some(resources) = existing(container, "resources") else {
        return;
    };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else {
        return;
    };
    if limits.is_empty() {
        return;
    }
    if let Some(requests) = object_at(resources, "requests") {
        for (resource, limit) in limits {
            requests.entry(resource).or_insert(limit);
        }
    }
}

/// With the host's network, a container port is a host port.
fn host_ports(spec: &mut Object, list: &str) {
    if spec.get("hostNetwork") != Some(&Value::Bool(true)) {
        return;
    }
    for container in each(spec, list) {
        for port in each(container, "ports") {
            if let Some(number) = port.get("containerPort").cloned() {
                default_zero(port, "hostPort", number);
            }
        }
    }
}

fn defaults_of_volume(volume: &mut Object) {
    for (kind, mode) in [
        ("configMap", "defaultMode"),
        ("secret", "defaultMode"),
        ("downwardAPI", "defaultMode"),
        ("projected", "defaultMode"),
    ] {
        if let Some(source) = existing(volume, kind) {
            default(source, mode, 0o644);
        }
    }
    if let Some(path) = existing(volume, "hostPath") {
        default(path, "type", "");
    }
    if let Some(source) = existing(volume, "downwardAPI") {
        field_refs(source);
    }
    if let Some(projected) = existing(volume, "projected") {
        for source in each(projected, "sources") {
            if let Some(token) = existing(source, "serviceAccountToken") {
                default_zero(token, "expirationSeconds", 3600);
            }
            if let Some(downward) = existing(source, "downwardAPI") {
                field_refs(downward);
            }
        }
    }
    let sources = volume.keys().filter(|key| *key != "name").count();
    if sources == 0 {
        volume.insert("emptyDir".into(), json!({}));
    }
}

fn field_refs(source: &mut Object) {
    for item in each(source, "items") {
        if let Some(field) = existing(item, "fieldRef") {
            default_zero(field, "apiVersion", "v1");
        }
    }
}

/// Guaranteed, Burstable or BestEffort, by the cpu and memory of all containers.
fn qos_class(spec: &Value) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for list in ["initContainers", "containers"] {
        for container in spec
            .get(list)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let amount = |what: &str, resource: &str| {
                container
                    .get("resources")
                    .and_then(|resources| resources.get(what)?.get(resource))
                    .filter(|amount| **amount != "0" && **amount != 0)
            };
            for resource in ["cpu", "memory"] {
                let (request, limit) = (amount("requests", resource), amount("limits", resource));
                any |= request.is_some() || limit.is_some();
                guaranteed &= limit.is_some() && request == limit;
            }
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
