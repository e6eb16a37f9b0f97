//! The four ways to patch an object. Pure functions from object and patch to the new object.
//!
//! | content type | function |
//! | --- | --- |
//! | `application/json-patch+json` | [`json`] |
//! | `application/merge-patch+json` | [`merge`] |
//! | `application/strategic-merge-patch+json` (built-in kinds) | [`strategic()`] |
//! | `application/apply-patch+yaml` | [`apply()`] |
//!
//! None of them defaults or validates: the caller does that with the result, and then lets
//! [`managed::updated`] record who owns which field ([`apply()`] has done so itself).

use serde_json::Value;

pub mod managed;

mod apply;
mod fields;
mod shape;
mod strategic;

pub use apply::{ApplyError, Conflict, apply};
pub use strategic::strategic;

/// A patch that cannot be applied.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PatchError {
    /// The patch is not of the form that its content type asks for: 400 BadRequest.
    #[error("error decoding patch: {0}")]
    Malformed(String),
    /// A JSON patch whose operations do not fit the object: 422 Invalid. Kubernetes says no
    /// more than the message.
    #[error("the server rejected our request due to an error in our request")]
    Rejected(String),
    /// A strategic merge patch that does not fit the object: 422 or 400 with this message.
    #[error("{0}")]
    Unmergeable(String),
}

impl PatchError {
    /// The HTTP status and the `reason` of the answer.
    pub fn status(&self) -> (u16, &'static str) {
        match self {
            PatchError::Malformed(_) | PatchError::Unmergeable(_) => (400, "BadRequest"),
            PatchError::Rejected(_) => (422, "Invalid"),
        }
    }
}

/// Applies a JSON patch (RFC 6902): all operations or none. `remove` of what is absent is
/// refused, as by Kubernetes.
///
/// # Errors
/// [`PatchError::Malformed`] when `patch` is not a list, [`PatchError::Rejected`] when an operation
/// is unknown or does not fit.
pub fn json(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let what = match patch {
        Value::Array(_) => None,
        Value::Object(_) => Some("object"),
        Value::String(_) => Some("string"),
        Value::Number(_) => Some("number"),
        Value::Bool(_) => Some("bool"),
        Value::Null => Some("null"),
    };
    if let Some(what) = what {
        return Err(PatchError::Malformed(format!(
            "json: cannot unmarshal {what} into Go value of type []handlers.jsonPatchOp"
        )));
    }
    let patch: json_patch::Patch = serde_json::from_value(patch.clone())
        .map_err(|error| PatchError::Rejected(error.to_string()))?;
    let mut patched = object.clone();
    json_patch::patch(&mut patched, &patch)
        .map_err(|error| PatchError::Rejected(error.to_string()))?;
    Ok(patched)
}

/// Applies a JSON merge patch (RFC 7386): objects merge, null removes, all else replaces.
pub fn merge(object: &Value, patch: &Value) -> Value {
    let mut patched = object.clone();
    json_patch::merge(&mut patched, patch);
    patched
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_patch_changes_and_refuses() {
        let object = json!({"metadata": {"labels": {"a": "b"}}, "data": {"x": "1"}});
        let patch = json!([
            {"op": "test", "path": "/data/x", "value": "1"},
            {"op": "replace", "path": "/data/x", "value": "2"},
            {"op": "add", "path": "/metadata/labels/c~1d", "value": "e"},
        ]);
        let patched = super::json(&object, &patch).unwrap();
        assert_eq!(patched["data"]["x"], "2");
        assert_eq!(patched["metadata"]["labels"]["c/d"], "e");

        for bad in [
            json!([{"op": "replace", "path": "/nosuch/x", "value": 1}]),
            json!([{"op": "bump", "path": "/a"}]),
            json!([{"op": "test", "path": "/data/x", "value": "7"}]),
            json!([{"op": "remove", "path": "/data/y"}]),
        ] {
            let error = super::json(&object, &bad).unwrap_err();
            assert_eq!(error.status(), (422, "Invalid"), "{bad}");
        }
        let error = super::json(&object, &json!({})).unwrap_err();
        assert_eq!(error.status(), (400, "BadRequest"));
        assert!(
            error
                .to_string()
                .starts_with("error decoding patch: json: cannot unmarshal object")
        );
    }

    #[test]
    fn merge_patch_removes_with_null() {
        let object = json!({"spec": {"a": 1, "b": [1, 2]}, "x": 1});
        let patched = merge(
            &object,
            &json!({"spec": {"a": null, "b": [3], "c": {"d": null}}}),
        );
        assert_eq!(patched, json!({"spec": {"b": [3], "c": {}}, "x": 1}));
    }
}
