//! What a cluster, and a namespace, is born with.

use super::{ApiError, Inner};
use crate::auth::rbac::born;
use crate::store::StoreError;
use serde_json::{Value, json};
use std::net::SocketAddr;

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
    // all at once: each waits for the disk
    let roles = born::objects()
        .into_iter()
        .map(async |(resource, name, mut object)| {
            let labels = object["metadata"]["labels"].take();
            object["metadata"] = metadata(name, None, &labels);
            create(api, resource, "", name, object).await
        });
    futures::future::try_join_all(roles).await?;
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

/// Whether a namespace cannot be without an object: pods need it to start.
pub(super) fn is_furniture(resource: &str, name: &str) -> bool {
    matches!(
        (resource, name),
        ("core/serviceaccounts", "default") | ("core/configmaps", "kube-root-ca.crt")
    )
}

/// Gives a namespace that is not being deleted what was taken from it.
pub(super) async fn refurnish(api: &Inner, namespace: &str) -> Result<(), ApiError> {
    match api.store.get("core/namespaces", "", namespace) {
        Some(found) if found.value()["metadata"]["deletionTimestamp"].is_null() => {
            furnish(api, Some(namespace)).await
        }
        _ => Ok(()),
    }
}

fn metadata(name: &str, namespace: Option<&str>, labels: &Value) -> Value {
    let mut metadata = json!({"name": name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    metadata["uid"] = uuid::Uuid::new_v4().to_string().into();
    metadata["creationTimestamp"] = crate::status::timestamp().into();
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

/// Writes the endpoints of the `kubernetes` service.
pub(super) async fn publish(api: &Inner, address: SocketAddr) -> Result<(), ApiError> {
    let (ip, port) = (address.ip().to_string(), address.port());
    let labels = json!({
        "endpointslice.kubernetes.io/skip-mirror": "true",
    });
    let endpoints = json!({
        "kind": "Endpoints",
        "apiVersion": "v1",
        "metadata": metadata("kubernetes", Some("default"), &labels),
        "subsets": [{
            "addresses": [{"ip": ip}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }],
    });
    put(api, "core/endpoints", endpoints).await?;
    let labels = json!({"kubernetes.io/service-name": "kubernetes"});
    let slice = json!({
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": metadata("kubernetes", Some("default"), &labels),
        "addressType": "IPv4",
        "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    put(api, "discovery.k8s.io/endpointslices", slice).await
}

/// Creates or replaces an object named `kubernetes`.
async fn put(api: &Inner, resource: &str, object: Value) -> Result<(), ApiError> {
    let result = match api.store.get(resource, "default", "kubernetes") {
        Some(live) => {
            api.store
                .update(resource, "default", "kubernetes", live.revision, object)
                .await
        }
        None => {
            api.store
                .create(resource, "default", "kubernetes", object)
                .await
        }
    };
    result
        .map(|_| ())
        .map_err(|error| ApiError::internal(error.to_string()))
}
