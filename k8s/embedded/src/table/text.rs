//! Small pieces that many cells are made of.

use serde_json::{Map, Value};

/// The text at a JSON pointer, or "".
pub(super) fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or("")
}

/// The text at a JSON pointer, or `<none>`.
pub(super) fn or_none(object: &Value, pointer: &str) -> String {
    none_if_empty(text(object, pointer).to_owned())
}

/// `<none>` for the empty string.
pub(super) fn none_if_empty(text: String) -> String {
    if text.is_empty() {
        "<none>".into()
    } else {
        text
    }
}

/// The number at a JSON pointer, or 0.
pub(super) fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

/// The list at a JSON pointer, or an empty one.
pub(super) fn list<'v>(object: &'v Value, pointer: &str) -> &'v [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The name cell.
pub(super) fn name(object: &Value) -> Value {
    text(object, "/metadata/name").into()
}

/// How many entries the map at a JSON pointer has.
pub(super) fn entries(object: &Value, pointer: &str) -> usize {
    object
        .pointer(pointer)
        .and_then(Value::as_object)
        .map_or(0, Map::len)
}

/// `a=b,c=d` in the order of keys, or `<none>`.
pub(super) fn labels(labels: Option<&Value>) -> String {
    let mut pairs: Vec<String> = labels
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    pairs.sort();
    none_if_empty(pairs.join(","))
}

/// A label selector on one line: `a=b,c in (d,e),!f`, or `<none>`.
pub(super) fn selector(selector: Option<&Value>) -> String {
    let Some(selector) = selector else {
        return "<none>".into();
    };
    let mut terms: Vec<(String, String)> = selector
        .get("matchLabels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| {
            (
                key.clone(),
                format!("{key}={}", value.as_str().unwrap_or("")),
            )
        })
        .collect();
    for expression in list(selector, "/matchExpressions") {
        let key = text(expression, "/key");
        let mut values: Vec<&str> = list(expression, "/values")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        values.sort_unstable();
        let values = values.join(",");
        let term = match text(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        };
        terms.push((key.to_owned(), term));
    }
    terms.sort();
    let terms: Vec<String> = terms.into_iter().map(|(_, term)| term).collect();
    none_if_empty(terms.join(","))
}

/// The first `most` texts joined by commas, and how many more there are.
pub(super) fn first(texts: &[String], most: usize) -> String {
    let shown = texts
        .iter()
        .take(most)
        .cloned()
        .collect::<Vec<_>>()
        .join(",");
    if texts.len() > most {
        format!("{shown} + {} more...", texts.len() - most)
    } else {
        shown
    }
}

/// Names and images of the containers of the pod spec at a JSON pointer.
pub(super) fn containers(object: &Value, pod_spec: &str) -> [Value; 2] {
    let of = |field: &str| -> Value {
        let texts: Vec<&str> = list(object, &format!("{pod_spec}/containers"))
            .iter()
            .map(|container| container.get(field).and_then(Value::as_str).unwrap_or(""))
            .collect();
        texts.join(",").into()
    };
    [of("name"), of("image")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_and_lists() {
        let value = json!({"matchLabels": {"v": "1", "app": "a"}, "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["x", "b"]}, {"key": "k", "operator": "DoesNotExist"}]});
        assert_eq!(selector(Some(&value)), "app=a,!k,tier in (b,x),v=1");
        assert_eq!(labels(Some(&json!({"b": "2", "a": "1"}))), "a=1,b=2");
        assert_eq!(labels(None), "<none>");
        let texts: Vec<String> = ["a", "b", "c", "d"].map(String::from).to_vec();
        assert_eq!(first(&texts, 3), "a,b,c + 1 more...");
        assert_eq!(first(&texts[..2], 3), "a,b");
    }
}
