//! The state of the namespaces in which a lab works, and the way back to it.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, PostParams},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{class, cluster::Cluster, progress::write_whole};

/// The kinds that steps make and change. What controllers make of them follows by itself.
const KINDS: &[(&str, &str)] = &[
    ("v1", "ServiceAccount"),
    ("v1", "ConfigMap"),
    ("v1", "Service"),
    ("v1", "Pod"),
    ("apps/v1", "Deployment"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("networking.k8s.io/v1", "Ingress"),
    ("networking.istio.io/v1", "VirtualService"),
    ("networking.istio.io/v1", "DestinationRule"),
    ("networking.istio.io/v1", "Gateway"),
    ("networking.istio.io/v1", "ServiceEntry"),
    ("networking.istio.io/v1", "Sidecar"),
    ("networking.istio.io/v1alpha3", "EnvoyFilter"),
    ("security.istio.io/v1", "PeerAuthentication"),
    ("security.istio.io/v1", "AuthorizationPolicy"),
    ("security.istio.io/v1", "RequestAuthentication"),
    ("telemetry.istio.io/v1", "Telemetry"),
];

/// How many requests go out at a time.
const AT_A_TIME: usize = 8;

/// What identifies an object: apiVersion, kind, namespace, name.
type Id = (String, String, String, String);

/// Objects as they were, without what the server adds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    objects: Vec<Value>,
}

/// What brings a cluster back.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    delete: Vec<Id>,
    create: Vec<Value>,
    replace: Vec<Value>,
}

impl Snapshot {
    /// Takes one.
    ///
    /// # Errors
    /// When the cluster cannot be asked.
    pub async fn take(cluster: &Cluster, namespaces: &[String]) -> anyhow::Result<Self> {
        let asked = namespaces
            .iter()
            .flat_map(|namespace| KINDS.iter().map(move |kind| (namespace.clone(), *kind)));
        let lists: Vec<Vec<Value>> = stream::iter(asked)
            .map(|(namespace, (api_version, kind))| async move {
                list(cluster, api_version, kind, &namespace).await
            })
            .buffered(AT_A_TIME)
            .try_collect()
            .await?;
        let mut objects: Vec<Value> = lists.into_iter().flatten().collect();
        // The namespace itself is not a student's to change.
        for namespace in namespaces.iter().filter(|_| cluster.only.is_none()) {
            if let Some(found) = cluster
                .api("v1", "Namespace", "")
                .get_opt(namespace)
                .await?
            {
                objects.insert(0, bare(found, "v1", "Namespace")?);
            }
        }
        Ok(Self { objects })
    }

    /// Reads one from a file.
    ///
    /// # Errors
    /// When it is not there or not whole.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let told = || format!("reading {}", file.display());
        let text = std::fs::read(file).with_context(told)?;
        serde_json::from_slice(&text).with_context(told)
    }

    /// Writes it to a file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        write_whole(file, &serde_json::to_vec(self)?)
    }

    /// Brings the cluster back to it: deletes what came, puts back what went or changed. Gives how many objects that
    /// were.
    ///
    /// # Errors
    /// When the cluster refuses, with the object.
    pub async fn restore(&self, cluster: &Cluster, namespaces: &[String]) -> anyhow::Result<usize> {
        let now = Self::take(cluster, namespaces).await?;
        let plan = plan(self, &now);
        let count = plan.delete.len() + plan.create.len() + plan.replace.len();
        for (api_version, kind, namespace, name) in &plan.delete {
            let api = cluster.api(api_version, kind, namespace);
            match api.delete(name, &DeleteParams::background()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error).with_context(|| format!("deleting {kind} {name}")),
            }
        }
        for value in &plan.replace {
            let object: DynamicObject = serde_json::from_value(value.clone())?;
            let (api_version, kind, namespace, name) = id(value);
            let api = cluster.api(&api_version, &kind, &namespace);
            let told = || format!("putting back {kind} {name}");
            let mut object = object;
            object.metadata.resource_version =
                api.get(&name).await.with_context(told)?.resource_version();
            api.replace(&name, &PostParams::default(), &object)
                .await
                .with_context(told)?;
        }
        for value in &plan.create {
            let object: DynamicObject = serde_json::from_value(value.clone())?;
            let (api_version, kind, namespace, name) = id(value);
            let api = cluster.api(&api_version, &kind, &namespace);
            api.create(&PostParams::default(), &object)
                .await
                .with_context(|| format!("making {kind} {name} again"))?;
        }
        Ok(count)
    }
}

async fn list(
    cluster: &Cluster,
    api_version: &str,
    kind: &str,
    namespace: &str,
) -> anyhow::Result<Vec<Value>> {
    let api = cluster.api(api_version, kind, namespace);
    let items = match api.list(&ListParams::default()).await {
        Ok(list) => list.items,
        // The cluster does not serve the kind: it has no objects of it.
        Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
        Err(error) => return Err(error).with_context(|| format!("listing {kind}")),
    };
    items
        .into_iter()
        .filter(is_of_a_person)
        .map(|object| bare(object, api_version, kind))
        .collect()
}

/// Whether somebody made it rather than a controller.
fn is_of_a_person(object: &DynamicObject) -> bool {
    object.owner_references().is_empty()
        && object.metadata.deletion_timestamp.is_none()
        && !matches!(
            object.name_any().as_str(),
            "kube-root-ca.crt" | "istio-ca-root-cert" | class::PROGRESS_NAME
        )
}

/// The object without what the server adds, so that two of them can be compared.
fn bare(object: DynamicObject, api_version: &str, kind: &str) -> anyhow::Result<Value> {
    let mut value = serde_json::to_value(object)?;
    value["apiVersion"] = api_version.into();
    value["kind"] = kind.into();
    if let Some(map) = value.as_object_mut() {
        map.remove("status");
    }
    if let Some(metadata) = value["metadata"].as_object_mut() {
        for field in [
            "managedFields",
            "resourceVersion",
            "uid",
            "generation",
            "creationTimestamp",
            "selfLink",
        ] {
            metadata.remove(field);
        }
        if let Some(annotations) = metadata
            .get_mut("annotations")
            .and_then(Value::as_object_mut)
        {
            annotations.remove("deployment.kubernetes.io/revision");
        }
    }
    Ok(value)
}

fn id(value: &Value) -> Id {
    let text = |pointer| {
        value
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_owned()
    };
    (
        text("/apiVersion"),
        text("/kind"),
        text("/metadata/namespace"),
        text("/metadata/name"),
    )
}

/// What is to be done to get from one state to the other.
fn plan(wanted: &Snapshot, now: &Snapshot) -> Plan {
    let by_id = |snapshot: &Snapshot| -> BTreeMap<Id, Value> {
        let objects = snapshot.objects.iter();
        objects.map(|object| (id(object), object.clone())).collect()
    };
    let (wanted_by_id, now_by_id) = (by_id(wanted), by_id(now));
    let mut plan = Plan::default();
    for (id, object) in &now_by_id {
        match wanted_by_id.get(id) {
            None => plan.delete.push(id.clone()),
            Some(wanted) if wanted == object => {}
            // Of a pod next to nothing can be changed.
            Some(_) if id.1 == "Pod" => {}
            Some(wanted) => plan.replace.push(wanted.clone()),
        }
    }
    // In the order of the snapshot: accounts before the pods that use them.
    let gone = wanted
        .objects
        .iter()
        .filter(|object| !now_by_id.contains_key(&id(object)));
    plan.create = gone.cloned().collect();
    plan
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(kind: &str, name: &str, spec: u32) -> Value {
        json!({ "apiVersion": "v1", "kind": kind, "metadata": { "namespace": "default", "name": name }, "spec": spec })
    }

    #[test]
    fn the_way_back_is_what_differs() {
        let wanted = Snapshot {
            objects: vec![
                object("Service", "same", 1),
                object("Service", "changed", 1),
                object("Service", "gone", 1),
                object("Pod", "changed", 1),
            ],
        };
        let now = Snapshot {
            objects: vec![
                object("Service", "same", 1),
                object("Service", "changed", 2),
                object("Service", "new", 1),
                object("Pod", "changed", 2),
            ],
        };
        let plan = plan(&wanted, &now);
        assert_eq!(plan.delete, [id(&object("Service", "new", 1))]);
        assert_eq!(plan.replace, [object("Service", "changed", 1)]);
        assert_eq!(plan.create, [object("Service", "gone", 1)]);
        assert_eq!(super::plan(&wanted, &wanted), Plan::default());
    }

    #[test]
    fn what_the_server_adds_is_left_out() {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "a", "uid": "u", "resourceVersion": "7", "labels": { "a": "b" } },
            "spec": { "x": 1 }, "status": {},
        }))
        .unwrap();
        let bare = bare(object, "v1", "Service").unwrap();
        assert_eq!(
            bare,
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "a", "labels": { "a": "b" } }, "spec": { "x": 1 } })
        );
    }
}
