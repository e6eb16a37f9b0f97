//! The service that a request is for: is it there, has it pods, is its port HTTP?

use serde_json::Value;

use super::{
    Cause, Objects, Subject, cause, nearest,
    objects::{Host, items, name, namespace, pairs, strings},
};

/// Names of ports that stand for HTTP, up to the first `-`.
const HTTP: &[&str] = &["http", "http2", "grpc", "grpc-web"];

pub(super) fn causes(objects: &Objects, subject: &Subject) -> Vec<Cause> {
    let Some(wanted) = &subject.service else {
        return Vec::new();
    };
    match objects.service(wanted) {
        None => absent(objects, &wanted.0, &wanted.1),
        Some(service) => {
            let mut found = without_pods(objects, service);
            found.extend(target_port(objects, service));
            found.extend(port_name(objects, service));
            found
        }
    }
}

fn absent(objects: &Objects, host: &str, from: &str) -> Vec<Cause> {
    let (wanted, wanted_namespace) = match Host::resolve(host, from) {
        Host::Service(name, namespace) => (name, namespace),
        Host::Other(other) => {
            let entry = objects
                .of("ServiceEntry")
                .any(|entry| strings(&entry["spec"]["hosts"]).any(|h| h == other));
            if entry {
                return Vec::new();
            }
            return cause(
                "host-unknown",
                format!("nothing in the cluster is called {other}: no Service, no ServiceEntry"),
                format!(
                    "{other}이라는 것이 클러스터에 없습니다. Service도 ServiceEntry도 없습니다"
                ),
            );
        }
    };
    if let Some(elsewhere) = objects.of("Service").find(|s| name(s) == wanted) {
        let other = namespace(elsewhere);
        return cause(
            "service-in-other-namespace",
            format!(
                "Service {wanted} is in namespace {other}; from {wanted_namespace} it is called {wanted}.{other}.svc.cluster.local"
            ),
            format!(
                "Service {wanted}은(는) {other} 네임스페이스에 있습니다. {wanted_namespace}에서는 {wanted}.{other}.svc.cluster.local로 부릅니다"
            ),
        );
    }
    let here = objects
        .of("Service")
        .filter(|s| namespace(s) == wanted_namespace);
    let near = nearest(&wanted, here.map(name));
    cause(
        "service-missing",
        match near {
            Some(near) => format!("there is no Service {wanted}; did you mean {near}?"),
            None => format!(
                "there is no Service {wanted} in namespace {wanted_namespace}; is the application running? (kubectl get services)"
            ),
        },
        match near {
            Some(near) => format!("Service {wanted}이(가) 없습니다. {near}을(를) 뜻하셨습니까?"),
            None => format!(
                "{wanted_namespace} 네임스페이스에 Service {wanted}이(가) 없습니다. 애플리케이션이 떠 있습니까? (kubectl get services)"
            ),
        },
    )
}

fn without_pods(objects: &Objects, service: &Value) -> Vec<Cause> {
    if !objects.pods_of(service).is_empty() || pairs(&service["spec"]["selector"]).is_empty() {
        return Vec::new();
    }
    let selector: Vec<String> = pairs(&service["spec"]["selector"])
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    let (selector, of) = (selector.join(","), name(service));
    let scaled_down = objects.of("Deployment").find(|deployment| {
        namespace(deployment) == namespace(service)
            && deployment["spec"]["replicas"] == 0
            && pairs(&service["spec"]["selector"])
                .iter()
                .all(|(k, v)| deployment["spec"]["template"]["metadata"]["labels"][k] == **v)
    });
    if let Some(deployment) = scaled_down {
        let deployment = name(deployment);
        return cause(
            "scaled-to-zero",
            format!(
                "Deployment {deployment} behind Service {of} has 0 replicas: kubectl scale deployment {deployment} --replicas=1"
            ),
            format!(
                "Service {of} 뒤의 Deployment {deployment}의 레플리카가 0개입니다: kubectl scale deployment {deployment} --replicas=1"
            ),
        );
    }
    cause(
        "selector-without-pods",
        format!(
            "Service {of} selects {selector}, and no pod has these labels (kubectl get pods --show-labels)"
        ),
        format!(
            "Service {of}의 셀렉터는 {selector}인데 그런 레이블을 가진 파드가 없습니다 (kubectl get pods --show-labels)"
        ),
    )
}

/// The Service sends to a port that no container of its pods has.
fn target_port(objects: &Objects, service: &Value) -> Vec<Cause> {
    let pods = objects.pods_of(service);
    for port in items(&service["spec"]["ports"]) {
        let target = match &port["targetPort"] {
            Value::Null => &port["port"],
            target => target,
        };
        let declared: Vec<&Value> = pods
            .iter()
            .flat_map(|pod| items(&pod["spec"]["containers"]))
            .filter(|container| container["name"] != "istio-proxy")
            .flat_map(|container| items(&container["ports"]))
            .collect();
        let there = declared
            .iter()
            .any(|p| p["containerPort"] == *target || p["name"] == *target);
        if !declared.is_empty() && !there {
            let ports: Vec<String> = declared
                .iter()
                .map(|p| p["containerPort"].to_string())
                .collect();
            let (of, ports) = (name(service), ports.join(", "));
            return cause(
                "target-port",
                format!("Service {of} sends to port {target} of its pods, which listen on {ports}"),
                format!(
                    "Service {of}은(는) 파드의 {target} 포트로 보내는데, 파드는 {ports}에서 듣습니다"
                ),
            );
        }
    }
    Vec::new()
}

/// The mesh takes a port for HTTP by its name; rules for HTTP do nothing to any other.
fn port_name(objects: &Objects, service: &Value) -> Vec<Cause> {
    let ruled = objects.of("VirtualService").any(|rule| {
        let mut hosts = strings(&rule["spec"]["hosts"]);
        let wanted = Host::Service(name(service).into(), namespace(service).into());
        hosts.any(|host| Host::resolve(host, namespace(rule)) == wanted)
    });
    let odd = items(&service["spec"]["ports"]).find(|port| {
        let by_name = port["name"].as_str().and_then(|n| n.split('-').next());
        let protocol = port["appProtocol"].as_str().or(by_name);
        protocol.is_some_and(|p| !HTTP.contains(&p))
            && ["tcp", "mongo", "redis", "mysql", "udp", "tls", "https"]
                .contains(&protocol.unwrap_or(""))
    });
    match odd {
        Some(port) if ruled => {
            let (of, shown) = (
                name(service),
                port["name"].as_str().unwrap_or("?").to_owned(),
            );
            cause(
                "port-not-http",
                format!(
                    "port {shown} of Service {of} is not HTTP by its name, so rules for HTTP do nothing to it; name it http or http-..."
                ),
                format!(
                    "Service {of}의 포트 이름 {shown}은(는) HTTP가 아니므로 HTTP 규칙이 적용되지 않습니다. 이름을 http 또는 http-...로 바꾸십시오"
                ),
            )
        }
        _ => Vec::new(),
    }
}
