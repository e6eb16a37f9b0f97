//! Controllers: what a real cluster's kube-controller-manager and kube-scheduler do.
//!
//! | file                 | keeps true                                                             |
//! | -------------------- | ---------------------------------------------------------------------- |
//! | [`deployment`]       | a Deployment's ReplicaSets, its rollout and its status                 |
//! | [`replica_set`]      | a ReplicaSet's pods and its status                                     |
//! | [`daemon_set`], [`stateful_set`] | their pods                                                  |
//! | [`job`], [`cron_job`] | pods that are to end, and when                                        |
//! | [`autoscaler`]       | replicas after the load                                                |
//! | [`endpoint_slices`]  | EndpointSlices and Endpoints of the Services that select pods          |
//! | [`scheduler`]        | every pod has a node: the one there is                                 |
//! | [`namespaces`]       | what a namespace is born with, and its orderly end                     |
//! | [`garbage`]          | dependents follow their owners                                         |
//!
//! Each controller decides in a pure function over what the caches hold and acts in a thin loop
//! ([`keep`]): whenever a cache it reads changes, it looks at everything again (level-triggered).
//! All of them are plain clients of the API and could run against any cluster.

pub mod autoscaler;
pub mod cron_job;
pub mod daemon_set;
pub mod deployment;
pub mod endpoint_slices;
pub mod events;
pub mod garbage;
pub mod job;
pub mod merge_patch;
pub mod namespaces;
pub mod owned_pods;
pub mod ownership;
pub mod replica_set;
pub mod rolling_update;
pub mod scheduler;
pub mod stateful_set;

use crate::informers::Informers;
use kube::Client;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The manager named in `managedFields` by what controllers write.
pub const FIELD_MANAGER: &str = "kube-controller-manager";

/// What controllers have to be told.
#[derive(Debug, Clone)]
pub struct ControllersConfig {
    /// The name of the one node, for the scheduler.
    pub node_name: String,
    /// The certificate of the API server's authority in PEM, for `kube-root-ca.crt`.
    pub ca_pem: String,
}

/// Runs all controllers until `shutdown`.
pub async fn run(
    client: Client,
    informers: Informers,
    config: ControllersConfig,
    shutdown: CancellationToken,
) {
    let recorder = events::Recorder::start(client.clone(), "", shutdown.clone());
    informers.synced().await;
    tokio::join!(
        scheduler::run(
            client.clone(),
            informers.clone(),
            recorder.named("default-scheduler"),
            &config.node_name,
            &shutdown,
        ),
        deployment::run(
            client.clone(),
            informers.clone(),
            recorder.named("deployment-controller"),
            &shutdown,
        ),
        replica_set::run(
            client.clone(),
            informers.clone(),
            recorder.named("replicaset-controller"),
            &shutdown,
        ),
        daemon_set::run(
            client.clone(),
            informers.clone(),
            recorder.named("daemonset-controller"),
            &config.node_name,
            &shutdown,
        ),
        stateful_set::run(
            client.clone(),
            informers.clone(),
            recorder.named("statefulset-controller"),
            &shutdown,
        ),
        job::run(
            client.clone(),
            informers.clone(),
            recorder.named("job-controller"),
            &shutdown,
        ),
        cron_job::run(
            client.clone(),
            informers.clone(),
            recorder.named("cronjob-controller"),
            &shutdown,
        ),
        autoscaler::run(
            client.clone(),
            informers.clone(),
            recorder.named("horizontal-pod-autoscaler"),
            &shutdown,
        ),
        endpoint_slices::run(client.clone(), informers.clone(), &shutdown),
        namespaces::run(client.clone(), informers.clone(), &config.ca_pem, &shutdown),
        garbage::run(client, informers, &shutdown),
    );
}

/// How long to wait after failures in a row before the next try.
fn retry_delay(failures: u32) -> Duration {
    Duration::from_millis(50 << failures.min(8))
}

/// Runs `pass` at once and then after each change in one of `changes`, after the delay that the
/// pass asks for, or, when it failed, after a growing pause; until `shutdown`.
pub async fn keep(
    name: &'static str,
    mut changes: Vec<watch::Receiver<u64>>,
    shutdown: &CancellationToken,
    mut pass: impl AsyncFnMut() -> Result<Option<Duration>, kube::Error>,
) {
    let mut failures = 0;
    while !shutdown.is_cancelled() {
        for change in &mut changes {
            change.mark_unchanged();
        }
        let again = match pass().await {
            Ok(again) => {
                failures = 0;
                again
            }
            Err(error) => {
                if is_conflict(&error) {
                    tracing::debug!(controller = name, %error, "will look again");
                } else {
                    tracing::warn!(controller = name, %error, "pass failed, will retry");
                }
                failures += 1;
                // a change may come sooner, but must not make a failing pass spin
                let delay = retry_delay(failures);
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(delay) => continue,
                }
            }
        };
        let timer = async {
            match again {
                Some(delay) => tokio::time::sleep(delay).await,
                None => std::future::pending().await,
            }
        };
        let any = futures::future::select_all(
            changes.iter_mut().map(|change| Box::pin(change.changed())),
        );
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = timer => {}
            // an error means that the cache is gone, which happens at the end only
            _ = any => {}
        }
    }
}

/// Whether the write lost a race and the next look at the world will settle it.
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Whether the object was not there.
pub fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// A write whose race was lost is not an error of the pass: the next pass sees what is true.
pub fn ignore_races<T>(result: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_conflict(&error) || is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The earlier of two delays, where `None` means never.
pub fn earlier(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}
