//! Discovery documents: aggregated (one answer for everything) and legacy (one per group version).

use super::{Resource, Subresource};
use serde_json::{Value, json};
use std::sync::Arc;

/// The groups of some resources, in order of appearance, with their versions in order of appearance.
fn groups(resources: &[Arc<Resource>]) -> Vec<(&str, Vec<&str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for resource in resources {
        let (group, version) = (resource.gvk.group.as_str(), resource.gvk.version.as_str());
        match groups.iter_mut().find(|(name, _)| *name == group) {
            Some((_, versions)) if versions.contains(&version) => {}
            Some((_, versions)) => versions.push(version),
            None => groups.push((group, vec![version])),
        }
    }
    groups
}

fn members<'a>(
    resources: &'a [Arc<Resource>],
    group: &'a str,
    version: &'a str,
) -> impl Iterator<Item = &'a Arc<Resource>> {
    resources
        .iter()
        .filter(move |resource| resource.gvk.group == group && resource.gvk.version == version)
}

/// `APIGroupDiscoveryList` of the core group (`core`) or of all others; `version` is `v2` or
/// `v2beta1`.
pub fn aggregated(resources: &[Arc<Resource>], core: bool, version: &str) -> Value {
    let items: Vec<Value> = groups(resources)
        .into_iter()
        .filter(|(group, _)| group.is_empty() == core)
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .into_iter()
                .map(|version| {
                    let resources: Vec<Value> = members(resources, group, version)
                        .map(|resource| aggregated_resource(resource))
                        .collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let metadata = match group {
                "" => json!({}),
                name => json!({"name": name}),
            };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn aggregated_resource(resource: &Resource) -> Value {
    let scope = match resource.namespaced {
        true => "Namespaced",
        false => "Cluster",
    };
    let gvk = &resource.gvk;
    let mut document = json!({
        "resource": resource.plural,
        "responseKind": {"group": gvk.group, "version": gvk.version, "kind": gvk.kind},
        "scope": scope,
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        document["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        document["categories"] = json!(resource.categories);
    }
    if !resource.subresources.is_empty() {
        let subresources: Vec<Value> = resource
            .subresources
            .iter()
            .map(|Subresource { name, kind, verbs }| {
                json!({
                    "subresource": name,
                    "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
                    "verbs": verbs,
                })
            })
            .collect();
        document["subresources"] = json!(subresources);
    }
    document
}

/// `/api`: the versions of the core group.
pub fn api_versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

fn api_group(group: &str, versions: &[&str]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": format!("{group}/{version}"), "version": version}))
        .collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions.first()})
}

/// `/apis`: the named groups.
pub fn api_group_list(resources: &[Arc<Resource>]) -> Value {
    let groups: Vec<Value> = groups(resources)
        .into_iter()
        .filter(|(group, _)| !group.is_empty())
        .map(|(group, versions)| api_group(group, &versions))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`, if there is such a group.
pub fn api_group_document(resources: &[Arc<Resource>], group: &str) -> Option<Value> {
    let (_, versions) = groups(resources)
        .into_iter()
        .find(|(name, _)| *name == group && !name.is_empty())?;
    let mut document = json!({"kind": "APIGroup", "apiVersion": "v1"});
    if let (Some(document), Value::Object(fields)) =
        (document.as_object_mut(), api_group(group, &versions))
    {
        document.extend(fields);
    }
    Some(document)
}

/// `/api/v1` and `/apis/GROUP/VERSION`: the resources of a version; `None` when it has none.
pub fn api_resource_list(resources: &[Arc<Resource>], group: &str, version: &str) -> Option<Value> {
    let mut list = Vec::new();
    for resource in members(resources, group, version) {
        let mut document = json!({
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.gvk.kind,
            "verbs": resource.verbs,
        });
        if !resource.short_names.is_empty() {
            document["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            document["categories"] = json!(resource.categories);
        }
        list.push(document);
        for Subresource { name, kind, verbs } in &resource.subresources {
            let mut document = json!({
                "name": format!("{}/{name}", resource.plural),
                "singularName": "",
                "namespaced": resource.namespaced,
            });
            if (&kind.group, &kind.version) != (&resource.gvk.group, &resource.gvk.version) {
                document["group"] = json!(kind.group);
                document["version"] = json!(kind.version);
            }
            document["kind"] = json!(kind.kind);
            document["verbs"] = json!(verbs);
            list.push(document);
        }
    }
    if list.is_empty() {
        return None;
    }
    let group_version = match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    };
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": list,
    }))
}
