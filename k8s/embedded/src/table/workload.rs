//! Rows of what makes and scales pods.

use jiff::Timestamp;
use serde_json::Value;

use super::text::{containers, labels, list, name, number, or_none, selector, text};
use super::{Column, NAME_DESCRIPTION, age, age_column};

const CONTAINERS: Column = (
    "Containers",
    "string",
    1,
    "Names of the template's containers.",
);
const IMAGES: Column = (
    "Images",
    "string",
    1,
    "Images of the template's containers.",
);
const SELECTOR: Column = (
    "Selector",
    "string",
    1,
    "Labels of the pods that belong to it.",
);

pub(super) const DEPLOYMENT: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    (
        "Ready",
        "string",
        0,
        "Pods that are ready, of those wanted.",
    ),
    (
        "Up-to-date",
        "string",
        0,
        "Pods made from the current template.",
    ),
    (
        "Available",
        "string",
        0,
        "Pods that have been ready for minReadySeconds.",
    ),
    age_column(),
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) fn deployment(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object, "/spec/template/spec");
    vec![
        name(object),
        ready_of_replicas(object),
        number(object, "/status/updatedReplicas").into(),
        number(object, "/status/availableReplicas").into(),
        age::of_object(object, now),
        names,
        images,
        selector(object.pointer("/spec/selector")).into(),
    ]
}

fn ready_of_replicas(object: &Value) -> Value {
    format!(
        "{}/{}",
        number(object, "/status/readyReplicas"),
        number(object, "/spec/replicas")
    )
    .into()
}

pub(super) const REPLICA_SET: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    ("Desired", "integer", 0, "Pods that are wanted."),
    ("Current", "integer", 0, "Pods that there are."),
    ("Ready", "integer", 0, "Pods that are ready."),
    age_column(),
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) fn replica_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object, "/spec/template/spec");
    let is_replica_set = object.pointer("/spec/selector/matchLabels").is_some()
        || object.pointer("/spec/selector/matchExpressions").is_some();
    let selector = if is_replica_set {
        selector(object.pointer("/spec/selector"))
    } else {
        labels(object.pointer("/spec/selector"))
    };
    vec![
        name(object),
        number(object, "/spec/replicas").into(),
        number(object, "/status/replicas").into(),
        number(object, "/status/readyReplicas").into(),
        age::of_object(object, now),
        names,
        images,
        selector.into(),
    ]
}

pub(super) const STATEFUL_SET: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    (
        "Ready",
        "string",
        0,
        "Pods that are ready, of those wanted.",
    ),
    age_column(),
    CONTAINERS,
    IMAGES,
];

pub(super) fn stateful_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object, "/spec/template/spec");
    vec![
        name(object),
        ready_of_replicas(object),
        age::of_object(object, now),
        names,
        images,
    ]
}

pub(super) const DAEMON_SET: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    ("Desired", "integer", 0, "Nodes that should run the pod."),
    ("Current", "integer", 0, "Nodes that run the pod."),
    ("Ready", "integer", 0, "Nodes where the pod is ready."),
    (
        "Up-to-date",
        "integer",
        0,
        "Nodes with the current template's pod.",
    ),
    (
        "Available",
        "integer",
        0,
        "Nodes where the pod is available.",
    ),
    (
        "Node Selector",
        "string",
        0,
        "Labels of the nodes that should run the pod.",
    ),
    age_column(),
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) fn daemon_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object, "/spec/template/spec");
    vec![
        name(object),
        number(object, "/status/desiredNumberScheduled").into(),
        number(object, "/status/currentNumberScheduled").into(),
        number(object, "/status/numberReady").into(),
        number(object, "/status/updatedNumberScheduled").into(),
        number(object, "/status/numberAvailable").into(),
        labels(object.pointer("/spec/template/spec/nodeSelector")).into(),
        age::of_object(object, now),
        names,
        images,
        selector(object.pointer("/spec/selector")).into(),
    ]
}

pub(super) const JOB: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    ("Status", "string", 0, "State of the job."),
    (
        "Completions",
        "string",
        0,
        "Pods that succeeded, of those wanted.",
    ),
    (
        "Duration",
        "string",
        0,
        "From start to completion, or to now.",
    ),
    age_column(),
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) fn job(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object, "/spec/template/spec");
    let succeeded = number(object, "/status/succeeded");
    let completions = match object.pointer("/spec/completions").and_then(Value::as_i64) {
        Some(completions) => format!("{succeeded}/{completions}"),
        None => match number(object, "/spec/parallelism") {
            parallel if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
            _ => format!("{succeeded}/1"),
        },
    };
    let time = |pointer: &str| text(object, pointer).parse::<Timestamp>().ok();
    let duration = time("/status/startTime").map_or_else(String::new, |start| {
        let end = time("/status/completionTime").unwrap_or(now);
        age::duration(end.as_second() - start.as_second())
    });
    vec![
        name(object),
        job_status(object).into(),
        completions.into(),
        duration.into(),
        age::of_object(object, now),
        names,
        images,
        selector(object.pointer("/spec/selector")).into(),
    ]
}

fn job_status(job: &Value) -> &'static str {
    let is = |kind: &str| {
        list(job, "/status/conditions").iter().any(|condition| {
            text(condition, "/type") == kind && text(condition, "/status") == "True"
        })
    };
    let deleting = job
        .pointer("/metadata/deletionTimestamp")
        .is_some_and(|time| !time.is_null());
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if deleting {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

pub(super) const CRON_JOB: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    (
        "Schedule",
        "string",
        0,
        "When jobs start, as cron writes it.",
    ),
    ("Timezone", "string", 0, "Time zone of the schedule."),
    ("Suspend", "boolean", 0, "Whether no more jobs are started."),
    ("Active", "integer", 0, "Jobs that are running."),
    (
        "Last Schedule",
        "string",
        0,
        "Time since the last job was started.",
    ),
    age_column(),
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) fn cron_job(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object, "/spec/jobTemplate/spec/template/spec");
    let last = object
        .pointer("/status/lastScheduleTime")
        .filter(|time| !time.is_null());
    let suspend = match object.pointer("/spec/suspend").and_then(Value::as_bool) {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    vec![
        name(object),
        text(object, "/spec/schedule").into(),
        or_none(object, "/spec/timeZone").into(),
        suspend.into(),
        list(object, "/status/active").len().into(),
        last.map_or_else(|| "<none>".into(), |last| age::age(Some(last), now))
            .into(),
        age::of_object(object, now),
        names,
        images,
        selector(object.pointer("/spec/jobTemplate/spec/selector")).into(),
    ]
}

pub(super) const AUTOSCALER: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    ("Reference", "string", 0, "What is scaled."),
    (
        "Targets",
        "string",
        0,
        "Current value and target of each metric.",
    ),
    ("MinPods", "string", 0, "Fewest replicas."),
    ("MaxPods", "string", 0, "Most replicas."),
    ("Replicas", "string", 0, "Replicas that there are."),
    age_column(),
];

pub(super) fn autoscaler(object: &Value, now: Timestamp) -> Vec<Value> {
    let minimum = object
        .pointer("/spec/minReplicas")
        .and_then(Value::as_i64)
        .map_or_else(|| "<unset>".into(), |minimum| minimum.to_string());
    vec![
        name(object),
        format!(
            "{}/{}",
            text(object, "/spec/scaleTargetRef/kind"),
            text(object, "/spec/scaleTargetRef/name")
        )
        .into(),
        targets(object).into(),
        minimum.into(),
        number(object, "/spec/maxReplicas").into(),
        number(object, "/status/currentReplicas").into(),
        age::of_object(object, now),
    ]
}

/// `cpu: 12%/50%`, the first two metrics.
fn targets(autoscaler: &Value) -> String {
    if let Some(target) = autoscaler.pointer("/spec/targetCPUUtilizationPercentage") {
        let current = autoscaler
            .pointer("/status/currentCPUUtilizationPercentage")
            .map_or_else(|| "<unknown>".into(), |current| format!("{current}%"));
        return format!("cpu: {current}/{target}%");
    }
    let metrics = list(autoscaler, "/spec/metrics");
    let shown: Vec<String> = metrics
        .iter()
        .take(2)
        .enumerate()
        .map(|(index, metric)| target(metric, autoscaler, index))
        .collect();
    match metrics.len() {
        0 => "<none>".into(),
        more @ 3.. => format!("{} + {} more...", shown.join(", "), more - 2),
        _ => shown.join(", "),
    }
}

fn target(metric: &Value, autoscaler: &Value, index: usize) -> String {
    let (field, named) = match text(metric, "/type") {
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "External" => ("external", false),
        _ => return "<unknown type>".into(),
    };
    let amount = |value: Option<&Value>, percent: bool| match value {
        Some(Value::String(text)) => text.clone(),
        Some(value) if percent => format!("{value}%"),
        Some(value) if !value.is_null() => value.to_string(),
        _ => "<unknown>".into(),
    };
    let wanted = metric.pointer(&format!("/{field}/target"));
    let current = autoscaler.pointer(&format!("/status/currentMetrics/{index}/{field}/current"));
    let (what, percent, average) = match wanted {
        Some(wanted) if wanted.get("averageUtilization").is_some() => {
            ("averageUtilization", true, false)
        }
        Some(wanted) if wanted.get("averageValue").is_some() => ("averageValue", false, true),
        _ => ("value", false, false),
    };
    let current = amount(current.and_then(|current| current.get(what)), percent);
    let wanted = amount(wanted.and_then(|wanted| wanted.get(what)), percent);
    let prefix = if named {
        format!("{}: ", text(metric, &format!("/{field}/name")))
    } else {
        String::new()
    };
    let suffix = if average && matches!(field, "object" | "external") {
        " (avg)"
    } else {
        ""
    };
    format!("{prefix}{current}/{wanted}{suffix}")
}

pub(super) const DISRUPTION_BUDGET: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    ("Min Available", "string", 0, "Pods that must stay."),
    ("Max Unavailable", "string", 0, "Pods that may go."),
    ("Allowed Disruptions", "integer", 0, "Pods that may go now."),
    age_column(),
];

pub(super) fn disruption_budget(object: &Value, now: Timestamp) -> Vec<Value> {
    let count = |pointer: &str| -> Value {
        match object.pointer(pointer) {
            Some(Value::String(text)) => text.clone().into(),
            Some(Value::Number(number)) => number.to_string().into(),
            _ => "N/A".into(),
        }
    };
    vec![
        name(object),
        count("/spec/minAvailable"),
        count("/spec/maxUnavailable"),
        number(object, "/status/disruptionsAllowed").into(),
        age::of_object(object, now),
    ]
}
