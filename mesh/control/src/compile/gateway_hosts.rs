//! The hosts of a gateway's servers, and the VirtualServices that meet them.

use mesh_api::{Gateway, GatewayRef, Host, Resource, VirtualService, gateway::Server};

use super::{Compiler, visibility::visible};

/// The VirtualServices that name a Gateway, oldest first.
pub(super) fn bound<'a>(
    compiler: &'a Compiler,
    gateway: &'a GatewayRef,
) -> impl Iterator<Item = &'a Resource<VirtualService>> {
    compiler
        .virtual_services
        .iter()
        .map(|resource| &**resource)
        .filter(move |resource| {
            let owner = &resource.metadata.namespace;
            resource
                .spec
                .gateways
                .iter()
                .any(|name| GatewayRef::resolve(name, owner) == *gateway)
        })
}

/// Host of a server, and the namespace whose VirtualServices may use it.
pub(crate) fn server_host(text: &str, gateway: &Resource<Gateway>) -> (Option<String>, Host) {
    let (namespace, host) = match text.split_once('/') {
        Some(("*", host)) => (None, host),
        Some((".", host)) => (Some(gateway.metadata.namespace.clone()), host),
        Some((namespace, host)) => (Some(namespace.to_owned()), host),
        None => (None, text),
    };
    // A name without a dot is literal here: no namespace completes it.
    let host = if host.contains('.') || host.contains('*') {
        Host::resolve(host, "")
    } else {
        Host::resolve(host, &gateway.metadata.namespace)
    };
    (namespace, host)
}

/// The more specific of each pair of hosts of server and VirtualService that meet.
pub(crate) fn shared_hosts(
    gateway: &Resource<Gateway>,
    server: &Server,
    resource: &Resource<VirtualService>,
) -> Vec<Host> {
    let owner = &resource.metadata.namespace;
    if !visible(&resource.spec.export_to, owner, &gateway.metadata.namespace) {
        return Vec::new();
    }
    let mut shared: Vec<Host> = Vec::new();
    for (namespace, host) in server.hosts.iter().map(|text| server_host(text, gateway)) {
        if namespace.is_some_and(|namespace| namespace != *owner) {
            continue;
        }
        for name in &resource.spec.hosts {
            let named = Host::resolve(name, owner);
            if let Some(domain) = host
                .intersect(&named)
                .filter(|domain| !shared.contains(domain))
            {
                shared.push(domain.clone());
            }
        }
    }
    shared
}
