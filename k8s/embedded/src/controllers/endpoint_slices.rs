//! EndpointSlice controller: the addresses behind each Service that selects pods, ready or not.
//!
//! One slice per distinct set of port numbers (pods may give a named port different numbers). The
//! older Endpoints object is kept beside it. Services without a selector are left to whoever
//! writes their endpoints.

use super::merge_patch::merge_patch;
use super::ownership::{Labels, controller_reference, is_controlled_by};
use super::replica_set::{has_condition, is_finished, manager};
use super::{FIELD_MANAGER, ignore_races, keep};
use crate::informers::{Informers, is_terminating, uid_of};
use crate::runtime::privilege::bindable;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort as LegacyPort, EndpointSubset, Endpoints, ObjectReference, Pod,
    Service, ServicePort,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{DeleteParams, Patch, PostParams};
use kube::{Api, Client, ResourceExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Label that names the Service of a slice.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const OURS: &str = "endpointslice-controller.k8s.io";
const LEGACY_MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// The content of one slice.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    /// Ports with the numbers that these pods use.
    pub ports: Vec<EndpointPort>,
    /// The pods.
    pub endpoints: Vec<Endpoint>,
}

fn target_port(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let sidecars = spec
                .init_containers
                .iter()
                .flatten()
                .filter(|c| c.restart_policy.as_deref() == Some("Always"));
            spec.containers
                .iter()
                .chain(sidecars)
                .flat_map(|c| c.ports.iter().flatten())
                .find(|p| {
                    p.name.as_deref() == Some(name)
                        && p.protocol.as_deref().unwrap_or("TCP") == protocol
                })
                .map(|p| p.container_port)
        }
    }
}

fn served(port: i32) -> i32 {
    u16::try_from(port).map_or(port, |port| i32::from(bindable(port)))
}

fn ports_for(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    service
        .spec
        .iter()
        .flat_map(|s| s.ports.iter().flatten())
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
                // what the pod's process listens on, which may not be what its manifest says
                port: Some(target_port(port, pod).map(served)?),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

fn endpoint(service: &Service, pod: &Pod) -> Option<Endpoint> {
    let address = pod.status.as_ref()?.pod_ip.clone()?;
    let spec = pod.spec.as_ref()?;
    let serving = has_condition(pod, "Ready");
    let terminating = is_terminating(pod);
    let publish = service
        .spec
        .as_ref()
        .and_then(|s| s.publish_not_ready_addresses)
        .unwrap_or(false);
    let subdomain = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
    Some(Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(publish || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: spec.hostname.clone().filter(|_| subdomain),
        node_name: spec.node_name.clone(),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    })
}

/// Whether the controller is in charge of the Service's endpoints.
pub fn is_managed(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| {
        spec.selector.as_ref().is_some_and(|s| !s.is_empty())
            && spec.type_.as_deref() != Some("ExternalName")
    })
}

fn matches(selector: &Labels, pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    selector
        .iter()
        .all(|(key, value)| labels.and_then(|l| l.get(key)) == Some(value))
}

/// What the slices of a Service should hold, given all pods of its namespace. Never empty: a
/// Service without pods has one slice without endpoints.
pub fn decide(service: &Service, pods: &[Arc<Pod>]) -> Vec<Content> {
    let selector = service
        .spec
        .as_ref()
        .and_then(|s| s.selector.clone())
        .unwrap_or_default();
    let mut contents: Vec<Content> = Vec::new();
    for pod in pods
        .iter()
        .filter(|pod| matches(&selector, pod) && !is_finished(pod))
    {
        let Some(endpoint) = endpoint(service, pod) else {
            continue;
        };
        let ports = ports_for(service, pod);
        match contents.iter_mut().find(|c| c.ports == ports) {
            Some(content) => content.endpoints.push(endpoint),
            None => contents.push(Content {
                ports,
                endpoints: vec![endpoint],
            }),
        }
    }
    if contents.is_empty() {
        contents.push(Content {
            ports: Vec::new(),
            endpoints: Vec::new(),
        });
    }
    contents
}

/// The subsets of the Endpoints object that say the same as `contents`.
pub fn subsets(contents: &[Content]) -> Vec<EndpointSubset> {
    contents
        .iter()
        .filter(|c| !c.endpoints.is_empty())
        .map(|content| {
            let mut subset = EndpointSubset {
                ports: Some(
                    content
                        .ports
                        .iter()
                        .map(|p| LegacyPort {
                            name: p.name.clone().filter(|n| !n.is_empty()),
                            port: p.port.unwrap_or(0),
                            protocol: p.protocol.clone(),
                            app_protocol: p.app_protocol.clone(),
                        })
                        .collect(),
                ),
                ..EndpointSubset::default()
            };
            for endpoint in &content.endpoints {
                let conditions = endpoint.conditions.as_ref();
                // Endpoints never listed pods that are going
                if conditions.and_then(|c| c.terminating) == Some(true) {
                    continue;
                }
                let list = if conditions.and_then(|c| c.ready) == Some(true) {
                    &mut subset.addresses
                } else {
                    &mut subset.not_ready_addresses
                };
                list.get_or_insert_default().push(EndpointAddress {
                    ip: endpoint.addresses.first().cloned().unwrap_or_default(),
                    hostname: endpoint.hostname.clone(),
                    node_name: endpoint.node_name.clone(),
                    target_ref: endpoint.target_ref.clone(),
                });
            }
            subset
        })
        .filter(|s| s.addresses.is_some() || s.not_ready_addresses.is_some())
        .collect()
}

fn labels(service: &Service) -> Labels {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.into(), OURS.into());
    labels.insert(SERVICE_NAME.into(), service.name_any());
    if service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels
}

/// Runs the controller until `shutdown`.
pub async fn run(client: Client, informers: Informers, shutdown: &CancellationToken) {
    let changes = vec![
        informers.services.changed(),
        informers.pods.changed(),
        informers.endpoint_slices.changed(),
    ];
    let controller = Controller { client, informers };
    keep("endpointslice", changes, shutdown, async || {
        controller.pass().await.map(|()| None::<Duration>)
    })
    .await;
}

struct Controller {
    client: Client,
    informers: Informers,
}

impl Controller {
    async fn pass(&self) -> Result<(), kube::Error> {
        let mut by_namespace: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
        for pod in self.informers.pods.list() {
            by_namespace
                .entry(pod.namespace().unwrap_or_default())
                .or_default()
                .push(pod);
        }
        let slices = self.informers.endpoint_slices.list();
        let mut failed = None;
        for service in self.informers.services.list() {
            if !is_managed(&service) || is_terminating(service.as_ref()) {
                continue;
            }
            let namespace = service.namespace().unwrap_or_default();
            let pods = by_namespace.get(&namespace).map_or(&[][..], Vec::as_slice);
            if let Err(error) = self.reconcile(&service, &namespace, pods, &slices).await {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn reconcile(
        &self,
        service: &Service,
        namespace: &str,
        pods: &[Arc<Pod>],
        slices: &[Arc<EndpointSlice>],
    ) -> Result<(), kube::Error> {
        let contents = decide(service, pods);
        let uid = uid_of(service);
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), namespace);
        let mut present: Vec<_> = slices
            .iter()
            .filter(|s| is_controlled_by(&s.metadata, &uid) && !is_terminating(s.as_ref()))
            .cloned()
            .collect();
        for content in &contents {
            // the slice with the same ports, else any: what changed is patched
            let at = present
                .iter()
                .position(|s| s.ports.as_deref().unwrap_or_default() == content.ports)
                .or_else(|| (!present.is_empty()).then_some(0));
            match at {
                Some(at) => {
                    let slice = present.remove(at);
                    self.update(&api, service, &slice, content).await?;
                }
                None => self.create(&api, service, content).await?,
            }
        }
        for slice in present {
            ignore_races(
                api.delete(&slice.name_any(), &DeleteParams::default())
                    .await,
            )?;
            self.informers.endpoint_slices.remove(slice.as_ref());
        }
        self.write_endpoints(service, namespace, &contents).await
    }

    async fn create(
        &self,
        api: &Api<EndpointSlice>,
        service: &Service,
        content: &Content,
    ) -> Result<(), kube::Error> {
        let slice = EndpointSlice {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}-", service.name_any())),
                namespace: service.metadata.namespace.clone(),
                labels: Some(labels(service)),
                owner_references: Some(vec![controller_reference(service)]),
                ..ObjectMeta::default()
            },
            address_type: "IPv4".into(),
            endpoints: Some(content.endpoints.clone()),
            ports: Some(content.ports.clone()),
        };
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        if let Some(slice) = ignore_races(api.create(&params, &slice).await)? {
            self.informers.endpoint_slices.apply(slice);
        }
        Ok(())
    }

    async fn update(
        &self,
        api: &Api<EndpointSlice>,
        service: &Service,
        slice: &EndpointSlice,
        content: &Content,
    ) -> Result<(), kube::Error> {
        let value = |endpoints: &[Endpoint], ports: &[EndpointPort], labels: &Labels| {
            serde_json::json!({
                "metadata": {"labels": labels},
                "endpoints": endpoints,
                "ports": ports,
            })
        };
        let old = value(
            slice.endpoints.as_deref().unwrap_or_default(),
            slice.ports.as_deref().unwrap_or_default(),
            slice.metadata.labels.as_ref().unwrap_or(&Labels::new()),
        );
        let new = value(&content.endpoints, &content.ports, &labels(service));
        let Some(patch) = merge_patch(&old, &new) else {
            return Ok(());
        };
        let written = api
            .patch(&slice.name_any(), &manager(), &Patch::Merge(patch))
            .await;
        if let Some(slice) = ignore_races(written)? {
            self.informers.endpoint_slices.apply(slice);
        }
        Ok(())
    }

    async fn write_endpoints(
        &self,
        service: &Service,
        namespace: &str,
        contents: &[Content],
    ) -> Result<(), kube::Error> {
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), namespace);
        let name = service.name_any();
        let subsets = subsets(contents);
        let mut labels = service.metadata.labels.clone().unwrap_or_default();
        labels.insert(LEGACY_MANAGED_BY.into(), "endpoint-controller".into());
        if service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None") {
            labels.insert(HEADLESS.into(), String::new());
        }
        let present = self.informers.endpoints.get(namespace, &name);
        let written = match present {
            None => {
                let endpoints = Endpoints {
                    metadata: ObjectMeta {
                        name: Some(name),
                        namespace: Some(namespace.to_owned()),
                        labels: Some(labels),
                        owner_references: Some(vec![controller_reference(service)]),
                        ..ObjectMeta::default()
                    },
                    subsets: (!subsets.is_empty()).then_some(subsets),
                };
                let params = PostParams {
                    field_manager: Some(FIELD_MANAGER.into()),
                    ..PostParams::default()
                };
                api.create(&params, &endpoints).await
            }
            Some(present) => {
                let value = |subsets: &[EndpointSubset], labels: &Labels| {
                    let subsets = (!subsets.is_empty()).then_some(subsets);
                    serde_json::json!({"metadata": {"labels": labels}, "subsets": subsets})
                };
                let none = Labels::new();
                let old = value(
                    present.subsets.as_deref().unwrap_or_default(),
                    present.metadata.labels.as_ref().unwrap_or(&none),
                );
                let Some(patch) = merge_patch(&old, &value(&subsets, &labels)) else {
                    return Ok(());
                };
                api.patch(&name, &manager(), &Patch::Merge(patch)).await
            }
        };
        if let Some(endpoints) = ignore_races(written)? {
            self.informers.endpoints.apply(endpoints);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
