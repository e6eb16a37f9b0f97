//! Services and workloads that are not Kubernetes': ServiceEntry, WorkloadEntry, ExternalName.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use mesh_api::{
    Host, Resource, ServiceEntry, WorkloadEntry,
    service_entry::{Location, Resolution as Declared},
};
use mesh_config::{Locality, Workload};

use super::{Key, Protocol, Service, ServicePort, TargetPort};

/// How the endpoints of a service are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resolution {
    /// By EndpointSlices.
    #[default]
    Slices,
    /// The entries of the service are all.
    Static,
    /// The names of its entries are resolved; each address is an endpoint.
    Dns,
    /// The names of its entries are resolved; one address is used.
    DnsRoundRobin,
    /// Wherever the client wanted to go.
    Passthrough,
}

/// An endpoint that is no pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// An address, or a name to be resolved.
    pub address: String,
    /// Numbers of the ports by name of the service's port.
    pub ports: BTreeMap<String, u16>,
    /// As a pod's.
    pub labels: BTreeMap<String, String>,
    /// Where it is.
    pub locality: Arc<Locality>,
    /// Share of the traffic, relative to the others.
    pub weight: u32,
    /// What telemetry says of it.
    pub workload: Arc<Workload>,
}

impl Entry {
    /// From a WorkloadEntry of a namespace; `name` is empty for an endpoint within a ServiceEntry.
    pub(crate) fn read(from: &WorkloadEntry, namespace: &str, name: &str) -> Self {
        let label = |name: &str| from.labels.get(name).cloned().unwrap_or_default();
        let first = |names: &[&str]| names.iter().map(|name| label(name)).find(|l| !l.is_empty());
        let mut place = from.locality.splitn(3, '/').map(str::to_owned);
        let mut part = || place.next().unwrap_or_default();
        let account = match from.service_account.as_str() {
            "" => String::new(),
            account => crate::identity(namespace, account),
        };
        Self {
            address: from.address.to_ascii_lowercase(),
            ports: from
                .ports
                .iter()
                .filter_map(|(name, number)| Some((name.clone(), u16::try_from(*number).ok()?)))
                .collect(),
            labels: from.labels.clone(),
            locality: Arc::new(Locality {
                region: part(),
                zone: part(),
                sub_zone: part(),
            }),
            weight: from.weight.max(1),
            workload: Arc::new(Workload {
                name: name.to_owned(),
                namespace: namespace.to_owned(),
                app: label("app"),
                version: label("version"),
                canonical_name: first(&["service.istio.io/canonical-name", "app"])
                    .unwrap_or_else(|| name.to_owned()),
                canonical_revision: first(&["service.istio.io/canonical-revision", "version"])
                    .unwrap_or_else(|| "latest".into()),
                identity: account,
            }),
        }
    }

    /// Where a port of a service is behind this endpoint, and the name to resolve if it has one.
    pub(crate) fn at(&self, port: &ServicePort) -> (SocketAddr, Option<Arc<str>>) {
        let number = self.ports.get(&port.name).copied();
        let number = number.unwrap_or(match port.target {
            TargetPort::Number(number) => number,
            TargetPort::Name(_) => port.number,
        });
        match self.address.parse::<IpAddr>() {
            Ok(ip) => (SocketAddr::new(ip, number), None),
            Err(_) => {
                let unknown = IpAddr::from([0, 0, 0, 0]);
                let name = self.address.as_str().into();
                (SocketAddr::new(unknown, number), Some(name))
            }
        }
    }
}

/// The services of a ServiceEntry, one per host; `workloads` are the WorkloadEntries of the mesh.
pub(crate) fn services(
    resource: &Resource<ServiceEntry>,
    workloads: &BTreeMap<Key, Arc<Resource<WorkloadEntry>>>,
) -> Vec<Service> {
    let spec = &resource.spec;
    let namespace = &resource.metadata.namespace;
    let selector = spec
        .workload_selector
        .as_ref()
        .map(|selector| selector.labels.clone())
        .unwrap_or_default();
    let inline = spec
        .endpoints
        .iter()
        .map(|endpoint| Entry::read(endpoint, namespace, ""));
    let mut entries: Vec<_> = inline.collect();
    entries.extend(selected(&selector, namespace, workloads));
    let service = |host: &String| {
        let host = Host::resolve(host, namespace);
        let mut entries = entries.clone();
        let by_name = matches!(
            spec.resolution,
            Some(Declared::Dns | Declared::DnsRoundRobin)
        );
        if by_name && entries.is_empty() && !host.is_wildcard() {
            entries.push(named(host.as_str(), namespace));
        }
        let resolution = match spec.resolution.unwrap_or_default() {
            Declared::None | Declared::DynamicDns => Resolution::Passthrough,
            Declared::Static => Resolution::Static,
            Declared::Dns | Declared::DnsRoundRobin if entries.is_empty() => {
                Resolution::Passthrough
            }
            Declared::Dns => Resolution::Dns,
            Declared::DnsRoundRobin => Resolution::DnsRoundRobin,
        };
        Service {
            name: host.to_string(),
            namespace: namespace.clone(),
            addresses: spec
                .addresses
                .iter()
                .map(|a| a.to_ascii_lowercase())
                .collect(),
            headless: false,
            ports: spec.ports.iter().filter_map(port).collect(),
            selector: selector.clone(),
            export_to: spec.export_to.clone(),
            resolution,
            external: spec.location.unwrap_or_default() == Location::MeshExternal,
            entries,
            aliases: Vec::new(),
            external_name: None,
            of_entry: true,
            host,
        }
    };
    spec.hosts.iter().map(service).collect()
}

/// The WorkloadEntries of a namespace that a selector chooses; none for an empty one.
pub(crate) fn selected<'a>(
    selector: &'a BTreeMap<String, String>,
    namespace: &'a str,
    workloads: &'a BTreeMap<Key, Arc<Resource<WorkloadEntry>>>,
) -> impl Iterator<Item = Entry> + 'a {
    workloads
        .values()
        .filter(move |entry| !selector.is_empty() && entry.metadata.namespace == namespace)
        .filter(|entry| super::selects(selector, &entry.spec.labels))
        .map(move |entry| Entry::read(&entry.spec, namespace, &entry.metadata.name))
}

/// An endpoint that is only a name.
pub(crate) fn named(name: &str, namespace: &str) -> Entry {
    let of = WorkloadEntry {
        address: name.to_owned(),
        ..WorkloadEntry::default()
    };
    let mut entry = Entry::read(&of, namespace, "");
    entry.workload = Arc::new(Workload::default());
    entry
}

fn port(from: &mesh_api::service_entry::ServicePort) -> Option<ServicePort> {
    let number = u16::try_from(from.number).ok().filter(|n| *n > 0)?;
    if from.protocol.eq_ignore_ascii_case("UDP") {
        return None;
    }
    let target = from.target_port.and_then(|port| u16::try_from(port).ok());
    let protocol = match from.protocol.to_ascii_lowercase().as_str() {
        "" => Protocol::of(None, &from.name, number),
        protocol => Protocol::of(Some(protocol), &from.name, number),
    };
    Some(ServicePort {
        name: from.name.clone(),
        number,
        protocol,
        target: TargetPort::Number(target.filter(|n| *n > 0).unwrap_or(number)),
    })
}
