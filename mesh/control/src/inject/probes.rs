//! Probes of the application go through the agent: it asks the application inside the pod, so that
//! they work whatever the sidecar accepts from outside.

use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::{Map, Value, json};

/// Port of the agent.
pub(super) const AGENT_PORT: i32 = 15020;

/// Points the HTTP, TCP and gRPC probes of a container at the agent and notes the originals, by
/// the path that the agent serves for each. Probes by command stay.
pub(super) fn rewrite(container: &mut Container, originals: &mut Map<String, Value>) {
    let ports = container.ports.clone().unwrap_or_default();
    let number = |port: &IntOrString| match port {
        IntOrString::Int(number) => json!(number),
        IntOrString::String(name) => {
            let named = ports.iter().find(|port| port.name.as_ref() == Some(name));
            named.map_or_else(|| json!(name), |port| json!(port.container_port))
        }
    };
    let name = container.name.clone();
    for (probe, suffix) in [
        (&mut container.liveness_probe, "livez"),
        (&mut container.readiness_probe, "readyz"),
        (&mut container.startup_probe, "startupz"),
    ] {
        let Some(probe) = probe else { continue };
        let Some(mut original) = original(probe, &number) else {
            continue;
        };
        original["timeoutSeconds"] = json!(probe.timeout_seconds.unwrap_or(1));
        let path = format!("/app-health/{name}/{suffix}");
        originals.insert(path.clone(), original);
        probe.tcp_socket = None;
        probe.grpc = None;
        probe.http_get = Some(HTTPGetAction {
            path: Some(path),
            port: IntOrString::Int(AGENT_PORT),
            ..HTTPGetAction::default()
        });
    }
}

fn original(probe: &Probe, number: &impl Fn(&IntOrString) -> Value) -> Option<Value> {
    if let Some(get) = &probe.http_get {
        let mut action =
            json!({ "path": get.path.as_deref().unwrap_or("/"), "port": number(&get.port) });
        for (field, value) in [("host", &get.host), ("scheme", &get.scheme)] {
            if let Some(value) = value {
                action[field] = json!(value);
            }
        }
        if let Some(headers) = &get.http_headers {
            action["httpHeaders"] = json!(headers);
        }
        return Some(json!({ "httpGet": action }));
    }
    if let Some(tcp) = &probe.tcp_socket {
        return Some(json!({ "tcpSocket": { "port": number(&tcp.port) } }));
    }
    let grpc = probe.grpc.as_ref()?;
    Some(
        json!({ "grpc": { "port": grpc.port, "service": grpc.service.as_deref().unwrap_or_default() } }),
    )
}
