//! A pod's status: phase, conditions and container statuses, out of what the containers do.

use super::plan::{Container, Outcome, Role, State, Termination};
use crate::controllers::events::whole_seconds;
use k8s_openapi::api::core::v1::{
    Container as ContainerSpec, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
    VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::net::Ipv4Addr;

/// What the status is made of, besides the pod itself.
pub struct Facts<'a> {
    /// The containers in the plan's order.
    pub containers: &'a [Container],
    /// How the pod ended, if it has.
    pub outcome: Option<Outcome>,
    /// Whether it has run for longer than it may.
    pub overdue: bool,
    /// The pod's address.
    pub pod_ip: Ipv4Addr,
    /// The node's address.
    pub host_ip: Ipv4Addr,
    /// When the node took the pod.
    pub started: jiff::Timestamp,
    /// Now.
    pub now: jiff::Timestamp,
}

fn time(at: jiff::Timestamp) -> Option<Time> {
    Some(Time(whole_seconds(at)))
}

fn terminated(t: &Termination) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: t.exit_code,
            reason: Some(t.reason.clone()),
            message: t.message.clone(),
            started_at: time(t.started_at),
            finished_at: time(t.finished_at),
            container_id: t.container_id.clone(),
            signal: None,
        }),
        ..ContainerState::default()
    }
}

fn state(state: &State) -> ContainerState {
    match state {
        State::Waiting { reason, message } => ContainerState {
            waiting: Some(ContainerStateWaiting {
                reason: Some(reason.clone()),
                message: message.clone(),
            }),
            ..ContainerState::default()
        },
        State::Running { since } => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: time(*since),
            }),
            ..ContainerState::default()
        },
        State::Terminated(t) => terminated(t),
    }
}

/// An image's id: there are no layers to hash, so its name stands for it.
fn image_id(container: &Container, image: &str) -> String {
    match container.container_id {
        Some(_) => format!("meshdojo://{image}"),
        None => String::new(),
    }
}

fn container_status(container: &Container, spec: &ContainerSpec) -> ContainerStatus {
    let image = spec.image.clone().unwrap_or_default();
    let mounts: Vec<_> = spec
        .volume_mounts
        .iter()
        .flatten()
        .map(|m| VolumeMountStatus {
            name: m.name.clone(),
            mount_path: m.mount_path.clone(),
            read_only: m.read_only,
            recursive_read_only: (m.read_only == Some(true)).then(|| "Disabled".to_owned()),
            ..VolumeMountStatus::default()
        })
        .collect();
    ContainerStatus {
        name: container.name.clone(),
        state: Some(state(&container.state)),
        last_state: Some(container.last.as_ref().map(terminated).unwrap_or_default()),
        ready: is_ready(container),
        restart_count: container.restarts,
        image_id: image_id(container, &image),
        image,
        container_id: container.container_id.clone(),
        started: Some(container.is_running() && container.started),
        resources: container
            .container_id
            .as_ref()
            .map(|_| spec.resources.clone().unwrap_or_default()),
        volume_mounts: (!mounts.is_empty()).then_some(mounts),
        ..ContainerStatus::default()
    }
}

fn is_ready(container: &Container) -> bool {
    match container.role {
        Role::Init => container.is_done(),
        Role::Sidecar | Role::App => container.is_running() && container.ready,
    }
}

/// What is said of a pod that has run for too long.
pub const OVERDUE: &str = "Pod was active on the node longer than the specified deadline";

fn phase(facts: &Facts) -> &'static str {
    match facts.outcome {
        Some(Outcome::Succeeded) => return "Succeeded",
        Some(Outcome::Failed) => return "Failed",
        None => {}
    }
    let has_run = |c: &Container| c.is_running() || c.last.is_some() || c.exit_code().is_some();
    let mut apps = facts.containers.iter().filter(|c| c.role == Role::App);
    if apps.all(has_run) {
        "Running"
    } else {
        "Pending"
    }
}

fn names(containers: &[&Container]) -> String {
    let names: Vec<_> = containers.iter().map(|c| c.name.as_str()).collect();
    names.join(" ")
}

/// A condition's status, reason and message.
type Value = (bool, Option<&'static str>, Option<String>);

fn conditions(pod: &Pod, facts: &Facts) -> Vec<PodCondition> {
    let ended: Option<&'static str> = facts.outcome.map(|o| match o {
        Outcome::Succeeded => "PodCompleted",
        Outcome::Failed => "PodFailed",
    });
    let uninitialized: Vec<_> = facts
        .containers
        .iter()
        .filter(|c| {
            c.role != Role::App && !c.is_done() && !(c.role == Role::Sidecar && c.restarts > 0)
        })
        .collect();
    let unready: Vec<_> = facts
        .containers
        .iter()
        .filter(|c| c.role != Role::Init && !is_ready(c))
        .collect();
    let initialized: Value = if ended == Some("PodCompleted") {
        (true, ended, None)
    } else if uninitialized.is_empty() || ended.is_some() {
        (true, None, None)
    } else {
        let message = format!(
            "containers with incomplete status: [{}]",
            names(&uninitialized)
        );
        (false, Some("ContainersNotInitialized"), Some(message))
    };
    let containers_ready: Value = if ended.is_some() {
        (false, ended, None)
    } else if unready.is_empty() {
        (true, None, None)
    } else {
        let message = format!("containers with unready status: [{}]", names(&unready));
        (false, Some("ContainersNotReady"), Some(message))
    };
    let ready = match (&containers_ready, closed_gates(pod)) {
        ((true, ..), Some(message)) => (false, Some("ReadinessGatesNotReady"), Some(message)),
        (value, _) => (*value).clone(),
    };
    let scheduled: Value = (true, None, None);
    let list: [(&str, Value); 5] = [
        ("PodReadyToStartContainers", (ended.is_none(), None, None)),
        ("Initialized", initialized),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", scheduled),
    ];
    let before = |type_: &str| {
        let conditions = pod
            .status
            .iter()
            .flat_map(|s| s.conditions.iter().flatten());
        conditions.into_iter().find(|c| c.type_ == type_).cloned()
    };
    let mut conditions: Vec<_> = list
        .into_iter()
        .map(|(type_, (value, reason, message))| {
            let status = if value { "True" } else { "False" };
            let since = before(type_)
                .filter(|c| c.status == status)
                .and_then(|c| c.last_transition_time)
                .or_else(|| time(facts.now));
            PodCondition {
                type_: type_.into(),
                status: status.into(),
                reason: reason.map(str::to_owned),
                message,
                last_transition_time: since,
                observed_generation: pod.metadata.generation,
                ..PodCondition::default()
            }
        })
        .collect();
    // what others have written, such as readiness gates
    let own: Vec<String> = conditions.iter().map(|c| c.type_.clone()).collect();
    let others = pod
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    conditions.extend(others.filter(|c| !own.contains(&c.type_)).cloned());
    conditions
}

fn closed_gates(pod: &Pod) -> Option<String> {
    let gates = pod.spec.as_ref()?.readiness_gates.as_ref()?;
    let open = |type_: &str| {
        pod.status
            .iter()
            .flat_map(|s| s.conditions.iter().flatten())
            .any(|c| c.type_ == type_ && c.status == "True")
    };
    let closed: Vec<_> = gates
        .iter()
        .filter(|g| !open(&g.condition_type))
        .map(|g| {
            format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                g.condition_type
            )
        })
        .collect();
    (!closed.is_empty()).then(|| closed.join(", "))
}

/// The status of a pod.
pub fn compute(pod: &Pod, facts: &Facts) -> PodStatus {
    let spec = pod.spec.clone().unwrap_or_default();
    let init_specs = spec.init_containers.unwrap_or_default();
    let specs = || init_specs.iter().chain(&spec.containers);
    let (init, apps): (Vec<_>, Vec<_>) = facts
        .containers
        .iter()
        .filter_map(|c| {
            let spec = specs().find(|s| s.name == c.name)?;
            Some((c.role, container_status(c, spec)))
        })
        .partition(|(role, _)| *role != Role::App);
    let strip = |list: Vec<(Role, ContainerStatus)>| -> Vec<ContainerStatus> {
        list.into_iter().map(|(_, status)| status).collect()
    };
    let old = pod.status.clone().unwrap_or_default();
    let overdue = |text: &str| facts.overdue.then(|| text.to_owned());
    let (reason, message) = (overdue("DeadlineExceeded"), overdue(OVERDUE));
    PodStatus {
        phase: Some(phase(facts).into()),
        conditions: Some(conditions(pod, facts)),
        host_ip: Some(facts.host_ip.to_string()),
        host_ips: Some(vec![HostIP {
            ip: facts.host_ip.to_string(),
        }]),
        pod_ip: Some(facts.pod_ip.to_string()),
        pod_ips: Some(vec![PodIP {
            ip: facts.pod_ip.to_string(),
        }]),
        start_time: old.start_time.or_else(|| time(facts.started)),
        init_container_statuses: (!init.is_empty()).then(|| strip(init)),
        container_statuses: Some(strip(apps)),
        qos_class: old.qos_class,
        observed_generation: pod.metadata.generation,
        reason: reason.or(old.reason),
        message: message.or(old.message),
        ..PodStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "generation": 1},
            "spec": {
                "initContainers": [
                    {"name": "i", "image": "x"},
                    {"name": "proxy", "image": "x", "restartPolicy": "Always"},
                ],
                "containers": [{"name": "c", "image": "x"}],
            },
        }))
        .unwrap()
    }

    fn containers() -> [Container; 3] {
        [
            Container::new("i", Role::Init, true),
            Container::new("proxy", Role::Sidecar, true),
            Container::new("c", Role::App, true),
        ]
    }

    fn status(containers: &[Container], outcome: Option<Outcome>) -> PodStatus {
        compute(
            &pod(),
            &Facts {
                containers,
                outcome,
                overdue: false,
                pod_ip: Ipv4Addr::new(127, 20, 0, 2),
                host_ip: Ipv4Addr::new(127, 20, 0, 1),
                started: jiff::Timestamp::UNIX_EPOCH,
                now: jiff::Timestamp::UNIX_EPOCH,
            },
        )
    }

    fn message(status: &PodStatus, type_: &str) -> String {
        let condition = status
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == type_)
            .unwrap();
        format!(
            "{} {} {}",
            condition.status,
            condition.reason.as_deref().unwrap_or("-"),
            condition.message.as_deref().unwrap_or("-")
        )
    }

    fn run(container: &mut Container) {
        container.state = State::Running {
            since: jiff::Timestamp::UNIX_EPOCH,
        };
        container.started = true;
        container.ready = true;
    }

    #[test]
    fn a_new_pod_is_pending_and_names_what_it_waits_for() {
        let status = status(&containers(), None);
        assert_eq!(status.phase.as_deref(), Some("Pending"));
        assert_eq!(
            message(&status, "Initialized"),
            "False ContainersNotInitialized containers with incomplete status: [i proxy]"
        );
        assert_eq!(
            message(&status, "Ready"),
            "False ContainersNotReady containers with unready status: [proxy c]"
        );
    }

    #[test]
    fn a_running_pod_is_ready() {
        let mut all = containers();
        all[0].state = State::Terminated(Termination {
            exit_code: 0,
            reason: "Completed".into(),
            message: None,
            started_at: jiff::Timestamp::UNIX_EPOCH,
            finished_at: jiff::Timestamp::UNIX_EPOCH,
            container_id: None,
        });
        run(&mut all[1]);
        run(&mut all[2]);
        let status = status(&all, None);
        assert_eq!(status.phase.as_deref(), Some("Running"));
        assert_eq!(message(&status, "Ready"), "True - -");
        assert_eq!(message(&status, "Initialized"), "True - -");
    }

    #[test]
    fn a_finished_pod_says_how() {
        let status = status(&containers(), Some(Outcome::Failed));
        assert_eq!(status.phase.as_deref(), Some("Failed"));
        assert_eq!(message(&status, "Ready"), "False PodFailed -");
    }
}
