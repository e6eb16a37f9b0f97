//! A Service and who is behind it.

use serde_json::Value;

use super::{
    head,
    page::{Page, annotations, map},
};

pub(super) fn write(page: &mut Page, service: &Value, slices: &Value) {
    let (meta, spec) = (&service["metadata"], &service["spec"]);
    head(page, service);
    page.lines("Labels", &map(&meta["labels"], "="));
    page.lines("Annotations", &annotations(&meta["annotations"]));
    let selector = map(&spec["selector"], "=").join(",");
    page.line(
        "Selector",
        if selector.is_empty() {
            "<none>"
        } else {
            &selector
        },
    );
    page.line("Type", text(&spec["type"]));
    page.line("IP Family Policy", text(&spec["ipFamilyPolicy"]));
    let joined = |list: &Value| {
        let all: Vec<&str> = items(list).filter_map(Value::as_str).collect();
        all.join(",")
    };
    page.line("IP Families", &joined(&spec["ipFamilies"]));
    page.line("IP", text(&spec["clusterIP"]));
    page.line("IPs", &joined(&spec["clusterIPs"]));
    for ingress in items(&service["status"]["loadBalancer"]["ingress"]) {
        let address = ingress["ip"].as_str().unwrap_or(text(&ingress["hostname"]));
        let mode = ingress["ipMode"].as_str();
        let mode = mode.map_or(String::new(), |mode| format!(" ({mode})"));
        page.line("LoadBalancer Ingress", &format!("{address}{mode}"));
    }
    for port in items(&spec["ports"]) {
        let name = port["name"].as_str().unwrap_or("<unset>");
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        page.line("Port", &format!("{name}  {}/{protocol}", port["port"]));
        let target = match &port["targetPort"] {
            Value::String(name) => name.clone(),
            other => other.to_string(),
        };
        page.line("TargetPort", &format!("{target}/{protocol}"));
        if port["nodePort"].as_u64().is_some_and(|port| port > 0) {
            page.line(
                "NodePort",
                &format!("{name}  {}/{protocol}", port["nodePort"]),
            );
        }
        page.line(
            "Endpoints",
            &endpoints(slices, port["name"].as_str().unwrap_or_default()),
        );
    }
    page.line("Session Affinity", text(&spec["sessionAffinity"]));
    if let Some(policy) = spec["externalTrafficPolicy"].as_str() {
        page.line("External Traffic Policy", policy);
    }
    page.line(
        "Internal Traffic Policy",
        text(&spec["internalTrafficPolicy"]),
    );
}

/// The ready addresses behind a port, three at most.
fn endpoints(slices: &Value, port_name: &str) -> String {
    let mut all = Vec::new();
    for slice in items(&slices["items"]) {
        let mut ports = items(&slice["ports"]);
        let port = ports.find(|p| p["name"].as_str().unwrap_or_default() == port_name);
        let Some(number) = port.map(|p| p["port"].to_string()) else {
            continue;
        };
        let ready = items(&slice["endpoints"]).filter(|e| e["conditions"]["ready"] != false);
        for address in ready.flat_map(|endpoint| items(&endpoint["addresses"])) {
            all.push(format!("{}:{number}", text(address)));
        }
    }
    match all.len() {
        0 => String::new(),
        1..=3 => all.join(","),
        more => format!("{} + {} more...", all[..3].join(","), more - 3),
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_ready_addresses_are_endpoints() {
        let slices = json!({ "items": [{ "ports": [{ "name": "http", "port": 80 }], "endpoints": [
            { "addresses": ["127.1.0.2"], "conditions": { "ready": true } },
            { "addresses": ["127.1.0.3"], "conditions": { "ready": false } },
        ] }] });
        assert_eq!(endpoints(&slices, "http"), "127.1.0.2:80");
        assert_eq!(endpoints(&slices, "other"), "");
    }
}
