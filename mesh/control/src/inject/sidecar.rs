//! The sidecar's container.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};

use crate::{
    authenticate::AUDIENCE,
    world::{PROXY_CONTAINER, owner},
};

const READINESS_PORT: u16 = 15021;
const TOKEN_VOLUME: &str = "istio-token";
const ROOT_VOLUME: &str = "istiod-ca-cert";
/// Names of the volumes.
pub(super) const VOLUMES: [&str; 2] = [TOKEN_VOLUME, ROOT_VOLUME];

/// Until the proxy has its configuration: the kubelet starts no other container before.
const HOLD: &str = r#"
case $INSTANCE_IP in *:*) host="[$INSTANCE_IP]" ;; *) host=$INSTANCE_IP ;; esac
until curl --silent --fail --output /dev/null --noproxy '*' "http://$host:15021/healthz/ready"; do sleep 0.2; done"#;

/// Native: an init container that goes on running. Otherwise the first of the pod's containers, whose
/// start holds up the others.
pub(super) fn sidecar(
    pod: &Pod,
    image: &str,
    native: bool,
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
    let mut container = json!({
        "name": PROXY_CONTAINER,
        "image": own("sidecar.istio.io/proxyImage", image),
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
        "volumeMounts": [
            { "name": TOKEN_VOLUME, "mountPath": "/var/run/secrets/tokens" },
            { "name": ROOT_VOLUME, "mountPath": "/var/run/secrets/istio" },
        ],
    });
    if native {
        container["restartPolicy"] = json!("Always");
        container["startupProbe"] = ready(1, 600);
    } else {
        let command = json!({ "command": ["/bin/sh", "-c", HOLD] });
        container["lifecycle"] = json!({ "postStart": { "exec": command } });
    }
    container
}

/// Who the pod is, and what the control plane's certificate is checked against; a namespace gets that a
/// moment after it has been made.
pub(super) fn volumes() -> [Value; 2] {
    [
        json!({
            "name": TOKEN_VOLUME,
            "projected": { "sources": [
                { "serviceAccountToken": { "audience": AUDIENCE, "expirationSeconds": 43200, "path": "istio-token" } },
            ] },
        }),
        json!({
            "name": ROOT_VOLUME,
            "configMap": { "name": "istio-ca-root-cert", "optional": true },
        }),
    ]
}
