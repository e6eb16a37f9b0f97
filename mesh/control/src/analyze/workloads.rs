//! What only a look at namespaces, pods and ports shows. Much of it is so for a moment whenever an
//! application starts, so it is told when asked and not written to statuses.

use std::collections::BTreeMap;

use mesh_api::Host;
use serde_json::Value;

use super::{Source, findings::Id};
use crate::{
    compile::Compiler,
    report::Message,
    world::{PROXY_CONTAINER, Protocol, selects},
};

/// Namespaces of the system, which are never part of the mesh.
const SYSTEM: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "istio-system",
];

const INJECTION_LABEL: &str = "istio-injection";

/// Messages about namespaces, pods, services and what selects them.
pub(super) fn look(sources: &[Source], compiler: &Compiler) -> Vec<(Id, Message)> {
    let mut found = Vec::new();
    let injected = namespaces(sources, &mut found);
    for Source { object, .. } in sources {
        match object["kind"].as_str().unwrap_or_default() {
            "Pod" => {
                found.extend(pod(object, &injected));
                found.extend(annotations(object));
            }
            "Service" => found.extend(unnamed_ports(object)),
            _ => {}
        }
    }
    found.extend(subsets(compiler));
    found.extend(selectors(sources, compiler));
    found
}

fn id(object: &Value) -> Id {
    let text = |field: &str| {
        object["metadata"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let kind = object["kind"].as_str().unwrap_or_default();
    (kind.to_owned(), text("namespace"), text("name"))
}

/// Whether each namespace injects.
fn namespaces(sources: &[Source], found: &mut Vec<(Id, Message)>) -> BTreeMap<String, bool> {
    let mut injected = BTreeMap::new();
    let all = sources
        .iter()
        .filter(|source| source.object["kind"] == "Namespace");
    for Source { object, .. } in all {
        let labels = &object["metadata"]["labels"];
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let (switch, revision) = (
            labels[INJECTION_LABEL].as_str(),
            labels["istio.io/rev"].as_str(),
        );
        injected.insert(
            name.to_owned(),
            switch == Some("enabled") || revision.is_some(),
        );
        let id = ("Namespace".to_owned(), String::new(), name.to_owned());
        if switch.is_some() && revision.is_some() {
            let text = "The namespace has more than one injection label (istio-injection, istio.io/rev), which may lead to undefined behavior. Make sure only one exists.".to_owned();
            found.push((
                id,
                Message::warning("IST0123", "NamespaceMultipleInjectionLabels", text),
            ));
        } else if switch.is_none() && revision.is_none() && !SYSTEM.contains(&name) {
            let text = format!(
                "The namespace is not enabled for Istio injection. Run 'kubectl label namespace {name} {INJECTION_LABEL}=enabled' to enable it, or 'kubectl label namespace {name} {INJECTION_LABEL}=disabled' to explicitly mark it as not needing injection."
            );
            found.push((id, Message::info("IST0102", "NamespaceNotInjected", text)));
        }
    }
    injected
}

fn pod(object: &Value, injected: &BTreeMap<String, bool>) -> Option<(Id, Message)> {
    let id = id(object);
    let off = |from: &Value| from["sidecar.istio.io/inject"] == "false";
    let metadata = &object["metadata"];
    let gone = matches!(
        object["status"]["phase"].as_str(),
        Some("Succeeded" | "Failed")
    );
    if injected.get(&id.1) != Some(&true)
        || gone
        || off(&metadata["labels"])
        || off(&metadata["annotations"])
    {
        return None;
    }
    let spec = &object["spec"];
    let mut containers = [&spec["containers"], &spec["initContainers"]]
        .into_iter()
        .flat_map(|list| list.as_array().into_iter().flatten());
    if containers.any(|container| container["name"] == PROXY_CONTAINER) {
        return None;
    }
    let text = format!(
        "The pod {}/{} is missing the Istio proxy. This can often be resolved by restarting or redeploying the workload.",
        id.1, id.2
    );
    Some((id, Message::warning("IST0103", "PodMissingProxy", text)))
}

/// What a pod asks of the injector in vain.
fn annotations(object: &Value) -> Vec<(Id, Message)> {
    let annotations = object["metadata"]["annotations"].as_object();
    let annotations = annotations.into_iter().flatten();
    let texts = annotations
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect();
    crate::inject::not_carried_out(&texts)
        .into_iter()
        .map(|text| (id(object), Message::not_carried_out(text)))
        .collect()
}

fn unnamed_ports(object: &Value) -> Vec<(Id, Message)> {
    let id = id(object);
    if SYSTEM.contains(&id.1.as_str()) || object["spec"]["type"] == "ExternalName" {
        return Vec::new();
    }
    let ports = object["spec"]["ports"].as_array().into_iter().flatten();
    let odd = ports.filter_map(|port| {
        let number = u16::try_from(port["port"].as_u64()?).ok()?;
        let name = port["name"].as_str().unwrap_or_default();
        let of = Protocol::of(port["appProtocol"].as_str(), name, number);
        (of == Protocol::Sniff && port["protocol"] != "UDP").then(|| {
            let target = &port["targetPort"];
            let text = format!(
                "Port name {name} (port: {number}, targetPort: {}) doesn't follow the naming convention of Istio port.",
                target.as_str().map_or_else(|| target.to_string(), str::to_owned)
            );
            (id.clone(), Message::info("IST0118", "PortNameIsNotUnderNamingConvention", text))
        })
    });
    odd.collect()
}

/// Subsets whose labels no pod of the service carries.
fn subsets(compiler: &Compiler) -> Vec<(Id, Message)> {
    let world = compiler.world();
    let mut found = Vec::new();
    for rule in world.destination_rules.values() {
        let owner = &rule.metadata.namespace;
        let host = Host::resolve(&rule.spec.host, owner);
        let Some(service) = compiler.services().get(&host, owner) else {
            continue;
        };
        for subset in rule
            .spec
            .subsets
            .iter()
            .filter(|subset| !subset.labels.is_empty())
        {
            let pods = world.pods.values().filter(|pod| {
                pod.namespace == service.namespace
                    && selects(&service.selector, &pod.labels)
                    && selects(&subset.labels, &pod.labels)
            });
            let entries = service
                .entries
                .iter()
                .filter(|e| selects(&subset.labels, &e.labels));
            if pods.count() + entries.count() == 0 {
                let id = (
                    "DestinationRule".to_owned(),
                    owner.clone(),
                    rule.metadata.name.clone(),
                );
                let text = format!(
                    "The Subset {} defined in the DestinationRule does not select any pods.",
                    subset.name
                );
                found.push((
                    id,
                    Message::error("IST0173", "DestinationRuleSubsetNotSelectPods", text),
                ));
            }
        }
    }
    found
}

/// Selectors of policies that choose no pod.
fn selectors(sources: &[Source], compiler: &Compiler) -> Vec<(Id, Message)> {
    let mut found = Vec::new();
    for Source { object, .. } in sources {
        let id = id(object);
        if mesh_api::kind(&id.0).is_none() || id.0 == "Gateway" || id.0 == "ServiceEntry" {
            continue;
        }
        let spec = &object["spec"];
        let labels = [
            &spec["selector"]["matchLabels"],
            &spec["workloadSelector"]["labels"],
        ];
        let Some(labels) = labels.into_iter().find_map(Value::as_object) else {
            continue;
        };
        let labels: BTreeMap<String, String> = labels
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect();
        let everywhere = id.1 == crate::ROOT_NAMESPACE;
        let mut pods = compiler.world().pods.values();
        if !pods.any(|pod| (everywhere || pod.namespace == id.1) && selects(&labels, &pod.labels)) {
            let pairs: Vec<_> = labels
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let text = format!(
                "No matching workloads for this resource with the following labels: {}",
                pairs.join(",")
            );
            found.push((
                id,
                Message::warning("IST0127", "NoMatchingWorkloadsFound", text),
            ));
        }
    }
    found
}
