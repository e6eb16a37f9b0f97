//! The JSON merge patch (RFC 7386) that turns one object into another.

use serde_json::{Map, Value};

/// The merge patch from `old` to `new`, `None` when nothing differs. Arrays are replaced whole, as
/// merge patches do; keys that `new` lacks become `null`.
pub fn merge_patch(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut patch = Map::new();
            for key in old.keys().filter(|key| !new.contains_key(*key)) {
                patch.insert(key.clone(), Value::Null);
            }
            for (key, value) in new {
                let change = match old.get(key) {
                    Some(before) => merge_patch(before, value),
                    None => Some(value.clone()),
                };
                if let Some(change) = change {
                    patch.insert(key.clone(), change);
                }
            }
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        _ => (old != new).then(|| new.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_differs_is_sent() {
        let old = json!({"a": 1, "b": {"c": 1, "d": 2}, "e": [1]});
        let new = json!({"a": 1, "b": {"c": 3}, "e": [1, 2], "f": {}});
        assert_eq!(
            merge_patch(&old, &new),
            Some(json!({"b": {"d": null, "c": 3}, "e": [1, 2], "f": {}}))
        );
        assert_eq!(merge_patch(&new, &new), None);
    }
}
