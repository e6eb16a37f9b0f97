//! The pod with its sidecar, as a JSONPatch.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};

use super::probes::{AGENT_PORT, rewrite};
use crate::{
    authenticate::AUDIENCE,
    compile::TLS_MODE_LABEL,
    world::{PROXY_CONTAINER, owner},
};

/// Port of the way out, for clusters that do not redirect connections.
const DOOR_PORT: u16 = 15001;
const READINESS_PORT: u16 = 15021;
const TOKEN_VOLUME: &str = "istio-token";

/// The pod runs a proxy, by whoever it was added.
pub(super) fn has_proxy(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .any(|c| c.name == PROXY_CONTAINER)
}

/// The changes that add the sidecar. Each field is replaced as a whole where it was there.
pub(super) fn patch(pod: &Pod, image: &str) -> Vec<Value> {
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

    let mut changed = vec![("/spec/containers", json!(containers))];
    let sidecar = sidecar(pod, image, &originals, &annotations);
    let inits = spec
        .init_containers
        .iter()
        .flatten()
        .map(|container| json!(container));
    changed.push((
        "/spec/initContainers",
        std::iter::once(sidecar).chain(inits).collect(),
    ));
    let volumes = spec.volumes.iter().flatten().map(|volume| json!(volume));
    changed.push(("/spec/volumes", volumes.chain([token_volume()]).collect()));
    changed.push(("/metadata/labels", json!(self::labels(pod, labels))));
    changed.push((
        "/metadata/annotations",
        json!(self::annotations(annotations, &app)),
    ));
    // `add` on an object's member replaces what was there.
    changed
        .into_iter()
        .map(|(path, value)| json!({ "op": "add", "path": path, "value": value }))
        .collect()
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

fn annotations(mut annotations: BTreeMap<String, String>, app: &str) -> BTreeMap<String, String> {
    let status = json!({
        "initContainers": [PROXY_CONTAINER],
        "containers": null,
        "volumes": [TOKEN_VOLUME],
        "imagePullSecrets": null,
        "revision": "default",
    });
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

fn sidecar(
    pod: &Pod,
    image: &str,
    originals: &Map<String, Value>,
    annotations: &BTreeMap<String, String>,
) -> Value {
    let own = |name: &str, default: &str| {
        annotations
            .get(name)
            .map_or(default, String::as_str)
            .to_owned()
    };
    let field = |path: &str| json!({ "fieldRef": { "fieldPath": path } });
    let mut env = vec![
        json!({ "name": "POD_NAME", "valueFrom": field("metadata.name") }),
        json!({ "name": "POD_NAMESPACE", "valueFrom": field("metadata.namespace") }),
        json!({ "name": "INSTANCE_IP", "valueFrom": field("status.podIP") }),
        json!({ "name": "SERVICE_ACCOUNT", "valueFrom": field("spec.serviceAccountName") }),
        json!({ "name": "ISTIO_META_WORKLOAD_NAME",
                "value": owner(&pod.metadata, pod.metadata.labels.as_ref().unwrap_or(&BTreeMap::new())) }),
    ];
    if !originals.is_empty() {
        env.push(
            json!({ "name": "ISTIO_KUBE_APP_PROBERS", "value": json!(originals).to_string() }),
        );
    }
    if annotations
        .get("prometheus.io/scrape")
        .is_some_and(|scrape| scrape == "true")
    {
        let of_app = json!({
            "scrape": "true",
            "path": own("prometheus.io/path", ""),
            "port": own("prometheus.io/port", ""),
        });
        env.push(json!({ "name": "ISTIO_PROMETHEUS_ANNOTATIONS", "value": of_app.to_string() }));
    }
    let ready = |period: i32, failures: i32| {
        json!({
            "httpGet": { "path": "/healthz/ready", "port": READINESS_PORT },
            "periodSeconds": period,
            "timeoutSeconds": 3,
            "failureThreshold": failures,
        })
    };
    json!({
        "name": PROXY_CONTAINER,
        "image": own("sidecar.istio.io/proxyImage", image),
        "restartPolicy": "Always",
        "args": ["proxy", "sidecar"],
        "ports": [{ "name": "http-envoy-prom", "containerPort": 15090, "protocol": "TCP" }],
        "env": env,
        "resources": {
            "requests": {
                "cpu": own("sidecar.istio.io/proxyCPU", "100m"),
                "memory": own("sidecar.istio.io/proxyMemory", "128Mi"),
            },
            "limits": {
                "cpu": own("sidecar.istio.io/proxyCPULimit", "2"),
                "memory": own("sidecar.istio.io/proxyMemoryLimit", "1Gi"),
            },
        },
        "startupProbe": ready(1, 600),
        "readinessProbe": ready(15, 4),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": 1337,
            "runAsNonRoot": true,
            "runAsUser": 1337,
        },
        "volumeMounts": [{ "name": TOKEN_VOLUME, "mountPath": "/var/run/secrets/tokens" }],
    })
}

fn token_volume() -> Value {
    json!({
        "name": TOKEN_VOLUME,
        "projected": { "sources": [
            { "serviceAccountToken": { "audience": AUDIENCE, "expirationSeconds": 43200, "path": "istio-token" } },
        ] },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injected(pod: Value) -> Value {
        let typed: Pod = serde_json::from_value(pod.clone()).unwrap();
        let patch: json_patch::Patch =
            serde_json::from_value(json!(patch(&typed, "istio/proxyv2:1"))).unwrap();
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
        assert_eq!(names("/spec/initContainers"), ["istio-proxy", "first"]);
        assert_eq!(names("/spec/containers"), ["reviews"]);
        assert_eq!(names("/spec/volumes"), ["data", "istio-token"]);
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
        let sidecar = &pod["spec"]["initContainers"][0];
        assert_eq!(sidecar["restartPolicy"], "Always");
        assert_eq!(sidecar["args"][1], "sidecar");
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
        let env = pod["spec"]["initContainers"][0]["env"].as_array().unwrap();
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
