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

/// The paths of such fields. Those of the container `door` are left out, and of the init containers
/// before it: they were injected, and their user did not write them.
fn fields(spec: &PodSpec, door: Option<&str>) -> Vec<String> {
    let spec = serde_json::to_value(spec).unwrap_or_default();
    let mut found: Vec<String> = OF_POD
        .iter()
        .filter(|field| says_something(&spec[**field]))
        .map(|field| format!("spec.{field}"))
        .collect();
    for list in ["initContainers", "containers"] {
        let containers = || spec[list].as_array().into_iter().flatten();
        let owner = containers().position(|container| container["name"].as_str() == door);
        for (index, container) in containers().enumerate() {
            let name = container["name"].as_str().unwrap_or_default();
            let before = list == "initContainers" && owner.is_some_and(|owner| index < owner);
            if before || owner == Some(index) {
                continue;
            }
            if says_something(&container["securityContext"]) {
                found.push(format!("spec.{list}{{{name}}}.securityContext"));
            }
            let limits = container["resources"]["limits"].as_object();
            for resource in limits.into_iter().flatten().map(|(resource, _)| resource) {
                if resource != "memory" {
                    found.push(format!(
                        "spec.{list}{{{name}}}.resources.limits[{resource}]"
                    ));
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
                {"name": "web", "securityContext": {"runAsUser": 1}, "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}},
                {"name": "istio-proxy", "resources": {"limits": {"cpu": "2"}}},
            ],
            "initContainers": [{"name": "wait", "securityContext": {"runAsUser": 1}}],
        }))
        .unwrap();
        assert_eq!(
            fields(&spec, Some("istio-proxy")),
            [
                "spec.imagePullSecrets",
                "spec.initContainers{wait}.securityContext",
                "spec.containers{web}.securityContext",
                "spec.containers{web}.resources.limits[cpu]"
            ]
        );
        let injected = ["istio-init", "istio-proxy"]
            .map(|name| json!({"name": name, "securityContext": {"runAsUser": 0}}));
        let spec = json!({"containers": [{"name": "web"}], "initContainers": injected});
        let spec = serde_json::from_value(spec).unwrap();
        assert!(fields(&spec, Some("istio-proxy")).is_empty());
    }
}
