//! What the API serves: resources, their versions and verbs, and the documents that say so.
//!
//! [`builtin`] lists the kinds that are always there; custom resources join through
//! [`Registry::replace_custom`]. `/api` and `/apis` answer in the aggregated form that kubectl asks
//! first and in the legacy one ([`documents`]).

pub mod builtin;
pub mod documents;
mod failures;
mod registry;

pub use registry::Registry;

use crate::crd::CustomKind;
use crate::gvk::{Gvk, qualified};
use std::sync::Arc;

/// A resource in one version: what a path such as `/apis/apps/v1/.../deployments` names.
#[derive(Debug)]
pub struct Resource {
    /// The kind of its objects.
    pub gvk: Gvk,
    /// Name in paths, e.g. `deployments`.
    pub plural: String,
    /// Name of one, e.g. `deployment`.
    pub singular: String,
    /// The kind of its lists, e.g. `DeploymentList`.
    pub list_kind: String,
    /// Abbreviations that kubectl takes.
    pub short_names: Vec<String>,
    /// Groups of resources, such as `all`.
    pub categories: Vec<String>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// What can be done.
    pub verbs: &'static [&'static str],
    /// Its subresources.
    pub subresources: Vec<Subresource>,
    /// Under which name the store keeps its objects: the same for all versions.
    pub storage: Arc<str>,
    /// What kind of resource it is.
    pub origin: Origin,
}

/// Where the knowledge about a kind comes from.
#[derive(Debug)]
pub enum Origin {
    /// Compiled in.
    Builtin(builtin::SchemaOf),
    /// A CustomResourceDefinition.
    Custom(Arc<CustomKind>),
}

/// Something below an object's path.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// Its name in the path, e.g. `status`.
    pub name: &'static str,
    /// The kind it speaks.
    pub kind: Gvk,
    /// What can be done.
    pub verbs: &'static [&'static str],
}

impl Resource {
    /// The custom kind, unless built in.
    pub fn custom(&self) -> Option<&CustomKind> {
        match &self.origin {
            Origin::Builtin(_) => None,
            Origin::Custom(custom) => Some(custom),
        }
    }

    /// A subresource by its name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// The name with its group: `deployments.apps`, `pods`.
    pub fn qualified(&self) -> String {
        qualified(&self.plural, &self.gvk.group)
    }
}
