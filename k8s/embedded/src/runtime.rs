//! The process runtime: what a real node's kubelet and container runtime do.
//!
//! A pod is a group of processes, one per container, started from the image catalogue. Each pod is
//! a task of its own ([`pod`]) that decides by a pure plan ([`plan`]) and tells the API what has
//! become of it ([`status`]). Processes are started behind a shim ([`shim`]) that ties their life to
//! the cluster's; what still outlives it is killed by the reaper, or at the next start.
//!
//! | file                                   | what                                             |
//! | -------------------------------------- | ------------------------------------------------ |
//! | [`pod`], [`plan`], [`status`]          | a pod's life, its order, what is told of it      |
//! | [`launch`], [`env`], [`volumes`]       | what a container is given                        |
//! | [`refresh`]                            | volumes that follow ConfigMaps and Secrets       |
//! | [`process`], [`shim`]                  | how a process is started and ended               |
//! | [`probe`], [`backoff`]                 | health and restarts                              |
//! | [`logs`]                               | what `kubectl logs` reads                        |
//! | [`kubelet`], [`containers`]            | what the API server asks, and what runs          |
//! | [`exec`], [`paths`], [`terminal`]      | commands run beside a container                  |
//! | [`privilege`]                          | ports that the user may not listen on            |
//! | [`usage`], [`memory`]                  | what containers use, and the limit on memory     |
//! | [`registration`]                       | the Node object                                  |

mod attach;
pub mod backoff;
pub mod containers;
pub mod context;
pub mod downward;
pub mod env;
mod exec;
pub mod kubelet;
pub mod launch;
pub mod logs;
mod memory;
pub mod paths;
pub mod plan;
pub mod pod;
pub mod privilege;
pub mod probe;
pub mod process;
mod refresh;
pub mod registration;
mod run;
pub mod shim;
pub mod status;
pub mod terminal;
pub mod tokens;
pub mod usage;
pub mod volumes;

pub use context::RuntimeConfig;

use crate::controllers::events::Recorder;
use crate::informers::{Informers, uid_of};
use crate::network::addresses::{AddressPlan, IndexOutOfRange};
use context::{Context, Leases};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kubelet::Kubelet;
use process::Launcher;
use std::collections::HashMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Why the runtime could not start.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The address index is not usable.
    #[error(transparent)]
    Index(#[from] IndexOutOfRange),
    /// The state folder cannot be used.
    #[error("state folder {0}: {1}: make it writable or choose another one")]
    StateDir(std::path::PathBuf, std::io::Error),
    /// The reaper could not be started.
    #[error("starting {0} {sub}: {1}", sub = shim::SUBCOMMAND)]
    Reaper(std::path::PathBuf, std::io::Error),
}

/// Runs the pods of the node until `shutdown`, then stops them. What runs is
/// known through `kubelet`, which the API server is given as its [`Node`](crate::node::Node).
///
/// # Errors
/// See [`RuntimeError`]. Once it runs, errors are told in events and the log.
pub async fn run(
    client: Client,
    informers: Informers,
    mut config: RuntimeConfig,
    kubelet: Kubelet,
    shutdown: CancellationToken,
) -> Result<(), RuntimeError> {
    let plan = AddressPlan::new(config.address_index)?;
    let unusable = |error| RuntimeError::StateDir(config.state_dir.clone(), error);
    std::fs::create_dir_all(&config.state_dir).map_err(unusable)?;
    // one spelling: it is the mark by which leftovers are known
    config.state_dir = config.state_dir.canonicalize().map_err(unusable)?;
    let leftovers = shim::kill_marked(&config.state_dir);
    if leftovers > 0 {
        tracing::info!(
            leftovers,
            "killed processes of an earlier run of this cluster"
        );
    }
    let _reaper = start_reaper(&config)?;

    // events are still written while pods stop, so their queue ends with the process
    let recorder = Recorder::start(client.clone(), "kubelet", CancellationToken::new())
        .on_host(&config.node_name);
    let context = Arc::new(Context {
        client,
        informers,
        recorder,
        logs: kubelet.logs,
        containers: kubelet.containers,
        plan,
        launcher: Launcher {
            program: config.shim_exe.clone(),
        },
        leases: Mutex::new(Leases::default()),
        config,
    });
    while let Err(error) = registration::register(&context).await {
        tracing::warn!(%error, "node not registered, will retry");
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(std::time::Duration::from_millis(200)) => {}
        }
    }
    tokio::spawn(registration::beat(Arc::clone(&context), shutdown.clone()));
    tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        () = context.informers.pods.synced() => {}
    }
    forget_strangers(&context);
    tokio::spawn(refresh::run(Arc::clone(&context), shutdown.clone()));
    supervise(context, shutdown).await;
    Ok(())
}

/// Starts the process that outlives us by a moment to kill what we leave. The handle keeps the
/// pipe open whose end it waits for.
fn start_reaper(config: &RuntimeConfig) -> Result<std::process::Child, RuntimeError> {
    std::process::Command::new(&config.shim_exe)
        .arg(shim::SUBCOMMAND)
        .arg("reap")
        .arg(&config.state_dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| RuntimeError::Reaper(config.shim_exe.clone(), error))
}

/// Removes the folders of pods that were deleted while no cluster ran.
fn forget_strangers(context: &Context) {
    let pods = context.informers.pods.list();
    let Ok(folders) = std::fs::read_dir(context.config.state_dir.join("pods")) else {
        return;
    };
    for folder in folders.flatten() {
        let known = pods
            .iter()
            .any(|p| folder.file_name().to_str() == p.metadata.uid.as_deref());
        if !known && let Err(error) = std::fs::remove_dir_all(folder.path()) {
            tracing::warn!(path = %folder.path().display(), %error, "pod folder not removed");
        }
    }
}

type Workers = HashMap<String, watch::Sender<Option<Arc<Pod>>>>;

async fn supervise(context: Arc<Context>, shutdown: CancellationToken) {
    let mut changed = context.informers.pods.changed();
    let mut workers: Workers = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        changed.mark_unchanged();
        assign(&context, &mut workers, &mut tasks, &shutdown);
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = changed.changed() => {}
            Some(ended) = tasks.join_next() => {
                if let Ok(uid) = ended {
                    workers.remove(&uid);
                }
            }
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// Gives every pod of the node a worker, and every worker the latest of its pod.
fn assign(
    context: &Arc<Context>,
    workers: &mut Workers,
    tasks: &mut JoinSet<String>,
    shutdown: &CancellationToken,
) {
    let node = context.config.node_name.as_str();
    let mut pods = context.informers.pods.list();
    pods.retain(|p| p.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(node));
    // those that had an address get it back before new ones are given any
    pods.sort_by_key(|p| p.status.as_ref().and_then(|s| s.pod_ip.as_ref()).is_none());
    for (uid, worker) in workers.iter() {
        if !pods.iter().any(|p| p.metadata.uid.as_deref() == Some(uid)) {
            worker.send_if_modified(|pod| pod.take().is_some());
        }
    }
    for pod in pods {
        let uid = uid_of(pod.as_ref());
        if let Some(worker) = workers.get(&uid) {
            worker.send_if_modified(|known| {
                let same = known
                    .as_ref()
                    .is_some_and(|k| k.metadata.resource_version == pod.metadata.resource_version);
                if !same {
                    *known = Some(pod);
                }
                !same
            });
            continue;
        }
        let (sender, receiver) = watch::channel(Some(Arc::clone(&pod)));
        workers.insert(uid.clone(), sender);
        let work = pod::work(Arc::clone(context), pod, receiver, shutdown.clone());
        tasks.spawn(async move {
            work.await;
            uid
        });
    }
}
