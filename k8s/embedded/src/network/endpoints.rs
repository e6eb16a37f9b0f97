//! Endpoints: which address answers for a Service's port, one ready endpoint after the other.

use super::names::Services;
use crate::controllers::endpoint_slices::SERVICE_NAME;
use crate::informers::Informers;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Why there is nowhere to go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoEndpoint {
    /// The Service is gone.
    #[error("service {0}/{1} does not exist")]
    NoService(String, String),
    /// It has no such port.
    #[error("service {0}/{1} has no port {2}")]
    NoPort(String, String, u16),
    /// No pod is ready.
    #[error("service {0}/{1} has no ready endpoints for port {2}")]
    NotReady(String, String, u16),
}

/// The ready addresses behind one port of a Service.
pub fn ready(
    slices: &[Arc<EndpointSlice>],
    service: &Service,
    port: &ServicePort,
) -> Vec<SocketAddr> {
    let name = service.metadata.name.as_deref();
    let port_name = port.name.as_deref().unwrap_or_default();
    let mut addresses = Vec::new();
    for slice in slices.iter().filter(|s| {
        s.metadata.namespace == service.metadata.namespace
            && s.metadata
                .labels
                .as_ref()
                .and_then(|l| l.get(SERVICE_NAME))
                .map(String::as_str)
                == name
    }) {
        let number = slice
            .ports
            .iter()
            .flatten()
            .find(|p| p.name.as_deref().unwrap_or_default() == port_name)
            .and_then(|p| u16::try_from(p.port?).ok());
        let Some(number) = number else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            let ready = endpoint.conditions.as_ref().and_then(|c| c.ready);
            let ip = endpoint
                .addresses
                .first()
                .and_then(|a| a.parse::<Ipv4Addr>().ok());
            // absent means ready, by the API's documentation
            if let (Some(ip), true) = (ip, ready.unwrap_or(true)) {
                addresses.push(SocketAddr::new(IpAddr::V4(ip), number));
            }
        }
    }
    addresses
}

/// Chooses endpoints, out of the caches. Clones take turns together.
#[derive(Clone)]
pub struct Endpoints {
    informers: Informers,
    turn: Arc<AtomicUsize>,
}

impl Endpoints {
    /// Endpoints out of these caches.
    pub fn new(informers: Informers) -> Self {
        Self {
            informers,
            turn: Arc::default(),
        }
    }

    /// The next ready endpoint of a Service's port.
    ///
    /// # Errors
    /// See [`NoEndpoint`].
    pub fn next(&self, namespace: &str, name: &str, port: u16) -> Result<SocketAddr, NoEndpoint> {
        let here = || (namespace.to_owned(), name.to_owned());
        let service = self
            .informers
            .services
            .get(namespace, name)
            .ok_or_else(|| {
                let (namespace, name) = here();
                NoEndpoint::NoService(namespace, name)
            })?;
        let spec_port = service
            .spec
            .iter()
            .flat_map(|s| s.ports.iter().flatten())
            .find(|p| p.port == i32::from(port))
            .ok_or_else(|| {
                let (namespace, name) = here();
                NoEndpoint::NoPort(namespace, name, port)
            })?;
        let slices = self.informers.endpoint_slices.list();
        let ready = ready(&slices, &service, spec_port);
        if ready.is_empty() {
            let (namespace, name) = here();
            return Err(NoEndpoint::NotReady(namespace, name, port));
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        Ok(ready[turn % ready.len()])
    }
}

impl Services for Endpoints {
    fn exists(&self, namespace: &str, name: &str) -> bool {
        self.informers.services.get(namespace, name).is_some()
    }

    fn by_ip(&self, ip: Ipv4Addr) -> Option<(String, String)> {
        let ip = ip.to_string();
        let service = self
            .informers
            .services
            .list()
            .into_iter()
            .find(|s| s.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some(&ip))?;
        Some((
            service.metadata.namespace.clone().unwrap_or_default(),
            service.metadata.name.clone().unwrap_or_default(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_ready_addresses_of_the_named_port() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "ns"},
            "spec": {"ports": [{"name": "http", "port": 80}, {"name": "grpc", "port": 90}]},
        }))
        .unwrap();
        let slice: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"name": "web-1", "namespace": "ns", "labels": {SERVICE_NAME: "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [
                {"addresses": ["127.20.0.2"], "conditions": {"ready": true}},
                {"addresses": ["127.20.0.3"], "conditions": {"ready": false}},
                {"addresses": ["127.20.0.4"]},
            ],
        }))
        .unwrap();
        let slices = [Arc::new(slice)];
        let ports = service.spec.as_ref().unwrap().ports.as_ref().unwrap();
        let found: Vec<String> = ready(&slices, &service, &ports[0])
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, ["127.20.0.2:8080", "127.20.0.4:8080"]);
        assert!(ready(&slices, &service, &ports[1]).is_empty());
    }
}
