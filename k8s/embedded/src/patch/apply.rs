//! Server-side apply: what a manager applies is what it owns.
//!
//! 1. The applied configuration is merged into the live object.
//! 2. What the manager applied last time, leaves out now, and nobody else owns is removed.
//! 3. What changes by that and belongs to another manager is a conflict, unless forced: then the
//!    other manager loses it.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::fields::{Comparison, FieldSet, display, element_of};
use super::managed::{Id, Managers, UNOWNED_METADATA, tracked};
use super::shape::{ListRule, Shape};
use crate::gvk::Gvk;

/// A field that another manager owns with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The path, e.g. `.spec.replicas`, `.spec.containers[name="web"].image`.
    pub field: String,
    /// The other manager as messages name it: `"kubectl"`, quoted, with subresource and version.
    pub manager: String,
}

/// A configuration that cannot be applied.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ApplyError {
    /// 409 Conflict: other managers own fields. `Display` is the Status' message; a cause per
    /// conflict: see [`ApplyError::causes`].
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// 500: the configuration does not fit the kind.
    #[error("failed to create typed patch object ({object}): {reason}")]
    Untyped {
        /// `NAMESPACE/NAME; GROUP/VERSION, Kind=KIND`.
        object: String,
        /// Path and what is wrong with it.
        reason: String,
    },
    /// 400 BadRequest: the configuration may not say this.
    #[error("{0}")]
    Invalid(String),
}

impl ApplyError {
    /// The HTTP status and the `reason` of the answer (empty: none).
    pub fn status(&self) -> (u16, &'static str) {
        match self {
            ApplyError::Conflicts(_) => (409, "Conflict"),
            ApplyError::Untyped { .. } => (500, ""),
            ApplyError::Invalid(_) => (400, "BadRequest"),
        }
    }

    /// The Status' `details.causes`.
    pub fn causes(&self) -> Vec<Value> {
        let ApplyError::Conflicts(conflicts) = self else {
            return Vec::new();
        };
        conflicts
            .iter()
            .map(|conflict| {
                json!({
                    "reason": "FieldManagerConflict",
                    "message": format!("conflict with {}", conflict.manager),
                    "field": conflict.field,
                })
            })
            .collect()
    }
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            only.manager, only.field
        );
    }
    let mut managers: Vec<&String> = conflicts.iter().map(|conflict| &conflict.manager).collect();
    managers.sort();
    managers.dedup();
    let mut lines = Vec::new();
    for manager in managers {
        lines.push(format!("conflicts with {manager}:"));
        for conflict in conflicts
            .iter()
            .filter(|conflict| conflict.manager == *manager)
        {
            lines.push(format!("- {}", conflict.field));
        }
    }
    format!(
        "Apply failed with {} conflicts: {}",
        conflicts.len(),
        lines.join("\n")
    )
}

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const KUBECTL: &str = "kubectl";

/// Applies `applied` for `manager`: the new object, with managedFields. The caller has checked
/// names and versions, and then defaults and validates; without a live object it also sets the
/// server's metadata.
///
/// * `schema`: structural schema of a custom resource's version.
/// * `subresource`: e.g. `status`, when applied through one.
///
/// An object that was managed by `kubectl apply` before is taken over by the manager `kubectl`
/// without conflicts over what the last applied configuration says.
///
/// # Errors
/// See [`ApplyError`].
#[expect(
    clippy::too_many_arguments,
    reason = "each is a parameter of the request or a fact of its kind"
)]
pub fn apply(
    live: Option<&Value>,
    applied: &Value,
    manager: &str,
    force: bool,
    gvk: &Gvk,
    schema: Option<&Value>,
    subresource: Option<&str>,
    now: Timestamp,
) -> Result<Value, ApplyError> {
    if applied
        .pointer("/metadata/managedFields")
        .is_some_and(|fields| !fields.is_null())
    {
        return Err(ApplyError::Invalid(
            "metadata.managedFields must be nil".into(),
        ));
    }
    let shape = Shape::root(gvk, schema);
    check(applied, shape, &mut String::new()).map_err(|reason| ApplyError::Untyped {
        object: describe(applied, gvk),
        reason,
    })?;
    let id = Id {
        manager: manager.to_owned(),
        operation: "Apply".to_owned(),
        api_version: gvk.api_version(),
        subresource: subresource.map(str::to_owned),
    };
    let attempt = Attempt {
        live,
        applied,
        shape,
        gvk,
        id: &id,
        now,
    };
    match attempt.run(force) {
        Err(conflicts) if manager == KUBECTL => {
            let allowed = allowed_by_last_applied(live, shape);
            let left: Vec<_> = conflicts
                .into_iter()
                .filter(|(path, _)| !allowed.contains(path))
                .collect();
            if left.is_empty() {
                attempt.run(true).map_err(conflicts_error)
            } else {
                Err(conflicts_error(left))
            }
        }
        result => result.map_err(conflicts_error),
    }
}

type Conflicts = Vec<(Vec<String>, String)>;

fn conflicts_error(conflicts: Conflicts) -> ApplyError {
    ApplyError::Conflicts(
        conflicts
            .into_iter()
            .map(|(path, manager)| Conflict {
                field: display(&path),
                manager,
            })
            .collect(),
    )
}

struct Attempt<'a> {
    live: Option<&'a Value>,
    applied: &'a Value,
    shape: Shape<'a>,
    gvk: &'a Gvk,
    id: &'a Id,
    now: Timestamp,
}

impl Attempt<'_> {
    fn run(&self, force: bool) -> Result<Value, Conflicts> {
        let nothing =
            json!({"apiVersion": self.gvk.api_version(), "kind": self.gvk.kind, "metadata": {}});
        let live = self.live.unwrap_or(&nothing);
        let mut managers = Managers::of(live);
        let last = managers.set(self.id);
        let states = owned_by(self.applied, self.shape);
        managers.put(self.id.clone(), states.clone(), None);

        let mut merged = live.clone();
        merge(&mut merged, self.applied, self.shape);
        let mut owned = FieldSet::default();
        for manager in &managers.0 {
            owned = owned.union(&manager.fields);
        }
        let dropped = last.with_parents().difference(&owned.with_parents());
        remove(&mut merged, &dropped, self.shape);

        let change = Comparison::of(&tracked(live), &tracked(&merged), self.shape);
        let set = change.set();
        if !force {
            let conflicts: Conflicts = managers
                .0
                .iter()
                .filter(|manager| manager.id != *self.id)
                .flat_map(|manager| {
                    let taken = manager.fields.intersection(&set);
                    let name = manager.id.describe();
                    taken
                        .paths()
                        .into_iter()
                        .map(move |path| (path, name.clone()))
                })
                .collect();
            if !conflicts.is_empty() {
                return Err(conflicts);
            }
        }
        managers.take(self.id, &change);
        let changed = last != states || !change.is_empty();
        managers.put(self.id.clone(), states, changed.then_some(self.now));
        managers.write(&mut merged);
        self.update_last_applied(&mut merged);
        Ok(merged)
    }

    /// `kubectl`'s annotation follows what `kubectl` applies, so that a client-side apply can
    /// go on from here.
    fn update_last_applied(&self, merged: &mut Value) {
        if self.id.manager != KUBECTL || self.id.subresource.is_some() {
            return;
        }
        if let Some(annotation) = merged
            .pointer_mut("/metadata/annotations")
            .and_then(|annotations| annotations.get_mut(LAST_APPLIED))
        {
            *annotation = format!("{}\n", self.applied).into();
        }
    }
}

/// What the annotation of a client-side apply says that `kubectl` has applied, as far as it is
/// still so.
fn allowed_by_last_applied(live: Option<&Value>, shape: Shape) -> FieldSet {
    let last = live.and_then(|live| {
        let annotations = live.pointer("/metadata/annotations")?;
        let last = serde_json::from_str::<Value>(annotations.get(LAST_APPLIED)?.as_str()?).ok()?;
        let change = Comparison::of(&tracked(&last), &tracked(live), shape);
        let stale = change.modified.union(&change.removed);
        Some(owned_by(&last, shape).difference(&stale))
    });
    last.unwrap_or_default()
}

/// What a manager owns by applying a configuration. The metadata as such is nobody's.
fn owned_by(applied: &Value, shape: Shape) -> FieldSet {
    let mut metadata = FieldSet::default();
    metadata.insert(&["f:metadata".to_owned()]);
    FieldSet::of_value(&tracked(applied), shape).difference(&metadata)
}

fn describe(applied: &Value, gvk: &Gvk) -> String {
    let text = |pointer: &str| {
        applied
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or("")
    };
    format!(
        "{}/{}; {gvk}",
        text("/metadata/namespace"),
        text("/metadata/name")
    )
}

/// Checks that fields of built-in structs are declared, and that keyed lists have keys, once.
fn check(value: &Value, shape: Shape, path: &mut String) -> Result<(), String> {
    let length = path.len();
    match value {
        Value::Object(object) => {
            for (key, below) in object {
                path.push_str(&format!(".{key}"));
                if shape.is_struct() && !shape.declares(key) {
                    return Err(format!("{path}: field not declared in schema"));
                }
                check(below, shape.child(key), path)?;
                path.truncate(length);
            }
        }
        Value::Array(elements) => {
            let rule = shape.list_rule();
            let mut seen = Vec::new();
            for (index, element) in elements.iter().enumerate() {
                let name = element_of(element, &rule);
                match (&rule, &name) {
                    (ListRule::Atomic, _) => path.push_str(&format!("[{index}]")),
                    (ListRule::Keyed(keys), None) => {
                        return Err(format!(
                            "{path}: element {index}: associative list with keys has an element that omits key field {:?} (and doesn't have default value)",
                            keys.first().map_or("", String::as_str)
                        ));
                    }
                    (_, Some(name)) if seen.contains(name) => {
                        let name = display(std::slice::from_ref(name));
                        return Err(format!("{path}: duplicate entries for key {name}"));
                    }
                    (_, Some(name)) => path.push_str(&display(std::slice::from_ref(name))),
                    (_, None) => {}
                }
                seen.extend(name);
                check(element, shape.element(), path)?;
                path.truncate(length);
            }
        }
        _ => {}
    }
    Ok(())
}

/// Merges what is applied into the live object.
fn merge(live: &mut Value, applied: &Value, shape: Shape) {
    match (live, applied) {
        (Value::Object(live), Value::Object(applied)) if !shape.is_atomic_object() => {
            for (key, value) in applied {
                if value.is_null() {
                    live.shift_remove(key);
                    continue;
                }
                match live.get_mut(key) {
                    Some(present) if !present.is_null() => merge(present, value, shape.child(key)),
                    _ => {
                        let mut fresh = empty_like(value);
                        merge(&mut fresh, value, shape.child(key));
                        live.insert(key.clone(), fresh);
                    }
                }
            }
        }
        (Value::Array(live), Value::Array(applied)) if shape.list_rule() != ListRule::Atomic => {
            let rule = shape.list_rule();
            for value in applied {
                let name = element_of(value, &rule);
                let present = live
                    .iter_mut()
                    .find(|element| name.is_some() && element_of(element, &rule) == name);
                match present {
                    Some(present) => merge(present, value, shape.element()),
                    None => {
                        let mut fresh = empty_like(value);
                        merge(&mut fresh, value, shape.element());
                        live.push(fresh);
                    }
                }
            }
        }
        (live, applied) => *live = applied.clone(),
    }
}

fn empty_like(value: &Value) -> Value {
    match value {
        Value::Object(_) => Value::Object(Map::new()),
        Value::Array(_) => Value::Array(Vec::new()),
        _ => Value::Null,
    }
}

/// Removes the fields and elements of a set from an object.
fn remove(object: &mut Value, dropped: &FieldSet, shape: Shape) {
    match object {
        Value::Object(fields) => {
            for (element, below) in dropped.children() {
                let Some(key) = element.strip_prefix("f:") else {
                    continue;
                };
                if matches!(key, "apiVersion" | "kind")
                    || UNOWNED_METADATA.contains(&key) && fields.contains_key("uid")
                {
                    continue;
                }
                if below.contains(&[]) {
                    fields.shift_remove(key);
                } else if let Some(value) = fields.get_mut(key) {
                    remove(value, below, shape.child(key));
                }
            }
        }
        Value::Array(elements) => {
            let rule = shape.list_rule();
            let entry = |element: &Value| dropped.child(&element_of(element, &rule)?);
            elements.retain(|element| !entry(element).is_some_and(|below| below.contains(&[])));
            for element in elements {
                if let Some(below) =
                    element_of(element, &rule).and_then(|name| dropped.child(&name))
                {
                    remove(element, below, shape.element());
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
