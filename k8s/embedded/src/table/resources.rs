//! Rows of the kinds that neither run pods nor route to them.

use jiff::Timestamp;
use serde_json::Value;

use super::text::{entries, list, name, none_if_empty, number, or_none, text};
use super::{Column, NAME_DESCRIPTION, age, age_column};

pub(super) const NAME_AND_AGE: &[Column] = &[("Name", "string", 0, NAME_DESCRIPTION), age_column()];

pub(super) fn name_and_age(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), age::of_object(object, now)]
}

pub(super) const CREATED_AT: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    ("Created At", "date", 0, "When the object was created."),
];

pub(super) fn created_at(object: &Value, _: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        text(object, "/metadata/creationTimestamp").into(),
    ]
}

pub(super) const NAMESPACE: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    ("Status", "string", 0, "Active, or Terminating."),
    age_column(),
];

pub(super) fn namespace(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        text(object, "/status/phase").into(),
        age::of_object(object, now),
    ]
}

pub(super) const NODE: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    (
        "Status",
        "string",
        0,
        "Ready or not, and whether pods may be scheduled.",
    ),
    ("Roles", "string", 0, "Roles, from the node's labels."),
    age_column(),
    ("Version", "string", 0, "Version of the node's agent."),
    ("Internal-IP", "string", 1, "Address within the cluster."),
    ("External-IP", "string", 1, "Address outside."),
    ("OS-Image", "string", 1, "Operating system."),
    ("Kernel-Version", "string", 1, "Kernel and architecture."),
    (
        "Container-Runtime",
        "string",
        1,
        "What runs the containers.",
    ),
];

pub(super) fn node(object: &Value, now: Timestamp) -> Vec<Value> {
    let ready = list(object, "/status/conditions")
        .iter()
        .find(|c| text(c, "/type") == "Ready");
    let mut status = match ready.map(|condition| text(condition, "/status")) {
        Some("True") => String::from("Ready"),
        Some(_) => "NotReady".into(),
        None => "Unknown".into(),
    };
    if object.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
        status.push_str(",SchedulingDisabled");
    }
    let mut roles: Vec<&str> = object
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(
            |(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
                Some(role) => Some(role),
                None if key == "kubernetes.io/role" => value.as_str(),
                None => None,
            },
        )
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    let address = |kind: &str| {
        list(object, "/status/addresses")
            .iter()
            .find(|address| text(address, "/type") == kind)
            .map_or_else(
                || "<none>".into(),
                |address| text(address, "/address").to_owned(),
            )
    };
    let info = |field: &str| match text(object, &format!("/status/nodeInfo/{field}")) {
        "" => String::from("<unknown>"),
        text => text.to_owned(),
    };
    let kernel = match text(object, "/status/nodeInfo/architecture") {
        "" => info("kernelVersion"),
        architecture => format!("{} ({architecture})", info("kernelVersion")),
    };
    vec![
        name(object),
        status.into(),
        none_if_empty(roles.join(",")).into(),
        age::of_object(object, now),
        text(object, "/status/nodeInfo/kubeletVersion").into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        info("osImage").into(),
        kernel.into(),
        info("containerRuntimeVersion").into(),
    ]
}

pub(super) const CONFIG_MAP: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    ("Data", "string", 0, "Number of entries."),
    age_column(),
];

pub(super) fn config_map(object: &Value, now: Timestamp) -> Vec<Value> {
    let count = entries(object, "/data") + entries(object, "/binaryData");
    vec![name(object), count.into(), age::of_object(object, now)]
}

pub(super) const SECRET: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    ("Type", "string", 0, "What the secret is for."),
    ("Data", "string", 0, "Number of entries."),
    age_column(),
];

pub(super) fn secret(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        text(object, "/type").into(),
        entries(object, "/data").into(),
        age::of_object(object, now),
    ]
}

pub(super) const EVENT: &[Column] = &[
    ("Last Seen", "string", 0, "Time since the last occurrence."),
    ("Type", "string", 0, "Normal or Warning."),
    ("Reason", "string", 0, "Short reason, for machines."),
    ("Object", "string", 0, "What the event is about."),
    ("Subobject", "string", 1, "Which part of it."),
    ("Source", "string", 1, "Who reported it."),
    ("Message", "string", 0, "What happened, for people."),
    (
        "First Seen",
        "string",
        1,
        "Time since the first occurrence.",
    ),
    ("Count", "string", 1, "Number of occurrences."),
    ("Name", "string", 1, NAME_DESCRIPTION),
];

/// An event of the core group, or of `events.k8s.io`, whose fields have other names.
pub(super) fn event(object: &Value, now: Timestamp) -> Vec<Value> {
    let newer = object.get("regarding").is_some();
    let (about, source, message) = if newer {
        ("/regarding", "/deprecatedSource", "/note")
    } else {
        ("/involvedObject", "/source", "/message")
    };
    let (first, last, count) = if newer {
        (
            "/deprecatedFirstTimestamp",
            "/deprecatedLastTimestamp",
            "/deprecatedCount",
        )
    } else {
        ("/firstTimestamp", "/lastTimestamp", "/count")
    };
    let time = |pointer: &str| object.pointer(pointer).filter(|time| !time.is_null());
    let first = age::age(time(first).or_else(|| time("/eventTime")), now);
    let mut last = time(last).map_or_else(|| first.clone(), |last| age::age(Some(last), now));
    let mut count = number(object, count).max(1);
    if object.get("series").is_some_and(|series| !series.is_null()) {
        last = age::age(time("/series/lastObservedTime"), now);
        count = number(object, "/series/count");
    }
    let kind = text(object, &format!("{about}/kind")).to_lowercase();
    let target = match text(object, &format!("{about}/name")) {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let reporter = if newer {
        "/reportingController"
    } else {
        "/reportingComponent"
    };
    let either = |a: String, b: &str| {
        if a.is_empty() {
            text(object, b).to_owned()
        } else {
            a
        }
    };
    let component = either(
        text(object, &format!("{source}/component")).to_owned(),
        reporter,
    );
    let host = either(
        text(object, &format!("{source}/host")).to_owned(),
        "/reportingInstance",
    );
    let source = if host.is_empty() {
        component
    } else {
        format!("{component}, {host}")
    };
    vec![
        last.into(),
        text(object, "/type").into(),
        text(object, "/reason").into(),
        target.into(),
        text(object, &format!("{about}/fieldPath")).into(),
        source.into(),
        text(object, message).trim().into(),
        first.into(),
        count.into(),
        name(object),
    ]
}

pub(super) const QUOTA: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    (
        "Request",
        "string",
        0,
        "Used and allowed, of requests and counts.",
    ),
    ("Limit", "string", 0, "Used and allowed, of limits."),
    age_column(),
];

pub(super) fn quota(object: &Value, now: Timestamp) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    let hard = object.pointer("/status/hard").and_then(Value::as_object);
    for (resource, allowed) in hard.into_iter().flatten() {
        let used = object
            .pointer("/status/used")
            .and_then(|used| used.get(resource)?.as_str())
            .unwrap_or("0");
        let term = format!("{resource}: {used}/{}", allowed.as_str().unwrap_or(""));
        if resource.starts_with("limits.") {
            limits.push(term)
        } else {
            requests.push(term)
        }
    }
    requests.sort();
    limits.sort();
    vec![
        name(object),
        requests.join(", ").into(),
        limits.join(", ").into(),
        age::of_object(object, now),
    ]
}

pub(super) const LEASE: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    ("Holder", "string", 0, "Who holds the lease."),
    age_column(),
];

pub(super) fn lease(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        text(object, "/spec/holderIdentity").into(),
        age::of_object(object, now),
    ]
}

pub(super) const WEBHOOKS: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    ("Webhooks", "integer", 0, "Number of webhooks."),
    age_column(),
];

pub(super) fn webhooks(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        list(object, "/webhooks").len().into(),
        age::of_object(object, now),
    ]
}

pub(super) const ROLE_BINDING: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    ("Role", "string", 0, "Role that is granted."),
    age_column(),
    ("Users", "string", 1, "Users who have it."),
    ("Groups", "string", 1, "Groups that have it."),
    (
        "ServiceAccounts",
        "string",
        1,
        "ServiceAccounts that have it.",
    ),
];

pub(super) fn role_binding(object: &Value, now: Timestamp) -> Vec<Value> {
    let subjects = |kind: &str| -> Value {
        let names: Vec<String> = list(object, "/subjects")
            .iter()
            .filter(|subject| text(subject, "/kind") == kind)
            .map(|subject| match (kind, text(subject, "/name")) {
                ("ServiceAccount", name) => format!("{}/{name}", text(subject, "/namespace")),
                (_, name) => name.to_owned(),
            })
            .collect();
        names.join(", ").into()
    };
    vec![
        name(object),
        format!(
            "{}/{}",
            text(object, "/roleRef/kind"),
            text(object, "/roleRef/name")
        )
        .into(),
        age::of_object(object, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

pub(super) const PRIORITY_CLASS: &[Column] = &[
    ("Name", "string", 0, NAME_DESCRIPTION),
    ("Value", "integer", 0, "Priority of pods of the class."),
    (
        "Global-Default",
        "boolean",
        0,
        "Whether pods without a class get it.",
    ),
    age_column(),
    (
        "PreemptionPolicy",
        "string",
        1,
        "Whether its pods may displace others.",
    ),
];

pub(super) fn priority_class(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        number(object, "/value").into(),
        (object.get("globalDefault") == Some(&Value::Bool(true))).into(),
        age::of_object(object, now),
        or_none(object, "/preemptionPolicy").into(),
    ]
}
