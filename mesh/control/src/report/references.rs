//! How objects go together: references to what is not there, and clashes.

use std::collections::{BTreeMap, BTreeSet};

use mesh_api::{
    Gateway, GatewayRef, Host, Resource, VirtualService, gateway::Server,
    virtual_service::Destination,
};

use super::Message;
use crate::{
    compile::{Compiler, oldest_first},
    registry::ObjectId,
    world::World,
};

/// Messages by object, for every object that deserves one.
pub(crate) fn of_world(compiler: &Compiler) -> BTreeMap<ObjectId, Vec<Message>> {
    let world = compiler.world();
    let mut messages: BTreeMap<ObjectId, Vec<Message>> = BTreeMap::new();
    let services: Vec<_> = oldest_first(&world.virtual_services);
    let mut on_mesh: BTreeMap<Host, String> = BTreeMap::new();
    for resource in &services {
        let found = messages.entry(id("VirtualService", resource)).or_default();
        destinations(compiler, resource, found);
        gateways(world, resource, found);
        duplicates(resource, &mut on_mesh, found);
    }
    gateway_clashes(world, &mut messages);
    for rule in world.destination_rules.values() {
        let host = Host::resolve(&rule.spec.host, &rule.metadata.namespace);
        if !host.is_wildcard() && world.service(&host).is_none() {
            let text = format!("Referenced host not found: {:?}", rule.spec.host);
            let message = Message::warning("IST0174", "UnknownDestinationRuleHost", text);
            messages
                .entry(id("DestinationRule", rule))
                .or_default()
                .push(message);
        }
    }
    messages.retain(|_, messages| !messages.is_empty());
    messages
}

fn id<T>(kind: &'static str, resource: &Resource<T>) -> ObjectId {
    (
        kind,
        (
            resource.metadata.namespace.clone(),
            resource.metadata.name.clone(),
        ),
    )
}

fn not_found(what: &str, name: &str) -> Message {
    Message::error(
        "IST0101",
        "ReferencedResourceNotFound",
        format!("Referenced {what} not found: {name:?}"),
    )
}

fn destinations(
    compiler: &Compiler,
    resource: &Resource<VirtualService>,
    found: &mut Vec<Message>,
) {
    let mut seen = BTreeSet::new();
    for to in resource
        .spec
        .http
        .iter()
        .flat_map(|rule| &rule.route)
        .map(|route| &route.destination)
    {
        let Destination { host, subset, port } = to;
        if !seen.insert((host, subset, port.as_ref().map(|port| port.number))) {
            continue;
        }
        let namespace = &resource.metadata.namespace;
        let resolved = Host::resolve(host, namespace);
        let Some(service) = compiler.world().service(&resolved) else {
            found.push(not_found("host", host));
            continue;
        };
        if !subset.is_empty() && !compiler.has_subset(namespace, service, subset) {
            found.push(not_found(
                "host+subset in destinationrule",
                &format!("{host}+{subset}"),
            ));
        }
        match port {
            Some(port)
                if u16::try_from(port.number)
                    .ok()
                    .and_then(|port| service.port(port))
                    .is_none() =>
            {
                found.push(not_found("host:port", &format!("{host}:{}", port.number)));
            }
            None if service.ports.len() > 1 => {
                let ports: Vec<_> = service.ports.iter().map(|port| port.number).collect();
                let text = format!(
                    "This VirtualService routes to a service {host:?} that exposes multiple ports {ports:?}. \
                     Specifying a port in the destination is required to disambiguate."
                );
                found.push(Message::error(
                    "IST0112",
                    "VirtualServiceDestinationPortSelectorRequired",
                    text,
                ));
            }
            _ => {}
        }
    }
}

fn gateways(world: &World, resource: &Resource<VirtualService>, found: &mut Vec<Message>) {
    for text in &resource.spec.gateways {
        let GatewayRef::Named { namespace, name } =
            GatewayRef::resolve(text, &resource.metadata.namespace)
        else {
            continue;
        };
        let Some(gateway) = world.gateways.get(&(namespace, name)) else {
            found.push(not_found("gateway", text));
            continue;
        };
        let meets =
            |server: &Server| !crate::compile::shared_hosts(gateway, server, resource).is_empty();
        if !gateway.spec.servers.iter().any(meets) {
            let text = format!(
                "one or more host {:?} defined in VirtualService not found in Gateway {text}.",
                resource.spec.hosts
            );
            found.push(Message::warning(
                "IST0132",
                "VirtualServiceHostNotFoundInGateway",
                text,
            ));
        }
    }
}

fn duplicates(
    resource: &Resource<VirtualService>,
    seen: &mut BTreeMap<Host, String>,
    found: &mut Vec<Message>,
) {
    let spec = &resource.spec;
    if !spec.gateways.is_empty() && spec.gateways.iter().all(|gateway| gateway != "mesh") {
        return;
    }
    let me = format!("{}/{}", resource.metadata.namespace, resource.metadata.name);
    for name in &spec.hosts {
        let host = Host::resolve(name, &resource.metadata.namespace);
        if let Some(other) = seen.get(&host) {
            let text = format!(
                "The VirtualServices {other},{me} associated with mesh gateway define the same host {host} which can lead to undefined behavior: only {other}, the older one, is used"
            );
            found.push(Message::error(
                "IST0109",
                "ConflictingMeshGatewayVirtualServiceHosts",
                text,
            ));
        } else {
            seen.insert(host, me.clone());
        }
    }
}

/// Two Gateways with one selector, port and host.
fn gateway_clashes(world: &World, messages: &mut BTreeMap<ObjectId, Vec<Message>>) {
    let mut seen: BTreeMap<(String, u32, String), &Resource<Gateway>> = BTreeMap::new();
    let gateways = oldest_first(&world.gateways);
    for gateway in &gateways {
        let selector = format!("{:?}", gateway.spec.selector);
        for server in &gateway.spec.servers {
            for host in &server.hosts {
                let key = (selector.clone(), server.port.number, host.clone());
                let Some(other) = seen
                    .get(&key)
                    .filter(|other| other.metadata != gateway.metadata)
                else {
                    seen.entry(key).or_insert(gateway);
                    continue;
                };
                let text = format!(
                    "Conflict with gateways {}/{} (workload selector {selector}, port {}, hosts {host})",
                    other.metadata.namespace, other.metadata.name, server.port.number
                );
                let message = Message::error("IST0145", "ConflictingGateways", text);
                messages
                    .entry(id("Gateway", gateway))
                    .or_default()
                    .push(message);
            }
        }
    }
}
