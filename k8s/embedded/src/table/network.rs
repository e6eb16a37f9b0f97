//! Rows of Services, their endpoints, and Ingresses.

use jiff::Timestamp;
use serde_json::Value;

use super::text::{first, labels, list, name, none_if_empty, number, or_none, selector, text};
use super::{Column, NAME_DESCRIPTION, age, age_column};

pub(super) const SERVICE: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    ("Type", "string", 0, "How the service is exposed."),
    ("Cluster-IP", "string", 0, "Address within the cluster."),
    (
        "External-IP",
        "string",
        0,
        "Address outside, or the external name.",
    ),
    (
        "Port(s)",
        "string",
        0,
        "Ports, and node ports after the colon.",
    ),
    age_column(),
    (
        "Selector",
        "string",
        1,
        "Labels of the pods behind the service.",
    ),
];

pub(super) fn service(service: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(service, "/spec/ports")
        .iter()
        .map(|port| {
            let (number_, node) = (number(port, "/port"), number(port, "/nodePort"));
            let protocol = text(port, "/protocol");
            if node > 0 {
                format!("{number_}:{node}/{protocol}")
            } else {
                format!("{number_}/{protocol}")
            }
        })
        .collect();
    let cluster_ip = match text(service, "/spec/clusterIPs/0") {
        "" => or_none(service, "/spec/clusterIP"),
        address => address.to_owned(),
    };
    vec![
        name(service),
        text(service, "/spec/type").into(),
        cluster_ip.into(),
        external_ip(service).into(),
        none_if_empty(ports.join(",")).into(),
        age::of_object(service, now),
        labels(service.pointer("/spec/selector")).into(),
    ]
}

fn external_ip(service: &Value) -> String {
    let external: Vec<&str> = list(service, "/spec/externalIPs")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    match text(service, "/spec/type") {
        "LoadBalancer" => {
            let balancer = ingress_points(service);
            let all: Vec<&str> = balancer
                .iter()
                .map(String::as_str)
                .chain(external.iter().copied())
                .collect();
            if all.is_empty() {
                "<pending>".into()
            } else {
                all.join(",")
            }
        }
        "ExternalName" => text(service, "/spec/externalName").to_owned(),
        _ => none_if_empty(external.join(",")),
    }
}

/// Addresses or names in `status.loadBalancer.ingress`.
fn ingress_points(object: &Value) -> Vec<String> {
    list(object, "/status/loadBalancer/ingress")
        .iter()
        .map(|point| match text(point, "/ip") {
            "" => text(point, "/hostname").to_owned(),
            address => address.to_owned(),
        })
        .filter(|point| !point.is_empty())
        .collect()
}

pub(super) const ENDPOINTS: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    (
        "Endpoints",
        "string",
        0,
        "Addresses and ports that are ready.",
    ),
    age_column(),
];

pub(super) fn endpoints(endpoints: &Value, now: Timestamp) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in list(endpoints, "/subsets") {
        let addresses = list(subset, "/addresses");
        let ports = list(subset, "/ports");
        if ports.is_empty() {
            all.extend(
                addresses
                    .iter()
                    .map(|address| text(address, "/ip").to_owned()),
            );
        }
        for port in ports {
            for address in addresses {
                all.push(format!(
                    "{}:{}",
                    text(address, "/ip"),
                    number(port, "/port")
                ));
            }
        }
    }
    vec![
        name(endpoints),
        none_if_empty(first(&all, 3)).into(),
        age::of_object(endpoints, now),
    ]
}

pub(super) const ENDPOINT_SLICE: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    ("AddressType", "string", 0, "IPv4, IPv6 or FQDN."),
    ("Ports", "string", 0, "Ports of every endpoint."),
    ("Endpoints", "string", 0, "Addresses, ready or not."),
    age_column(),
];

pub(super) fn endpoint_slice(slice: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(slice, "/ports")
        .iter()
        .map(|port| match (number(port, "/port"), text(port, "/name")) {
            (0, "") => "*".into(),
            (0, name) => name.to_owned(),
            (number, _) => number.to_string(),
        })
        .collect();
    let addresses: Vec<String> = list(slice, "/endpoints")
        .iter()
        .flat_map(|endpoint| list(endpoint, "/addresses"))
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let or_unset = |text: String| {
        if text.is_empty() {
            String::from("<unset>")
        } else {
            text
        }
    };
    vec![
        name(slice),
        text(slice, "/addressType").into(),
        or_unset(first(&ports, 3)).into(),
        or_unset(first(&addresses, 3)).into(),
        age::of_object(slice, now),
    ]
}

pub(super) const INGRESS: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    ("Class", "string", 0, "IngressClass that implements it."),
    ("Hosts", "string", 0, "Host names of the rules."),
    ("Address", "string", 0, "Where the ingress can be reached."),
    ("Ports", "string", 0, "80, and 443 with TLS."),
    age_column(),
];

pub(super) fn ingress(ingress: &Value, now: Timestamp) -> Vec<Value> {
    let hosts: Vec<String> = list(ingress, "/spec/rules")
        .iter()
        .map(|rule| text(rule, "/host").to_owned())
        .filter(|host| !host.is_empty())
        .collect();
    let hosts = if hosts.is_empty() {
        "*".into()
    } else {
        first(&hosts, 3)
    };
    let ports = if list(ingress, "/spec/tls").is_empty() {
        "80"
    } else {
        "80, 443"
    };
    vec![
        name(ingress),
        or_none(ingress, "/spec/ingressClassName").into(),
        hosts.into(),
        ingress_points(ingress).join(",").into(),
        ports.into(),
        age::of_object(ingress, now),
    ]
}

pub(super) const INGRESS_CLASS: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    (
        "Controller",
        "string",
        0,
        "Controller that handles the class.",
    ),
    (
        "Parameters",
        "string",
        0,
        "Object with the class's settings.",
    ),
    age_column(),
];

pub(super) fn ingress_class(class: &Value, now: Timestamp) -> Vec<Value> {
    let parameters = match (
        text(class, "/spec/parameters/kind"),
        text(class, "/spec/parameters/apiGroup"),
    ) {
        ("", _) => "<none>".into(),
        (kind, "") => format!("{kind}/{}", text(class, "/spec/parameters/name")),
        (kind, group) => format!("{kind}.{group}/{}", text(class, "/spec/parameters/name")),
    };
    vec![
        name(class),
        text(class, "/spec/controller").into(),
        parameters.into(),
        age::of_object(class, now),
    ]
}

pub(super) const NETWORK_POLICY: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    (
        "Pod-Selector",
        "string",
        0,
        "Pods that the policy is about.",
    ),
    age_column(),
];

pub(super) fn network_policy(policy: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(policy),
        selector(policy.pointer("/spec/podSelector")).into(),
        age::of_object(policy, now),
    ]
}
