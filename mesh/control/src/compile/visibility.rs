//! `exportTo`: which namespaces see a resource.

/// A resource of `owner` that is exported to `export_to` is seen from `namespace`.
pub(crate) fn visible(export_to: &[String], owner: &str, namespace: &str) -> bool {
    export_to.is_empty()
        || export_to.iter().any(|to| match to.as_str() {
            "*" => true,
            "." => owner == namespace,
            "~" => false,
            name => name == namespace,
        })
}
