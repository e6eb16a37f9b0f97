//! Is a pod injected?

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

/// Namespaces of the system, which are never injected.
const SYSTEM: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "local-path-storage",
];

const INJECT: &str = "sidecar.istio.io/inject";

/// The pod gets a sidecar. The webhook's selectors have been applied before; what the pod itself
/// says comes here: label over annotation, and neither means yes. `Err` is why not.
pub(super) fn wanted(pod: &Pod, namespace: &str) -> Result<(), &'static str> {
    if pod
        .spec
        .as_ref()
        .is_some_and(|spec| spec.host_network == Some(true))
    {
        return Err("the pod uses the network of its host");
    }
    if SYSTEM.contains(&namespace) {
        return Err("the namespace belongs to the system");
    }
    if super::patch::has_proxy(pod) {
        return Err("the pod has a sidecar already");
    }
    let says = |from: &Option<BTreeMap<String, String>>| {
        from.as_ref()?.get(INJECT).and_then(|value| switch(value))
    };
    match says(&pod.metadata.labels).or_else(|| says(&pod.metadata.annotations)) {
        Some(false) => Err("sidecar.istio.io/inject is false"),
        Some(true) | None => Ok(()),
    }
}

fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "y" | "yes" | "on" => Some(true),
        "false" | "n" | "no" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_label_outranks_the_annotation() {
        for (label, annotation, namespace, injected) in [
            (None, None, "default", true),
            (Some("false"), Some("true"), "default", false),
            (Some("true"), Some("false"), "default", true),
            (None, Some("off"), "default", false),
            (Some("perhaps"), None, "default", true),
            (None, None, "kube-system", false),
        ] {
            let mut pod =
                json!({"metadata": {"labels": {}, "annotations": {}}, "spec": {"containers": []}});
            for (place, value) in [("labels", label), ("annotations", annotation)] {
                if let Some(value) = value {
                    pod["metadata"][place][INJECT] = json!(value);
                }
            }
            let pod: Pod = serde_json::from_value(pod).unwrap();
            assert_eq!(
                wanted(&pod, namespace).is_ok(),
                injected,
                "{label:?} {annotation:?} {namespace}"
            );
        }
    }

    #[test]
    fn host_network_and_a_second_sidecar_are_left_alone() {
        let pod = json!({"spec": {"hostNetwork": true, "containers": []}});
        assert!(wanted(&serde_json::from_value(pod).unwrap(), "default").is_err());
        let pod = json!({"spec": {"containers": [{"name": "istio-proxy"}]}});
        assert!(wanted(&serde_json::from_value(pod).unwrap(), "default").is_err());
    }
}
