//! Every service of the mesh, Kubernetes' and those of ServiceEntries, by host; and its endpoints.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use mesh_api::Host;
use mesh_config::{HealthStatus, Locality, Workload};

use super::{oldest_first, visibility::visible};
use crate::world::{
    EndpointSlice, Pod, Resolution, Service, ServicePort, World, named, selected, selects,
    services_of_entry,
};

/// The services of one version of the world.
#[derive(Default)]
pub(crate) struct Services {
    /// Kubernetes' first, then those of ServiceEntries, oldest first.
    all: Vec<Arc<Service>>,
    /// Indices into `all`, in its order.
    by_host: HashMap<Host, Vec<usize>>,
    /// By namespace and name of the Service.
    slices: HashMap<(String, String), Vec<Arc<EndpointSlice>>>,
    pods: HashMap<IpAddr, Arc<Pod>>,
}

/// One endpoint of a port of a service.
pub(crate) struct Instance<'a> {
    pub(crate) address: SocketAddr,
    /// To be resolved; the address then only has the port.
    pub(crate) hostname: Option<Arc<str>>,
    pub(crate) health: HealthStatus,
    pub(crate) labels: Option<&'a BTreeMap<String, String>>,
    pub(crate) workload: Arc<Workload>,
    pub(crate) pod: Option<&'a Arc<Pod>>,
    /// Of an endpoint that is no pod.
    pub(crate) locality: Option<Arc<Locality>>,
    pub(crate) weight: u32,
}

impl Services {
    pub(super) fn new(world: &World) -> Self {
        let mut services = Self::default();
        let entries = &world.workload_entries;
        let (other_names, own): (Vec<_>, Vec<_>) = world
            .services
            .values()
            .partition(|service| service.external_name.is_some());
        for service in own {
            let more: Vec<_> = selected(&service.selector, &service.namespace, entries).collect();
            let service = match more.is_empty() {
                true => service.clone(),
                false => Arc::new(Service {
                    entries: more,
                    ..(**service).clone()
                }),
            };
            services.add(service, world);
        }
        for resource in oldest_first(&world.service_entries) {
            for service in services_of_entry(&resource, entries) {
                services.add(Arc::new(service), world);
            }
        }
        for service in other_names {
            services.add_other_name(service, world);
        }
        for slice in world.slices.values() {
            let key = (slice.namespace.clone(), slice.service.clone());
            services.slices.entry(key).or_default().push(slice.clone());
        }
        let pods = world.pods.values().map(|pod| (pod.address, pod.clone()));
        services.pods = pods.collect();
        services
    }

    fn add(&mut self, mut service: Arc<Service>, world: &World) {
        let default = &world.settings.service_export_to;
        if service.export_to.is_empty() && !default.is_empty() {
            Arc::make_mut(&mut service).export_to.clone_from(default);
        }
        let indices = self.by_host.entry(service.host.clone()).or_default();
        indices.push(self.all.len());
        self.all.push(service);
    }

    /// An ExternalName Service: another name of a service of the mesh, else a service found by DNS.
    fn add_other_name(&mut self, service: &Arc<Service>, world: &World) {
        let Some(target) = &service.external_name else {
            return;
        };
        match self.by_host.get(target).and_then(|all| all.first()) {
            Some(index) => {
                let alias = (service.name.clone(), service.namespace.clone());
                Arc::make_mut(&mut self.all[*index]).aliases.push(alias);
            }
            None => {
                let by_name = Service {
                    resolution: Resolution::Dns,
                    entries: vec![named(target.as_str(), &service.namespace)],
                    ..(**service).clone()
                };
                self.add(Arc::new(by_name), world);
            }
        }
    }

    /// Every service, whoever may see it.
    pub(crate) fn all(&self) -> &[Arc<Service>] {
        &self.all
    }

    /// The service that callers of a namespace mean by a host: their own, then Kubernetes', then the
    /// oldest ServiceEntry's.
    pub(crate) fn get(&self, host: &Host, caller: &str) -> Option<&Arc<Service>> {
        let seen = || {
            let all = self.of_host(host);
            all.filter(|service| visible(&service.export_to, &service.namespace, caller))
        };
        seen()
            .find(|service| service.namespace == caller)
            .or_else(|| seen().next())
    }

    /// There is such a service, whoever may see it.
    pub(crate) fn knows(&self, host: &Host) -> bool {
        self.by_host.contains_key(host)
    }

    /// What callers of a namespace see, one service per host.
    pub(crate) fn seen_from<'a>(
        &'a self,
        caller: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Service>> {
        self.all.iter().filter(move |service| {
            let meant = self.get(&service.host, caller);
            meant.is_some_and(|meant| Arc::ptr_eq(meant, service))
        })
    }

    /// The hosts for which `other` has other services.
    pub(super) fn differing(&self, other: &Self) -> Vec<Host> {
        let same = |host: &Host| {
            let (ours, theirs) = (self.of_host(host), other.of_host(host));
            ours.len() == theirs.len() && ours.zip(theirs).all(|(x, y)| super::same(x, y))
        };
        let hosts = self.by_host.keys().chain(other.by_host.keys());
        hosts.filter(|host| !same(host)).cloned().collect()
    }

    fn of_host(&self, host: &Host) -> impl ExactSizeIterator<Item = &Arc<Service>> {
        let indices = self.by_host.get(host).map_or(&[][..], Vec::as_slice);
        indices.iter().map(|index| &self.all[*index])
    }

    /// The services that choose a pod.
    pub(crate) fn of_pod<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = &'a Arc<Service>> {
        self.all
            .iter()
            .filter(|service| service.namespace == pod.namespace && !service.selector.is_empty())
            .filter(|service| selects(&service.selector, &pod.labels))
    }

    /// The endpoints of a port, sorted by address; one per address.
    pub(crate) fn instances<'a>(
        &'a self,
        world: &'a World,
        service: &'a Service,
        port: &ServicePort,
    ) -> Vec<Instance<'a>> {
        let mut found = Vec::new();
        let key = (service.namespace.clone(), service.name.clone());
        let slices = self.slices.get(&key).filter(|_| !service.of_entry);
        for slice in slices.into_iter().flatten() {
            let Some((_, number)) = slice.ports.iter().find(|(name, _)| *name == port.name) else {
                continue;
            };
            for endpoint in &slice.endpoints {
                let pod = match &endpoint.pod {
                    Some(name) => world.pod(&slice.namespace, name),
                    None => self.pods.get(&endpoint.address),
                };
                let address = SocketAddr::new(endpoint.address, *number);
                found.push(of_pod(address, endpoint.health, pod));
            }
        }
        if service.of_entry && !service.selector.is_empty() {
            let chosen = world.pods.values().filter(|pod| {
                pod.namespace == service.namespace && selects(&service.selector, &pod.labels)
            });
            for pod in chosen {
                if let Some(number) = port.target.on(pod) {
                    let address = SocketAddr::new(pod.address, number);
                    found.push(of_pod(address, HealthStatus::Healthy, Some(pod)));
                }
            }
        }
        for entry in &service.entries {
            let (address, hostname) = entry.at(port);
            found.push(Instance {
                address,
                hostname,
                health: HealthStatus::Healthy,
                labels: Some(&entry.labels),
                workload: entry.workload.clone(),
                pod: None,
                locality: Some(entry.locality.clone()),
                weight: entry.weight,
            });
        }
        found.sort_by(|a, b| (a.address, &a.hostname).cmp(&(b.address, &b.hostname)));
        let mut seen = BTreeSet::new();
        found.retain(|instance| seen.insert((instance.address, instance.hostname.clone())));
        found
    }
}

fn of_pod<'a>(
    address: SocketAddr,
    health: HealthStatus,
    pod: Option<&'a Arc<Pod>>,
) -> Instance<'a> {
    Instance {
        address,
        hostname: None,
        health,
        labels: pod.map(|pod| &pod.labels),
        workload: pod.map_or_else(Arc::default, |pod| pod.workload.clone()),
        pod,
        locality: pod.map(|pod| pod.locality.clone()),
        weight: 1,
    }
}
