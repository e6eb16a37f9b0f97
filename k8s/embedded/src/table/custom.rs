//! Columns of custom resources: `additionalPrinterColumns` with simple JSONPath.
//!
//! Simple is what a CustomResourceDefinition may use: `.spec.hosts`, `.status.conditions[0].type`,
//! `.metadata.labels['a\.b']`, `.status.conditions[?(@.type=="Ready")].status`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::text::{name, text};
use super::{AGE_DESCRIPTION, NAME_DESCRIPTION, age, definition};

/// Column definitions: the name, then the CRD's columns, or the age when it has none.
pub(super) fn definitions(columns: Option<&[Value]>) -> Value {
    let mut all = vec![definition("Name", "string", "name", NAME_DESCRIPTION, 0)];
    match columns {
        None | Some([]) => all.push(definition("Age", "date", "", AGE_DESCRIPTION, 0)),
        Some(columns) => all.extend(columns.iter().map(|column| {
            let description = match text(column, "/description") {
                "" => format!(
                    "Custom resource definition column (in JSONPath format): {}",
                    text(column, "/jsonPath")
                ),
                description => description.to_owned(),
            };
            definition(
                text(column, "/name"),
                text(column, "/type"),
                text(column, "/format"),
                &description,
                column.get("priority").and_then(Value::as_u64).unwrap_or(0),
            )
        })),
    }
    Value::Array(all)
}

/// Cells of one custom resource.
pub(super) fn cells(object: &Value, columns: Option<&[Value]>, now: Timestamp) -> Vec<Value> {
    let mut cells = vec![name(object)];
    match columns {
        None | Some([]) => cells.push(age::of_object(object, now)),
        Some(columns) => cells.extend(columns.iter().map(|column| {
            match find(object, text(column, "/jsonPath")) {
                Some(value) => cell(value, text(column, "/type"), now),
                None => Value::Null,
            }
        })),
    }
    cells
}

/// A value as its column's type wants it; null when it does not fit.
fn cell(value: &Value, kind: &str, now: Timestamp) -> Value {
    match (kind, value) {
        ("string", Value::String(_)) => value.clone(),
        ("string", Value::Null) => Value::Null,
        ("string", other) => other.to_string().into(),
        ("integer", Value::Number(number)) => {
            // A whole part only, as for Go's int64(float64).
            number.as_i64().map_or_else(
                || {
                    number
                        .as_f64()
                        .map_or(Value::Null, |number| json!(number.trunc()))
                },
                Value::from,
            )
        }
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(_)) => age::age(Some(value), now).into(),
        _ => Value::Null,
    }
}

/// The first value at a simple JSONPath.
pub(super) fn find<'v>(object: &'v Value, path: &str) -> Option<&'v Value> {
    let path = path.trim().trim_start_matches('{').trim_end_matches('}');
    let mut rest = path.strip_prefix('$').unwrap_or(path);
    let mut value = object;
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('[') {
            let end = closing_bracket(tail)?;
            value = subscript(value, tail[..end].trim())?;
            rest = &tail[end + 1..];
        } else {
            let tail = rest.strip_prefix('.').unwrap_or(rest);
            let (key, tail) = split_key(tail);
            if !key.is_empty() {
                value = value.get(&key)?;
            } else if tail.len() == rest.len() {
                return None;
            }
            rest = tail;
        }
    }
    Some(value)
}

/// The key up to the next `.` or `[`; a backslash takes the next character as it is.
fn split_key(text: &str) -> (String, &str) {
    let mut key = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => key.extend(characters.next().map(|(_, character)| character)),
            '.' | '[' => return (key, &text[at..]),
            other => key.push(other),
        }
    }
    (key, "")
}

/// The end of a subscript, outside of quotes.
fn closing_bracket(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), character) if open == character => quote = None,
            (None, ']') => return Some(at),
            _ => {}
        }
    }
    None
}

/// `0`, `-1`, `*`, `'key'`, `?(@.type=="Ready")`.
fn subscript<'v>(value: &'v Value, inside: &str) -> Option<&'v Value> {
    if let Some(filter) = inside
        .strip_prefix("?(")
        .and_then(|filter| filter.strip_suffix(')'))
    {
        let (path, wanted) = filter.split_once("==")?;
        let path = path.trim().strip_prefix('@')?;
        let wanted = unquote(wanted.trim());
        return value
            .as_array()?
            .iter()
            .find(|element| match find(element, path) {
                Some(Value::String(text)) => text == wanted,
                Some(Value::Bool(value)) => wanted == if *value { "true" } else { "false" },
                Some(Value::Number(number)) => wanted.parse().ok().as_ref() == Some(number),
                Some(_) => false,
                None => false,
            });
    }
    if inside.starts_with(['\'', '"']) {
        return value.get(unquote(inside).replace('\\', "").as_str());
    }
    let elements = value.as_array()?;
    match inside {
        "*" => elements.first(),
        index => match index.parse::<isize>().ok()? {
            index if index < 0 => elements.get(elements.len().checked_add_signed(index)?),
            index => elements.get(index.cast_unsigned()),
        },
    }
}

fn unquote(text: &str) -> &str {
    let quoted = |quote: char| {
        text.strip_prefix(quote)
            .and_then(|text| text.strip_suffix(quote))
    };
    quoted('\'').or_else(|| quoted('"')).unwrap_or(text)
}
