//! Containers: names, images, ports, environment, mounts, resources, probes.

use serde_json::{Value, json};
use std::collections::HashSet;

use super::{At, Errors, entries, format, given, list, quantity, text};

/// Which list a container is in.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Place {
    /// `containers`
    Main,
    /// `initContainers`
    Init,
}

/// A list of containers. `names` are those taken so far, `volumes` those of the pod.
pub(super) fn all(
    containers: &[Value],
    at: &At,
    place: Place,
    names: &mut HashSet<String>,
    volumes: &HashSet<&str>,
    errors: &mut Errors,
) {
    for (index, container) in containers.iter().enumerate() {
        let at = at.index(index);
        common(container, &at, volumes, errors);
        let name = text(container, "name");
        if !name.is_empty() && !names.insert(name.to_owned()) {
            errors.duplicate(&at.key("name"), &name.into());
        }
        let sidecar = text(container, "restartPolicy") == "Always";
        match place {
            Place::Init if !sidecar => {
                for field in [
                    "lifecycle",
                    "livenessProbe",
                    "readinessProbe",
                    "startupProbe",
                ] {
                    if given(container, field).is_some() {
                        errors.forbidden(
                            &at.key(field),
                            "may not be set for init containers without restartPolicy=Always",
                        );
                    }
                }
                errors.one_of(&at, container, "restartPolicy", &["Always"]);
            }
            _ => {
                lifecycle(container, &at, errors);
                for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
                    if let Some(value) = given(container, field) {
                        probe(value, field, &at.key(field), errors);
                    }
                }
            }
        }
    }
}

fn common(container: &Value, at: &At, volumes: &HashSet<&str>, errors: &mut Errors) {
    match text(container, "name") {
        "" => errors.required(&at.key("name")),
        name => errors.format(&at.key("name"), &name.into(), format::label(name)),
    }
    match text(container, "image") {
        "" => errors.required(&at.key("image")),
        image if image.trim() != image => {
            errors.invalid(
                &at.key("image"),
                &image.into(),
                "must not have leading or trailing whitespace",
            );
        }
        _ => {}
    }
    errors.one_of(
        at,
        container,
        "terminationMessagePolicy",
        &["FallbackToLogsOnError", "File"],
    );
    ports(list(container, "ports"), &at.key("ports"), errors);
    environment(list(container, "env"), &at.key("env"), errors);
    for (index, source) in list(container, "envFrom").iter().enumerate() {
        let at = at.key("envFrom").index(index);
        match (given(source, "configMapRef"), given(source, "secretRef")) {
            (None, None) => errors.invalid(
                &at,
                &"".into(),
                "must specify one of: `configMapRef` or `secretRef`",
            ),
            (Some(_), Some(_)) => errors.invalid(
                &at,
                &"".into(),
                "may not have more than one field specified at a time",
            ),
            _ => {}
        }
    }
    mounts(
        list(container, "volumeMounts"),
        &at.key("volumeMounts"),
        volumes,
        errors,
    );
    errors.one_of(
        at,
        container,
        "imagePullPolicy",
        &["Always", "IfNotPresent", "Never"],
    );
    if let Some(value) = given(container, "resources") {
        resources(value, &at.key("resources"), errors);
    }
}

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

fn ports(ports: &[Value], at: &At, errors: &mut Errors) {
    let mut names = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let at = at.index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            errors.format(&at.key("name"), &name.into(), format::port_name(name));
            if !names.insert(name) {
                errors.duplicate(&at.key("name"), &name.into());
            }
        }
        match port.get("containerPort").and_then(Value::as_i64) {
            None | Some(0) => errors.required(&at.key("containerPort")),
            Some(number) => errors.format(
                &at.key("containerPort"),
                &number.into(),
                format::port_number(number),
            ),
        }
        if let Some(number) = port
            .get("hostPort")
            .and_then(Value::as_i64)
            .filter(|number| *number != 0)
        {
            errors.format(
                &at.key("hostPort"),
                &number.into(),
                format::port_number(number),
            );
        }
        errors.one_of(&at, port, "protocol", PROTOCOLS);
    }
}

fn environment(variables: &[Value], at: &At, errors: &mut Errors) {
    const SOURCES: [&str; 5] = [
        "fieldRef",
        "resourceFieldRef",
        "configMapKeyRef",
        "secretKeyRef",
        "fileKeyRef",
    ];
    for (index, variable) in variables.iter().enumerate() {
        let at = at.index(index);
        match text(variable, "name") {
            "" => errors.required(&at.key("name")),
            name => errors.format(&at.key("name"), &name.into(), format::env_name(name)),
        }
        let Some(from) = given(variable, "valueFrom") else {
            continue;
        };
        let at = at.key("valueFrom");
        if !text(variable, "value").is_empty() {
            errors.invalid(
                &at,
                &"".into(),
                "may not be specified when `value` is not empty",
            );
        }
        let sources = SOURCES
            .iter()
            .filter(|source| given(from, source).is_some())
            .count();
        match sources {
            0 => errors.invalid(
                &at,
                &"".into(),
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            ),
            1 => {}
            _ => errors.invalid(&at, &"".into(), "may not have more than one field specified at a time"),
        }
        if let Some(reference) = given(from, "fieldRef") {
            field_ref(reference, &at.key("fieldRef"), errors);
        }
        for source in ["configMapKeyRef", "secretKeyRef"] {
            if let Some(reference) = given(from, source) {
                match text(reference, "key") {
                    "" => errors.required(&at.key(source).key("key")),
                    key => errors.format(
                        &at.key(source).key("key"),
                        &key.into(),
                        format::config_key(key),
                    ),
                }
            }
        }
    }
}

/// Fields of the pod that a variable can have; sorted.
const DOWNWARD: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

fn field_ref(reference: &Value, at: &At, errors: &mut Errors) {
    let path = text(reference, "fieldPath");
    let subscripted = |prefix: &str| {
        path.strip_prefix(prefix)
            .is_some_and(|rest| rest.ends_with("']"))
    };
    match path {
        "" => errors.required(&at.key("fieldPath")),
        path if DOWNWARD.contains(&path) => {}
        _ if subscripted("metadata.labels['") || subscripted("metadata.annotations['") => {}
        path => errors.unsupported(&at.key("fieldPath"), &path.into(), DOWNWARD),
    }
}

fn mounts(mounts: &[Value], at: &At, volumes: &HashSet<&str>, errors: &mut Errors) {
    let mut paths = HashSet::new();
    for (index, mount) in mounts.iter().enumerate() {
        let at = at.index(index);
        match text(mount, "name") {
            "" => errors.required(&at.key("name")),
            name if volumes.contains(name) => {}
            name => errors.not_found(&at.key("name"), &name.into()),
        }
        match text(mount, "mountPath") {
            "" => errors.required(&at.key("mountPath")),
            path if !paths.insert(path) => {
                errors.invalid(&at.key("mountPath"), &path.into(), "must be unique");
            }
            _ => {}
        }
        for key in ["subPath", "subPathExpr"] {
            let path = text(mount, key);
            if path.starts_with('/') {
                errors.invalid(&at.key(key), &path.into(), "must be a relative path");
            } else if path.split('/').any(|part| part == "..") {
                errors.invalid(&at.key(key), &path.into(), "must not contain '..'");
            }
        }
    }
}

/// Requests and limits.
fn resources(resources: &Value, at: &At, errors: &mut Errors) {
    let amount = |value: &Value| match value {
        Value::String(text) => quantity::parse(text),
        other => other.as_f64(),
    };
    for what in ["limits", "requests"] {
        for (resource, value) in entries(resources, what) {
            let at = at.key(what).entry(resource);
            match amount(value) {
                None => errors.invalid(&at, value, quantity::FORM),
                Some(amount) if amount < 0.0 => {
                    errors.invalid(&at, value, "must be greater than or equal to 0");
                }
                Some(_) => {}
            }
        }
    }
    for (resource, request) in entries(resources, "requests") {
        let Some(limit) = resources
            .get("limits")
            .and_then(|limits| limits.get(resource))
        else {
            continue;
        };
        if let (Some(asked), Some(most)) = (amount(request), amount(limit))
            && asked > most
        {
            let limit = limit
                .as_str()
                .map_or_else(|| limit.to_string(), str::to_owned);
            let why = format!("must be less than or equal to {resource} limit of {limit}");
            errors.invalid(&at.key("requests"), &plain(request), &why);
        }
    }
}

/// Quantities are shown as text.
fn plain(quantity: &Value) -> Value {
    match quantity {
        Value::String(_) => quantity.clone(),
        other => json!(other.to_string()),
    }
}

fn lifecycle(container: &Value, at: &At, errors: &mut Errors) {
    let Some(lifecycle) = given(container, "lifecycle") else {
        return;
    };
    for hook in ["postStart", "preStop"] {
        if let Some(value) = given(lifecycle, hook) {
            handler(
                value,
                &["exec", "httpGet", "tcpSocket", "sleep"],
                &at.key("lifecycle").key(hook),
                errors,
            );
        }
    }
}

fn probe(probe: &Value, field: &str, at: &At, errors: &mut Errors) {
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], at, errors);
    for number in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        errors.not_negative(at, probe, number);
    }
    if field != "readinessProbe"
        && let Some(threshold) = given(probe, "successThreshold").filter(|value| **value != 1)
    {
        errors.invalid(&at.key("successThreshold"), threshold, "must be 1");
    }
}

fn handler(handler: &Value, kinds: &[&str], at: &At, errors: &mut Errors) {
    let mut found = 0;
    for kind in kinds {
        let Some(action) = given(handler, kind) else {
            continue;
        };
        found += 1;
        if found > 1 {
            errors.forbidden(&at.key(kind), "may not specify more than 1 handler type");
            continue;
        }
        let at = at.key(kind);
        match *kind {
            "exec" if list(action, "command").is_empty() => errors.required(&at.key("command")),
            "httpGet" => {
                if text(action, "path").is_empty() {
                    errors.required(&at.key("path"));
                }
                port(action, &at, errors);
                errors.one_of(&at, action, "scheme", &["HTTP", "HTTPS"]);
            }
            "tcpSocket" | "grpc" => port(action, &at, errors),
            _ => {}
        }
    }
    if found == 0 {
        errors.required_because(at, "must specify a handler type");
    }
}

/// A port by number or by name.
pub(super) fn port(object: &Value, at: &At, errors: &mut Errors) {
    let value = object.get("port").unwrap_or(&Value::Null);
    port_or_name(value, &at.key("port"), errors);
}

/// As [`port`], for a value.
pub(super) fn port_or_name(value: &Value, at: &At, errors: &mut Errors) {
    match value {
        Value::String(name) => errors.format(at, value, format::port_name(name)),
        Value::Number(number) => {
            errors.format(at, value, format::port_number(number.as_i64().unwrap_or(0)));
        }
        _ => errors.invalid(at, &json!(0), "must be between 1 and 65535, inclusive"),
    }
}
