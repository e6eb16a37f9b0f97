//! What a pod should do next: the order of containers, restarts and the end.
//!
//! Pure: [`plan`] looks at the states of a pod's containers and says which to start, which to
//! stop, and when to look again. The rules are those of the Kubernetes documentation: init
//! containers one after the other; those with `restartPolicy: Always` are sidecars, which the next
//! ones wait for until they are started, and which stay; then all app containers at once. At the
//! end the app containers stop first, then the sidecars, the last one first.

use super::backoff;
use std::time::{Duration, Instant};

/// What kind of container it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container that stays.
    Sidecar,
    /// One of the pod's containers.
    App,
}

/// `spec.restartPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Restart whatever the exit code.
    Always,
    /// Restart after a failure.
    OnFailure,
    /// Never restart.
    Never,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Termination {
    /// Exit code; 128 plus the signal's number for a death by signal.
    pub exit_code: i32,
    /// `Completed`, `Error`, `StartError`, ...
    pub reason: String,
    /// The termination message, if any.
    pub message: Option<String>,
    /// When it began.
    pub started_at: jiff::Timestamp,
    /// When it ended.
    pub finished_at: jiff::Timestamp,
    /// The run's id.
    pub container_id: Option<String>,
}

/// What a container is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not running, and why.
    Waiting {
        /// One word, as `kubectl get pods` shows it.
        reason: String,
        /// More words.
        message: Option<String>,
    },
    /// Running.
    Running {
        /// Since when.
        since: jiff::Timestamp,
    },
    /// Ended.
    Terminated(Termination),
}

/// What is known about one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// What it is doing.
    pub state: State,
    /// How its last run ended.
    pub last: Option<Termination>,
    /// How often it was restarted.
    pub restarts: i32,
    /// Whether its startup probe has succeeded (or it has none and runs).
    pub started: bool,
    /// Whether its readiness probe succeeds (or it has none and runs).
    pub ready: bool,
    /// The id of the present or last run.
    pub container_id: Option<String>,
    /// Whether it is being stopped.
    pub stopping: bool,
    /// Whether it is being started: made ready, or looked for.
    pub starting: bool,
    /// Failures in a row, which make the next restart wait longer.
    pub failures: u32,
    /// No start before this moment.
    pub not_before: Option<Instant>,
    /// When the last run ended.
    pub ended: Option<Instant>,
}

impl Container {
    /// A container that has not run yet.
    pub fn new(name: &str, role: Role, initializing: bool) -> Self {
        let reason = if initializing {
            "PodInitializing"
        } else {
            "ContainerCreating"
        };
        Self {
            name: name.to_owned(),
            role,
            state: State::Waiting {
                reason: reason.to_owned(),
                message: None,
            },
            last: None,
            restarts: 0,
            started: false,
            ready: false,
            container_id: None,
            stopping: false,
            starting: false,
            failures: 0,
            not_before: None,
            ended: None,
        }
    }

    /// Whether its process is there.
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// The exit code of the run that ended last and was not followed by another.
    pub fn exit_code(&self) -> Option<i32> {
        match (&self.state, &self.last) {
            (State::Terminated(t), _) => Some(t.exit_code),
            (State::Waiting { reason, .. }, Some(t)) if is_backing_off(reason) => Some(t.exit_code),
            _ => None,
        }
    }

    /// Whether it ended well and is an init container whose work is done.
    pub fn is_done(&self) -> bool {
        match self.role {
            Role::Init => {
                matches!(&self.state, State::Terminated(t) if t.exit_code == 0)
            }
            Role::Sidecar => self.is_running() && self.started,
            Role::App => false,
        }
    }

    fn restarts_after(&self, policy: RestartPolicy, exit_code: i32) -> bool {
        match (self.role, policy) {
            (Role::Sidecar, _) => true,
            (Role::Init, RestartPolicy::Never) => false,
            (Role::Init, _) => exit_code != 0,
            (Role::App, RestartPolicy::Always) => true,
            (Role::App, RestartPolicy::OnFailure) => exit_code != 0,
            (Role::App, RestartPolicy::Never) => false,
        }
    }

    /// Whether it has ended and will not be started again.
    pub fn is_over(&self, policy: RestartPolicy) -> bool {
        self.exit_code()
            .is_some_and(|code| !self.restarts_after(policy, code))
    }
}

fn is_backing_off(reason: &str) -> bool {
    reason == "CrashLoopBackOff" || reason == "RunContainerError"
}

/// How a pod ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All app containers exited with 0.
    Succeeded,
    /// One did not.
    Failed,
}

/// One thing to do. Numbers are places in the list of containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Start the container.
    Start(usize),
    /// Stop it.
    Stop(usize),
    /// Show that it waits for its restart.
    BackOff(usize),
    /// The pod has ended by itself.
    End(Outcome),
    /// The pod is being deleted and all its containers have stopped.
    Gone,
}

/// What to do now and when to look again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to do.
    pub steps: Vec<Step>,
    /// When to look again, if nothing happens before.
    pub wake: Option<Instant>,
}

/// How long an ended container is shown as such before it is shown to wait.
const SHOWN: Duration = Duration::from_secs(1);

impl Plan {
    fn wake_at(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |w| w.min(at)));
    }

    /// Starts `container` now, or plans to.
    fn start(&mut self, index: usize, container: &Container, now: Instant) {
        if container.is_running() || container.starting {
            return;
        }
        match container.not_before {
            Some(at) if at > now => {
                self.wake_at(at);
                if let (State::Terminated(_), Some(ended)) = (&container.state, container.ended) {
                    if ended + SHOWN <= now {
                        self.steps.push(Step::BackOff(index));
                    } else {
                        self.wake_at(ended + SHOWN);
                    }
                }
            }
            _ => self.steps.push(Step::Start(index)),
        }
    }

    fn stop(&mut self, index: usize, container: &Container) {
        if container.is_running() && !container.stopping {
            self.steps.push(Step::Stop(index));
        }
    }
}

/// The next steps of a pod. `containers` holds the init containers in order, then the others.
pub fn plan(
    policy: RestartPolicy,
    terminating: bool,
    containers: &[Container],
    now: Instant,
) -> Plan {
    let mut plan = Plan::default();
    if terminating {
        stop_all(&mut plan, containers);
        let idle = containers.iter().all(|c| !c.is_running() && !c.starting);
        if idle {
            plan.steps.push(Step::Gone);
        }
        return plan;
    }
    let apps = || containers.iter().filter(|c| c.role == Role::App);
    let failed_init = containers
        .iter()
        .any(|c| c.role == Role::Init && c.is_over(policy) && c.exit_code() != Some(0));
    if failed_init || apps().all(|c| c.is_over(policy)) {
        stop_all(&mut plan, containers);
        if containers.iter().all(|c| !c.is_running() && !c.starting) {
            let failed = failed_init || apps().any(|c| c.exit_code() != Some(0));
            plan.steps.push(Step::End(if failed {
                Outcome::Failed
            } else {
                Outcome::Succeeded
            }));
        }
        return plan;
    }
    for (index, container) in containers.iter().enumerate() {
        match container.role {
            Role::Init | Role::Sidecar => {
                if container.is_done() {
                    continue;
                }
                plan.start(index, container, now);
                // once the apps run, a sidecar that is restarting holds nobody up
                if !apps().any(|c| c.is_running() || c.restarts > 0 || c.ended.is_some()) {
                    return plan;
                }
            }
            Role::App => {
                if !container.is_over(policy) {
                    plan.start(index, container, now);
                }
            }
        }
    }
    plan
}

fn stop_all(plan: &mut Plan, containers: &[Container]) {
    let others_run = containers
        .iter()
        .any(|c| c.role != Role::Sidecar && (c.is_running() || c.starting));
    if others_run {
        for (index, container) in containers.iter().enumerate() {
            if container.role != Role::Sidecar {
                plan.stop(index, container);
            }
        }
    } else if let Some((index, container)) = containers
        .iter()
        .enumerate()
        .rev()
        .find(|(_, c)| c.is_running())
    {
        plan.stop(index, container);
    }
}

/// Books the end of a run: the state, and how long the next start has to wait.
pub fn book_end(
    container: &mut Container,
    policy: RestartPolicy,
    termination: Termination,
    ran: Duration,
    now: Instant,
) {
    let failed = termination.exit_code != 0 || container.role != Role::Init;
    if container.restarts_after(policy, termination.exit_code) && failed {
        if ran >= backoff::FORGIVEN_AFTER {
            container.failures = 0;
        }
        container.not_before = Some(now + backoff::delay(container.failures));
        container.failures += 1;
    }
    container.state = State::Terminated(termination);
    container.started = false;
    container.ready = false;
    container.stopping = false;
    container.starting = false;
    container.ended = Some(now);
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
