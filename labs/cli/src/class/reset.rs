//! `class reset`: a student's namespace as it was in the beginning. The account stays, so that the kubeconfig stays good.

use anyhow::Context;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{
        ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    },
};
use lab_runner::class::{Class, RESET};
use serde_json::json;

use super::{
    Connection, create,
    delete::gone,
    objects::{ACCOUNT, APPS},
};
use crate::{arguments::App, exit};

/// What students make. What controllers make of it follows by itself.
const KINDS: [(&str, &str, &str); 26] = [
    ("networking.istio.io", "v1", "VirtualService"),
    ("networking.istio.io", "v1", "DestinationRule"),
    ("networking.istio.io", "v1", "Gateway"),
    ("networking.istio.io", "v1", "ServiceEntry"),
    ("networking.istio.io", "v1", "Sidecar"),
    ("networking.istio.io", "v1", "WorkloadEntry"),
    ("networking.istio.io", "v1", "WorkloadGroup"),
    ("networking.istio.io", "v1alpha3", "EnvoyFilter"),
    ("networking.istio.io", "v1beta1", "ProxyConfig"),
    ("security.istio.io", "v1", "PeerAuthentication"),
    ("security.istio.io", "v1", "AuthorizationPolicy"),
    ("security.istio.io", "v1", "RequestAuthentication"),
    ("telemetry.istio.io", "v1", "Telemetry"),
    ("extensions.istio.io", "v1alpha1", "WasmPlugin"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler"),
    ("batch", "v1", "CronJob"),
    ("batch", "v1", "Job"),
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "StatefulSet"),
    ("apps", "v1", "DaemonSet"),
    ("apps", "v1", "ReplicaSet"),
    ("", "v1", "Service"),
    ("", "v1", "Pod"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "Secret"),
    ("", "v1", "ServiceAccount"),
];

/// `users` empty: everybody.
pub(super) async fn run(connection: &Connection, users: &[String]) -> anyhow::Result<()> {
    let students = connection.students().await?;
    let names: Vec<String> = students.iter().map(ResourceExt::name_any).collect();
    let unknown: Vec<&str> = users
        .iter()
        .filter(|user| !names.contains(user))
        .map(String::as_str)
        .collect();
    if !unknown.is_empty() {
        return Err(exit::environment(format!(
            "not in the class: {}; `meshdojo class status` shows who is",
            unknown.join(", ")
        )));
    }
    let chosen = students
        .iter()
        .filter(|student| users.is_empty() || users.contains(&student.name_any()));
    for student in chosen {
        let name = student.name_any();
        begin_anew(connection, &name)
            .await
            .with_context(|| format!("student {name}"))?;
        let count = empty(connection, &name)
            .await
            .with_context(|| format!("student {name}"))?;
        let class = Class::of(student).with_context(|| {
            format!("namespace {name} has lost its annotations; run `meshdojo class create` again")
        })?;
        create::install(connection, &class, &apps(student)).await?;
        println!("{name}: {count} objects deleted");
    }
    Ok(())
}

/// Tells the student's program that the progress it has kept is over.
async fn begin_anew(connection: &Connection, namespace: &str) -> kube::Result<()> {
    let api: Api<Namespace> = Api::all(connection.client.clone());
    let now = jiff::Timestamp::now().to_string();
    let patch = json!({ "metadata": { "annotations": { RESET: now } } });
    api.patch(namespace, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map(drop)
}

/// The applications that were installed for a student.
pub(super) fn apps(student: &Namespace) -> Vec<App> {
    let text = student.annotations().get(APPS);
    let names: Vec<&str> = text.map_or(Vec::new(), |text| text.split(',').collect());
    App::ALL
        .into_iter()
        .filter(|app| names.contains(&app.name()))
        .collect()
}

/// Deletes what somebody made in a namespace. Gives how many objects that were.
async fn empty(connection: &Connection, namespace: &str) -> anyhow::Result<usize> {
    let mut count = 0;
    for (group, version, kind) in KINDS {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> =
            Api::namespaced_with(connection.client.clone(), namespace, &resource);
        let list = match api.list(&ListParams::default()).await {
            Ok(list) => list,
            // The cluster does not serve the kind.
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            Err(error) => return Err(error).with_context(|| format!("listing {kind}")),
        };
        for object in list.iter().filter(|object| is_students(kind, object)) {
            let name = object.name_any();
            gone(api.delete(&name, &DeleteParams::background()).await)
                .with_context(|| format!("deleting {kind} {name}"))?;
            count += 1;
        }
    }
    Ok(count)
}

/// Whether a student made it, rather than a controller or the class.
fn is_students(kind: &str, object: &DynamicObject) -> bool {
    let name = object.name_any();
    object.owner_references().is_empty()
        && object.metadata.deletion_timestamp.is_none()
        && match kind {
            "ConfigMap" => !matches!(&*name, "kube-root-ca.crt" | "istio-ca-root-cert"),
            "ServiceAccount" => name != ACCOUNT && name != "default",
            _ => true,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_and_the_authorities_stay() {
        let object = |name: &str| -> DynamicObject {
            serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap()
        };
        assert!(!is_students("ServiceAccount", &object(ACCOUNT)));
        assert!(!is_students("ConfigMap", &object("kube-root-ca.crt")));
        assert!(is_students("ConfigMap", &object("lab-progress")));
        assert!(is_students("Service", &object(ACCOUNT)));
        let student = serde_json::from_value(
            json!({ "metadata": { "annotations": { APPS: "httpbin,bookinfo" } } }),
        );
        assert_eq!(apps(&student.unwrap()), [App::Bookinfo, App::Httpbin]);
    }
}
