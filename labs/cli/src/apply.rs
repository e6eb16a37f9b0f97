//! Server-side apply of manifests, as `kubectl apply --server-side --force-conflicts` does it.

use std::time::{Duration, Instant};

use anyhow::Context;
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind, TypeMeta},
};
use serde_json::Value;

/// Under this name the fields are owned.
const FIELD_MANAGER: &str = "meshdojo";

/// How long the API may take to serve a kind whose CRD was just applied, and a webhook to come up.
const SETTLE: Duration = Duration::from_secs(10);

/// Applies objects in their order; those without a namespace of their own go to `default`.
///
/// # Errors
/// The server's refusal, with the kind and name of the object.
pub async fn apply(client: &Client, objects: &[Value]) -> anyhow::Result<()> {
    apply_as(client, FIELD_MANAGER, objects).await
}

/// The same under another name of who owns the fields.
///
/// # Errors
/// As [`apply`].
pub async fn apply_as(client: &Client, manager: &str, objects: &[Value]) -> anyhow::Result<()> {
    for object in objects {
        let what = format!(
            "{} {}",
            text(object, "/kind"),
            text(object, "/metadata/name")
        );
        apply_one(client, manager, object)
            .await
            .with_context(|| format!("applying {what}"))?;
    }
    Ok(())
}

async fn apply_one(client: &Client, manager: &str, object: &Value) -> anyhow::Result<()> {
    let types: TypeMeta = serde_json::from_value(object.clone())?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
    let api: Api<DynamicObject> = if is_cluster_scoped(&resource) {
        Api::all_with(client.clone(), &resource)
    } else {
        let namespace = object
            .pointer("/metadata/namespace")
            .and_then(Value::as_str)
            .unwrap_or("default");
        Api::namespaced_with(client.clone(), namespace, &resource)
    };
    let parameters = PatchParams::apply(manager).force();
    let deadline = Instant::now() + SETTLE;
    loop {
        match api
            .patch(
                text(object, "/metadata/name"),
                &parameters,
                &Patch::Apply(object),
            )
            .await
        {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status))
                if settles(&resource, status.code) && Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A custom resource is unknown until its CRD is established.
fn settles(resource: &ApiResource, code: u16) -> bool {
    code == 404 && resource.group.ends_with("istio.io")
}

fn is_cluster_scoped(resource: &ApiResource) -> bool {
    matches!(
        resource.kind.as_str(),
        "Namespace"
            | "CustomResourceDefinition"
            | "ClusterRole"
            | "ClusterRoleBinding"
            | "MutatingWebhookConfiguration"
            | "ValidatingWebhookConfiguration"
    )
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or("")
}
