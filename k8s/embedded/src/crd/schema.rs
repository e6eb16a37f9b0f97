//! What a structural schema does to an object: prune, default, validate.

mod default;
mod prune;
mod validate;

pub use default::default;
pub use prune::prune;
pub use validate::validate;

use serde_json::Value;

/// `parent.key`, or `key` at the top.
fn child(parent: &str, key: &str) -> String {
    if parent.is_empty() {
        key.to_owned()
    } else {
        format!("{parent}.{key}")
    }
}

/// Whether fields without a schema are kept.
fn preserves_unknown(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true
}

#[cfg(test)]
mod tests;
