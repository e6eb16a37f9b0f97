//! How objects go together: references to what is not there, and clashes.

use std::collections::{BTreeMap, BTreeSet};

use mesh_api::{
    Gateway, GatewayRef, Host, RequestAuthentication, Resource, VirtualService, gateway::Server,
    virtual_service::Destination,
};

use super::Message;
use crate::{
    compile::{Compiler, keys_of, oldest_first},
    world::{ObjectId, World, id},
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
        if !host.is_wildcard() && !compiler.services().knows(&host) {
            let text = format!("Referenced host not found: {:?}", rule.spec.host);
            let message = Message::warning("IST0174", "UnknownDestinationRuleHost", text);
            messages
                .entry(id("DestinationRule", rule))
                .or_default()
                .push(message);
        }
    }
    for resource in world.request_authentications.values() {
        let found = messages.entry(id("RequestAuthentication", resource));
        found.or_default().extend(missing_keys(world, resource));
    }
    super::rules::look(compiler, &mut messages);
    messages.retain(|_, messages| !messages.is_empty());
    messages
}

/// Rules whose keys could not be fetched: every token of theirs is refused.
fn missing_keys(
    world: &World,
    resource: &Resource<RequestAuthentication>,
) -> impl Iterator<Item = Message> {
    let rules = resource.spec.jwt_rules.iter();
    let fetched = rules.filter(|rule| rule.jwks.is_empty()).map(keys_of);
    fetched.filter_map(|source| {
        let why = world.jwks_missing.get(&source)?;
        let text = format!(
            "No keys from {source}: {why}. Until they are there every token is refused; \
             without the Internet write the key set into jwks instead of jwksUri"
        );
        Some(Message::error("DOJO0004", "KeysNotFetched", text))
    })
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
        let Some(service) = compiler.services().get(&resolved, namespace) else {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    fn codes(objects: &[Value]) -> Vec<(String, &'static str)> {
        let mut world = World::default();
        let service = json!({"kind": "Service", "metadata": {"name": "web", "namespace": "ns"},
            "spec": {"ports": [{"port": 80}, {"port": 81}]}});
        for object in objects.iter().chain([&service]) {
            let mut object = object.clone();
            object["metadata"]["namespace"] = json!("ns");
            world.insert(&object).unwrap();
        }
        let found = of_world(&Compiler::new(Arc::new(world), 1));
        let each = found.into_iter().flat_map(|((_, (_, name)), messages)| {
            messages
                .into_iter()
                .map(move |message| (name.clone(), message.code))
        });
        each.collect()
    }

    fn service(name: &str, day: u8, spec: Value) -> Value {
        let created = format!("2026-01-0{day}T00:00:00Z");
        json!({"kind": "VirtualService", "metadata": {"name": name, "creationTimestamp": created}, "spec": spec})
    }

    fn to(destination: Value) -> Value {
        json!([{"route": [{"destination": destination}]}])
    }

    #[test]
    fn missing_hosts_subsets_ports_and_gateways_are_named() {
        for (destination, code) in [
            (
                json!({"host": "nowhere", "port": {"number": 80}}),
                "IST0101",
            ),
            (
                json!({"host": "web", "subset": "v9", "port": {"number": 80}}),
                "IST0101",
            ),
            (json!({"host": "web", "port": {"number": 82}}), "IST0101"),
            (json!({"host": "web"}), "IST0112"),
        ] {
            let spec = json!({"hosts": ["web"], "http": to(destination.clone())});
            assert_eq!(
                codes(&[service("vs", 1, spec)]),
                [("vs".to_owned(), code)],
                "{destination}"
            );
        }
        let good = to(json!({"host": "web", "port": {"number": 80}}));
        let spec = json!({"hosts": ["web"], "gateways": ["gone"], "http": good});
        assert_eq!(
            codes(&[service("vs", 1, spec)]),
            [("vs".to_owned(), "IST0101")]
        );
    }

    #[test]
    fn the_younger_of_two_for_one_host_is_told() {
        let spec =
            json!({"hosts": ["web"], "http": to(json!({"host": "web", "port": {"number": 80}}))});
        let both = [service("a", 2, spec.clone()), service("b", 1, spec)];
        assert_eq!(codes(&both), [("a".to_owned(), "IST0109")]);
    }

    #[test]
    fn gateways_that_clash_are_told() {
        let gateway = |name: &str, host: &str| {
            json!({"kind": "Gateway", "metadata": {"name": name}, "spec": {"selector": {"istio": "ingressgateway"},
                "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": [host]}]}})
        };
        assert_eq!(
            codes(&[gateway("a", "*"), gateway("b", "*")]),
            [("b".to_owned(), "IST0145")]
        );
        assert!(codes(&[gateway("a", "*"), gateway("b", "b.test")]).is_empty());
    }
}
