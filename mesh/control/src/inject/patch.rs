//! The pod with its sidecar, as a JSONPatch.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Map, Value, json};

use super::{
    probes::{AGENT_PORT, rewrite},
    redirect::init_container,
    sidecar::{VOLUMES, sidecar, volumes},
};
use crate::{
    InjectionArgs,
    compile::TLS_MODE_LABEL,
    world::{PROXY_CONTAINER, owner},
};

/// Port of the way out, for clusters that do not redirect connections.
const DOOR_PORT: u16 = 15001;

/// The pod runs a proxy, by whoever it was added.
pub(super) fn has_proxy(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .any(|c| c.name == PROXY_CONTAINER)
}

/// The changes that add the sidecar, as a JSONPatch.
pub(super) fn patch(pod: &Pod, settings: &InjectionArgs) -> Vec<Value> {
    // `add` on an object's member replaces what was there.
    changes(pod, settings)
        .into_iter()
        .map(|(path, value)| json!({ "op": "add", "path": path, "value": value }))
        .collect()
}

/// The fields that the sidecar changes, each as a whole.
pub(super) fn changes(pod: &Pod, settings: &InjectionArgs) -> Vec<(&'static str, Value)> {
    let spec = pod.spec.clone().unwrap_or_default();
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let annotations = pod.metadata.annotations.clone().unwrap_or_default();
    let on = |name: &str, default: bool| {
        annotations
            .get(name)
            .map_or(default, |value| value != "false")
    };

    let mut containers = spec.containers.clone();
    let mut originals = Map::new();
    if on("sidecar.istio.io/rewriteAppHTTPProbers", true) {
        containers
            .iter_mut()
            .for_each(|container| rewrite(container, &mut originals));
    }
    let app = containers
        .first()
        .map(|container| container.name.clone())
        .unwrap_or_default();
    let native = on("sidecar.istio.io/nativeSidecar", settings.native_sidecars);
    let sidecar = sidecar(pod, &settings.proxy_image, native, &originals, &annotations);
    let (first, beside) = if native {
        (Some(sidecar), None)
    } else {
        (None, Some(sidecar))
    };
    // The proxy comes before everything that needs the network, but after the kernel's rules.
    let added: Vec<Value> = init_container(&settings.proxy_image, &annotations)
        .into_iter()
        .chain(first)
        .collect();
    let status = status(&added, beside.as_ref());
    let own = |containers: &[Container]| -> Vec<Value> {
        containers
            .iter()
            .map(|container| json!(container))
            .collect()
    };
    let inits = spec.init_containers.unwrap_or_default();
    let volumes = spec.volumes.iter().flatten().map(|volume| json!(volume));
    vec![
        (
            "/spec/containers",
            beside.into_iter().chain(own(&containers)).collect(),
        ),
        (
            "/spec/initContainers",
            added.into_iter().chain(own(&inits)).collect(),
        ),
        ("/spec/volumes", volumes.chain(self::volumes()).collect()),
        ("/metadata/labels", json!(self::labels(pod, labels))),
        (
            "/metadata/annotations",
            json!(self::annotations(annotations, &app, &status)),
        ),
    ]
}

/// What was injected, for those who want to take it out again.
fn status(inits: &[Value], container: Option<&Value>) -> Value {
    let names = |containers: &[Value]| -> Value {
        let names: Vec<_> = containers.iter().map(|c| c["name"].clone()).collect();
        if names.is_empty() {
            Value::Null
        } else {
            json!(names)
        }
    };
    json!({
        "initContainers": names(inits),
        "containers": names(container.map_or(&[], std::slice::from_ref)),
        "volumes": VOLUMES,
        "imagePullSecrets": null,
        "revision": "default",
    })
}

fn labels(pod: &Pod, mut labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let first = |names: &[&str]| names.iter().find_map(|name| labels.get(*name)).cloned();
    let name = first(&[
        "service.istio.io/canonical-name",
        "app.kubernetes.io/name",
        "app",
    ])
    .unwrap_or_else(|| owner(&pod.metadata, &labels));
    let revision = first(&[
        "service.istio.io/canonical-revision",
        "app.kubernetes.io/version",
        "version",
    ])
    .unwrap_or_else(|| "latest".into());
    labels
        .entry(TLS_MODE_LABEL.into())
        .or_insert_with(|| "istio".into());
    // What cannot be a label's value (a long generated name) is left out.
    for (key, value) in [
        ("service.istio.io/canonical-name", name),
        ("service.istio.io/canonical-revision", revision),
    ] {
        if value.len() <= 63 {
            labels.entry(key.into()).or_insert(value);
        }
    }
    labels
}

fn annotations(
    mut annotations: BTreeMap<String, String>,
    app: &str,
    status: &Value,
) -> BTreeMap<String, String> {
    for (name, value) in [
        ("sidecar.istio.io/status", status.to_string()),
        ("istio.io/rev", "default".into()),
        (
            "embedded.meshdojo.dev/door",
            format!("{PROXY_CONTAINER}:{DOOR_PORT}"),
        ),
        ("prometheus.io/scrape", "true".into()),
        ("prometheus.io/port", AGENT_PORT.to_string()),
        ("prometheus.io/path", "/stats/prometheus".into()),
    ] {
        annotations.insert(name.into(), value);
    }
    for name in [
        "kubectl.kubernetes.io/default-container",
        "kubectl.kubernetes.io/default-logs-container",
    ] {
        annotations
            .entry(name.into())
            .or_insert_with(|| app.to_owned());
    }
    annotations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injected(pod: Value) -> Value {
        let typed: Pod = serde_json::from_value(pod.clone()).unwrap();
        let settings = InjectionArgs {
            proxy_image: "istio/proxyv2:1".into(),
            native_sidecars: true,
        };
        let patch: json_patch::Patch =
            serde_json::from_value(json!(patch(&typed, &settings))).unwrap();
        let mut pod = pod;
        json_patch::patch(&mut pod, &patch).unwrap();
        pod
    }

    #[test]
    fn the_sidecar_comes_first_and_the_rest_stays() {
        let pod = injected(json!({
            "metadata": {
                "generateName": "reviews-v1-abc-", "labels": {"app": "reviews", "version": "v1"},
                "annotations": {"keep": "me"},
            },
            "spec": {
                "volumes": [{"name": "data", "emptyDir": {}}],
                "initContainers": [{"name": "first"}],
                "containers": [{"name": "reviews", "image": "x"}],
            },
        }));
        let names = |path: &str| -> Vec<String> {
            let list = pod.pointer(path).unwrap().as_array().unwrap();
            list.iter()
                .map(|item| item["name"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(
            names("/spec/initContainers"),
            ["istio-init", "istio-proxy", "first"]
        );
        assert_eq!(names("/spec/containers"), ["reviews"]);
        assert_eq!(
            names("/spec/volumes"),
            ["data", "istio-token", "istiod-ca-cert"]
        );
        assert_eq!(pod["metadata"]["annotations"]["keep"], "me");
        assert_eq!(
            pod["metadata"]["annotations"]["embedded.meshdojo.dev/door"],
            "istio-proxy:15001"
        );
        assert_eq!(
            pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"],
            "reviews"
        );
        assert_eq!(
            pod["metadata"]["labels"]["service.istio.io/canonical-name"],
            "reviews"
        );
        assert_eq!(
            pod["metadata"]["labels"]["service.istio.io/canonical-revision"],
            "v1"
        );
        let sidecar = &pod["spec"]["initContainers"][1];
        assert_eq!(sidecar["restartPolicy"], "Always");
        assert_eq!(sidecar["args"][1], "sidecar");
    }

    #[test]
    fn an_ordinary_sidecar_holds_the_application_until_it_is_ready() {
        let pod = injected(json!({
            "metadata": { "annotations": { "sidecar.istio.io/nativeSidecar": "false" } },
            "spec": { "containers": [{ "name": "web", "image": "x" }] },
        }));
        let containers = &pod["spec"]["containers"];
        assert_eq!(containers[0]["name"], "istio-proxy");
        assert_eq!(containers[1]["name"], "web");
        assert!(containers[0].get("restartPolicy").is_none());
        assert!(containers[0]["lifecycle"]["postStart"]["exec"].is_object());
        let inits = pod["spec"]["initContainers"].as_array().unwrap();
        assert_eq!(inits.len(), 1);
        let status = pod["metadata"]["annotations"]["sidecar.istio.io/status"].as_str();
        let status: Value = serde_json::from_str(status.unwrap()).unwrap();
        assert_eq!(status["containers"], json!(["istio-proxy"]));
        assert_eq!(status["initContainers"], json!(["istio-init"]));
    }

    #[test]
    fn probes_go_through_the_agent_and_the_originals_travel_in_the_environment() {
        let pod = injected(json!({
            "metadata": {"annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9080"}},
            "spec": {"containers": [{
                "name": "web",
                "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 7},
                "livenessProbe": {"exec": {"command": ["true"]}},
                "startupProbe": {"tcpSocket": {"port": 8080}},
            }]},
        }));
        let web = &pod["spec"]["containers"][0];
        assert_eq!(
            web["readinessProbe"]["httpGet"]["path"],
            "/app-health/web/readyz"
        );
        assert_eq!(web["readinessProbe"]["httpGet"]["port"], 15020);
        assert_eq!(web["readinessProbe"]["periodSeconds"], 7);
        assert_eq!(web["livenessProbe"]["exec"]["command"][0], "true");
        assert!(web["startupProbe"].get("tcpSocket").is_none());
        let env = pod["spec"]["initContainers"][1]["env"].as_array().unwrap();
        let value = |name: &str| -> Value {
            let found = env.iter().find(|item| item["name"] == name).unwrap();
            serde_json::from_str(found["value"].as_str().unwrap()).unwrap()
        };
        let probers = value("ISTIO_KUBE_APP_PROBERS");
        assert_eq!(
            probers["/app-health/web/readyz"]["httpGet"],
            json!({"path": "/health", "port": 8080})
        );
        assert_eq!(
            probers["/app-health/web/startupz"]["tcpSocket"]["port"],
            8080
        );
        assert_eq!(value("ISTIO_PROMETHEUS_ANNOTATIONS")["port"], "9080");
        assert_eq!(
            pod["metadata"]["annotations"]["prometheus.io/port"],
            "15020"
        );
    }
}
