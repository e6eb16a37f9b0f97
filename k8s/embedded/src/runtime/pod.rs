//! One pod: a task that carries out what [`plan`](super::plan) says and writes the status.
//!
//! | file        | what                                                     |
//! | ----------- | -------------------------------------------------------- |
//! | [`restore`] | what an earlier process of the cluster has left          |
//! | [`start`]   | starting containers, or showing why that is not possible |
//! | [`course`]  | probes, ends, stopping                                   |
//! | [`tell`]    | status, events, deletion                                 |
//! | [`not_carried_out`] | fields that change nothing here                  |
//!
//! The task owns the pod's state. Processes and probes run beside it and report in messages; the
//! pod's object comes through a watch channel, `None` when it is gone from the API.

mod course;
mod not_carried_out;
mod restore;
mod start;
mod tell;

use super::context::Context;
use super::downward::Place;
use super::plan::{Container, Outcome, RestartPolicy, Role, Step, plan};
use super::run::{Message, Run};
use super::status;
use super::tokens;
use super::volumes::{self, Folders};
use crate::controllers::events::EventType;
use crate::informers::{is_terminating, uid_of};
use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod, PodSpec};
use kube::ResourceExt;
use restore::restore;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Messages that may wait; processes and probes wait when it is full.
const QUEUE: usize = 64;
/// What processes are given to end when the cluster is stopped.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// Grace of a pod that was removed from the API by force.
const FORCED_GRACE: Duration = Duration::from_millis(500);

/// Runs a pod until it is gone or the cluster stops.
pub async fn work(
    context: Arc<Context>,
    pod: Arc<Pod>,
    mut object: watch::Receiver<Option<Arc<Pod>>>,
    shutdown: CancellationToken,
) {
    let wanted = pod
        .status
        .as_ref()
        .and_then(|s| s.pod_ip.as_ref()?.parse().ok());
    let Some(pod_ip) = context.lease(wanted) else {
        context.recorder.record(
            pod.as_ref(),
            EventType::Warning,
            "FailedCreatePodSandBox",
            "Failed to create pod sandbox: all pod addresses of the cluster are in use",
        );
        return;
    };
    let mut worker = Worker::new(Arc::clone(&context), pod, pod_ip);
    worker.run(&mut object, &shutdown).await;
    context.release(pod_ip);
}

pub(super) struct Worker {
    pub(super) context: Arc<Context>,
    pub(super) pod: Arc<Pod>,
    pub(super) spec: PodSpec,
    pub(super) place: Place,
    pub(super) folders: Folders,
    pub(super) containers: Vec<Container>,
    pub(super) runs: Vec<Option<Run>>,
    pub(super) messages: mpsc::Sender<Message>,
    incoming: mpsc::Receiver<Message>,
    outcome: Option<Outcome>,
    started: jiff::Timestamp,
    /// Volumes: when to try (again), and how often it failed. `None` when they are there.
    mount: Option<(Instant, u32)>,
    renewal: Option<JoinHandle<()>>,
    /// By when everything must have stopped.
    deadline: Option<Instant>,
    /// The pod has run for longer than `activeDeadlineSeconds`.
    overdue: bool,
    written: serde_json::Value,
    gone: bool,
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(renewal) = &self.renewal {
            renewal.abort();
        }
    }
}

fn policy(spec: &PodSpec) -> RestartPolicy {
    match spec.restart_policy.as_deref() {
        Some("Never") => RestartPolicy::Never,
        Some("OnFailure") => RestartPolicy::OnFailure,
        _ => RestartPolicy::Always,
    }
}

impl Worker {
    fn new(context: Arc<Context>, pod: Arc<Pod>, pod_ip: Ipv4Addr) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let outcome = match pod.status.as_ref().and_then(|s| s.phase.as_deref()) {
            Some("Succeeded") => Some(Outcome::Succeeded),
            Some("Failed") => Some(Outcome::Failed),
            _ => None,
        };
        let containers = restore(&pod, &spec);
        let (messages, incoming) = mpsc::channel(QUEUE);
        let place = Place {
            pod_ip,
            host_ip: context.plan.node(),
        };
        let folders = Folders {
            pod: context
                .config
                .state_dir
                .join("pods")
                .join(uid_of(pod.as_ref())),
        };
        let written =
            serde_json::to_value(pod.status.clone().unwrap_or_default()).unwrap_or_default();
        Self {
            runs: containers.iter().map(|_| None).collect(),
            context,
            pod,
            spec,
            place,
            folders,
            containers,
            messages,
            incoming,
            outcome,
            started: jiff::Timestamp::now(),
            mount: Some((Instant::now(), 0)),
            renewal: None,
            deadline: None,
            overdue: false,
            written,
            gone: false,
        }
    }

    pub(super) fn name(&self) -> (String, String) {
        (
            self.pod.namespace().unwrap_or_default(),
            self.pod.name_any(),
        )
    }

    pub(super) fn spec_of(&self, index: usize) -> Option<&ContainerSpec> {
        let init = self.spec.init_containers.as_deref().unwrap_or_default();
        init.get(index)
            .or_else(|| self.spec.containers.get(index.checked_sub(init.len())?))
    }

    async fn run(
        &mut self,
        object: &mut watch::Receiver<Option<Arc<Pod>>>,
        shutdown: &CancellationToken,
    ) {
        if self.outcome.is_some() && !is_terminating(self.pod.as_ref()) {
            // ended in an earlier life: only its deletion is left to wait for
            self.wait_for_deletion(object, shutdown).await;
            if shutdown.is_cancelled() {
                return;
            }
        }
        while !self.gone {
            let wake = self.step().await;
            if self.gone {
                break;
            }
            let timer = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return self.kill_all(SHUTDOWN_GRACE).await,
                message = self.incoming.recv() => {
                    if let Some(message) = message {
                        self.take(message);
                    }
                    // what else has come belongs to the same step and status
                    while let Ok(message) = self.incoming.try_recv() {
                        self.take(message);
                    }
                }
                changed = object.changed() => {
                    let latest = object.borrow_and_update().clone();
                    match latest {
                        Some(pod) if changed.is_ok() => self.update(pod),
                        _ => return self.removed().await,
                    }
                }
                () = timer => {}
            }
        }
        self.clean_up();
    }

    async fn wait_for_deletion(
        &mut self,
        object: &mut watch::Receiver<Option<Arc<Pod>>>,
        shutdown: &CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = object.changed() => {
                    let latest = object.borrow_and_update().clone();
                    match latest {
                        Some(pod) if changed.is_ok() => {
                            let over = is_terminating(pod.as_ref());
                            self.pod = pod;
                            if over { return }
                        }
                        _ => {
                            self.gone = true;
                            return;
                        }
                    }
                }
            }
        }
    }

    fn update(&mut self, pod: Arc<Pod>) {
        if is_terminating(pod.as_ref()) {
            let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(30);
            let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
            let deadline = Instant::now() + grace;
            let shorter = self.deadline.is_none_or(|d| deadline < d);
            if shorter {
                self.deadline = Some(deadline);
                for run in self.runs.iter().flatten().filter(|r| r.is_stopping()) {
                    run.stop(deadline);
                }
            }
        }
        self.pod = pod;
    }

    /// One look at the state: does what is to be done, writes the status, says when to look again.
    async fn step(&mut self) -> Option<Instant> {
        let terminating = is_terminating(self.pod.as_ref());
        if terminating && self.deadline.is_none() {
            self.update(Arc::clone(&self.pod));
        }
        if !terminating && self.outcome.is_none() {
            // the address is told first, so that the pod's door is there before its containers
            self.write_status().await;
            if let Some(again) = self.mount().await {
                self.write_status().await;
                return Some(again);
            }
        }
        let due = self.look_at_deadline();
        let ending = terminating || self.overdue;
        let mut wake: Option<Instant> = None;
        // every step may allow the next one; ended by a plan without steps
        for _ in 0..100 {
            let now = std::time::Instant::now();
            let policy = policy(&self.spec);
            let plan = if self.outcome.is_some() && !terminating {
                Default::default()
            } else {
                plan(policy, ending, &self.containers, now)
            };
            wake = plan.wake.map(Instant::from_std);
            if let Some(due) = due {
                wake = Some(wake.map_or(due, |wake| wake.min(due)));
            }
            if plan.steps.is_empty() {
                break;
            }
            for step in plan.steps {
                self.act(step).await;
            }
            if self.gone {
                return None;
            }
        }
        self.write_status().await;
        wake
    }

    /// Notes when `activeDeadlineSeconds` are over; says when they will be.
    fn look_at_deadline(&mut self) -> Option<Instant> {
        let seconds = self.spec.active_deadline_seconds?;
        if self.overdue || self.outcome.is_some() {
            return None;
        }
        let since = self.pod.status.as_ref().and_then(|s| s.start_time.as_ref());
        let since = since.map_or(self.started, |t| t.0);
        let left = since.as_second() + seconds - jiff::Timestamp::now().as_second();
        if let Ok(left @ 1..) = u64::try_from(left) {
            return Some(Instant::now() + Duration::from_secs(left));
        }
        self.overdue = true;
        self.context.recorder.record(
            self.pod.as_ref(),
            EventType::Normal,
            "DeadlineExceeded",
            status::OVERDUE,
        );
        None
    }

    async fn act(&mut self, step: Step) {
        match step {
            Step::Start(index) => self.start(index).await,
            Step::Stop(index) => self.stop(index),
            Step::BackOff(index) => self.back_off(index),
            Step::End(outcome) => self.outcome = Some(outcome),
            // stopped by its deadline and not by a deletion: it stays, as a failed one
            Step::Gone if !is_terminating(self.pod.as_ref()) => {
                self.outcome = Some(Outcome::Failed);
            }
            Step::Gone => {
                if self.outcome.is_none() {
                    let failed = self
                        .containers
                        .iter()
                        .any(|c| c.role == Role::App && c.exit_code() != Some(0));
                    self.outcome = Some(if failed {
                        Outcome::Failed
                    } else {
                        Outcome::Succeeded
                    });
                }
                self.write_status().await;
                self.delete().await;
                self.gone = true;
            }
        }
    }

    /// Makes the volumes if they are not there; when to try again if that failed.
    async fn mount(&mut self) -> Option<Instant> {
        let (at, failures) = self.mount?;
        if at > Instant::now() {
            return Some(at);
        }
        let set_up = volumes::set_up(&self.context.client, &self.pod, &self.place, &self.folders);
        match set_up.await {
            Ok(mounted) => {
                self.mount = None;
                self.tell_not_carried_out();
                if !mounted.is_empty() {
                    let client = self.context.client.clone();
                    let renewal = tokens::renew(client, Arc::clone(&self.pod), mounted);
                    self.renewal = Some(tokio::spawn(renewal));
                }
                None
            }
            Err(error) => {
                // the ConfigMap or token may be a moment late: a namespace is just being furnished
                let pause = Duration::from_millis(100 << failures.min(10));
                if failures >= 3 {
                    self.context.recorder.record(
                        self.pod.as_ref(),
                        EventType::Warning,
                        "FailedMount",
                        error.to_string(),
                    );
                }
                let again = Instant::now() + pause;
                self.mount = Some((again, failures + 1));
                Some(again)
            }
        }
    }

    /// The object was removed by force.
    async fn removed(&mut self) {
        self.kill_all(FORCED_GRACE).await;
        self.clean_up();
    }

    fn clean_up(&mut self) {
        let (namespace, name) = self.name();
        self.context.logs.forget((&namespace, &name));
        if let Err(error) = std::fs::remove_dir_all(&self.folders.pod)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            let path = self.folders.pod.display();
            tracing::warn!(%path, %error, "pod folder not removed");
        }
    }
}
