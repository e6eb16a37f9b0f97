//! What the control plane knows: the cluster's services, endpoints and pods, and Istio's resources,
//! trimmed to what a proxy's configuration depends on.
//!
//! A `World` is a value. Watches insert into it and remove from it; compiling only reads it.
//! Entries are shared, so a clone costs a few pointers per object.

mod endpoint;
mod entry;
mod ext_authz;
mod pod;
mod port;
mod secret;
mod service;
mod settings;

use std::{collections::BTreeMap, sync::Arc};

use mesh_api::{
    AuthorizationPolicy, DestinationRule, EnvoyFilter, Gateway, PeerAuthentication, ProxyConfig,
    RequestAuthentication, Resource, ServiceEntry, Sidecar, Telemetry, VirtualService,
    WorkloadEntry,
};
use mesh_config::Locality;
use serde_json::Value;

pub use endpoint::{EndpointSlice, SliceEndpoint};
pub use entry::{Entry, Resolution};
pub(crate) use entry::{named, selected, services as services_of_entry};
pub use ext_authz::ExtAuthzProvider;
pub use pod::Pod;
pub(crate) use pod::{PROXY_CONTAINER, of_node, owner};
pub use secret::TlsSecret;
pub use service::{Protocol, Service, ServicePort, TargetPort};
pub use settings::{MeshSettings, OutboundPolicy, Providers};

/// Namespace and name.
pub type Key = (String, String);

/// Kind, namespace and name.
pub(crate) type ObjectId = (&'static str, Key);

/// What a resource of this kind is known by.
pub(crate) fn id<T>(kind: &'static str, resource: &Resource<T>) -> ObjectId {
    let metadata = &resource.metadata;
    (kind, (metadata.namespace.clone(), metadata.name.clone()))
}

/// Objects of one kind.
pub type Objects<T> = BTreeMap<Key, Arc<T>>;

/// Everything that configuration is made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// The mesh-wide settings.
    pub settings: Arc<MeshSettings>,
    /// Kubernetes Services.
    pub services: Objects<Service>,
    /// Their endpoints.
    pub slices: Objects<EndpointSlice>,
    /// Pods that have an address.
    pub pods: Objects<Pod>,
    /// Where nodes are.
    pub nodes: Objects<Locality>,
    /// Routing rules.
    pub virtual_services: Objects<Resource<VirtualService>>,
    /// Rules of how services are called.
    pub destination_rules: Objects<Resource<DestinationRule>>,
    /// What gateways listen for.
    pub gateways: Objects<Resource<Gateway>>,
    /// Services that are not Kubernetes'.
    pub service_entries: Objects<Resource<ServiceEntry>>,
    /// Workloads that are not pods.
    pub workload_entries: Objects<Resource<WorkloadEntry>>,
    /// What sidecars are told about.
    pub sidecars: Objects<Resource<Sidecar>>,
    /// What workloads report.
    pub telemetries: Objects<Resource<Telemetry>>,
    /// Settings of proxies.
    pub proxy_configs: Objects<Resource<ProxyConfig>>,
    /// Patches of what proxies are told.
    pub envoy_filters: Objects<Resource<EnvoyFilter>>,
    /// What ports accept.
    pub peer_authentications: Objects<Resource<PeerAuthentication>>,
    /// Who may call.
    pub authorization_policies: Objects<Resource<AuthorizationPolicy>>,
    /// Secrets that hold certificates.
    pub secrets: Objects<TlsSecret>,
    /// Key sets of issuers of tokens, by the address that rules give.
    pub jwks: BTreeMap<String, Arc<str>>,
    /// Why there is no key set from an address.
    pub jwks_missing: BTreeMap<String, String>,
    /// Which tokens are checked.
    pub request_authentications: Objects<Resource<RequestAuthentication>>,
}

/// Why an object is left out of the world.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// An Istio resource does not fit its type.
    #[error(transparent)]
    Istio(#[from] mesh_api::ParseError),
    /// The mesh-wide settings cannot be read.
    #[error("{0}")]
    Settings(String),
    /// A Kubernetes object does not fit its type.
    #[error("{kind}: {source}")]
    Kubernetes {
        /// Kind of the object.
        kind: String,
        /// What does not fit.
        source: serde_json::Error,
    },
}

impl World {
    /// Adds or replaces an object given as JSON; kinds that configuration does not depend on are
    /// left out. Used where objects come from files rather than from watches.
    pub fn insert(&mut self, object: &Value) -> Result<(), WorldError> {
        let kind = object["kind"].as_str().unwrap_or_default();
        let typed = |source| WorldError::Kubernetes {
            kind: kind.to_owned(),
            source,
        };
        let key = || -> Key {
            let text = |field: &str| {
                object["metadata"][field]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            (text("namespace"), text("name"))
        };
        match kind {
            "Service" => {
                let service = serde_json::from_value(object.clone()).map_err(typed)?;
                self.services
                    .extend(Service::read(&service).map(|it| (key(), Arc::new(it))));
            }
            "EndpointSlice" => {
                let slice = serde_json::from_value(object.clone()).map_err(typed)?;
                self.slices
                    .extend(EndpointSlice::read(&slice).map(|it| (key(), Arc::new(it))));
            }
            "Pod" => {
                let pod = serde_json::from_value(object.clone()).map_err(typed)?;
                let pod = Pod::read(&pod).map(|pod| self.located(pod));
                self.pods.extend(pod.map(|it| (key(), Arc::new(it))));
            }
            "Node" => {
                let node = serde_json::from_value(object.clone()).map_err(typed)?;
                let key = (String::new(), key().1);
                self.nodes.insert(key, Arc::new(of_node(&node)));
                self.locate();
            }
            "Secret" => {
                let secret = serde_json::from_value(object.clone()).map_err(typed)?;
                self.secrets
                    .extend(TlsSecret::read(&secret).map(|it| (key(), Arc::new(it))));
            }
            "ConfigMap" if object["metadata"]["name"] == "istio" => {
                let mesh = object["data"]["mesh"].as_str().unwrap_or_default();
                self.settings = Arc::new(MeshSettings::read(mesh).map_err(WorldError::Settings)?);
            }
            "VirtualService" => {
                let parsed = mesh_api::parse(kind, object)?;
                self.virtual_services
                    .insert(key(), Arc::new(parsed.resource));
            }
            "DestinationRule" => {
                let parsed = mesh_api::parse(kind, object)?;
                self.destination_rules
                    .insert(key(), Arc::new(parsed.resource));
            }
            "Gateway" => {
                let parsed = mesh_api::parse(kind, object)?;
                self.gateways.insert(key(), Arc::new(parsed.resource));
            }
            "ServiceEntry" => {
                let parsed = mesh_api::parse(kind, object)?;
                self.service_entries
                    .insert(key(), Arc::new(parsed.resource));
            }
            "WorkloadEntry" => {
                let parsed = mesh_api::parse(kind, object)?;
                self.workload_entries
                    .insert(key(), Arc::new(parsed.resource));
            }
            "Sidecar" => {
                let parsed = mesh_api::parse(kind, object)?;
                self.sidecars.insert(key(), Arc::new(parsed.resource));
            }
            "Telemetry" => {
                let parsed = mesh_api::parse(kind, object)?;
                self.telemetries.insert(key(), Arc::new(parsed.resource));
            }
            "ProxyConfig" => {
                let parsed = mesh_api::parse(kind, object)?;
                self.proxy_configs.insert(key(), Arc::new(parsed.resource));
            }
            "EnvoyFilter" => {
                let parsed = mesh_api::parse(kind, object)?;
                self.envoy_filters.insert(key(), Arc::new(parsed.resource));
            }
            "PeerAuthentication" => {
                let parsed = mesh_api::parse(kind, object)?;
                self.peer_authentications
                    .insert(key(), Arc::new(parsed.resource));
            }
            "AuthorizationPolicy" => {
                let parsed = mesh_api::parse(kind, object)?;
                self.authorization_policies
                    .insert(key(), Arc::new(parsed.resource));
            }
            "RequestAuthentication" => {
                let parsed = mesh_api::parse(kind, object)?;
                self.request_authentications
                    .insert(key(), Arc::new(parsed.resource));
            }
            _ => {}
        }
        Ok(())
    }

    /// A pod where its labels, or else its node, say that it is.
    pub(crate) fn located(&self, pod: Pod) -> Pod {
        let own = pod::locality(&pod.labels);
        let node = self.nodes.get(&(String::new(), pod.node.clone()));
        let locality = match node {
            Some(node) if own == Locality::default() => node.clone(),
            _ => Arc::new(own),
        };
        Pod { locality, ..pod }
    }

    /// Looks all pods up anew, because nodes have changed.
    pub(crate) fn locate(&mut self) {
        let mut moved = Vec::new();
        for (key, pod) in &self.pods {
            let located = self.located((**pod).clone());
            if located.locality != pod.locality {
                moved.push((key.clone(), Arc::new(located)));
            }
        }
        self.pods.extend(moved);
    }

    /// The pod of this name.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<&Arc<Pod>> {
        self.pods.get(&(namespace.to_owned(), name.to_owned()))
    }
}

/// All labels of `selector` are among `labels`.
pub fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector
        .iter()
        .all(|(name, value)| labels.get(name) == Some(value))
}
