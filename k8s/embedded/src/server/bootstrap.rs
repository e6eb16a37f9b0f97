//! What a cluster, and a namespace, is born with.

use super::{ApiError, Inner, write};
use crate::store::StoreError;
use serde_json::{Value, json};

const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Creates the first namespaces and the `kubernetes` service.
pub(super) async fn run(api: &Inner) -> Result<(), ApiError> {
    for name in NAMESPACES {
        let namespace = json!({
            "kind": "Namespace",
            "apiVersion": "v1",
            "metadata": metadata(name, None, &json!({"kubernetes.io/metadata.name": name})),
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        });
        create(api, "core/namespaces", "", name, namespace).await?;
        furnish(api, Some(name)).await?;
    }
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let address = api.config.addresses.kubernetes_service().to_string();
    let service = json!({
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": metadata("kubernetes", Some("default"), &labels),
        "spec": {
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": 6443}],
            "clusterIP": address,
            "clusterIPs": [address],
            "type": "ClusterIP",
            "sessionAffinity": "None",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
        },
        "status": {"loadBalancer": {}},
    });
    create(api, "core/services", "default", "kubernetes", service).await
}

/// Gives a namespace its ServiceAccount and the ConfigMap with the cluster's CA.
pub(super) async fn furnish(api: &Inner, namespace: Option<&str>) -> Result<(), ApiError> {
    let Some(namespace) = namespace else {
        return Ok(());
    };
    let account = json!({
        "kind": "ServiceAccount",
        "apiVersion": "v1",
        "metadata": metadata("default", Some(namespace), &Value::Null),
    });
    create(api, "core/serviceaccounts", namespace, "default", account).await?;
    let mut root = json!({
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": metadata("kube-root-ca.crt", Some(namespace), &Value::Null),
        "data": {"ca.crt": api.config.authority.ca},
    });
    root["metadata"]["annotations"] = json!({
        "kubernetes.io/description": "The certificate of the CA that signed this cluster's API server.",
    });
    create(api, "core/configmaps", namespace, "kube-root-ca.crt", root).await
}

fn metadata(name: &str, namespace: Option<&str>, labels: &Value) -> Value {
    let mut metadata = json!({"name": name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    metadata["uid"] = uuid::Uuid::new_v4().to_string().into();
    metadata["creationTimestamp"] = write::now().into();
    if labels.is_object() {
        metadata["labels"] = labels.clone();
    }
    metadata
}

async fn create(
    api: &Inner,
    resource: &str,
    namespace: &str,
    name: &str,
    object: Value,
) -> Result<(), ApiError> {
    match api.store.create(resource, namespace, name, object).await {
        Ok(_) | Err(StoreError::Exists) => Ok(()),
        Err(error) => Err(ApiError::internal(error.to_string())),
    }
}
