//! Strategic merge patch: a merge patch that knows which lists are merged, and by which key.
//!
//! Directives, as in Kubernetes: `$patch: delete | replace | merge` in objects and in list
//! elements, `$setElementOrder/LIST`, `$deleteFromPrimitiveList/LIST`, `$retainKeys`.

use serde_json::{Map, Value};

use super::PatchError;
use super::shape::{ListMerge, Shape};
use crate::gvk::Gvk;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_FROM_PRIMITIVE_LIST: &str = "$deleteFromPrimitiveList/";

/// Applies a strategic merge patch to an object of a built-in kind.
///
/// # Errors
/// When patch or object is not a JSON object, a directive is unknown, or an element of a merged
/// list lacks its key.
pub fn strategic(object: &Value, patch: &Value, kind: &Gvk) -> Result<Value, PatchError> {
    let (Value::Object(object), Value::Object(patch)) = (object, patch) else {
        return Err(PatchError::Malformed(
            "a strategic merge patch must be a JSON object".into(),
        ));
    };
    merge_object(object.clone(), patch, Shape::root(kind, None)).map(Value::Object)
}

type Object = Map<String, Value>;

fn merge_object(mut object: Object, patch: &Object, shape: Shape) -> Result<Object, PatchError> {
    match patch.get(PATCH) {
        None => {}
        Some(directive) => match directive.as_str() {
            Some("replace") => {
                return Ok(patch
                    .iter()
                    .filter(|(key, _)| !key.starts_with('$'))
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect());
            }
            Some("delete") => return Ok(Object::new()),
            Some("merge") => {}
            _ => return Err(unknown_directive(directive)),
        },
    }
    if let Some(retain) = patch.get(RETAIN_KEYS) {
        let retain = retain.as_array().ok_or_else(|| {
            PatchError::Unmergeable(format!("invalid patch: {RETAIN_KEYS} must be a list"))
        })?;
        object.retain(|key, _| retain.iter().any(|kept| kept == key));
    }
    for (key, value) in patch {
        if key.starts_with('$') {
            continue;
        }
        if value.is_null() {
            object.shift_remove(key);
            continue;
        }
        let shape = shape.child(key);
        let current = object.get_mut(key).map(Value::take);
        let merged = match (current, value) {
            (Some(Value::Object(current)), Value::Object(value)) => {
                Value::Object(merge_object(current, value, shape)?)
            }
            (None | Some(Value::Null), Value::Object(value)) => {
                Value::Object(merge_object(Object::new(), value, shape)?)
            }
            (current, Value::Array(value)) => {
                let current = match current {
                    Some(Value::Array(current)) => current,
                    _ => Vec::new(),
                };
                let delete = directive_list(patch, DELETE_FROM_PRIMITIVE_LIST, key)?;
                let order = directive_list(patch, SET_ELEMENT_ORDER, key)?;
                Value::Array(merge_list(current, value, shape, delete, order)?)
            }
            (_, value) => value.clone(),
        };
        object.insert(key.clone(), merged);
    }
    // A list may be named by its directives alone.
    for key in patch.keys() {
        let Some(list) = key
            .strip_prefix(SET_ELEMENT_ORDER)
            .or_else(|| key.strip_prefix(DELETE_FROM_PRIMITIVE_LIST))
        else {
            continue;
        };
        if patch.contains_key(list) {
            continue;
        }
        let Some(Value::Array(current)) = object.get_mut(list).map(Value::take) else {
            continue;
        };
        let delete = directive_list(patch, DELETE_FROM_PRIMITIVE_LIST, list)?;
        let order = directive_list(patch, SET_ELEMENT_ORDER, list)?;
        let merged = merge_list(current, &[], shape.child(list), delete, order)?;
        object.insert(list.to_owned(), Value::Array(merged));
    }
    Ok(object)
}

fn directive_list<'p>(
    patch: &'p Object,
    directive: &str,
    list: &str,
) -> Result<Option<&'p Vec<Value>>, PatchError> {
    match patch.get(&format!("{directive}{list}")) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(values)) => Ok(Some(values)),
        Some(_) => Err(PatchError::Unmergeable(format!(
            "invalid patch: {directive}{list} must be a list"
        ))),
    }
}

fn unknown_directive(directive: &Value) -> PatchError {
    PatchError::Unmergeable(format!("unknown patch type found: {directive}"))
}

fn merge_list(
    current: Vec<Value>,
    patch: &[Value],
    shape: Shape,
    delete: Option<&Vec<Value>>,
    order: Option<&Vec<Value>>,
) -> Result<Vec<Value>, PatchError> {
    match shape.list_merge() {
        ListMerge::Replace if delete.is_none() && order.is_none() => {
            Ok(patch.iter().map(without_directives).collect())
        }
        ListMerge::By(key) => merge_keyed(current, patch, shape.element(), key, order),
        ListMerge::Replace | ListMerge::Union => {
            let mut merged = current.clone();
            if let Some(delete) = delete {
                merged.retain(|value| !delete.contains(value));
            }
            for value in patch {
                if !merged.contains(value) {
                    merged.push(value.clone());
                }
            }
            Ok(match order {
                Some(order) => {
                    let position = |value: &Value| order.iter().position(|other| other == value);
                    reorder(merged, &current, position, |a, b| a == b)
                }
                None => merged,
            })
        }
    }
}

fn merge_keyed(
    current: Vec<Value>,
    patch: &[Value],
    element: Shape,
    key: &str,
    order: Option<&Vec<Value>>,
) -> Result<Vec<Value>, PatchError> {
    let same = |a: &Value, b: &Value| a.get(key).is_some() && a.get(key) == b.get(key);
    let directive = |value: &Value| value.get(PATCH).and_then(Value::as_str).map(str::to_owned);

    let replace = patch.iter().any(|value| {
        directive(value).as_deref() == Some("replace")
            && value.as_object().is_some_and(|value| value.len() == 1)
    });
    let mut merged = if replace { Vec::new() } else { current.clone() };
    for value in patch {
        let Value::Object(object) = value else {
            return Err(PatchError::Unmergeable(format!(
                "expected an object with the merge key {key} in the list, got {value}"
            )));
        };
        let directive = directive(value);
        if directive.as_deref() == Some("replace") && object.len() == 1 {
            continue;
        }
        if !object.contains_key(key) {
            return Err(PatchError::Unmergeable(format!(
                "map: {value} does not contain declared merge key: {key}"
            )));
        }
        match directive.as_deref() {
            Some("delete") => merged.retain(|other| !same(other, value)),
            Some("replace") => {
                let value = without_directives(value);
                match merged.iter_mut().find(|other| same(other, &value)) {
                    Some(place) => *place = value,
                    None => merged.push(value),
                }
            }
            None | Some("merge") => match merged.iter_mut().find(|other| same(other, value)) {
                Some(place) => {
                    let old = match place.take() {
                        Value::Object(old) => old,
                        _ => Object::new(),
                    };
                    *place = Value::Object(merge_object(old, object, element)?);
                }
                None => merged.push(Value::Object(merge_object(Object::new(), object, element)?)),
            },
            Some(_) => return Err(unknown_directive(&value[PATCH])),
        }
    }
    Ok(match order {
        Some(order) => {
            let position = |value: &Value| order.iter().position(|other| same(other, value));
            reorder(merged, &current, position, same)
        }
        None => merged,
    })
}

/// Puts the elements that the order names into that order, and weaves the others (known to the
/// server only) in where they stood before.
fn reorder(
    merged: Vec<Value>,
    before: &[Value],
    position: impl Fn(&Value) -> Option<usize>,
    same: impl Fn(&Value, &Value) -> bool,
) -> Vec<Value> {
    let (mut named, others): (Vec<_>, Vec<_>) = merged
        .into_iter()
        .partition(|value| position(value).is_some());
    named.sort_by_key(|value| position(value));
    let stood = |value: &Value| before.iter().position(|other| same(other, value));

    let mut woven = Vec::with_capacity(named.len() + others.len());
    let mut named = named.into_iter().peekable();
    for other in others {
        while let Some(next) = named.peek() {
            match (stood(next), stood(&other)) {
                (Some(a), Some(b)) if a < b => woven.extend(named.next()),
                _ => break,
            }
        }
        woven.push(other);
    }
    woven.extend(named);
    woven
}

fn without_directives(value: &Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(
            object
                .iter()
                .filter(|(key, _)| !key.starts_with('$'))
                .map(|(key, value)| (key.clone(), without_directives(value)))
                .collect(),
        ),
        Value::Array(values) => Value::Array(values.iter().map(without_directives).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment() -> Gvk {
        Gvk::new("apps", "v1", "Deployment")
    }

    fn pod_spec(spec: Value) -> Value {
        json!({"spec": {"template": {"spec": spec}}})
    }

    fn patched(before: Value, patch: Value) -> Value {
        let after = strategic(&pod_spec(before), &pod_spec(patch), &deployment()).unwrap();
        after["spec"]["template"]["spec"].clone()
    }

    #[test]
    fn containers_merge_by_name_and_env_within() {
        let after = patched(
            json!({"containers": [
                {"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]},
                {"name": "b", "image": "b:1"}]}),
            json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [
                {"name": "a", "image": "a:2", "$setElementOrder/env": [{"name": "X"}],
                 "env": [{"name": "Y", "$patch": "delete"}]}]}),
        );
        assert_eq!(
            after,
            json!({"containers": [
                {"name": "a", "image": "a:2", "env": [{"name": "X", "value": "1"}]},
                {"name": "b", "image": "b:1"}]})
        );
    }

    #[test]
    fn element_order_is_the_patchs_with_others_where_they_stood() {
        let names = |value: &Value| -> Vec<String> {
            let list = value["containers"].as_array().unwrap();
            list.iter()
                .map(|c| c["name"].as_str().unwrap().to_owned())
                .collect()
        };
        let after = patched(
            json!({"containers": [{"name": "a"}, {"name": "server"}, {"name": "b"}]}),
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}, {"name": "new"}],
                   "containers": [{"name": "new"}]}),
        );
        assert_eq!(names(&after), ["server", "b", "a", "new"]);
        let after = patched(
            json!({"containers": [{"name": "a"}, {"name": "server"}, {"name": "b"}]}),
            json!({"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}]}),
        );
        assert_eq!(names(&after), ["a", "server", "b"]);
    }

    #[test]
    fn service_ports_merge_by_port() {
        let service = Gvk::new("", "v1", "Service");
        let before = json!({"spec": {"ports": [
            {"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30000}]}});
        let patch = json!({"spec": {
            "$setElementOrder/ports": [{"port": 80}, {"port": 81}],
            "ports": [{"port": 80, "targetPort": 9090}, {"name": "two", "port": 81}]}});
        let after = strategic(&before, &patch, &service).unwrap();
        assert_eq!(
            after["spec"]["ports"],
            json!([{"name": "http", "port": 80, "targetPort": 9090, "nodePort": 30000},
                   {"name": "two", "port": 81}])
        );
    }

    #[test]
    fn replace_delete_and_retain_keys() {
        let after = patched(
            json!({"containers": [{"name": "a"}], "nodeSelector": {"a": "b"}, "securityContext": {"runAsUser": 1}}),
            json!({"containers": [{"$patch": "replace"}, {"name": "z"}],
                   "nodeSelector": {"$patch": "replace", "c": "d"},
                   "securityContext": {"$patch": "delete"}}),
        );
        assert_eq!(
            after,
            json!({"containers": [{"name": "z"}], "nodeSelector": {"c": "d"}, "securityContext": {}})
        );
        let before = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
        let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
        let after = strategic(&before, &patch, &deployment()).unwrap();
        assert_eq!(after, json!({"spec": {"strategy": {"type": "Recreate"}}}));
        let after = patched(
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumes": [{"$retainKeys": ["name", "configMap"], "name": "v", "configMap": {"name": "c"}}]}),
        );
        assert_eq!(
            after,
            json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}]})
        );
    }

    #[test]
    fn primitive_lists_lose_and_gain() {
        let before = json!({"metadata": {"finalizers": ["a", "b"], "labels": {"x": "1"}}});
        let patch = json!({"metadata": {
            "$deleteFromPrimitiveList/finalizers": ["a"],
            "$setElementOrder/finalizers": ["c", "b"],
            "finalizers": ["c"], "labels": {"x": null, "y": "2"}}});
        let after = strategic(&before, &patch, &deployment()).unwrap();
        assert_eq!(
            after,
            json!({"metadata": {"finalizers": ["c", "b"], "labels": {"y": "2"}}})
        );
    }

    #[test]
    fn other_lists_are_replaced_and_bad_patches_refused() {
        let after = patched(
            json!({"containers": [{"name": "a", "args": ["1", "2"]}]}),
            json!({"containers": [{"name": "a", "args": ["3"]}]}),
        );
        assert_eq!(after["containers"][0]["args"], json!(["3"]));
        let bad = pod_spec(json!({"containers": [{"image": "x"}]}));
        let error = strategic(&pod_spec(json!({})), &bad, &deployment()).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("does not contain declared merge key: name")
        );
        let bad = pod_spec(json!({"$patch": "explode"}));
        let error = strategic(&pod_spec(json!({})), &bad, &deployment()).unwrap_err();
        assert_eq!(error.to_string(), "unknown patch type found: \"explode\"");
    }
}
