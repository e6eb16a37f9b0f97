//! The row of a pod: readiness, the one word that says how it is, restarts.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::text::{list, name, number, or_none, text};
use super::{AGE_DESCRIPTION, Column, NAME_DESCRIPTION, age};

pub(super) const COLUMNS: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    (
        "Ready",
        "string",
        0,
        "Containers that are ready, of all that run.",
    ),
    (
        "Status",
        "string",
        0,
        "One word for the state of the pod and its containers.",
    ),
    (
        "Restarts",
        "string",
        0,
        "Restarts of all containers, and when the last one was.",
    ),
    ("Age", "string", 0, AGE_DESCRIPTION),
    ("IP", "string", 1, "Address of the pod."),
    ("Node", "string", 1, "Node that the pod is on."),
    (
        "Nominated Node",
        "string",
        1,
        "Node that is being cleared for the pod.",
    ),
    (
        "Readiness Gates",
        "string",
        1,
        "Readiness gates that are met, of all.",
    ),
];

/// Completed pods are marked, so that `kubectl` can tell them.
pub(super) fn row_condition(pod: &Value) -> Option<Value> {
    match text(pod, "/status/phase") {
        "Succeeded" => Some(json!({
            "type": "Completed", "status": "True", "reason": "Succeeded",
            "message": "The pod has completed successfully.",
        })),
        "Failed" => Some(json!({
            "type": "Completed", "status": "True", "reason": "Failed",
            "message": "The pod failed.",
        })),
        _ => None,
    }
}

pub(super) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = summarize(pod);
    let restarts = match summary.last_restart {
        Some(time) if summary.restarts > 0 => {
            let ago = age::duration(now.as_second() - time.as_second());
            format!("{} ({ago} ago)", summary.restarts)
        }
        _ => summary.restarts.to_string(),
    };
    let address = match text(pod, "/status/podIPs/0/ip") {
        "" => or_none(pod, "/status/podIP"),
        address => address.to_owned(),
    };
    vec![
        name(pod),
        format!("{}/{}", summary.ready, summary.containers).into(),
        summary.word.into(),
        restarts.into(),
        age::of_object(pod, now),
        address.into(),
        or_none(pod, "/spec/nodeName").into(),
        or_none(pod, "/status/nominatedNodeName").into(),
        readiness_gates(pod).into(),
    ]
}

#[derive(Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += number(status, "/restartCount");
        let ended = text(status, "/lastState/terminated/finishedAt")
            .parse()
            .ok();
        self.last = self.last.max(ended);
    }
}

struct Summary {
    word: String,
    ready: usize,
    containers: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

/// What the containers' statuses amount to.
fn summarize(pod: &Value) -> Summary {
    let mut word = match text(pod, "/status/reason") {
        "" => text(pod, "/status/phase").to_owned(),
        reason => reason.to_owned(),
    };
    let gated = condition(pod, "PodScheduled")
        .is_some_and(|condition| text(condition, "/reason") == "SchedulingGated");
    if gated {
        word = "SchedulingGated".into();
    }

    let init_containers = list(pod, "/spec/initContainers");
    let is_sidecar = |name: &str| {
        init_containers.iter().any(|container| {
            text(container, "/name") == name && text(container, "/restartPolicy") == "Always"
        })
    };
    let sidecars = init_containers
        .iter()
        .filter(|container| is_sidecar(text(container, "/name")))
        .count();
    let containers = list(pod, "/spec/containers").len() + sidecars;

    let mut ready = 0;
    let mut restarts = Restarts::default();
    let mut sidecar_restarts = Restarts::default();
    let mut initializing = false;
    for (index, status) in list(pod, "/status/initContainerStatuses")
        .iter()
        .enumerate()
    {
        let sidecar = is_sidecar(text(status, "/name"));
        restarts.add(status);
        if sidecar {
            sidecar_restarts.add(status);
        }
        let terminated = status
            .pointer("/state/terminated")
            .filter(|state| !state.is_null());
        if terminated.is_some_and(|state| number(state, "/exitCode") == 0) {
            continue;
        }
        if sidecar && status["started"] == true {
            ready += usize::from(status["ready"] == true);
            continue;
        }
        word = match (terminated, text(status, "/state/waiting/reason")) {
            (Some(state), _) => format!("Init:{}", ending(state)),
            (None, reason) if !reason.is_empty() && reason != "PodInitializing" => {
                format!("Init:{reason}")
            }
            _ => format!("Init:{index}/{}", init_containers.len()),
        };
        initializing = true;
        break;
    }

    let initialized = condition(pod, "Initialized").is_some_and(is_true);
    if !initializing || initialized {
        restarts = sidecar_restarts;
        let mut running = false;
        for status in list(pod, "/status/containerStatuses").iter().rev() {
            restarts.add(status);
            let terminated = status
                .pointer("/state/terminated")
                .filter(|state| !state.is_null());
            let waiting = text(status, "/state/waiting/reason");
            if !waiting.is_empty() {
                word = waiting.to_owned();
            } else if let Some(state) = terminated {
                word = ending(state);
            } else if status["ready"] == true && status.pointer("/state/running").is_some() {
                running = true;
                ready += 1;
            }
        }
        if word == "Completed" && running {
            let is_ready = condition(pod, "Ready").is_some_and(is_true);
            word = if is_ready {
                "Running".into()
            } else {
                "NotReady".into()
            };
        }
    }

    if pod
        .pointer("/metadata/deletionTimestamp")
        .is_some_and(|time| !time.is_null())
    {
        if text(pod, "/status/reason") == "NodeLost" {
            word = "Unknown".into();
        } else if !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") {
            word = "Terminating".into();
        }
    }
    Summary {
        word,
        ready,
        containers,
        restarts: restarts.count,
        last_restart: restarts.last,
    }
}

/// How a container ended, in a word.
fn ending(terminated: &Value) -> String {
    match (text(terminated, "/reason"), number(terminated, "/signal")) {
        ("", 0) => format!("ExitCode:{}", number(terminated, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn condition<'v>(pod: &'v Value, kind: &str) -> Option<&'v Value> {
    list(pod, "/status/conditions")
        .iter()
        .find(|condition| text(condition, "/type") == kind)
}

fn is_true(condition: &Value) -> bool {
    text(condition, "/status") == "True"
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let met = gates
        .iter()
        .filter(|gate| condition(pod, text(gate, "/conditionType")).is_some_and(is_true))
        .count();
    format!("{met}/{}", gates.len())
}
