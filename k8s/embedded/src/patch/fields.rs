//! Sets of fields: who owns what, in the form `FieldsV1` of `metadata.managedFields`.
//!
//! A tree of path elements. `f:NAME` is a field or a map's entry, `k:{...}` an element of a list
//! by its keys, `v:VALUE` an element of a set; `.` says that the node itself is a member. A node
//! without children is a member.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::shape::{ListRule, Shape};

/// A set of field paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet {
    /// The path that leads here is in the set.
    member: bool,
    /// Below, by path element as `FieldsV1` writes it.
    children: BTreeMap<String, FieldSet>,
}

/// A path: its elements as `FieldsV1` writes them.
pub(crate) type Path = Vec<String>;

impl FieldSet {
    /// Reads `fieldsV1`; what is not an object is an empty set.
    pub(crate) fn from_json(fields: &Value) -> FieldSet {
        let mut set = FieldSet::default();
        for (element, below) in fields.as_object().into_iter().flatten() {
            if element == "." {
                set.member = true;
                continue;
            }
            let mut child = FieldSet::from_json(below);
            if child.is_empty() {
                child.member = true;
            }
            set.children.insert(element.clone(), child);
        }
        set
    }

    /// Writes `fieldsV1`.
    pub(crate) fn to_json(&self) -> Value {
        let mut fields = Map::new();
        if self.member && !self.children.is_empty() {
            fields.insert(".".into(), Value::Object(Map::new()));
        }
        for (element, child) in &self.children {
            fields.insert(element.clone(), child.to_json());
        }
        Value::Object(fields)
    }

    /// True when no path is in the set.
    pub(crate) fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    /// Adds a path.
    pub(crate) fn insert(&mut self, path: &[String]) {
        match path {
            [] => self.member = true,
            [element, rest @ ..] => {
                self.children
                    .entry(element.clone())
                    .or_default()
                    .insert(rest);
            }
        }
    }

    /// True when the path is a member.
    pub(crate) fn contains(&self, path: &[String]) -> bool {
        match path {
            [] => self.member,
            [element, rest @ ..] => self
                .children
                .get(element)
                .is_some_and(|child| child.contains(rest)),
        }
    }

    /// What is below this field of the root.
    pub(crate) fn child(&self, element: &str) -> Option<&FieldSet> {
        self.children.get(element)
    }

    /// Elements and what is below them.
    pub(crate) fn children(&self) -> impl Iterator<Item = (&String, &FieldSet)> {
        self.children.iter()
    }

    /// Paths of either.
    pub(crate) fn union(mut self, other: &FieldSet) -> FieldSet {
        self.member |= other.member;
        for (element, child) in &other.children {
            let mine = self.children.remove(element).unwrap_or_default();
            self.children.insert(element.clone(), mine.union(child));
        }
        self
    }

    /// Paths of this one that are not in the other.
    pub(crate) fn difference(mut self, other: &FieldSet) -> FieldSet {
        self.member &= !other.member;
        for (element, theirs) in &other.children {
            if let Some(mine) = self.children.remove(element) {
                let left = mine.difference(theirs);
                if !left.is_empty() {
                    self.children.insert(element.clone(), left);
                }
            }
        }
        self
    }

    /// Paths of this one that are neither in the other nor below a path of the other.
    pub(crate) fn recursive_difference(mut self, other: &FieldSet) -> FieldSet {
        for (element, theirs) in &other.children {
            if let Some(mine) = self.children.remove(element)
                && !theirs.member
            {
                let left = mine.recursive_difference(theirs);
                if !left.is_empty() {
                    self.children.insert(element.clone(), left);
                }
            }
        }
        self
    }

    /// Paths of both.
    pub(crate) fn intersection(&self, other: &FieldSet) -> FieldSet {
        let mut both = FieldSet {
            member: self.member && other.member,
            ..FieldSet::default()
        };
        for (element, mine) in &self.children {
            if let Some(theirs) = other.children.get(element) {
                let common = mine.intersection(theirs);
                if !common.is_empty() {
                    both.children.insert(element.clone(), common);
                }
            }
        }
        both
    }

    /// All member paths, in order.
    pub(crate) fn paths(&self) -> Vec<Path> {
        fn collect(set: &FieldSet, prefix: &mut Path, paths: &mut Vec<Path>) {
            if set.member {
                paths.push(prefix.clone());
            }
            for (element, child) in &set.children {
                prefix.push(element.clone());
                collect(child, prefix, paths);
                prefix.pop();
            }
        }
        let mut paths = Vec::new();
        collect(self, &mut Vec::new(), &mut paths);
        paths
    }

    /// The set of everything that a manager states by applying `value`.
    pub(crate) fn of_value(value: &Value, shape: Shape) -> FieldSet {
        let mut set = FieldSet::default();
        match value {
            Value::Object(object) if !shape.is_atomic_object() => {
                for (key, value) in object {
                    let mut below = FieldSet::of_value(value, shape.child(key));
                    let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                    below.member |= empty || !shape.declares(key);
                    if !below.is_empty() {
                        set.children.insert(format!("f:{key}"), below);
                    }
                }
            }
            Value::Array(elements) if shape.list_rule() != ListRule::Atomic => {
                let rule = shape.list_rule();
                for element in elements {
                    let Some(name) = element_of(element, &rule) else {
                        set.member = true;
                        continue;
                    };
                    let mut below = FieldSet::of_value(element, shape.element());
                    below.member = true;
                    let merged = set.children.remove(&name).unwrap_or_default().union(&below);
                    set.children.insert(name, merged);
                }
            }
            _ => set.member = true,
        }
        set
    }

    /// Member paths, with the objects and lists on the way to them as members too.
    pub(crate) fn with_parents(&self) -> FieldSet {
        let mut set = self.clone();
        for child in set.children.values_mut() {
            *child = child.with_parents();
            child.member = true;
        }
        set
    }
}

/// The path element of a list's element; `None` when it lacks every key, or is not a scalar in a
/// set.
pub(crate) fn element_of(element: &Value, rule: &ListRule) -> Option<String> {
    match rule {
        ListRule::Atomic => None,
        ListRule::Set => match element {
            Value::Object(_) | Value::Array(_) => None,
            scalar => Some(format!("v:{scalar}")),
        },
        ListRule::Keyed(keys) => {
            let mut values = BTreeMap::new();
            let mut found = false;
            for key in keys {
                match element.get(key) {
                    Some(value) => {
                        found = true;
                        values.insert(key, value.clone());
                    }
                    // The API's only default of a key.
                    None if key == "protocol" => {
                        values.insert(key, Value::from("TCP"));
                    }
                    None => {}
                }
            }
            found.then(|| {
                let values: Vec<String> = values
                    .iter()
                    .map(|(key, value)| format!("{}:{value}", Value::from(key.as_str())))
                    .collect();
                format!("k:{{{}}}", values.join(","))
            })
        }
    }
}

/// A path as Kubernetes' messages write it: `.spec.containers[name="web"].image`.
pub(crate) fn display(path: &[String]) -> String {
    let mut text = String::new();
    for element in path {
        // Writing to a String does not fail.
        let _ = match element.split_once(':') {
            Some(("f", name)) => write!(text, ".{name}"),
            Some(("v", value)) => write!(text, "[={value}]"),
            Some(("i", index)) => write!(text, "[{index}]"),
            Some(("k", keys)) => {
                let keys: BTreeMap<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let keys: Vec<String> = keys
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                write!(text, "[{}]", keys.join(","))
            }
            _ => write!(text, ".{element}"),
        };
    }
    text
}

/// What changed from one value to another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Comparison {
    /// Paths only in the new value.
    pub(crate) added: FieldSet,
    /// Leaves that differ.
    pub(crate) modified: FieldSet,
    /// Paths only in the old value.
    pub(crate) removed: FieldSet,
}

impl Comparison {
    /// Compares two values of one shape.
    pub(crate) fn of(old: &Value, new: &Value, shape: Shape) -> Comparison {
        let mut comparison = Comparison::default();
        comparison.compare(Some(old), Some(new), shape, &mut Vec::new());
        comparison
    }

    /// True when nothing changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// Paths that the new value set: added or modified.
    pub(crate) fn set(&self) -> FieldSet {
        self.added.clone().union(&self.modified)
    }

    fn compare(&mut self, old: Option<&Value>, new: Option<&Value>, shape: Shape, path: &mut Path) {
        match (old, new) {
            (None, None) => return,
            (None, Some(_)) => self.added.insert(path),
            (Some(_), None) => self.removed.insert(path),
            (Some(_), Some(_)) => {}
        }
        let some = |value: Option<&Value>| value.is_some_and(|value| !value.is_null());
        let object = |value: Option<&Value>| !some(value) || value.is_some_and(Value::is_object);
        let list = |value: Option<&Value>| !some(value) || value.is_some_and(Value::is_array);
        let filled = |value: Option<&Value>| match value {
            Some(Value::Object(object)) => !object.is_empty(),
            Some(Value::Array(list)) => !list.is_empty(),
            _ => false,
        };
        let parts = filled(old) || filled(new);
        if parts && object(old) && object(new) && !shape.is_atomic_object() {
            self.compare_objects(old, new, shape, path);
        } else if parts && list(old) && list(new) && shape.list_rule() != ListRule::Atomic {
            self.compare_lists(old, new, shape, path);
        } else if let (Some(old), Some(new)) = (old, new)
            && old != new
            // A null, an empty list and an empty object are one for Go.
            && (some(Some(old)) && some(Some(new)) || filled(Some(old)) || filled(Some(new)) || scalar(old) || scalar(new))
        {
            self.modified.insert(path);
        }
    }

    fn compare_objects(
        &mut self,
        old: Option<&Value>,
        new: Option<&Value>,
        shape: Shape,
        path: &mut Path,
    ) {
        let nothing = Map::new();
        let old = old.and_then(Value::as_object).unwrap_or(&nothing);
        let new = new.and_then(Value::as_object).unwrap_or(&nothing);
        let added = new.keys().filter(|key| !old.contains_key(*key));
        for key in old.keys().chain(added) {
            path.push(format!("f:{key}"));
            self.compare(old.get(key), new.get(key), shape.child(key), path);
            path.pop();
        }
    }

    fn compare_lists(
        &mut self,
        old: Option<&Value>,
        new: Option<&Value>,
        shape: Shape,
        path: &mut Path,
    ) {
        let rule = shape.list_rule();
        let (old, new) = (named(old, &rule), named(new, &rule));
        let added = new.keys().filter(|name| !old.contains_key(*name));
        for name in old.keys().chain(added) {
            path.push(name.clone());
            let (old, new) = (old.get(name).copied(), new.get(name).copied());
            self.compare(old, new, shape.element(), path);
            path.pop();
        }
    }
}

/// The elements of a list by their path element.
fn named<'v>(list: Option<&'v Value>, rule: &ListRule) -> BTreeMap<String, &'v Value> {
    list.and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|element| Some((element_of(element, rule)?, element)))
        .collect()
}

fn scalar(value: &Value) -> bool {
    matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gvk::Gvk;
    use serde_json::json;

    fn deployment<'a>() -> Shape<'a> {
        Shape::root(&Gvk::new("apps", "v1", "Deployment"), None)
    }

    fn config() -> Value {
        json!({
            "metadata": {"labels": {"app": "web"}},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {"spec": {
                "containers": [{"name": "c", "args": ["x"], "ports": [{"containerPort": 80}], "securityContext": {}}]}}}})
    }

    #[test]
    fn what_applying_states() {
        let set = FieldSet::of_value(&config(), deployment());
        assert_eq!(
            set.to_json(),
            json!({
                "f:metadata": {"f:labels": {"f:app": {}}},
                "f:spec": {"f:replicas": {}, "f:selector": {}, "f:template": {"f:spec": {"f:containers": {
                    "k:{\"name\":\"c\"}": {".": {}, "f:args": {}, "f:name": {}, "f:securityContext": {},
                        "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}}}})
        );
        assert_eq!(FieldSet::from_json(&set.to_json()), set);
        let displayed: Vec<String> = set.paths().iter().map(|path| display(path)).collect();
        assert!(displayed.contains(&".spec.replicas".to_owned()));
        assert!(displayed.contains(
            &".spec.template.spec.containers[name=\"c\"].ports[containerPort=80,protocol=\"TCP\"].containerPort".to_owned()
        ));
    }

    #[test]
    fn set_algebra() {
        let a = FieldSet::from_json(&json!({"f:a": {".": {}, "f:x": {}}, "f:b": {}}));
        let b = FieldSet::from_json(&json!({"f:a": {"f:x": {}}, "f:c": {}}));
        assert_eq!(
            a.clone().union(&b).to_json(),
            json!({"f:a": {".": {}, "f:x": {}}, "f:b": {}, "f:c": {}})
        );
        assert_eq!(
            a.clone().difference(&b).to_json(),
            json!({"f:a": {}, "f:b": {}})
        );
        assert_eq!(a.intersection(&b).to_json(), json!({"f:a": {"f:x": {}}}));
        let whole = FieldSet::from_json(&json!({"f:a": {}}));
        assert_eq!(
            a.clone().recursive_difference(&whole).to_json(),
            json!({"f:b": {}})
        );
        assert_eq!(
            b.with_parents().to_json(),
            json!({"f:a": {".": {}, "f:x": {}}, "f:c": {}})
        );
    }

    #[test]
    fn comparing() {
        let old = config();
        let mut new = config();
        new["spec"]["replicas"] = json!(3);
        new["metadata"]["annotations"] = json!({"a": "b"});
        new["spec"]["template"]["spec"]["containers"] = json!([{"name": "d"}]);
        let change = Comparison::of(&old, &new, deployment());
        assert_eq!(
            change.modified.to_json(),
            json!({"f:spec": {"f:replicas": {}}})
        );
        assert_eq!(
            change.added.to_json(),
            json!({"f:metadata": {"f:annotations": {".": {}, "f:a": {}}}, "f:spec": {"f:template": {"f:spec": {
                "f:containers": {"k:{\"name\":\"d\"}": {".": {}, "f:name": {}}}}}}})
        );
        assert!(
            change
                .removed
                .paths()
                .iter()
                .any(|path| display(path) == ".spec.template.spec.containers[name=\"c\"]")
        );
        assert!(Comparison::of(&old, &old, deployment()).is_empty());
        assert!(
            Comparison::of(&json!({"spec": null}), &json!({"spec": {}}), deployment()).is_empty()
        );
    }
}
