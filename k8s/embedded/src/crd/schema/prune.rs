//! Fields that the schema does not name are dropped.

use super::{child, preserves_unknown};
use serde_json::Value;

/// Removes what the schema does not know from an object; returns the paths of what was removed.
/// `apiVersion`, `kind` and `metadata` are not looked at.
pub fn prune(schema: &Value, object: &mut Value) -> Vec<String> {
    let mut removed = Vec::new();
    walk(schema, object, "", true, &mut removed);
    removed
}

fn walk(schema: &Value, value: &mut Value, path: &str, is_object: bool, removed: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let properties = &schema["properties"];
            let additional = &schema["additionalProperties"];
            let any = preserves_unknown(schema) || *additional == true;
            let is_object = is_object || schema["x-kubernetes-embedded-resource"] == true;
            fields.retain(|key, value| {
                if is_object && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
                    return true;
                }
                let path = child(path, key);
                match properties.get(key) {
                    Some(schema) => walk(schema, value, &path, false, removed),
                    None if additional.is_object() => {
                        walk(additional, value, &path, false, removed);
                    }
                    None if any => {}
                    None => {
                        removed.push(path);
                        return false;
                    }
                }
                true
            });
        }
        Value::Array(items) => {
            let schema = &schema["items"];
            if schema.is_object() {
                for (index, item) in items.iter_mut().enumerate() {
                    walk(schema, item, &format!("{path}[{index}]"), false, removed);
                }
            }
        }
        _ => {}
    }
}
