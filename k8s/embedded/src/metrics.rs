//! The kinds of `metrics.k8s.io`: what `kubectl top` and autoscalers read. They are measured when asked
//! for and not stored.

use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What the containers of a pod use.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodMetrics {
    /// Name, namespace and labels of the pod.
    #[serde(default)]
    pub metadata: serde_json::Value,
    /// When it was measured.
    #[serde(default)]
    pub timestamp: String,
    /// Over how long a time, such as `5s`.
    #[serde(default)]
    pub window: String,
    /// One entry for each container that runs.
    #[serde(default)]
    pub containers: Vec<ContainerMetrics>,
}

/// What a container uses.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct ContainerMetrics {
    /// Its name.
    pub name: String,
    /// `cpu` and `memory`, as quantities.
    pub usage: BTreeMap<String, String>,
}

/// What the pods of a node use.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeMetrics {
    /// Name and labels of the node.
    #[serde(default)]
    pub metadata: serde_json::Value,
    /// When it was measured.
    #[serde(default)]
    pub timestamp: String,
    /// Over how long a time.
    #[serde(default)]
    pub window: String,
    /// `cpu` and `memory`, as quantities.
    #[serde(default)]
    pub usage: BTreeMap<String, String>,
}
