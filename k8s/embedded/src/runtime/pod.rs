//! One pod: a task that carries out what [`plan`](super::plan) says and writes the status.
//!
//! The task owns the pod's state. Processes and probes run beside it and report in messages; the
//! pod's object comes through a watch channel, `None` when it is gone from the API.

use super::context::Context;
use super::downward::Place;
use super::launch::{self, Refusal};
use super::plan::{
    Container, Outcome, RestartPolicy, Role, State, Step, Termination, book_end, plan,
};
use super::probe::Kind;
use super::run::{Ending, Message, Run, Started};
use super::status::{self, Facts};
use super::volumes::{self, Folders};
use super::{backoff, privilege, tokens};
use crate::controllers::events::EventType;
use crate::controllers::merge_patch::merge_patch;
use crate::controllers::{is_conflict, is_not_found};
use crate::informers::{is_terminating, uid_of};
use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod, PodSpec};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
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

fn role(container: &ContainerSpec) -> Role {
    if container.restart_policy.as_deref() == Some("Always") {
        Role::Sidecar
    } else {
        Role::Init
    }
}

/// The containers of a pod in the plan's order, with what an earlier cluster process has left in
/// the status: restarts are counted on, and what was running then has ended in an unknown way, as
/// after a reboot of a node.
fn restore(pod: &Pod, spec: &PodSpec) -> Vec<Container> {
    let initializing = spec.init_containers.as_ref().is_some_and(|i| !i.is_empty());
    let mut containers: Vec<_> = spec
        .init_containers
        .iter()
        .flatten()
        .map(|c| Container::new(&c.name, role(c), true))
        .chain(
            spec.containers
                .iter()
                .map(|c| Container::new(&c.name, Role::App, initializing)),
        )
        .collect();
    let Some(status) = &pod.status else {
        return containers;
    };
    let statuses = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten());
    for old in statuses {
        let Some(container) = containers.iter_mut().find(|c| c.name == old.name) else {
            continue;
        };
        let Some(id) = &old.container_id else {
            continue;
        };
        let ended = old.state.as_ref().and_then(|s| s.terminated.as_ref());
        let running = old.state.as_ref().and_then(|s| s.running.as_ref());
        container.restarts = old.restart_count + 1;
        let epoch = jiff::Timestamp::UNIX_EPOCH;
        container.last = Some(Termination {
            exit_code: ended.map_or(255, |t| t.exit_code),
            reason: ended
                .and_then(|t| t.reason.clone())
                .unwrap_or_else(|| "Unknown".into()),
            message: ended.and_then(|t| t.message.clone()),
            started_at: ended
                .and_then(|t| t.started_at.as_ref())
                .or_else(|| running.and_then(|r| r.started_at.as_ref()))
                .map_or(epoch, |t| t.0),
            finished_at: ended
                .and_then(|t| t.finished_at.as_ref())
                .map_or_else(jiff::Timestamp::now, |t| t.0),
            container_id: Some(id.clone()),
        });
    }
    containers
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

    /// Records an event about one of the containers.
    pub(super) fn tell(&self, index: usize, type_: EventType, reason: &str, message: String) {
        let container = &self.containers[index];
        let list = match container.role {
            Role::App => "containers",
            Role::Init | Role::Sidecar => "initContainers",
        };
        let path = format!("spec.{list}{{{}}}", container.name);
        self.context
            .recorder
            .record_field(self.pod.as_ref(), Some(path), type_, reason, message);
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
        let mut wake: Option<Instant> = None;
        // every step may allow the next one; ended by a plan without steps
        for _ in 0..100 {
            let now = std::time::Instant::now();
            let policy = policy(&self.spec);
            let plan = if self.outcome.is_some() && !terminating {
                Default::default()
            } else {
                plan(policy, terminating, &self.containers, now)
            };
            wake = plan.wake.map(Instant::from_std);
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

    async fn act(&mut self, step: Step) {
        match step {
            Step::Start(index) => self.start(index).await,
            Step::Stop(index) => self.stop(index),
            Step::BackOff(index) => self.back_off(index),
            Step::End(outcome) => self.outcome = Some(outcome),
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

    async fn start(&mut self, index: usize) {
        let Some(spec) = self.spec_of(index).cloned() else {
            return;
        };
        let image = spec.image.clone().unwrap_or_default();
        let context = Arc::clone(&self.context);
        let prepared =
            launch::prepare(&context, &self.pod, &spec, &self.place, &self.folders).await;
        let launch = match prepared {
            Ok(launch) => launch,
            Err(refusal) => return self.refuse(index, refusal),
        };
        self.tell(
            index,
            EventType::Normal,
            "Pulled",
            format!("Container image {image:?} already present on machine and can be accessed by the pod"),
        );
        self.tell(
            index,
            EventType::Normal,
            "Created",
            "Container created".into(),
        );
        if let Some(notice) = privilege::notice(&spec, privilege::lowest_port()) {
            self.tell(index, EventType::Normal, "PortMapped", notice);
        }
        let again = {
            let container = &mut self.containers[index];
            let last = match &container.state {
                State::Terminated(t) => Some(t.clone()),
                _ => None,
            };
            let again = last.is_some() || container.last.is_some();
            if let Some(last) = last {
                container.last = Some(last);
            }
            // a restart is counted when it is tried; a restored container was counted when found
            if again && container.ended.is_some() {
                container.restarts += 1;
            }
            again
        };
        tracing::debug!(
            pod = self.pod.name_any(),
            container = spec.name,
            again,
            "starting"
        );
        match self.spawn(index, &spec, launch) {
            Ok(Started { run, id, since }) => {
                self.tell(
                    index,
                    EventType::Normal,
                    "Started",
                    "Container started".into(),
                );
                let container = &mut self.containers[index];
                container.container_id = Some(id);
                container.state = State::Running { since };
                container.started = spec.startup_probe.is_none();
                container.ready = container.started && spec.readiness_probe.is_none();
                container.not_before = None;
                self.runs[index] = Some(run);
            }
            Err(message) => self.failed_to_start(index, message),
        }
    }

    fn failed_to_start(&mut self, index: usize, message: String) {
        self.tell(
            index,
            EventType::Warning,
            "Failed",
            format!("Error: {message}"),
        );
        let now = std::time::Instant::now();
        let policy = policy(&self.spec);
        let container = &mut self.containers[index];
        let id = format!("meshdojo://{}", super::run::new_id());
        container.container_id = Some(id.clone());
        let termination = Termination {
            exit_code: 128,
            reason: "StartError".into(),
            message: Some(message.clone()),
            started_at: jiff::Timestamp::UNIX_EPOCH,
            finished_at: jiff::Timestamp::now(),
            container_id: Some(id),
        };
        book_end(container, policy, termination.clone(), Duration::ZERO, now);
        if !container.is_over(policy) {
            container.state = State::Waiting {
                reason: "RunContainerError".into(),
                message: Some(message),
            };
            container.last = Some(termination);
        }
    }

    /// A container that could not even be tried: shown as waiting, and looked at again later.
    fn refuse(&mut self, index: usize, refusal: Refusal) {
        let pause = |failures: u32| backoff::delay(failures + 1);
        let failures = self.containers[index].failures;
        let image = |name: &str| {
            format!(
                "image {name:?} is not in the image catalogue; map it to a host command with: \
                 meshdojo image map {name} -- COMMAND [ARG...]"
            )
        };
        let (reason, message, delay) = match refusal {
            Refusal::InvalidImage(message) => {
                self.tell(index, EventType::Warning, "InspectFailed", message.clone());
                let event = "Error: InvalidImageName".to_owned();
                self.tell(index, EventType::Warning, "Failed", event);
                ("InvalidImageName", message, pause(failures))
            }
            Refusal::UnknownImage(name) => {
                let never = self
                    .spec_of(index)
                    .and_then(|s| s.image_pull_policy.as_deref())
                    == Some("Never");
                let why = image(&name);
                if never {
                    let message = format!(
                        "Container image {name:?} is not present with pull policy of Never; {why}"
                    );
                    self.tell(
                        index,
                        EventType::Warning,
                        "ErrImageNeverPull",
                        message.clone(),
                    );
                    ("ErrImageNeverPull", message, pause(failures))
                } else {
                    let text = format!("Pulling image {name:?}");
                    self.tell(index, EventType::Normal, "Pulling", text);
                    let text = format!("Failed to pull image {name:?}: {why}");
                    self.tell(index, EventType::Warning, "Failed", text);
                    let text = "Error: ErrImagePull".to_owned();
                    self.tell(index, EventType::Warning, "Failed", text);
                    ("ErrImagePull", why, pause(failures))
                }
            }
            Refusal::Config(message) => {
                let text = format!("Error: {message}");
                self.tell(index, EventType::Warning, "Failed", text);
                // what is missing may be created any moment
                let delay = Duration::from_secs(1 << failures.min(4));
                ("CreateContainerConfigError", message, delay)
            }
        };
        let now = std::time::Instant::now();
        let key = self.name();
        let container = &mut self.containers[index];
        container.failures += 1;
        container.not_before = Some(now + delay);
        container.state = State::Waiting {
            reason: reason.into(),
            message: Some(message),
        };
        let logs = &self.context.logs;
        logs.note_waiting((&key.0, &key.1), &self.containers[index].name, reason);
        if reason == "ErrImagePull" {
            self.show_pull_back_off(index);
        }
    }

    /// After a moment an image that cannot be had is shown to be waited for.
    fn show_pull_back_off(&self, index: usize) {
        let messages = self.messages.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(2)).await;
            // the pod is gone: nobody to show it to
            let _ = messages.send(Message::PullBackOff { index }).await;
        });
    }

    fn back_off(&mut self, index: usize) {
        let (namespace, pod) = self.name();
        let uid = uid_of(self.pod.as_ref());
        let container = &mut self.containers[index];
        let State::Terminated(termination) = &container.state else {
            return;
        };
        let name = container.name.clone();
        let seconds = backoff::delay(container.failures.saturating_sub(1)).as_secs();
        let shown = if seconds >= 60 && seconds.is_multiple_of(60) {
            format!("{}m0s", seconds / 60)
        } else if seconds > 60 {
            format!("{}m{}s", seconds / 60, seconds % 60)
        } else {
            format!("{seconds}s")
        };
        container.last = Some(termination.clone());
        container.state = State::Waiting {
            reason: "CrashLoopBackOff".into(),
            message: Some(format!(
                "back-off {shown} restarting failed container={name} pod={pod}_{namespace}({uid})"
            )),
        };
        self.tell(
            index,
            EventType::Warning,
            "BackOff",
            format!("Back-off restarting failed container {name} in pod {pod}_{namespace}({uid})"),
        );
    }

    fn stop(&mut self, index: usize) {
        let deadline = self
            .deadline
            .unwrap_or_else(|| Instant::now() + self.grace());
        let name = self.containers[index].name.clone();
        self.tell(
            index,
            EventType::Normal,
            "Killing",
            format!("Stopping container {name}"),
        );
        self.containers[index].stopping = true;
        if let Some(run) = &self.runs[index] {
            run.stop(deadline);
        }
    }

    fn grace(&self) -> Duration {
        let seconds = self.spec.termination_grace_period_seconds.unwrap_or(30);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(30))
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Ended { index, run, ending } => {
                if self.runs[index].as_ref().is_none_or(|r| r.id != run) {
                    return;
                }
                self.runs[index] = None;
                self.ended(index, ending);
            }
            Message::Probe {
                index,
                run,
                kind,
                success,
            } => {
                if self.runs[index].as_ref().is_none_or(|r| r.id != run) {
                    return;
                }
                self.probed(index, kind, success);
            }
            Message::HookFailed { index, run, why } => {
                if self.runs[index].as_ref().is_none_or(|r| r.id != run) {
                    return;
                }
                self.tell(index, EventType::Warning, "FailedPostStartHook", why);
                self.restart(index, "FailedPostStartHook");
            }
            Message::PullBackOff { index } => {
                let image = self
                    .spec_of(index)
                    .and_then(|s| s.image.clone())
                    .unwrap_or_default();
                let State::Waiting { reason, message } = &self.containers[index].state else {
                    return;
                };
                if reason != "ErrImagePull" {
                    return;
                }
                let why = message.clone().unwrap_or_default();
                self.tell(
                    index,
                    EventType::Normal,
                    "BackOff",
                    format!("Back-off pulling image {image:?}"),
                );
                let text = "Error: ImagePullBackOff".to_owned();
                self.tell(index, EventType::Warning, "Failed", text);
                self.containers[index].state = State::Waiting {
                    reason: "ImagePullBackOff".into(),
                    message: Some(format!(
                        "Back-off pulling image {image:?}: ErrImagePull: {why}"
                    )),
                };
                let (namespace, pod) = self.name();
                let name = self.containers[index].name.clone();
                self.context
                    .logs
                    .note_waiting((&namespace, &pod), &name, "ImagePullBackOff");
            }
        }
    }

    fn ended(&mut self, index: usize, ending: Ending) {
        let policy = policy(&self.spec);
        let container = &mut self.containers[index];
        let since = match container.state {
            State::Running { since } => since,
            _ => ending.at,
        };
        let reason = if ending.exit_code == 0 {
            "Completed"
        } else {
            "Error"
        };
        let termination = Termination {
            exit_code: ending.exit_code,
            reason: reason.into(),
            message: ending.message,
            started_at: since,
            finished_at: ending.at,
            container_id: container.container_id.clone(),
        };
        let now = std::time::Instant::now();
        book_end(container, policy, termination, ending.ran, now);
    }

    fn probed(&mut self, index: usize, kind: Kind, success: bool) {
        match (kind, success) {
            (Kind::Startup, true) => {
                let plain = self
                    .spec_of(index)
                    .is_none_or(|s| s.readiness_probe.is_none());
                self.containers[index].started = true;
                self.containers[index].ready |= plain;
                if let Some(run) = &self.runs[index] {
                    run.set_started();
                }
            }
            (Kind::Readiness, ready) => self.containers[index].ready = ready,
            (Kind::Liveness, true) => {}
            (Kind::Startup, false) => self.restart(index, "startup"),
            (Kind::Liveness, false) => self.restart(index, "liveness"),
        }
    }

    /// Stops a container because of a probe or hook; its end restarts it.
    fn restart(&mut self, index: usize, probe: &str) {
        if self.containers[index].stopping {
            return;
        }
        let name = self.containers[index].name.clone();
        let message = if probe == "FailedPostStartHook" {
            probe.to_owned()
        } else {
            format!("Container {name} failed {probe} probe, will be restarted")
        };
        self.tell(index, EventType::Normal, "Killing", message);
        self.containers[index].stopping = true;
        let deadline = Instant::now() + self.grace();
        if let Some(run) = &self.runs[index] {
            run.stop(deadline);
        }
    }

    async fn write_status(&mut self) {
        let facts = Facts {
            containers: &self.containers,
            outcome: self.outcome,
            pod_ip: self.place.pod_ip,
            host_ip: self.place.host_ip,
            started: self.started,
            now: jiff::Timestamp::now(),
        };
        let status = status::compute(&self.pod, &facts);
        let new = serde_json::to_value(status).unwrap_or_default();
        let Some(patch) = merge_patch(&self.written, &new) else {
            return;
        };
        let (namespace, name) = self.name();
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &namespace);
        let patch =
            serde_json::json!({"metadata": {"uid": self.pod.metadata.uid}, "status": patch});
        let params = PatchParams {
            field_manager: Some("kubelet".into()),
            ..PatchParams::default()
        };
        match api.patch_status(&name, &params, &Patch::Merge(patch)).await {
            Ok(pod) => {
                // compared with what was sent: the server may add defaults
                self.written = new;
                if !is_terminating(self.pod.as_ref()) && is_terminating(&pod) {
                    self.update(Arc::new(pod.clone()));
                } else {
                    self.pod = Arc::new(pod.clone());
                }
                self.context.informers.pods.apply(pod);
            }
            Err(error) if is_not_found(&error) || is_conflict(&error) => {
                // deleted meanwhile: the watch will say so
                tracing::debug!(pod = name, %error, "status not written");
            }
            Err(error) => tracing::warn!(pod = name, %error, "status not written"),
        }
    }

    async fn delete(&self) {
        let (namespace, name) = self.name();
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &namespace);
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: self.pod.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        for pause in [10, 100, 1000, 5000] {
            match api.delete(&name, &params).await {
                Ok(_) => return,
                Err(error) if is_not_found(&error) || is_conflict(&error) => return,
                Err(error) => {
                    tracing::warn!(pod = name, %error, "pod not deleted, will retry");
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
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

    /// Stops every process within `grace`.
    async fn kill_all(&mut self, grace: Duration) {
        let deadline = Instant::now() + grace;
        for run in self.runs.iter().flatten() {
            run.stop(deadline);
        }
        let last = deadline + Duration::from_secs(1);
        while self.runs.iter().any(Option::is_some) {
            match tokio::time::timeout_at(last, self.incoming.recv()).await {
                Ok(Some(message)) => self.take(message),
                _ => break,
            }
        }
    }
}
