//! Fields of a pod that have no effect on processes of an ordinary user: said once, in an event.

use super::Worker;
use crate::controllers::events::EventType;
use crate::runtime::launch::door;
use k8s_openapi::api::core::v1::PodSpec;
use serde_json::Value;

/// Fields of the pod, and of each container, that change nothing here.
const OF_POD: [&str; 6] = [
    "affinity",
    "hostIPC",
    "hostNetwork",
    "imagePullSecrets",
    "securityContext",
    "topologySpreadConstraints",
];

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    }
}

/// The paths of such fields. Those of the container `but` (an injected sidecar, which its user did not
/// write) are left out.
fn fields(spec: &PodSpec, but: Option<&str>) -> Vec<String> {
    let spec = serde_json::to_value(spec).unwrap_or_default();
    let mut found: Vec<String> = OF_POD
        .iter()
        .filter(|field| says_something(&spec[**field]))
        .map(|field| format!("spec.{field}"))
        .collect();
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array().into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default();
            if Some(name) == but {
                continue;
            }
            for (field, value) in [
                ("securityContext", &container["securityContext"]),
                ("resources.limits", &container["resources"]["limits"]),
            ] {
                if says_something(value) {
                    found.push(format!("spec.{list}{{{name}}}.{field}"));
                }
            }
        }
    }
    found
}

impl Worker {
    /// Tells of the fields that change nothing, if there are any.
    pub(super) fn tell_not_carried_out(&self) {
        let fields = fields(&self.spec, door(&self.pod).map(|(owner, _)| owner));
        if fields.is_empty() {
            return;
        }
        let message = format!(
            "no effect on processes of an ordinary user: {}",
            fields.join(", ")
        );
        self.context.recorder.record(
            self.pod.as_ref(),
            EventType::Normal,
            "NotCarriedOut",
            message,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_says_something_is_named() {
        let spec = serde_json::from_value(json!({
            "securityContext": {},
            "imagePullSecrets": [{"name": "registry"}],
            "containers": [
                {"name": "web", "securityContext": {"runAsUser": 1}, "resources": {"requests": {"cpu": "1"}}},
                {"name": "istio-proxy", "resources": {"limits": {"cpu": "2"}}},
            ],
        }))
        .unwrap();
        assert_eq!(
            fields(&spec, Some("istio-proxy")),
            [
                "spec.imagePullSecrets",
                "spec.containers{web}.securityContext"
            ]
        );
    }
}
