//! Namespace controller: what every namespace is born with, and how it ends.
//!
//! Born with the ServiceAccount `default` and the ConfigMap `kube-root-ca.crt`. When it is deleted,
//! everything in it is deleted, kind by kind, and when nothing is left its finalizer is removed.

use super::merge_patch::merge_patch;
use super::replica_set::manager;
use super::{FIELD_MANAGER, ignore_races, is_conflict, keep};
use crate::informers::{Informers, is_terminating};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PostParams};
use kube::core::ApiResource;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The ConfigMap with the cluster's certificate authority.
pub const ROOT_CA: &str = "kube-root-ca.crt";
const FINALIZER: &str = "kubernetes";
/// How soon to look again at a namespace whose objects are still going.
const RECHECK: Duration = Duration::from_millis(200);

/// What is left in a namespace.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Remaining {
    /// Objects per resource, such as `pods.`.
    pub resources: BTreeMap<String, usize>,
    /// Objects per finalizer.
    pub finalizers: BTreeMap<String, usize>,
}

impl Remaining {
    fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    fn list(counts: &BTreeMap<String, usize>, unit: &str) -> String {
        let parts: Vec<_> = counts
            .iter()
            .map(|(name, n)| format!("{name} has {n} {unit}"))
            .collect();
        parts.join(", ")
    }
}

fn condition(type_: &str, true_: bool, reason: &str, message: String) -> Value {
    json!({
        "type": type_,
        "status": if true_ { "True" } else { "False" },
        "reason": reason,
        "message": message,
    })
}

/// The five conditions of a namespace that is being deleted.
pub fn conditions(remaining: &Remaining) -> Vec<Value> {
    let (left_reason, left_message) = if remaining.is_empty() {
        ("ContentRemoved", "All content successfully removed".into())
    } else {
        (
            "SomeResourcesRemain",
            format!(
                "Some resources are remaining: {}",
                Remaining::list(&remaining.resources, "resource instances")
            ),
        )
    };
    let (finalizer_reason, finalizer_message) = if remaining.finalizers.is_empty() {
        (
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished".into(),
        )
    } else {
        (
            "SomeFinalizersRemain",
            format!(
                "Some content in the namespace has finalizers remaining: {}",
                Remaining::list(&remaining.finalizers, "resource instances")
                    .replace(" has ", " in ")
            ),
        )
    };
    vec![
        condition(
            "NamespaceDeletionDiscoveryFailure",
            false,
            "ResourcesDiscovered",
            "All resources successfully discovered".into(),
        ),
        condition(
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".into(),
        ),
        condition(
            "NamespaceDeletionContentFailure",
            false,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization".into(),
        ),
        condition(
            "NamespaceContentRemaining",
            !remaining.is_empty(),
            left_reason,
            left_message,
        ),
        condition(
            "NamespaceFinalizersRemaining",
            !remaining.finalizers.is_empty(),
            finalizer_reason,
            finalizer_message,
        ),
    ]
}

/// Runs the controller until `shutdown`.
pub async fn run(client: Client, informers: Informers, ca_pem: &str, shutdown: &CancellationToken) {
    let changes = vec![
        informers.namespaces.changed(),
        informers.service_accounts.changed(),
    ];
    // namespaces whose ConfigMap is known to be there
    let mut with_ca: HashSet<String> = HashSet::new();
    keep("namespace", changes, shutdown, async || {
        let namespaces = informers.namespaces.list();
        with_ca.retain(|uid| {
            namespaces
                .iter()
                .any(|n| n.metadata.uid.as_ref() == Some(uid))
        });
        let mut again = None;
        for namespace in namespaces {
            if is_terminating(namespace.as_ref()) {
                if !finish(&client, &informers, &namespace).await? {
                    again = Some(RECHECK);
                }
                continue;
            }
            let uid = namespace.uid().unwrap_or_default();
            furnish(
                &client,
                &informers,
                &namespace,
                ca_pem,
                !with_ca.contains(&uid),
            )
            .await?;
            with_ca.insert(uid);
        }
        Ok(again)
    })
    .await;
}

async fn furnish(
    client: &Client,
    informers: &Informers,
    namespace: &Namespace,
    ca_pem: &str,
    with_ca: bool,
) -> Result<(), kube::Error> {
    let name = namespace.name_any();
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PostParams::default()
    };
    let meta = |object: &str| ObjectMeta {
        name: Some(object.to_owned()),
        namespace: Some(name.clone()),
        ..ObjectMeta::default()
    };
    if informers.service_accounts.get(&name, "default").is_none() {
        let account = ServiceAccount {
            metadata: meta("default"),
            ..ServiceAccount::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(client.clone(), &name);
        if let Some(account) = ignore_forbidden(api.create(&params, &account).await)? {
            informers.service_accounts.apply(account);
        }
    }
    if with_ca {
        let data = BTreeMap::from([("ca.crt".to_owned(), ca_pem.to_owned())]);
        let map = ConfigMap {
            metadata: ObjectMeta {
                annotations: Some(BTreeMap::from([(
                    "kubernetes.io/description".to_owned(),
                    "Certificate bundle for verifying the API server of this cluster.".to_owned(),
                )])),
                ..meta(ROOT_CA)
            },
            data: Some(data.clone()),
            ..ConfigMap::default()
        };
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), &name);
        match api.create(&params, &map).await {
            // there from an earlier run, perhaps with an older authority
            Err(error) if is_conflict(&error) => {
                let patch = Patch::Merge(json!({"data": data}));
                ignore_races(api.patch(ROOT_CA, &manager(), &patch).await)?;
            }
            other => {
                ignore_forbidden(other)?;
            }
        }
    }
    Ok(())
}

/// A namespace that began to go a moment ago refuses new objects with 403.
fn ignore_forbidden<T>(result: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(None),
        other => ignore_races(other),
    }
}

/// Deletes what is in the namespace; true when nothing was left and the namespace is released.
async fn finish(
    client: &Client,
    informers: &Informers,
    namespace: &Namespace,
) -> Result<bool, kube::Error> {
    let name = namespace.name_any();
    let mut remaining = Remaining::default();
    for resource in namespaced_resources(client).await? {
        let (left, finalizers) = clear(client, &name, &resource).await?;
        if left > 0 {
            remaining
                .resources
                .insert(format!("{}.{}", resource.plural, resource.group), left);
        }
        for finalizer in finalizers {
            *remaining.finalizers.entry(finalizer).or_default() += 1;
        }
    }
    write_conditions(client, namespace, &remaining).await?;
    if !remaining.is_empty() {
        return Ok(false);
    }
    let has_finalizer = namespace
        .spec
        .iter()
        .flat_map(|s| s.finalizers.iter().flatten())
        .any(|f| f == FINALIZER);
    if has_finalizer {
        let mut released = namespace.clone();
        released.metadata.resource_version = None;
        released.metadata.managed_fields = None;
        if let Some(finalizers) = released.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
            finalizers.retain(|f| f != FINALIZER);
        }
        let api: Api<Namespace> = Api::all(client.clone());
        let written = api
            .replace_subresource("finalize", &name, &PostParams::default(), &released)
            .await;
        ignore_races(written)?;
        informers.namespaces.remove(namespace);
    }
    Ok(true)
}

/// Deletes all objects of one kind; how many there still are, and their finalizers.
async fn clear(
    client: &Client,
    namespace: &str,
    resource: &ApiResource,
) -> Result<(usize, Vec<String>), kube::Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
    let metadata = match api.list_metadata(&ListParams::default()).await {
        Ok(list) => list,
        // a kind that went away between discovery and now
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 405 => {
            return Ok((0, Vec::new()));
        }
        Err(error) => return Err(error),
    };
    let mut finalizers = Vec::new();
    let mut left = 0;
    for object in metadata {
        let meta = object.metadata;
        let name = meta.name.clone().unwrap_or_default();
        if meta.deletion_timestamp.is_none() {
            let deleted = api.delete(&name, &DeleteParams::background()).await;
            match ignore_races(deleted)? {
                // gone at once, as most kinds are
                None => continue,
                Some(answer) if answer.is_right() => continue,
                Some(_) => {}
            }
        }
        left += 1;
        finalizers.extend(meta.finalizers.into_iter().flatten());
    }
    Ok((left, finalizers))
}

async fn write_conditions(
    client: &Client,
    namespace: &Namespace,
    remaining: &Remaining,
) -> Result<(), kube::Error> {
    let without_times = |value: Value| {
        let mut value = value;
        if let Some(object) = value.as_object_mut() {
            object.remove("lastTransitionTime");
        }
        value
    };
    let old: Vec<Value> = namespace
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten())
        .map(|c| without_times(serde_json::to_value(c).unwrap_or_default()))
        .collect();
    let mut new = conditions(remaining);
    if merge_patch(&json!(old), &json!(new)).is_none() {
        return Ok(());
    }
    for condition in &mut new {
        condition["lastTransitionTime"] = json!(super::events::now());
    }
    let api: Api<Namespace> = Api::all(client.clone());
    let patch = json!({"status": {"phase": "Terminating", "conditions": new}});
    let written = api
        .patch_status(&namespace.name_any(), &manager(), &Patch::Merge(patch))
        .await;
    ignore_races(written).map(|_| ())
}

/// All namespaced kinds that can be listed and deleted, in their preferred version.
pub async fn namespaced_resources(client: &Client) -> Result<Vec<ApiResource>, kube::Error> {
    let mut resources = Vec::new();
    let core = client.list_core_api_versions().await?;
    for version in &core.versions {
        let list = client.list_core_api_resources(version).await?;
        collect(&mut resources, "", version, list);
    }
    for group in client.list_api_groups().await?.groups {
        let Some(version) = group
            .preferred_version
            .or_else(|| group.versions.first().cloned())
        else {
            continue;
        };
        let list = client
            .list_api_group_resources(&version.group_version)
            .await?;
        collect(&mut resources, &group.name, &version.version, list);
    }
    Ok(resources)
}

fn collect(
    resources: &mut Vec<ApiResource>,
    group: &str,
    version: &str,
    list: k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList,
) {
    for resource in list.resources {
        let can = |verb: &str| resource.verbs.iter().any(|v| v == verb);
        if !resource.namespaced || resource.name.contains('/') || !can("list") || !can("delete") {
            continue;
        }
        // the legacy form of what the core group's Event already shows
        if group == "events.k8s.io" {
            continue;
        }
        resources.push(ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: list.group_version.clone(),
            kind: resource.kind,
            plural: resource.name,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_namespace_says_so_in_five_conditions() {
        let conditions = conditions(&Remaining::default());
        assert_eq!(conditions.len(), 5);
        assert!(conditions.iter().all(|c| c["status"] == "False"));
        assert_eq!(conditions[3]["reason"], "ContentRemoved");
    }

    #[test]
    fn what_remains_is_named() {
        let remaining = Remaining {
            resources: BTreeMap::from([("pods.".into(), 2)]),
            finalizers: BTreeMap::from([("a/b".into(), 1)]),
        };
        let conditions = conditions(&remaining);
        assert_eq!(conditions[3]["status"], "True");
        assert_eq!(
            conditions[3]["message"],
            "Some resources are remaining: pods. has 2 resource instances"
        );
        assert_eq!(
            conditions[4]["message"],
            "Some content in the namespace has finalizers remaining: a/b in 1 resource instances"
        );
    }
}
