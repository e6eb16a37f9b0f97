//! The CustomResourceDefinitions that make an API server know Istio's kinds.

use serde_json::{Value, json};

use crate::{
    kind::{KINDS, Kind},
    schema,
};

/// One definition per kind, ready to be applied.
pub fn crds() -> Vec<Value> {
    KINDS.iter().map(definition).collect()
}

fn definition(kind: &Kind) -> Value {
    let schema = schema::object(kind);
    let age = json!({
        "name": "Age", "jsonPath": ".metadata.creationTimestamp", "type": "date",
        "description": "Time since the object was created",
    });
    let column = |(name, path, kind, description): &(&str, &str, &str, &str)| json!({ "name": name, "jsonPath": path, "type": kind, "description": description });
    let mut columns: Vec<Value> = kind.columns.iter().map(column).collect();
    // The only kind whose own column stands after the age.
    match kind.kind {
        "WorkloadEntry" => columns.insert(0, age),
        _ if columns.is_empty() => {}
        _ => columns.push(age),
    }
    let versions: Vec<Value> = kind
        .versions
        .iter()
        .enumerate()
        .map(|(index, version)| {
            let mut version = json!({
                "name": version,
                "served": true,
                "storage": index == 0,
                "schema": { "openAPIV3Schema": schema },
                "subresources": { "status": {} },
            });
            if !columns.is_empty() {
                version["additionalPrinterColumns"] = json!(columns);
            }
            version
        })
        .collect();
    let family = kind.group.split('.').next().unwrap_or_default();
    let mut names = json!({
        "kind": kind.kind,
        "listKind": format!("{}List", kind.kind),
        "plural": kind.plural,
        "singular": kind.singular(),
        "categories": ["istio-io", format!("{family}-istio-io")],
    });
    if !kind.short_names.is_empty() {
        names["shortNames"] = json!(kind.short_names);
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{}", kind.plural, kind.group),
            "labels": { "app.kubernetes.io/part-of": "meshdojo" },
        },
        "spec": { "group": kind.group, "names": names, "scope": "Namespaced", "versions": versions },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_node(schema: &Value, see: &mut dyn FnMut(&Value)) {
        see(schema);
        for child in schema["properties"]
            .as_object()
            .into_iter()
            .flat_map(|p| p.values())
        {
            every_node(child, see);
        }
        for child in [&schema["items"], &schema["additionalProperties"]] {
            if child.is_object() {
                every_node(child, see);
            }
        }
    }

    #[test]
    fn schemas_are_structural() {
        for crd in crds() {
            for version in crd["spec"]["versions"].as_array().unwrap() {
                every_node(&version["schema"]["openAPIV3Schema"], &mut |node| {
                    let name = &crd["metadata"]["name"];
                    assert!(node["type"].is_string(), "{name}: {node}");
                    for keyword in ["$ref", "default", "anyOf", "allOf", "const"] {
                        assert!(node.get(keyword).is_none(), "{name}: {keyword} in {node}");
                    }
                });
            }
        }
    }

    #[test]
    fn kubectl_explain_has_something_to_say() {
        let crds = crds();
        let http = &crds[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
            ["properties"]["http"];
        let weight = &http["items"]["properties"]["route"]["items"]["properties"]["weight"];
        assert_eq!(weight["minimum"], 0);
        assert_eq!(weight["type"], "integer");
        every_node(http, &mut |node| {
            assert!(
                node["description"].is_string() || node.get("items").is_none(),
                "{node}"
            );
        });
    }

    /// kubectl keeps the whole object in an annotation when it applies, and annotations are
    /// limited to 256 KiB.
    #[test]
    fn definitions_can_be_applied_client_side() {
        for crd in crds() {
            let size = crd.to_string().len();
            assert!(size < 250_000, "{}: {size} bytes", crd["metadata"]["name"]);
        }
    }
}
