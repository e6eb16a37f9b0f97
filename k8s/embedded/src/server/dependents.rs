//! Dependents of kinds that the garbage collector does not watch: ConfigMaps, Secrets, custom resources and
//! the like go when their last owner has gone. Watching them all would cost more memory than looking
//! once at each end.

use super::{ApiServer, Inner};
use crate::controllers::garbage;
use crate::discovery::Resource;
use crate::store::Object;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Preconditions};
use kube::{Api, Client};
use serde_json::Value;
use std::sync::Arc;

/// Kinds that come and go all the time, and neither own nor are owned.
const NEVER_CONCERNED: [&str; 2] = ["Event", "Lease"];

/// What is deleted: its resource, namespace, name, uid.
type Dependent = (Arc<Resource>, String, String, String);

/// Deletes, in the background, what only `owner` owned. Not if its dependents were to be orphaned.
pub(super) fn collect(api: &Arc<Inner>, owner: &Object) {
    let owner = owner.value();
    if NEVER_CONCERNED.contains(&owner["kind"].as_str().unwrap_or_default()) {
        return;
    }
    let finalizers = owner["metadata"]["finalizers"].as_array();
    if finalizers.is_some_and(|list| list.iter().any(|f| f == "orphan")) {
        return;
    }
    let found = dependents(api, &owner["metadata"]["uid"]);
    if found.is_empty() {
        return;
    }
    let client = ApiServer(api.clone()).client();
    tokio::spawn(async move {
        for dependent in found {
            delete(&client, dependent).await;
        }
    });
}

fn dependents(api: &Arc<Inner>, uid: &Value) -> Vec<Dependent> {
    let Some(uid) = uid.as_str().filter(|uid| !uid.is_empty()) else {
        return Vec::new();
    };
    let mut found: Vec<Dependent> = Vec::new();
    for resource in api.registry.all() {
        let kind = resource.gvk.kind.as_str();
        let other = !garbage::WATCHED.contains(&kind)
            && !NEVER_CONCERNED.contains(&kind)
            && resource.verbs.contains(&"delete");
        // the versions of a custom resource are the same objects
        let seen = found.iter().any(|(r, ..)| r.storage == resource.storage);
        if !other || seen {
            continue;
        }
        for object in api.store.list(&resource.storage, None).0 {
            // most objects do not name it: no need to parse them
            let text = std::str::from_utf8(&object.json).unwrap_or_default();
            if !text.contains(uid) {
                continue;
            }
            let object = object.value();
            let metadata = &object["metadata"];
            let owners = metadata["ownerReferences"].as_array();
            let only = owners.is_some_and(|o| o.len() == 1 && o[0]["uid"] == uid);
            if only && metadata["deletionTimestamp"].is_null() {
                let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
                found.push((
                    Arc::clone(&resource),
                    text("namespace"),
                    text("name"),
                    text("uid"),
                ));
            }
        }
    }
    found
}

async fn delete(client: &Client, (resource, namespace, name, uid): Dependent) {
    let gvk = &resource.gvk;
    let kind = GroupVersionKind::gvk(&gvk.group, &gvk.version, &gvk.kind);
    let kind = ApiResource::from_gvk_with_plural(&kind, &resource.plural);
    let api: Api<DynamicObject> = match namespace.as_str() {
        "" => Api::all_with(client.clone(), &kind),
        namespace => Api::namespaced_with(client.clone(), namespace, &kind),
    };
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(uid),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    if let Err(error) = api.delete(&name, &params).await {
        tracing::debug!(kind = gvk.kind, name, %error, "dependent not deleted");
    }
}
