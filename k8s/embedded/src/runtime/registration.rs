//! The node's own object, and its heartbeat.

use super::context::Context;
use super::downward::memory_bytes;
use crate::controllers::events::now;
use crate::controllers::scheduler::node_labels;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The version of Kubernetes that the node says it is.
pub const KUBELET_VERSION: &str = "v1.36.2";
/// Time between heartbeats. A real node's is 10 s; nobody here waits for it.
const HEARTBEAT: Duration = Duration::from_secs(60);
const PODS: &str = "250";

fn read(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}

fn os_image() -> String {
    read("/etc/os-release")
        .lines()
        .find_map(|l| l.strip_prefix("PRETTY_NAME="))
        .map_or_else(
            || "Linux".to_owned(),
            |name| name.trim_matches('"').to_owned(),
        )
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> serde_json::Value {
    json!({
        "type": type_, "status": status, "reason": reason, "message": message,
        "lastHeartbeatTime": now(), "lastTransitionTime": now(),
    })
}

/// The status of the node.
fn status(context: &Context, ready: bool) -> serde_json::Value {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = format!("{}Ki", memory_bytes().unwrap_or(0) / 1024);
    let resources = json!({
        "cpu": cpus.to_string(), "memory": memory, "pods": PODS, "ephemeral-storage": "1Gi",
    });
    let name = &context.config.node_name;
    let architecture = node_labels(name)
        .remove("kubernetes.io/arch")
        .unwrap_or_default();
    let (value, reason, message) = if ready {
        ("True", "KubeletReady", "kubelet is posting ready status")
    } else {
        ("False", "KubeletNotReady", "the cluster is stopping")
    };
    json!({
        "addresses": [
            {"type": "InternalIP", "address": context.plan.node().to_string()},
            {"type": "Hostname", "address": name},
        ],
        "capacity": resources,
        "allocatable": resources,
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory",
                "kubelet has sufficient memory available"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure",
                "kubelet has no disk pressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID",
                "kubelet has sufficient PID available"),
            condition("Ready", value, reason, message),
        ],
        "nodeInfo": {
            "machineID": read("/etc/machine-id"),
            "systemUUID": "",
            "bootID": read("/proc/sys/kernel/random/boot_id"),
            "kernelVersion": read("/proc/sys/kernel/osrelease"),
            "osImage": os_image(),
            "containerRuntimeVersion": concat!("meshdojo://", env!("CARGO_PKG_VERSION")),
            "kubeletVersion": KUBELET_VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": architecture,
        },
    })
}

/// Creates or updates the node's object.
///
/// # Errors
/// What the API server answered.
pub async fn register(context: &Context) -> Result<(), kube::Error> {
    let api: Api<Node> = Api::all(context.client.clone());
    let name = context.config.node_name.as_str();
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": node_labels(name)},
        "spec": {
            "podCIDR": context.plan.pod_cidr(),
            "podCIDRs": [context.plan.pod_cidr()],
            "providerID": format!("meshdojo://{name}"),
        },
    }))
    .map_err(kube::Error::SerdeError)?;
    match api.create(&PostParams::default(), &node).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error),
    }
    let patch = Patch::Merge(json!({"status": status(context, true)}));
    api.patch_status(name, &kubelet(), &patch).await.map(|_| ())
}

fn kubelet() -> PatchParams {
    PatchParams {
        field_manager: Some("kubelet".into()),
        ..PatchParams::default()
    }
}

/// Renews the node's Lease until `shutdown`.
pub async fn beat(context: Arc<Context>, shutdown: CancellationToken) {
    let api: Api<Lease> = Api::namespaced(context.client.clone(), "kube-node-lease");
    let name = context.config.node_name.as_str();
    loop {
        let renewed = MicroTime(jiff::Timestamp::now());
        let patch = json!({"spec": {
            "holderIdentity": name, "leaseDurationSeconds": 120, "renewTime": renewed,
        }});
        let beaten = match api.patch(name, &kubelet(), &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                create(&api, &context, &patch).await
            }
            other => other.map(|_| ()),
        };
        if let Err(error) = beaten {
            tracing::debug!(%error, "node lease not renewed");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(HEARTBEAT) => {}
        }
    }
}

async fn create(
    api: &Api<Lease>,
    context: &Context,
    spec: &serde_json::Value,
) -> Result<(), kube::Error> {
    let name = context.config.node_name.as_str();
    let nodes: Api<Node> = Api::all(context.client.clone());
    let owner = nodes.get(name).await?.controller_owner_ref(&());
    let mut lease = json!({"metadata": {"name": name, "ownerReferences": owner.map(|mut o| {
        o.controller = None;
        o.block_owner_deletion = None;
        vec![o]
    })}});
    lease["spec"] = spec["spec"].clone();
    let lease: Lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
    api.create(&PostParams::default(), &lease).await.map(|_| ())
}
