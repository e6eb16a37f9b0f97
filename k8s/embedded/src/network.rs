//! The pod network without root: addresses, doors and forwarders.
//!
//! | file            | what                                                                       |
//! | --------------- | -------------------------------------------------------------------------- |
//! | [`addresses`]   | which loopback address stands for what                                     |
//! | [`names`]       | what a host in a request stands for                                        |
//! | [`endpoints`]   | which ready endpoint answers for a Service                                 |
//! | [`door`]        | a pod's way out: an HTTP proxy that knows the cluster's names              |
//! | [`listeners`]   | which cluster IPs, node ports and load balancers are listened on           |
//! | [`forwarder`]   | what such a listener does                                                  |
//! | [`ingress`]     | the edge on 127.0.0.1 for Ingress objects                                  |
//! | [`dial`]        | connections that leave from the right address                              |
//!
//! [`run`] keeps listeners as pods and Services come and go.

mod accept;
pub mod addresses;
pub mod dial;
pub mod door;
pub mod endpoints;
pub mod forwarder;
pub mod ingress;
pub mod listeners;
pub mod names;
mod pass;

use crate::controllers::events::{EventType, Recorder};
use crate::controllers::replica_set::{is_finished, manager};
use crate::controllers::{ignore_races, keep};
use crate::informers::{Informers, uid_of};
use crate::runtime::launch::door as pod_door;
use addresses::AddressPlan;
use door::Door;
use endpoints::Endpoints;
use forwarder::Forwarder;
use k8s_openapi::api::core::v1::Service;
use kube::api::Patch;
use kube::{Api, Client, ResourceExt};
use listeners::{Purpose, Wanted};
use nix::errno::Errno;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Pause before a port in use is tried again.
const RETRY: Duration = Duration::from_secs(3);

/// Runs the network until `shutdown`.
pub async fn run(
    client: Client,
    informers: Informers,
    plan: AddressPlan,
    shutdown: CancellationToken,
) {
    let recorder = Recorder::start(client.clone(), "service-controller", shutdown.clone());
    let endpoints = Endpoints::new(informers.clone());
    let changes = vec![informers.pods.changed(), informers.services.changed()];
    let edge = ingress::run(
        client.clone(),
        informers.clone(),
        recorder.named("ingress-controller"),
        endpoints.clone(),
        plan,
        &shutdown,
    );
    let mut network = Network {
        client,
        informers,
        plan,
        recorder,
        endpoints,
        doors: HashMap::new(),
        forwarders: HashMap::new(),
        told: HashMap::new(),
        shutdown: shutdown.clone(),
    };
    network.informers.synced().await;
    let listening = keep("network", changes, &shutdown, async || {
        let pods = network.doors();
        let services = network.services().await?;
        Ok(crate::controllers::earlier(pods, services))
    });
    tokio::join!(edge, listening);
}

/// One listener's key: what it is for, and where.
type ForwarderKey = (String, String, Wanted);

struct Network {
    client: Client,
    informers: Informers,
    plan: AddressPlan,
    recorder: Recorder,
    endpoints: Endpoints,
    /// By pod address, with the pod's uid.
    doors: HashMap<Ipv4Addr, (String, DropGuard)>,
    forwarders: HashMap<ForwarderKey, DropGuard>,
    /// Ports that could not be had, and what was said about them.
    told: HashMap<ForwarderKey, String>,
    shutdown: CancellationToken,
}

/// Listens on a port that may have been used a moment ago.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(256)
}

fn remedy(wanted: &Wanted, error: &io::Error) -> String {
    let address = wanted.address;
    let port = wanted.port;
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRINUSE) => format!(
            "port {port} cannot be served on {address}: the address is in use; stop what listens \
             there, or choose another port with the annotation {}: \"{port}=LOCAL-PORT\"",
            listeners::LOAD_BALANCER_PORTS
        ),
        Some(Errno::EACCES) => format!(
            "port {port} cannot be served on {address}: ports below 1024 need a privilege; choose \
             another port with the annotation {}: \"{port}=LOCAL-PORT\"",
            listeners::LOAD_BALANCER_PORTS
        ),
        _ => format!("port {port} cannot be served on {address}: {error}"),
    }
}

impl Network {
    /// Keeps a door for every pod that has an address and has not ended.
    fn doors(&mut self) -> Option<Duration> {
        let mut again = None;
        let mut present: HashMap<Ipv4Addr, String> = HashMap::new();
        for pod in self.informers.pods.list() {
            let ip = pod
                .status
                .as_ref()
                .and_then(|s| s.pod_ip.as_ref()?.parse::<Ipv4Addr>().ok())
                .filter(|ip| self.plan.is_pod(*ip));
            let Some(ip) = ip.filter(|_| !is_finished(&pod)) else {
                continue;
            };
            let uid = uid_of(pod.as_ref());
            present.insert(ip, uid.clone());
            if self.doors.get(&ip).is_some_and(|(owner, _)| *owner == uid) {
                continue;
            }
            // the address has a new owner: the old door goes before the new one comes
            self.doors.remove(&ip);
            match listen(SocketAddr::V4(self.plan.door(ip))) {
                Ok(listener) => {
                    let loopback = match pod_door(&pod) {
                        Some(_) => self.plan.loopback(ip).unwrap_or(ip),
                        None => ip,
                    };
                    let door = Door {
                        pod_ip: ip,
                        loopback,
                        namespace: Arc::from(pod.namespace().unwrap_or_default()),
                        plan: self.plan,
                        endpoints: self.endpoints.clone(),
                    };
                    let token = self.shutdown.child_token();
                    tokio::spawn(door.serve(listener, token.clone()));
                    self.doors.insert(ip, (uid, token.drop_guard()));
                }
                Err(error) => {
                    self.recorder.record(
                        pod.as_ref(),
                        EventType::Warning,
                        "FailedDoor",
                        format!(
                            "the pod's door cannot listen on {}: {error}",
                            self.plan.door(ip)
                        ),
                    );
                    again = Some(RETRY);
                }
            }
        }
        self.doors
            .retain(|ip, (uid, _)| present.get(ip).is_some_and(|u| u == uid));
        again
    }

    /// Keeps the forwarders of all Services, and the status of load balancers.
    async fn services(&mut self) -> Result<Option<Duration>, kube::Error> {
        let mut again = None;
        let mut present: BTreeMap<ForwarderKey, Arc<Service>> = BTreeMap::new();
        for service in self.informers.services.list() {
            let (list, mistake) = listeners::wanted(&service, self.plan);
            if let Some(mistake) = mistake {
                self.tell_mistake(&service, mistake);
            }
            for wanted in list {
                let key = (
                    service.namespace().unwrap_or_default(),
                    service.name_any(),
                    wanted,
                );
                present.insert(key, Arc::clone(&service));
            }
        }
        self.forwarders.retain(|key, _| present.contains_key(key));
        self.told
            .retain(|key, _| key.2.port == 0 || present.contains_key(key));
        let mut failed = std::collections::BTreeSet::new();
        for (key, service) in &present {
            if !self.forwarders.contains_key(key) && !self.forward(key, service) {
                failed.insert((key.0.clone(), key.1.clone(), key.2.purpose));
                if key.2.purpose != Purpose::ClusterIp {
                    again = Some(RETRY);
                }
            }
        }
        for service in self.informers.services.list() {
            let key = (
                service.namespace().unwrap_or_default(),
                service.name_any(),
                Purpose::LoadBalancer,
            );
            self.write_ingress(&service, !failed.contains(&key)).await?;
        }
        Ok(again)
    }

    /// Starts a forwarder; false when its port cannot be had.
    fn forward(&mut self, key: &ForwarderKey, service: &Service) -> bool {
        let (namespace, name, wanted) = key;
        match listen(wanted.address) {
            Ok(listener) => {
                let forwarder = Forwarder {
                    namespace: Arc::from(namespace.as_str()),
                    service: Arc::from(name.as_str()),
                    port: wanted.port,
                    plan: self.plan,
                    endpoints: self.endpoints.clone(),
                };
                let token = self.shutdown.child_token();
                tokio::spawn(forwarder.serve(listener, token.clone()));
                self.forwarders.insert(key.clone(), token.drop_guard());
                self.told.remove(key);
                true
            }
            Err(error) if wanted.purpose == Purpose::ClusterIp => {
                // the doors do without: they resolve Services themselves
                if self.told.insert(key.clone(), String::new()).is_none() {
                    tracing::debug!(service = name, address = %wanted.address, %error,
                        "cluster IP not listened on; pods reach it through their doors");
                }
                false
            }
            Err(error) => {
                let message = remedy(wanted, &error);
                if self.told.get(key) != Some(&message) {
                    self.recorder.record(
                        service,
                        EventType::Warning,
                        "PortNotAvailable",
                        message.clone(),
                    );
                    self.told.insert(key.clone(), message);
                }
                false
            }
        }
    }

    fn tell_mistake(&mut self, service: &Service, mistake: String) {
        let nowhere = Wanted {
            address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            port: 0,
            purpose: Purpose::LoadBalancer,
        };
        let key = (
            service.namespace().unwrap_or_default(),
            service.name_any(),
            nowhere,
        );
        if self.told.get(&key) != Some(&mistake) {
            self.recorder.record(
                service,
                EventType::Warning,
                "InvalidAnnotation",
                mistake.clone(),
            );
            self.told.insert(key, mistake);
        }
    }

    async fn write_ingress(&self, service: &Service, served: bool) -> Result<(), kube::Error> {
        let wants = service.spec.as_ref().and_then(|s| s.type_.as_deref()) == Some("LoadBalancer");
        let has = service
            .status
            .as_ref()
            .and_then(|s| s.load_balancer.as_ref())
            .and_then(|l| l.ingress.as_ref())
            .is_some_and(|i| !i.is_empty());
        if has == (wants && served) {
            return Ok(());
        }
        let ingress = if wants && served {
            serde_json::json!([{"ip": "127.0.0.1", "ipMode": "VIP"}])
        } else {
            serde_json::Value::Null
        };
        let namespace = service.namespace().unwrap_or_default();
        let api: Api<Service> = Api::namespaced(self.client.clone(), &namespace);
        let patch = serde_json::json!({"status": {"loadBalancer": {"ingress": ingress}}});
        let written = api
            .patch_status(&service.name_any(), &manager(), &Patch::Merge(patch))
            .await;
        if let Some(service) = ignore_races(written)? {
            self.informers.services.apply(service);
        }
        Ok(())
    }
}
