//! Custom resources: what a CustomResourceDefinition makes of a path.

pub mod definition;
pub mod schema;

use crate::discovery::{Origin, Resource, builtin};
use crate::gvk::Gvk;
use bytes::Bytes;
use serde_json::Value;
use std::sync::Arc;

/// One served version of a CustomResourceDefinition.
#[derive(Debug)]
pub struct CustomKind {
    /// Name of the definition, e.g. `virtualservices.networking.istio.io`.
    pub definition: String,
    /// The version in which objects are stored.
    pub storage_version: String,
    /// `additionalPrinterColumns`.
    pub columns: Vec<Value>,
    /// JSON paths by which objects can be selected, without the leading dot.
    pub selectable_fields: Vec<String>,
    /// Whether `status` is a subresource.
    pub status: bool,
    /// `subresources.scale`: the paths of replicas, when there is a `scale` subresource.
    pub scale: Option<Value>,
    /// Warning for every request, when the version is deprecated.
    pub deprecation: Option<String>,
    /// `openAPIV3Schema` as compact JSON: schemas are many and large, and seldom looked into.
    schema: Bytes,
}

impl CustomKind {
    /// The version's `openAPIV3Schema`.
    pub fn schema(&self) -> Value {
        crate::store::parse(&self.schema)
    }

    /// The schema as it is kept.
    pub(crate) fn schema_bytes(&self) -> &[u8] {
        &self.schema
    }
}

/// The resources of a definition, one per served version, in the order of the definition. None
/// until its names have been accepted.
pub fn resources(definition: &Value) -> Vec<Resource> {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .map(|items| items.iter().map(text).collect())
            .unwrap_or_default()
    };
    let (group, names) = (text(&spec["group"]), &spec["names"]);
    let versions = spec["versions"].as_array().map_or(&[][..], Vec::as_slice);
    let storage_version = versions
        .iter()
        .find(|version| version["storage"] == true)
        .map(|version| text(&version["name"]))
        .unwrap_or_default();
    let plural = text(&names["plural"]);
    let storage: Arc<str> = format!("{group}/{plural}").into();
    versions
        .iter()
        .filter(|version| version["served"] == true)
        .map(|version| {
            let gvk = Gvk::new(&group, text(&version["name"]), text(&names["kind"]));
            let subresources = &version["subresources"];
            let status = subresources["status"].is_object();
            let scale = Some(&subresources["scale"])
                .filter(|scale| scale.is_object())
                .cloned();
            let present = [scale.as_ref().map(|_| "scale"), status.then_some("status")];
            let custom = CustomKind {
                definition: text(&definition["metadata"]["name"]),
                storage_version: storage_version.clone(),
                columns: version["additionalPrinterColumns"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default(),
                selectable_fields: version["selectableFields"]
                    .as_array()
                    .map(|fields| {
                        fields
                            .iter()
                            .map(|field| {
                                text(&field["jsonPath"]).trim_start_matches('.').to_owned()
                            })
                            .collect()
                    })
                    .unwrap_or_default(),
                status,
                scale,
                deprecation: (version["deprecated"] == true).then(|| {
                    version["deprecationWarning"]
                        .as_str()
                        .map(str::to_owned)
                        .unwrap_or_else(|| {
                            format!("{} {} is deprecated", gvk.api_version(), gvk.kind)
                        })
                }),
                schema: serde_json::to_vec(&version["schema"]["openAPIV3Schema"])
                    .unwrap_or_default()
                    .into(),
            };
            Resource {
                plural: plural.clone(),
                singular: match names["singular"].as_str() {
                    Some(singular) if !singular.is_empty() => singular.to_owned(),
                    _ => gvk.kind.to_lowercase(),
                },
                list_kind: match names["listKind"].as_str() {
                    Some(list_kind) if !list_kind.is_empty() => list_kind.to_owned(),
                    _ => format!("{}List", gvk.kind),
                },
                short_names: list(&names["shortNames"]),
                categories: list(&names["categories"]),
                namespaced: spec["scope"] == "Namespaced",
                verbs: builtin::custom_verbs(),
                subresources: present
                    .into_iter()
                    .flatten()
                    .map(|name| builtin::subresource(name, &gvk))
                    .collect(),
                storage: storage.clone(),
                origin: Origin::Custom(Arc::new(custom)),
                gvk,
            }
        })
        .collect()
}
