//! The containers that run on the node now, by pod and name: what `exec`, `attach` and metrics find.

use super::process::{Launch, Launcher};
use crate::node::{Input, Output};
use bytes::Bytes;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

/// A container that runs.
#[derive(Debug)]
pub struct Running {
    /// Id of this run.
    pub id: String,
    /// What it runs, and with which environment.
    pub launch: Launch,
    /// How processes are started beside it.
    pub launcher: Launcher,
    /// Its first process, which leads a session.
    pub pid: u32,
    /// Addresses that stand for the pod's localhost, in the order in which they are tried.
    pub localhost: [Ipv4Addr; 2],
    /// Its standard input, if it takes any.
    pub input: Option<mpsc::Sender<Input>>,
    /// What it writes, for those who are attached.
    pub output: broadcast::Sender<(Output, Bytes)>,
    /// Cancelled when it has ended.
    pub end: CancellationToken,
    /// Whether a command was ever run beside it.
    pub entered: AtomicBool,
}

/// Namespace, pod, container.
type Key = (String, String, String);

/// All of them. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Containers(Arc<Mutex<HashMap<Key, Arc<Running>>>>);

/// Keeps a container listed; dropped when it has ended.
#[derive(Debug)]
pub struct Listed {
    containers: Containers,
    key: Key,
    running: Arc<Running>,
}

impl Containers {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Running>>> {
        // what is guarded stays usable whatever a panicking holder did
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists a container.
    pub fn list(&self, namespace: &str, pod: &str, name: &str, running: Arc<Running>) -> Listed {
        let key = (namespace.to_owned(), pod.to_owned(), name.to_owned());
        self.lock().insert(key.clone(), Arc::clone(&running));
        Listed {
            containers: self.clone(),
            key,
            running,
        }
    }

    /// A container that runs.
    pub fn find(&self, namespace: &str, pod: &str, name: &str) -> Option<Arc<Running>> {
        let key = (namespace.to_owned(), pod.to_owned(), name.to_owned());
        self.lock().get(&key).cloned()
    }

    /// Any container of a pod.
    pub fn of_pod(&self, namespace: &str, pod: &str) -> Option<Arc<Running>> {
        self.lock()
            .iter()
            .find(|((n, p, _), _)| n == namespace && p == pod)
            .map(|(_, running)| Arc::clone(running))
    }

    /// Every container: namespace, pod, name, first process.
    pub fn all(&self) -> Vec<(String, String, String, u32)> {
        self.lock()
            .iter()
            .map(|((n, p, c), running)| (n.clone(), p.clone(), c.clone(), running.pid))
            .collect()
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut all = self.containers.lock();
        // a restarted container may have taken the place
        if all
            .get(&self.key)
            .is_some_and(|r| Arc::ptr_eq(r, &self.running))
        {
            all.remove(&self.key);
        }
        drop(all);
        self.running.end.cancel();
        if self.running.entered.load(Ordering::Relaxed) {
            super::exec::kill_entered(&self.running.id);
        }
    }
}
