//! What all pods of the node share.

use super::containers::Containers;
use super::logs::Logs;
use super::process::Launcher;
use crate::controllers::events::Recorder;
use crate::images::Catalogue;
use crate::informers::Informers;
use crate::network::addresses::AddressPlan;
use kube::Client;
use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// What the runtime has to be told.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// The folder for pods: logs, volumes. It is made if it is not there.
    pub state_dir: PathBuf,
    /// The cluster's address index, see [`AddressPlan`].
    pub address_index: u8,
    /// The images that can be run.
    pub images: Catalogue,
    /// The node's name.
    pub node_name: String,
    /// Where the API server listens, for clients in pods.
    pub api_address: SocketAddr,
    /// The program that `{self}` stands for in the catalogue.
    pub self_exe: PathBuf,
    /// The program with the shim as a subcommand, mostly the same.
    pub shim_exe: PathBuf,
}

/// The shared part of the runtime.
pub struct Context {
    /// The API.
    pub client: Client,
    /// The caches.
    pub informers: Informers,
    /// Events in the kubelet's name.
    pub recorder: Recorder,
    /// All logs.
    pub logs: Logs,
    /// What runs now.
    pub containers: Containers,
    /// The configuration.
    pub config: RuntimeConfig,
    /// The addresses.
    pub plan: AddressPlan,
    /// How processes are started.
    pub launcher: Launcher,
    /// Addresses in use, and the last one given.
    pub leases: Mutex<Leases>,
}

/// Pod addresses in use.
#[derive(Debug, Default)]
pub struct Leases {
    used: HashSet<Ipv4Addr>,
    last: Option<Ipv4Addr>,
}

impl Context {
    /// Gives a pod an address: `wanted` if it is free (a pod keeps its address over a restart of
    /// the cluster), else the next one. `None` when all are in use.
    pub fn lease(&self, wanted: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let address = wanted
            .filter(|ip| self.plan.is_pod(*ip) && !leases.used.contains(ip))
            .or_else(|| {
                self.plan
                    .next_pod(leases.last, |ip| leases.used.contains(&ip))
            })?;
        leases.used.insert(address);
        leases.last = Some(address);
        Some(address)
    }

    /// Takes an address back.
    pub fn release(&self, address: Ipv4Addr) {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        leases.used.remove(&address);
    }
}
