//! OpenAPI v3: an index, and one document per group version, made when it is asked for.
//!
//! kubectl reads them for `apply`, `create` and `edit` (does PATCH have the parameter
//! `fieldValidation`? then the server validates) and for `explain`. It keeps a document by the hash
//! in its URL, so documents are made seldom, and nothing of them stays in memory here.

use crate::crd::CustomKind;
use crate::discovery::{Origin, Resource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// `/openapi/v3`: where the document of each group version is. The hash in each URL changes with
/// its contents.
pub fn index(resources: &[Arc<Resource>]) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for resource in resources {
        let path = group_version_path(resource);
        if !paths.contains_key(&path) {
            let hash = hash(resources, &path);
            let url = format!("/openapi/v3/{path}?hash={hash:016X}");
            paths.insert(path, json!({"serverRelativeURL": url}));
        }
    }
    json!({"paths": paths})
}

fn group_version_path(resource: &Resource) -> String {
    match resource.gvk.group.as_str() {
        "" => format!("api/{}", resource.gvk.version),
        group => format!("apis/{group}/{}", resource.gvk.version),
    }
}

/// A hash of what a document is made of: this program's version and the custom schemas.
fn hash(resources: &[Arc<Resource>], path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (path, env!("CARGO_PKG_VERSION"), "v1_36").hash(&mut hasher);
    for resource in resources {
        if let Some(custom) = resource.custom()
            && group_version_path(resource) == path
        {
            (&resource.plural, custom.schema_bytes()).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// The document of a group version, such as `api/v1` or `apis/apps/v1`; `None` when nothing of it
/// is served.
pub fn document(resources: &[Arc<Resource>], path: &str) -> Option<Value> {
    let mut generator = SchemaSettings::openapi3().into_generator();
    let mut paths = Map::new();
    let mut kinds: Vec<(String, Value)> = Vec::new();
    let mut custom = Map::new();
    for resource in resources {
        if group_version_path(resource) != path {
            continue;
        }
        let schema = match &resource.origin {
            Origin::Builtin(schema) => {
                let reference = schema(&mut generator);
                component(reference.as_value())
            }
            Origin::Custom(kind) => {
                let name = custom_name(resource);
                let metadata = generator.subschema_for::<meta::ObjectMeta>();
                custom.insert(
                    name.clone(),
                    custom_schema(kind, metadata.as_value().clone()),
                );
                name
            }
        };
        let gvk = json!({
            "group": resource.gvk.group,
            "version": resource.gvk.version,
            "kind": resource.gvk.kind,
        });
        add_paths(&mut paths, resource, path, &schema, &gvk);
        kinds.push((schema, gvk));
    }
    if paths.is_empty() {
        return None;
    }
    let mut schemas = generator.take_definitions(false);
    schemas.append(&mut custom);
    for (name, gvk) in kinds {
        if let Some(schema) = schemas.get_mut(&name) {
            schema["x-kubernetes-group-version-kind"] = json!([gvk]);
        }
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "1.36"},
        "paths": paths,
        "components": {"schemas": schemas},
    }))
}

/// The component that a `$ref` names.
fn component(reference: &Value) -> String {
    let path = reference["$ref"].as_str().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// `io.istio.networking.v1.VirtualService` for `networking.istio.io/v1`.
fn custom_name(resource: &Resource) -> String {
    let group: Vec<&str> = resource.gvk.group.split('.').rev().collect();
    format!(
        "{}.{}.{}",
        group.join("."),
        resource.gvk.version,
        resource.gvk.kind
    )
}

fn custom_schema(kind: &CustomKind, metadata: Value) -> Value {
    let mut schema = kind.schema();
    if !schema.is_object() {
        schema = json!({"type": "object"});
    }
    let mut properties = json!({
        "apiVersion": {
            "description": "Group and version of this object's schema.",
            "type": "string",
        },
        "kind": {"description": "Kind of this object.", "type": "string"},
        "metadata": {"description": "Standard metadata of an object.", "allOf": [metadata]},
    });
    if let (Some(all), Some(own)) = (
        properties.as_object_mut(),
        schema["properties"].as_object().cloned(),
    ) {
        for (name, property) in own {
            all.entry(name).or_insert(property);
        }
    }
    schema["properties"] = properties;
    schema
}

fn add_paths(
    paths: &mut Map<String, Value>,
    resource: &Resource,
    prefix: &str,
    schema: &str,
    gvk: &Value,
) {
    let scope = match resource.namespaced {
        true => "/namespaces/{namespace}",
        false => "",
    };
    let collection = format!("/{prefix}{scope}/{}", resource.plural);
    let answer = |code: &str| {
        let reference = format!("#/components/schemas/{schema}");
        let content = json!({"application/json": {"schema": {"$ref": reference}}});
        json!({code: {"description": "OK", "content": content}})
    };
    let operation = |action: &str, code: &str, writes: bool| {
        let mut operation = json!({
            "responses": answer(code),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": gvk,
        });
        if writes {
            operation["parameters"] = json!([
                parameter("dryRun", "`All`: do everything but store the result."),
                parameter(
                    "fieldManager",
                    "Who is recorded as owner of the fields written."
                ),
                parameter(
                    "fieldValidation",
                    "Unknown fields: `Ignore`, `Warn` or `Strict`."
                ),
            ]);
        }
        operation
    };
    let of = |verbs: &[(&str, &str, &str, &str, bool)]| {
        let mut item = Map::new();
        for (verb, method, action, code, writes) in verbs {
            if resource.verbs.contains(verb) {
                item.insert((*method).to_owned(), operation(action, code, *writes));
            }
        }
        Value::Object(item)
    };
    let on_collection = of(&[
        ("list", "get", "list", "200", false),
        ("create", "post", "post", "201", true),
    ]);
    let on_object = of(&[
        ("get", "get", "get", "200", false),
        ("update", "put", "put", "200", true),
        ("patch", "patch", "patch", "200", true),
        ("delete", "delete", "delete", "200", false),
    ]);
    paths.insert(collection.clone(), on_collection);
    if on_object.as_object().is_some_and(|item| !item.is_empty()) {
        paths.insert(format!("{collection}/{{name}}"), on_object);
    }
}

fn parameter(name: &str, description: &str) -> Value {
    json!({
        "name": name,
        "in": "query",
        "description": description,
        "schema": {"type": "string", "uniqueItems": true},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::builtin;

    #[test]
    fn documents_have_what_kubectl_looks_for() {
        let resources: Vec<Arc<Resource>> =
            builtin::resources().into_iter().map(Arc::new).collect();
        let index = index(&resources);
        let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str();
        assert!(url.unwrap().starts_with("/openapi/v3/apis/apps/v1?hash="));
        let document = document(&resources, "apis/apps/v1").unwrap();
        let patch =
            &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(
            patch["x-kubernetes-group-version-kind"]["kind"],
            "Deployment"
        );
        assert!(
            patch["parameters"]
                .as_array()
                .unwrap()
                .iter()
                .any(|parameter| parameter["name"] == "fieldValidation")
        );
        let schemas = &document["components"]["schemas"];
        let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
        assert_eq!(
            deployment["x-kubernetes-group-version-kind"][0]["kind"],
            "Deployment"
        );
        assert!(schemas["io.k8s.api.core.v1.PodSpec"].is_object());
        assert!(super::document(&resources, "apis/nosuch/v1").is_none());
    }
}
