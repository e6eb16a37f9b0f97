//! Custom resources in the API server: which there are, and what their schemas do to objects.

use super::{ApiError, Cause, Inner};
use crate::crd::{self, CustomKind, definition, schema};
use crate::discovery::Resource;
use crate::store::StoreError;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

const DEFINITIONS: &str = "apiextensions.k8s.io/customresourcedefinitions";

/// How long the objects of a deleted definition are asked to go before they are asked again.
const CLEANUP_INTERVAL: Duration = Duration::from_millis(500);

/// Serves the resources of all established definitions.
pub(super) fn load(api: &Inner) {
    let (definitions, _) = api.store.list(DEFINITIONS, None);
    let resources = definitions
        .iter()
        .map(|definition| definition.value())
        .filter(definition::is_established)
        .flat_map(|definition| crd::resources(&definition))
        .map(Arc::new)
        .collect();
    api.registry.replace_custom(resources);
}

/// Whether a resource is that of the definitions.
pub(super) fn is_definition(resource: &Resource) -> bool {
    &*resource.storage == DEFINITIONS
}

/// Called after each write: a changed definition changes what is served.
pub(super) fn written(api: &Inner, resource: &Resource) {
    if is_definition(resource) {
        load(api);
    }
}

/// Checks a definition and accepts its names. Returns warnings.
pub(super) fn admit_definition(
    api: &Inner,
    live: Option<&Value>,
    object: &mut Value,
) -> Result<Vec<String>, Vec<Cause>> {
    definition::default(object);
    let causes = definition::validate(object);
    if !causes.is_empty() {
        return Err(causes);
    }
    let name = object["metadata"]["name"].clone();
    let (all, _) = api.store.list(DEFINITIONS, None);
    let taken = all.iter().map(|other| other.value()).find(|other| {
        other["metadata"]["name"] != name
            && other["spec"]["group"] == object["spec"]["group"]
            && other["spec"]["names"]["kind"] == object["spec"]["names"]["kind"]
    });
    let taken = taken.and_then(|other| other["metadata"]["name"].as_str().map(str::to_owned));
    let mut status = definition::status(object, taken.as_deref(), &crate::status::timestamp());
    match live {
        None => {
            let finalizers = &mut object["metadata"]["finalizers"];
            match finalizers.as_array_mut() {
                Some(list) if list.iter().any(|f| f == definition::FINALIZER) => {}
                Some(list) => list.push(definition::FINALIZER.into()),
                None => *finalizers = serde_json::json!([definition::FINALIZER]),
            }
        }
        // times change with the conditions only
        Some(live) if definition::is_established(live) && taken.is_none() => {
            status["conditions"] = live["status"]["conditions"].clone();
        }
        Some(_) => {}
    }
    object["status"] = status;
    Ok(definition::warnings(object))
}

/// Removes what the schema does not know; returns the paths.
pub(super) fn prune(custom: &CustomKind, object: &mut Value) -> Vec<String> {
    schema::prune(&custom.schema(), object)
}

/// Fills in the schema's defaults.
pub(super) fn default(custom: &CustomKind, object: &mut Value) {
    schema::default(&custom.schema(), object);
}

/// Checks an object against the schema.
pub(super) fn validate(custom: &CustomKind, object: &Value) -> Result<(), Vec<Cause>> {
    let causes = schema::validate(&custom.schema(), object);
    match causes.is_empty() {
        true => Ok(()),
        false => Err(causes),
    }
}

/// Deletes the objects of definitions that are being deleted, and then the definitions.
pub(super) fn clean_up(api: &Arc<Inner>) {
    let (definitions, _) = api.store.list(DEFINITIONS, None);
    for definition in definitions {
        let definition = definition.value();
        if definition["metadata"]["deletionTimestamp"].is_null() {
            continue;
        }
        let api = api.clone();
        tokio::spawn(async move {
            if let Err(error) = clean_up_one(&api, definition).await {
                tracing::warn!(message = error.message, "a definition is not cleaned up");
            }
        });
    }
}

async fn clean_up_one(api: &Inner, definition: Value) -> Result<(), ApiError> {
    let name = definition["metadata"]["name"].as_str().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let storage = format!(
        "{}/{}",
        text(&definition["spec"]["group"]),
        text(&definition["spec"]["names"]["plural"])
    );
    let store = &api.store;
    loop {
        let (objects, _) = store.list(&storage, None);
        if objects.is_empty() {
            break;
        }
        for object in objects {
            let mut value = object.value();
            let metadata = &value["metadata"];
            let (name, namespace) = (text(&metadata["name"]), text(&metadata["namespace"]));
            let waits = metadata["finalizers"]
                .as_array()
                .is_some_and(|finalizers| !finalizers.is_empty());
            let marked = !metadata["deletionTimestamp"].is_null();
            // a conflict is settled in the next round
            let _ = match (waits, marked) {
                (false, _) => {
                    store
                        .delete(&storage, &namespace, &name, object.revision)
                        .await
                }
                (true, true) => continue,
                (true, false) => {
                    value["metadata"]["deletionTimestamp"] = crate::status::timestamp().into();
                    value["metadata"]["deletionGracePeriodSeconds"] = 0.into();
                    store
                        .update(&storage, &namespace, &name, object.revision, value)
                        .await
                }
            };
        }
        if store.list(&storage, None).0.is_empty() {
            break;
        }
        tokio::time::sleep(CLEANUP_INTERVAL).await;
    }
    while let Some(object) = store.get(DEFINITIONS, "", name) {
        let mut value = object.value();
        let finalizers = &mut value["metadata"]["finalizers"];
        if let Some(list) = finalizers.as_array_mut() {
            list.retain(|finalizer| finalizer != definition::FINALIZER);
        }
        let finished = finalizers.as_array().is_none_or(Vec::is_empty);
        let result = match finished {
            true => store.delete(DEFINITIONS, "", name, object.revision).await,
            false => {
                store
                    .update(DEFINITIONS, "", name, object.revision, value)
                    .await
            }
        };
        match result {
            Ok(_) | Err(StoreError::NotFound) => break,
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(ApiError::internal(error.to_string())),
        }
    }
    load(api);
    Ok(())
}
