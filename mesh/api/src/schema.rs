//! From Rust types to the structural schemas that Kubernetes asks of a CustomResourceDefinition:
//! everything inline, one type per node, no defaults, no titles.

use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::kind::Kind;

/// Schema of the `spec` of a kind.
pub(crate) fn spec(kind: &Kind) -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
    let mut schema = (kind.spec)(&mut SchemaGenerator::new(settings)).to_value();
    make_structural(&mut schema);
    schema
}

/// Schema of the whole object.
pub(crate) fn object(kind: &Kind) -> Value {
    let mut spec = spec(kind);
    let required = spec.get("required").is_some();
    let description = spec
        .as_object_mut()
        .and_then(|spec| spec.get("description").cloned());
    let mut schema = json!({
        "type": "object",
        "description": description,
        "properties": {
            "spec": spec,
            "status": {
                "type": "object",
                "description": "What the control plane says about this object.",
                "x-kubernetes-preserve-unknown-fields": true,
            },
        },
    });
    if required {
        schema["required"] = json!(["spec"]);
    }
    schema
}

fn make_structural(schema: &mut Value) {
    let Value::Object(node) = schema else { return };
    for keyword in [
        "$schema",
        "title",
        "default",
        "nullable",
        "writeOnly",
        "readOnly",
    ] {
        node.remove(keyword);
    }
    unwrap_option(node);
    join_enum(node);
    // Kubernetes knows signed formats only; the range says the rest.
    match node.get("format").and_then(Value::as_str) {
        Some("uint32") => _ = node.insert("format".into(), json!("int64")),
        Some("uint64" | "uint16" | "uint8") => _ = node.remove("format"),
        _ => {}
    }
    if let Some(Value::String(description)) = node.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    for minimum in ["minimum", "maximum"] {
        // 100.0 and 100 mean the same; the shorter reads better.
        if let Some(whole) = node
            .get(minimum)
            .and_then(Value::as_f64)
            .filter(|n| n.fract() == 0.0)
        {
            node.insert(minimum.into(), json!(whole as i64));
        }
    }
    if let Some(Value::Object(properties)) = node.get_mut("properties") {
        properties.values_mut().for_each(make_structural);
    }
    for child in ["items", "additionalProperties"] {
        if let Some(child) = node.get_mut(child) {
            make_structural(child);
        }
    }
}

/// `Option<T>` of an inlined enum is `{anyOf: [T, {enum: [null]}]}`; an absent field says the same.
fn unwrap_option(node: &mut Map<String, Value>) {
    for keyword in ["anyOf", "allOf"] {
        let Some(Value::Array(choices)) = node.get(keyword) else {
            continue;
        };
        let typed: Vec<_> = choices
            .iter()
            .filter(|choice| {
                choice.get("properties").is_some()
                    || choice.get("type").is_some()
                    || choice.get("oneOf").is_some()
            })
            .filter(|choice| choice.get("type") != Some(&json!("null")))
            .filter(|choice| choice.get("enum") != Some(&json!([null])))
            .cloned()
            .collect();
        if let [Value::Object(only)] = typed.as_slice() {
            node.remove(keyword);
            for (key, value) in only {
                if key != "description" || !node.contains_key("description") {
                    node.insert(key.clone(), value.clone());
                }
            }
        }
    }
    if let Some(Value::Array(types)) = node.get("type") {
        let first = types.iter().find(|kind| **kind != json!("null")).cloned();
        node.extend(first.map(|first| ("type".to_owned(), first)));
    }
    if let Some(Value::Array(values)) = node.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
}

/// Documented values come as `oneOf: [{const, description}]`; Kubernetes wants `enum`.
fn join_enum(node: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = node.get("oneOf") else {
        return;
    };
    let values: Option<Vec<Value>> = choices
        .iter()
        .map(|choice| match (choice.get("const"), choice.get("enum")) {
            (Some(value), _) => Some(vec![value.clone()]),
            (None, Some(Value::Array(values))) => Some(values.clone()),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()
        .map(|values| values.concat());
    let Some(values) = values else { return };
    let explained: Vec<String> = choices
        .iter()
        .filter_map(|choice| {
            let value = choice
                .get("const")
                .or_else(|| choice.get("enum")?.get(0))?
                .as_str()?;
            let text = choice.get("description")?.as_str()?.trim_end_matches('.');
            Some(format!("{value}: {}.", text.replace('\n', " ")))
        })
        .collect();
    node.remove("oneOf");
    node.insert("type".into(), json!("string"));
    node.insert("enum".into(), json!(values));
    let description = node
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let description = format!("{description} {}", explained.join(" "));
    node.insert("description".into(), json!(description.trim()));
}
