//! Services. What is allocated (addresses, node ports) is checked by the allocator too.

use serde_json::{Value, json};
use std::collections::HashSet;

use super::container::port_or_name;
use super::{At, Errors, entries, format, given, list, text};

/// Ports that a NodePort may have.
const NODE_PORTS: std::ops::RangeInclusive<i64> = 30000..=32767;

pub(super) fn validate(old: Option<&Value>, new: &Value, errors: &mut Errors) {
    let at = At::root().key("spec");
    let spec = &new["spec"];
    let kind = text(spec, "type");
    let headless = text(spec, "clusterIP") == "None";
    if list(spec, "ports").is_empty() && !headless && kind != "ExternalName" {
        errors.required(&at.key("ports"));
    }
    match kind {
        "LoadBalancer" if headless => {
            errors.invalid(
                &at.key("clusterIPs").index(0),
                &json!("None"),
                "may not be set to 'None' for LoadBalancer services",
            );
        }
        "NodePort" if headless => {
            errors.invalid(
                &at.key("clusterIPs").index(0),
                &json!("None"),
                "may not be set to 'None' for NodePort services",
            );
        }
        "ExternalName" => {
            if !text(spec, "clusterIP").is_empty() {
                errors.forbidden(
                    &at.key("clusterIPs"),
                    "may not be set for ExternalName services",
                );
            }
            match text(spec, "externalName").trim_end_matches('.') {
                "" => errors.required(&at.key("externalName")),
                name => errors.format(
                    &at.key("externalName"),
                    &json!(name),
                    format::subdomain(name),
                ),
            }
        }
        _ => {}
    }
    let all = list(spec, "ports");
    let mut names = HashSet::new();
    for (index, port) in all.iter().enumerate() {
        port_of_service(
            port,
            &at.key("ports").index(index),
            all.len() > 1,
            headless,
            &mut names,
            errors,
        );
    }
    for (key, value) in entries(spec, "selector") {
        let at = at.key("selector");
        errors.format(&at, &key.as_str().into(), format::qualified_name(key));
        errors.format(
            &at,
            value,
            format::label_value(value.as_str().unwrap_or("")),
        );
    }
    errors.one_of(&at, spec, "sessionAffinity", &["ClientIP", "None"]);
    for (index, address) in list(spec, "externalIPs").iter().enumerate() {
        if address
            .as_str()
            .is_none_or(|text| text.parse::<std::net::IpAddr>().is_err())
        {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.invalid(&at.key("externalIPs").index(index), address, why);
        }
    }
    errors.one_of(
        &at,
        spec,
        "type",
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
    );
    // A type that has no node ports any more gives them back when they are allocated.
    let had_node_ports =
        old.is_some_and(|old| matches!(text(&old["spec"], "type"), "NodePort" | "LoadBalancer"));
    let no_node_ports = kind == "ClusterIP" && !had_node_ports;
    duplicates(all, &at.key("ports"), no_node_ports, errors);
    errors.one_of(&at, spec, "externalTrafficPolicy", &["Cluster", "Local"]);
    errors.one_of(&at, spec, "internalTrafficPolicy", &["Cluster", "Local"]);
    if let Some(old) = old {
        update(&old["spec"], spec, &at, errors);
    }
}

fn port_of_service<'v>(
    port: &'v Value,
    at: &At,
    named: bool,
    headless: bool,
    names: &mut HashSet<&'v str>,
    errors: &mut Errors,
) {
    match text(port, "name") {
        "" if named => errors.required(&at.key("name")),
        "" => {}
        name => {
            errors.format(&at.key("name"), &json!(name), format::label(name));
            if !names.insert(name) {
                errors.duplicate(&at.key("name"), &json!(name));
            }
        }
    }
    let number = port.get("port").and_then(Value::as_i64).unwrap_or(0);
    errors.format(&at.key("port"), &json!(number), format::port_number(number));
    errors.one_of(at, port, "protocol", &["SCTP", "TCP", "UDP"]);
    match given(port, "targetPort") {
        Some(target) => port_or_name(target, &at.key("targetPort"), errors),
        None => errors.format(
            &at.key("targetPort"),
            &json!(number),
            format::port_number(number),
        ),
    }
    if headless && given(port, "nodePort").is_some_and(|port| *port != 0) {
        errors.forbidden(
            &at.key("nodePort"),
            "may not be used when `clusterIP` is 'None'",
        );
    }
}

/// Ports and node ports that occur twice, and node ports out of range.
fn duplicates(ports: &[Value], at: &At, no_node_ports: bool, errors: &mut Errors) {
    let (mut seen, mut nodes) = (HashSet::new(), HashSet::new());
    for (index, port) in ports.iter().enumerate() {
        let at = at.index(index);
        let protocol = text(port, "protocol");
        let number = port.get("port").and_then(Value::as_i64).unwrap_or(0);
        if !seen.insert((protocol, number)) {
            let value = json!({"Name": "", "Protocol": protocol, "AppProtocol": null, "Port": number, "TargetPort": 0, "NodePort": 0});
            errors.duplicate(&at, &value);
        }
        let Some(node) = port
            .get("nodePort")
            .and_then(Value::as_i64)
            .filter(|node| *node != 0)
        else {
            continue;
        };
        if no_node_ports {
            errors.forbidden(
                &at.key("nodePort"),
                "may not be used when `type` is 'ClusterIP'",
            );
        } else if !NODE_PORTS.contains(&node) {
            let why = format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                NODE_PORTS.start(),
                NODE_PORTS.end()
            );
            errors.invalid(&at.key("nodePort"), &json!(node), &why);
        } else if !nodes.insert((protocol, node)) {
            let value = json!({"Name": "", "Protocol": protocol, "AppProtocol": null, "Port": 0, "TargetPort": 0, "NodePort": node});
            errors.duplicate(&at.key("nodePort"), &value);
        }
    }
}

/// A cluster IP stays, unless the type changes to or from ExternalName. An update without one
/// keeps it.
fn update(old: &Value, new: &Value, at: &At, errors: &mut Errors) {
    let external = |spec: &Value| text(spec, "type") == "ExternalName";
    let before = text(old, "clusterIP");
    let after = text(new, "clusterIP");
    if before.is_empty() || external(old) || external(new) || after.is_empty() || after == before {
        return;
    }
    let addresses = given(new, "clusterIPs")
        .cloned()
        .unwrap_or_else(|| json!([text(new, "clusterIP")]));
    let stale = addresses.get(0).is_some_and(|address| *address == before);
    let value = if stale {
        json!([text(new, "clusterIP")])
    } else {
        addresses
    };
    errors.invalid(
        &at.key("clusterIPs").index(0),
        &value,
        "may not change once set",
    );
}
