//! Versions of a pod template: which ReplicaSet is the one of the present template, and how a new
//! one is named.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;
use std::sync::Arc;

/// Label that tells the pods of one version from those of another.
pub const HASH_LABEL: &str = "pod-template-hash";

/// Letters of hashes in names: no vowels and no look-alikes, so that no words appear by chance.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The template as JSON without its hash label: what makes two versions the same.
fn essence(template: &PodTemplateSpec) -> Value {
    let mut value = serde_json::to_value(template).unwrap_or_default();
    if let Some(labels) = value
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut)
    {
        labels.remove(HASH_LABEL);
    }
    // an absent and an empty metadata say the same
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("creationTimestamp");
        if metadata
            .get("labels")
            .is_some_and(|l| l == &serde_json::json!({}))
        {
            metadata.remove("labels");
        }
    }
    value
}

/// The oldest of `sets` (which are ordered by age) whose template is `template`.
pub fn find(template: &PodTemplateSpec, sets: &[Arc<ReplicaSet>]) -> Option<Arc<ReplicaSet>> {
    let wanted = essence(template);
    sets.iter()
        .find(|rs| {
            rs.spec
                .as_ref()
                .and_then(|s| s.template.as_ref())
                .is_some_and(|t| essence(t) == wanted)
        })
        .cloned()
}

/// The hash of a template, for names and the label. `collisions` makes another one when the first
/// is taken.
pub fn hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let mut text = essence(template).to_string();
    if let Some(n) = collisions {
        text.push_str(&n.to_string());
    }
    // FNV-1a, 32 bits: short, stable over versions of this program, and nothing has to trust it
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash.to_string()
        .bytes()
        .map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()]))
        .collect()
}
