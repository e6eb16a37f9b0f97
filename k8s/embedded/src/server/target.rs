//! What a path names.

use crate::discovery::{Registry, Resource};
use crate::status::ApiError;
use std::sync::Arc;

/// A resource, and perhaps a namespace, an object and a subresource of it.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) resource: Arc<Resource>,
    /// `None` for cluster-scoped resources and for lists over all namespaces.
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) subresource: Option<String>,
    /// The old `/watch/` form of a path.
    pub(super) watch: bool,
}

impl Target {
    /// The target of `/api/v1/...` or `/apis/GROUP/VERSION/...`; `None` when there is no such
    /// group and version.
    pub(super) fn parse(registry: &Registry, path: &str) -> Result<Option<Self>, ApiError> {
        let mut segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version) = match segments.as_slice() {
            ["api", version, ..] => ("", *version),
            ["apis", group, version, ..] => (*group, *version),
            _ => return Ok(None),
        };
        if !registry.serves(group, version) {
            return Ok(None);
        }
        segments.drain(..if group.is_empty() { 2 } else { 3 });
        let watch = segments.first() == Some(&"watch");
        if watch {
            segments.remove(0);
        }
        let is_subresource = |name: &str| matches!(name, "status" | "finalize");
        let (namespace, rest) = match segments.as_slice() {
            ["namespaces", _] => (None, segments.as_slice()),
            ["namespaces", _, sub] if group.is_empty() && is_subresource(sub) => {
                (None, segments.as_slice())
            }
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            all => (None, all),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (plural, None, None),
            [plural, name] => (plural, Some(name), None),
            [plural, name, subresource] => (plural, Some(name), Some(subresource)),
            _ => return Err(ApiError::no_resource()),
        };
        let resource = registry
            .find(group, version, plural)
            .ok_or_else(ApiError::no_resource)?;
        if namespace.is_some() && !resource.namespaced
            || (namespace.is_none() && resource.namespaced && name.is_some())
        {
            return Err(ApiError::no_resource());
        }
        if let ("pods", Some(subresource)) = (resource.plural.as_ref(), subresource)
            && NOT_SERVED.contains(subresource)
        {
            return Err(ApiError::not_served(&format!("pods/{subresource}")));
        }
        let mut target = Target {
            resource,
            namespace: namespace.map(str::to_owned),
            name: name.map(|name| (*name).to_owned()),
            subresource: subresource.map(|name| (*name).to_owned()),
            watch,
        };
        // names are plain in URLs, save for those with a colon (`system:node`)
        if let Some(name) = &mut target.name
            && name.contains('%')
        {
            *name = percent_decode(name);
        }
        Ok(Some(target))
    }

    /// The namespace in the store: empty for cluster-scoped objects.
    pub(super) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    /// The object's name; empty for a collection.
    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}

/// What a kubelet does and this cluster does not yet: refused by name, so that `kubectl exec` says
/// more than that there is no such thing.
const NOT_SERVED: [&str; 3] = ["ephemeralcontainers", "proxy", "resize"];

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut decoded, mut index) = (Vec::with_capacity(bytes.len()), 0);
    while index < bytes.len() {
        let hex = (bytes[index] == b'%')
            .then(|| text.get(index + 1..index + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match hex {
            Some(byte) => {
                decoded.push(byte);
                index += 3;
            }
            None => {
                decoded.push(bytes[index]);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<Option<Target>, ApiError> {
        Target::parse(&Registry::new(), path)
    }

    #[test]
    fn paths_name_collections_objects_and_subresources() {
        let pod = parse("/api/v1/namespaces/demo/pods/web/log")
            .unwrap()
            .unwrap();
        assert_eq!(pod.resource.gvk.kind, "Pod");
        assert_eq!((pod.namespace(), pod.name()), ("demo", "web"));
        assert_eq!(pod.subresource.as_deref(), Some("log"));

        let namespace = parse("/api/v1/namespaces/demo/finalize").unwrap().unwrap();
        assert_eq!(namespace.resource.gvk.kind, "Namespace");
        assert_eq!(namespace.name(), "demo");

        let all = parse("/apis/apps/v1/deployments").unwrap().unwrap();
        assert_eq!((all.namespace, all.name), (None, None));
        let old = parse("/api/v1/watch/namespaces/demo/pods")
            .unwrap()
            .unwrap();
        assert!(old.watch);
        let role = parse("/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode");
        assert_eq!(role.unwrap().unwrap().name(), "system:node");
    }

    #[test]
    fn other_paths_are_refused() {
        assert!(parse("/apis/nosuch/v1/things").unwrap().is_none());
        assert!(parse("/other").unwrap().is_none());
        assert!(parse("/api/v1/nosuch").is_err());
        assert!(parse("/api/v1/pods/x").is_err());
        assert!(parse("/api/v1/namespaces/demo/nodes/x").is_err());
    }
}
