//! Absent fields take their schema's `default`.

use serde_json::Value;

/// Fills in defaults. A null where null is not allowed counts as absent.
pub fn default(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let properties = schema["properties"].as_object();
            for (key, schema) in properties.into_iter().flatten() {
                if let Some(default) = schema.get("default") {
                    let absent = match fields.get(key) {
                        None => true,
                        Some(value) => value.is_null() && schema["nullable"] != true,
                    };
                    if absent {
                        fields.insert(key.clone(), default.clone());
                    }
                }
                if let Some(value) = fields.get_mut(key) {
                    self::default(schema, value);
                }
            }
            let additional = &schema["additionalProperties"];
            if additional.is_object() {
                for (key, value) in fields.iter_mut() {
                    if properties.is_none_or(|properties| !properties.contains_key(key)) {
                        self::default(additional, value);
                    }
                }
            }
        }
        Value::Array(items) => {
            let schema = &schema["items"];
            items
                .iter_mut()
                .for_each(|item| self::default(schema, item));
        }
        _ => {}
    }
}
