//! Finds a resource by group, version and plural name.

use super::{Resource, builtin};
use std::sync::{Arc, PoisonError, RwLock};

/// The resources that are served now.
pub struct Registry {
    builtin: Vec<Arc<Resource>>,
    custom: RwLock<Arc<Vec<Arc<Resource>>>>,
}

impl Registry {
    /// The built-in resources.
    pub fn new() -> Self {
        Registry {
            builtin: builtin::resources().into_iter().map(Arc::new).collect(),
            custom: RwLock::default(),
        }
    }

    /// The custom resources.
    pub fn custom(&self) -> Arc<Vec<Arc<Resource>>> {
        // the lock guards a pointer, which is whole even after a panic
        self.custom
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Replaces the custom resources.
    pub fn replace_custom(&self, resources: Vec<Arc<Resource>>) {
        *self.custom.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(resources);
    }

    /// All resources, built-in ones first.
    pub fn all(&self) -> Vec<Arc<Resource>> {
        let custom = self.custom();
        self.builtin.iter().chain(custom.iter()).cloned().collect()
    }

    /// The resource that a path names.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        let is = |resource: &&Arc<Resource>| {
            resource.plural == plural
                && resource.gvk.version == version
                && resource.gvk.group == group
        };
        self.builtin
            .iter()
            .find(is)
            .cloned()
            .or_else(|| self.custom().iter().find(is).cloned())
    }

    /// Whether a group and version has any resource.
    pub fn serves(&self, group: &str, version: &str) -> bool {
        let is = |resource: &Arc<Resource>| {
            resource.gvk.version == version && resource.gvk.group == group
        };
        self.builtin.iter().any(is) || self.custom().iter().any(is)
    }
}

impl Default for Registry {
    fn default() -> Self {
        Registry::new()
    }
}
