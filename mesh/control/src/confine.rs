//! The admission rule of a class: what a student makes stays inside of the student's namespace.
//!
//! Its ValidatingWebhookConfiguration is installed with a class and is about the namespaces of
//! students alone. The path names the class's domain; the student's host is `NAMESPACE.DOMAIN`.
//! Istio's kinds that are not named here reach no further than their namespace by themselves.

use axum::{Json, Router, extract::Path, routing::post};
use serde_json::Value;

/// Protocols that are told apart by host, so that many can share a port of the gateway.
const BY_HOST: [&str; 6] = ["HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTPS", "TLS"];
/// What the init container of the sidecar needs to redirect connections.
const REDIRECTS: [&str; 2] = ["NET_ADMIN", "NET_RAW"];
/// Capabilities that the Pod Security level `baseline` lets anybody add.
const HARMLESS: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// `POST /confine/DOMAIN`: AdmissionReview in, AdmissionReview out.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/confine/{domain}", post(confine))
}

async fn confine(Path(domain): Path<String>, Json(review): Json<Value>) -> Json<Value> {
    let request = &review["request"];
    let namespace = text(&request["namespace"]);
    let host = format!("{namespace}.{domain}");
    let found = outside(&request["object"], namespace, &host);
    let response = if found.is_empty() {
        serde_json::json!({ "allowed": true })
    } else {
        serde_json::json!({ "allowed": false, "status": {
            "code": 403, "reason": "Forbidden",
            "message": format!("in a class: {}", found.join("; ")),
        } })
    };
    crate::inject::answer(request, response)
}

/// What of an object reaches beyond the namespace, each with what to write instead. `host` is the
/// student's at the gateway.
pub(crate) fn outside(object: &Value, namespace: &str, host: &str) -> Vec<String> {
    let spec = &object["spec"];
    match text(&object["kind"]) {
        "Gateway" => gateway(spec, host),
        "VirtualService" => virtual_service(spec, namespace, host),
        "ServiceEntry" => service_entry(spec, namespace, host),
        "Service" => service(spec),
        "Pod" => pod(spec),
        _ => Vec::new(),
    }
}

fn gateway(spec: &Value, own: &str) -> Vec<String> {
    let mut found = Vec::new();
    for server in list(&spec["servers"]) {
        let protocol = text(&server["port"]["protocol"]).to_uppercase();
        if !BY_HOST.contains(&protocol.as_str()) {
            found.push(format!(
                "a server of protocol {protocol} takes its whole port of the gateway; use one of {}",
                BY_HOST.join(", ")
            ));
        }
        for name in list(&server["hosts"]).map(text) {
            let bare = name.rsplit('/').next().unwrap_or(name);
            if !inside(bare, own) {
                found.push(format!(
                    "host {name:?} of the Gateway is not yours; use {own} or NAME.{own}"
                ));
            }
        }
    }
    found
}

fn virtual_service(spec: &Value, namespace: &str, own: &str) -> Vec<String> {
    let gateways: Vec<&str> = list(&spec["gateways"]).map(text).collect();
    let mut found: Vec<String> = gateways
        .iter()
        .filter_map(|name| name.split_once('/'))
        .filter(|(of, _)| *of != namespace && *of != ".")
        .map(|(of, name)| format!("Gateway {of}/{name} is of another namespace; use one of yours"))
        .collect();
    // At a Gateway of the namespace a host counts as far as the Gateway has it, too.
    let in_mesh = gateways.is_empty() || gateways.contains(&"mesh");
    if in_mesh && !private(&spec["exportTo"], namespace) {
        let hosts = list(&spec["hosts"]).map(text);
        let foreign = hosts.filter(|name| !is_service_of(name, namespace) && !inside(name, own));
        found.extend(foreign.map(|name| {
            format!(
                "host {name:?} is of the whole mesh; use a service of yours, or exportTo: [\".\"]"
            )
        }));
    }
    found
}

fn service_entry(spec: &Value, namespace: &str, own: &str) -> Vec<String> {
    if private(&spec["exportTo"], namespace) {
        return Vec::new();
    }
    list(&spec["hosts"])
        .map(text)
        .filter(|name| !inside(name, own))
        .map(|name| {
            format!("host {name:?} would be there for the whole mesh; add exportTo: [\".\"]")
        })
        .collect()
}

fn service(spec: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if list(&spec["externalIPs"]).next().is_some() {
        found.push("externalIPs take addresses from others; leave them out".to_owned());
    }
    if text(&spec["type"]) == "LoadBalancer" {
        found.push("the way in is the shared gateway; use type ClusterIP".to_owned());
    }
    found
}

/// What Pod Security's level `baseline` refuses and a node would suffer from. The namespaces cannot
/// enforce that level itself, since the sidecar's init container needs NET_ADMIN.
fn pod(spec: &Value) -> Vec<String> {
    let mut found: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| spec[*field] == true)
        .map(|field| format!("{field} is not allowed"))
        .collect();
    if list(&spec["volumes"]).any(|volume| !volume["hostPath"].is_null()) {
        found.push("a volume hostPath is not allowed".to_owned());
    }
    let containers = ["initContainers", "containers", "ephemeralContainers"];
    for container in containers.iter().flat_map(|field| list(&spec[*field])) {
        let name = text(&container["name"]);
        let context = &container["securityContext"];
        if context["privileged"] == true {
            found.push(format!("container {name} is privileged"));
        }
        if list(&container["ports"]).any(|port| port["hostPort"].as_u64().unwrap_or(0) != 0) {
            found.push(format!("container {name} takes a hostPort"));
        }
        let allowed = |capability: &str| {
            HARMLESS.contains(&capability)
                || name == "istio-init" && REDIRECTS.contains(&capability)
        };
        let added = list(&context["capabilities"]["add"]).map(text);
        found.extend(
            added
                .filter(|capability| !allowed(capability))
                .map(|capability| format!("container {name} adds the capability {capability}")),
        );
    }
    found
}

/// Whether a name is the student's host or below it.
fn inside(name: &str, own: &str) -> bool {
    name == own
        || name
            .strip_suffix(own)
            .is_some_and(|rest| rest.ends_with('.'))
}

/// Whether a name of the mesh is of a service of the namespace. A name without a dot is.
fn is_service_of(name: &str, namespace: &str) -> bool {
    let name = name.strip_suffix(".svc.cluster.local").unwrap_or(name);
    let name = name.strip_suffix(".svc").unwrap_or(name);
    match name.rsplit_once('.') {
        Some((_, of)) => of == namespace,
        None => !name.contains('*'),
    }
}

/// Whether nobody outside of the namespace sees it.
fn private(export_to: &Value, namespace: &str) -> bool {
    let mut to = list(export_to).map(text).peekable();
    to.peek().is_some() && to.all(|name| name == "." || name == "~" || name == namespace)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(kind: &str, spec: Value) -> Vec<String> {
        outside(
            &json!({ "kind": kind, "spec": spec }),
            "kim",
            "kim.class.test",
        )
    }

    #[test]
    fn hosts_at_the_gateway_are_the_students_own() {
        let server = |host: &str, protocol: &str| {
            let port = json!({ "number": 80, "name": "http", "protocol": protocol });
            found(
                "Gateway",
                json!({ "servers": [{ "port": port, "hosts": [host] }] }),
            )
        };
        for good in [
            "kim.class.test",
            "shop.kim.class.test",
            "*.kim.class.test",
            "./kim.class.test",
        ] {
            assert!(server(good, "HTTP").is_empty(), "{good}");
        }
        for bad in [
            "*",
            "lee.class.test",
            "*.class.test",
            "akim.class.test",
            "kim/*",
        ] {
            assert_eq!(server(bad, "HTTP").len(), 1, "{bad}");
        }
        assert!(server("kim.class.test", "TCP")[0].contains("whole port"));
    }

    #[test]
    fn routes_are_for_the_students_own_services() {
        let rule = |spec: Value| found("VirtualService", spec).len();
        for host in [
            "reviews",
            "reviews.kim",
            "reviews.kim.svc.cluster.local",
            "kim.class.test",
        ] {
            assert_eq!(rule(json!({ "hosts": [host] })), 0, "{host}");
        }
        for host in [
            "*",
            "reviews.lee",
            "reviews.lee.svc.cluster.local",
            "*.com",
            "example.com",
        ] {
            assert_eq!(rule(json!({ "hosts": [host] })), 1, "{host}");
            assert_eq!(
                rule(json!({ "hosts": [host], "exportTo": ["."] })),
                0,
                "{host}"
            );
            assert_eq!(
                rule(json!({ "hosts": [host], "exportTo": [".", "*"] })),
                1,
                "{host}"
            );
        }
        assert_eq!(
            rule(json!({ "hosts": ["*"], "gateways": ["bookinfo"] })),
            0,
            "the Gateway confines it"
        );
        assert_eq!(
            rule(json!({ "hosts": ["*"], "gateways": ["bookinfo", "mesh"] })),
            1
        );
        assert_eq!(
            rule(json!({ "hosts": ["reviews"], "gateways": ["lee/bookinfo"] })),
            1
        );
        assert_eq!(
            rule(json!({ "hosts": ["reviews"], "gateways": ["kim/bookinfo"] })),
            0
        );
    }

    #[test]
    fn what_is_outside_of_the_mesh_is_for_the_student_alone() {
        assert_eq!(
            found("ServiceEntry", json!({ "hosts": ["example.com"] })).len(),
            1
        );
        assert_eq!(
            found(
                "ServiceEntry",
                json!({ "hosts": ["example.com"], "exportTo": ["."] })
            )
            .len(),
            0
        );
        assert_eq!(
            found("Service", json!({ "externalIPs": ["10.0.0.1"] })).len(),
            1
        );
        assert_eq!(found("Service", json!({ "type": "NodePort" })).len(), 0);
        assert_eq!(found("Service", json!({ "type": "LoadBalancer" })).len(), 1);
    }

    #[test]
    fn pods_get_no_hold_of_their_node() {
        let of = |context: Value| json!({ "name": "app", "securityContext": context });
        let pod = |container: Value| found("Pod", json!({ "containers": [container] }));
        assert_eq!(pod(of(json!({ "privileged": true }))).len(), 1);
        let net_admin = json!({ "capabilities": { "add": ["NET_ADMIN", "CHOWN"] } });
        assert_eq!(pod(of(net_admin.clone())).len(), 1);
        assert!(pod(json!({ "name": "istio-init", "securityContext": net_admin })).is_empty());
        assert_eq!(
            found(
                "Pod",
                json!({ "hostNetwork": true, "hostPID": false, "volumes": [{ "name": "a", "hostPath": { "path": "/" } }] })
            )
            .len(),
            2
        );
        assert!(
            pod(json!({ "name": "app", "ports": [{ "containerPort": 80, "hostPort": 0 }] }))
                .is_empty()
        );
        assert!(found("DestinationRule", json!({ "host": "reviews.lee" })).is_empty());
    }
}
