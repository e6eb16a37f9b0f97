//! One stored object, several versions: what a path's version makes of it.
//!
//! Custom resources are stored in their storage version and differ in `apiVersion` alone
//! (conversion strategy `None`). Events are stored as core `v1`, and
//! `events.k8s.io/v1` is another view of them; HorizontalPodAutoscalers as `v2`, and `v1` is another
//! view of those.

use crate::discovery::Resource;
use crate::store::parse;
use bytes::Bytes;
use serde_json::Value;

/// Whether stored objects are served as they are.
fn same(resource: &Resource) -> bool {
    match resource.custom() {
        Some(custom) => custom.storage_version == resource.gvk.version,
        None => !is_event_view(resource) && !is_autoscaler_view(resource),
    }
}

fn is_autoscaler_view(resource: &Resource) -> bool {
    resource.gvk.group == "autoscaling" && resource.gvk.version == "v1"
}

fn is_event_view(resource: &Resource) -> bool {
    resource.gvk.group == "events.k8s.io"
}

/// A stored object in the version of `resource`.
pub(crate) fn read(resource: &Resource, json: &Bytes) -> Value {
    let mut object = parse(json);
    if !same(resource) {
        if is_event_view(resource) {
            events::from_core(&mut object);
        } else if is_autoscaler_view(resource) {
            autoscalers::to_v1(&mut object);
        }
        object["apiVersion"] = resource.gvk.api_version().into();
    }
    object
}

/// A stored object in the version of `resource`, as JSON.
pub(crate) fn bytes(resource: &Resource, json: &Bytes) -> Bytes {
    if same(resource) {
        return json.clone();
    }
    // maps with string keys and plain values always serialize
    serde_json::to_vec(&read(resource, json))
        .unwrap_or_default()
        .into()
}

/// An object in the version of `resource`, as it is stored.
pub(crate) fn store(resource: &Resource, mut object: Value) -> Value {
    if let Some(custom) = resource.custom() {
        let mut gvk = resource.gvk.clone();
        gvk.version.clone_from(&custom.storage_version);
        object["apiVersion"] = gvk.api_version().into();
    } else if is_event_view(resource) {
        events::to_core(&mut object);
        object["apiVersion"] = "v1".into();
    } else if is_autoscaler_view(resource) {
        autoscalers::to_v2(&mut object);
        object["apiVersion"] = "autoscaling/v2".into();
    }
    object
}

mod events {
    //! Field names of Event in `v1` and in `events.k8s.io/v1`.

    use serde_json::Value;

    /// In `v1`, in `events.k8s.io/v1`.
    const RENAMED: [(&str, &str); 7] = [
        ("involvedObject", "regarding"),
        ("message", "note"),
        ("reportingComponent", "reportingController"),
        ("source", "deprecatedSource"),
        ("firstTimestamp", "deprecatedFirstTimestamp"),
        ("lastTimestamp", "deprecatedLastTimestamp"),
        ("count", "deprecatedCount"),
    ];

    fn rename(object: &mut Value, names: impl Iterator<Item = (&'static str, &'static str)>) {
        let Some(object) = object.as_object_mut() else {
            return;
        };
        for (from, to) in names {
            if let Some(value) = object.shift_remove(from) {
                object.insert(to.to_owned(), value);
            }
        }
    }

    pub(super) fn from_core(object: &mut Value) {
        rename(object, RENAMED.into_iter());
    }

    pub(super) fn to_core(object: &mut Value) {
        rename(object, RENAMED.into_iter().map(|(core, view)| (view, core)));
    }
}

mod autoscalers {
    //! `autoscaling/v1` knows one metric, the use of CPU, in a field of its own.

    use serde_json::{Value, json};

    fn is_cpu(metric: &Value) -> bool {
        metric["type"] == "Resource"
            && metric["resource"]["name"] == "cpu"
            && metric["resource"]["target"]["averageUtilization"].is_number()
    }

    pub(super) fn to_v1(object: &mut Value) {
        let Some(spec) = object["spec"].as_object_mut() else {
            return;
        };
        let Some(Value::Array(metrics)) = spec.shift_remove("metrics") else {
            return;
        };
        if let Some(metric) = metrics.iter().find(|metric| is_cpu(metric)) {
            let target = metric["resource"]["target"]["averageUtilization"].clone();
            spec.insert("targetCPUUtilizationPercentage".into(), target);
        }
    }

    pub(super) fn to_v2(object: &mut Value) {
        let Some(spec) = object["spec"].as_object_mut() else {
            return;
        };
        // what Kubernetes aims at when nothing is said
        let target = spec
            .shift_remove("targetCPUUtilizationPercentage")
            .unwrap_or_else(|| json!(80));
        let resource = json!({
            "name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": target},
        });
        spec.insert(
            "metrics".into(),
            json!([{"type": "Resource", "resource": resource}]),
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn autoscalers_change_versions_and_back() {
        let v1 = json!({"spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}});
        let mut object = v1.clone();
        super::autoscalers::to_v2(&mut object);
        let target = &object["spec"]["metrics"][0]["resource"]["target"];
        assert_eq!(target["averageUtilization"], 50);
        super::autoscalers::to_v1(&mut object);
        assert_eq!(object, v1);
    }

    #[test]
    fn events_are_renamed_and_back() {
        let core = json!({"message": "m", "involvedObject": {"name": "p"}, "reason": "r"});
        let mut object = core.clone();
        super::events::from_core(&mut object);
        assert_eq!(object["note"], "m");
        assert_eq!(object["regarding"]["name"], "p");
        super::events::to_core(&mut object);
        assert_eq!(object, core);
    }
}
