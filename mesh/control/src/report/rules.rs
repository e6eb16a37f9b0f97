//! Rules that can never match, and resources that get in each other's way.

use std::collections::BTreeMap;

use mesh_api::{Resource, Sidecar, VirtualService, virtual_service::HttpMatchRequest};

use super::Message;
use crate::{
    compile::{Compiler, oldest_first},
    world::{ObjectId, Protocol, id, selects},
};

pub(super) fn look(compiler: &Compiler, messages: &mut BTreeMap<ObjectId, Vec<Message>>) {
    let world = compiler.world();
    for resource in world.virtual_services.values() {
        let found = messages.entry(id("VirtualService", resource)).or_default();
        unreachable(resource, found);
        delegates(compiler, resource, found);
    }
    for resource in world.service_entries.values() {
        let spec = &resource.spec;
        let plain_tcp = |port: &&mesh_api::service_entry::ServicePort| {
            let number = u16::try_from(port.number).unwrap_or_default();
            let word = port.protocol.to_ascii_lowercase();
            let word = (!word.is_empty()).then_some(word);
            Protocol::of(word.as_deref(), &port.name, number) == Protocol::Tcp
        };
        if spec.addresses.is_empty()
            && let Some(port) = spec.ports.iter().find(plain_tcp)
        {
            let text = format!(
                "ServiceEntry addresses are required for this protocol: {} on port {}",
                port.protocol, port.number
            );
            let message = Message::warning("IST0134", "ServiceEntryAddressesRequired", text);
            messages
                .entry(id("ServiceEntry", resource))
                .or_default()
                .push(message);
        }
    }
    sidecars(compiler, messages);
    gateways(compiler, messages);
}

/// Rules after one that takes everything, and conditions that an earlier rule has already.
fn unreachable(resource: &Resource<VirtualService>, found: &mut Vec<Message>) {
    let mut seen: Vec<&HttpMatchRequest> = Vec::new();
    let mut all_taken = false;
    for (index, rule) in resource.spec.http.iter().enumerate() {
        let name = match rule.name.as_str() {
            "" => format!("#{index}"),
            name => format!("{name:?}"),
        };
        let blocks: Vec<_> = rule.r#match.iter().collect();
        let repeated = !blocks.is_empty() && blocks.iter().all(|block| seen.contains(block));
        let reason = if all_taken {
            Some("only the last rule can have no matches")
        } else if repeated {
            Some("all matches used by prior rules")
        } else {
            None
        };
        if let Some(reason) = reason {
            let text = format!("VirtualService rule {name} not used ({reason}).");
            found.push(Message::warning(
                "IST0130",
                "VirtualServiceUnreachableRule",
                text,
            ));
        }
        all_taken |= blocks.is_empty();
        seen.extend(blocks);
    }
}

fn delegates(compiler: &Compiler, resource: &Resource<VirtualService>, found: &mut Vec<Message>) {
    for rule in &resource.spec.http {
        if let Some(delegate) = &rule.delegate
            && compiler
                .delegate(rule, &resource.metadata.namespace)
                .is_none()
        {
            let name = match delegate.namespace.as_str() {
                "" => delegate.name.clone(),
                namespace => format!("{namespace}/{}", delegate.name),
            };
            let text = format!("Referenced delegate not found: {name:?}");
            found.push(Message::error(
                "IST0101",
                "ReferencedResourceNotFound",
                text,
            ));
        }
    }
}

fn sidecars(compiler: &Compiler, messages: &mut BTreeMap<ObjectId, Vec<Message>>) {
    let world = compiler.world();
    let mut whole: BTreeMap<&str, Vec<&Resource<Sidecar>>> = BTreeMap::new();
    let all = oldest_first(&world.sidecars);
    for sidecar in all
        .iter()
        .filter(|sidecar| sidecar.spec.workload_selector.is_none())
    {
        whole
            .entry(&sidecar.metadata.namespace)
            .or_default()
            .push(sidecar);
    }
    for (namespace, several) in whole.iter().filter(|(_, all)| all.len() > 1) {
        let names: Vec<_> = several
            .iter()
            .map(|sidecar| sidecar.metadata.name.as_str())
            .collect();
        for sidecar in several {
            let text = format!(
                "The Sidecars {names:?} in namespace {namespace:?} have no workload selector, this can lead to undefined behavior."
            );
            let code = "IST0111";
            let message = Message::error(code, "MultipleSidecarsWithoutWorkloadSelectors", text);
            messages
                .entry(id("Sidecar", sidecar))
                .or_default()
                .push(message);
        }
    }
    for pod in world.pods.values() {
        let selecting: Vec<_> = all
            .iter()
            .filter(|sidecar| {
                let selector = sidecar.spec.workload_selector.as_ref();
                sidecar.metadata.namespace == pod.namespace
                    && selector.is_some_and(|selector| selects(&selector.labels, &pod.labels))
            })
            .collect();
        if selecting.len() < 2 {
            continue;
        }
        let names: Vec<_> = selecting
            .iter()
            .map(|sidecar| sidecar.metadata.name.as_str())
            .collect();
        for sidecar in &selecting {
            let text = format!(
                "The Sidecars {names:?} in namespace {:?} select the same workload pod {:?}, which can lead to undefined behavior.",
                pod.namespace, pod.name
            );
            let message = Message::error("IST0110", "ConflictingSidecarWorkloadSelectors", text);
            let of = messages.entry(id("Sidecar", sidecar)).or_default();
            if of.iter().all(|other| other.code != "IST0110") {
                of.push(message);
            }
        }
    }
}

/// Ports that no Service of the gateway leads to.
fn gateways(compiler: &Compiler, messages: &mut BTreeMap<ObjectId, Vec<Message>>) {
    let world = compiler.world();
    for gateway in world.gateways.values() {
        let pods: Vec<_> = world
            .pods
            .values()
            .filter(|pod| selects(&gateway.spec.selector, &pod.labels))
            .collect();
        let services: Vec<_> = pods
            .iter()
            .flat_map(|pod| compiler.services().of_pod(pod))
            .collect();
        if services.is_empty() {
            continue;
        }
        for server in &gateway.spec.servers {
            let number = u16::try_from(server.port.number).unwrap_or_default();
            if services
                .iter()
                .all(|service| service.port(number).is_none())
            {
                let text = format!(
                    "The gateway is listening on a target port (port {number}) that is not defined in the Service associated with its workload instances (Pod selector {:?})",
                    gateway.spec.selector
                );
                let message = Message::warning("IST0162", "GatewayPortNotDefinedOnService", text);
                messages
                    .entry(id("Gateway", gateway))
                    .or_default()
                    .push(message);
            }
        }
    }
}
