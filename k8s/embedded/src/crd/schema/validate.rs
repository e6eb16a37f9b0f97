//! Values that the schema does not allow, in the words of Kubernetes.
//!
//! CEL rules (`x-kubernetes-validations`) are not evaluated; whoever creates a definition with
//! rules is warned.

use super::child;
use crate::status::Cause;
use regex::Regex;
use serde_json::Value;

/// Checks an object against a schema. `apiVersion`, `kind` and `metadata` are checked elsewhere.
pub fn validate(schema: &Value, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    check(schema, object, "", &mut causes);
    causes
}

fn cause(reason: &str, path: &str, message: String) -> Cause {
    Cause {
        reason: reason.into(),
        message,
        field: path.into(),
    }
}

fn invalid(path: &str, value: impl std::fmt::Display, message: String) -> Cause {
    cause(
        "FieldValueInvalid",
        path,
        format!("Invalid value: {value}: {message}"),
    )
}

/// A value's type, in the words of JSON schema.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn has_type(schema: &Value, value: &Value) -> bool {
    if schema["x-kubernetes-int-or-string"] == true {
        return value.is_string() || value.is_i64() || value.is_u64();
    }
    match schema["type"].as_str() {
        None | Some("") => true,
        Some("number") => value.is_number(),
        Some("integer") => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0)
        }
        Some(name) => type_of(value) == name,
    }
}

fn check(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    if !has_type(schema, value) {
        let (wanted, found) = (schema["type"].as_str().unwrap_or_default(), type_of(value));
        let wanted = match schema["x-kubernetes-int-or-string"] == true {
            true => "integer,string",
            false => wanted,
        };
        let message = format!("{path} in body must be of type {wanted}: {found:?}");
        causes.push(invalid(path, format!("{found:?}"), message));
        return;
    }
    match value {
        Value::Object(_) => check_object(schema, value, path, causes),
        Value::Array(items) => check_array(schema, items, path, causes),
        Value::String(text) => check_text(schema, text, path, causes),
        Value::Number(_) => check_number(schema, value, path, causes),
        _ => {}
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let list: Vec<String> = allowed.iter().map(Value::to_string).collect();
        causes.push(cause(
            "FieldValueNotSupported",
            path,
            format!(
                "Unsupported value: {value}: supported values: {}",
                list.join(", ")
            ),
        ));
    }
    check_combinations(schema, value, path, causes);
}

fn check_object(schema: &Value, object: &Value, path: &str, causes: &mut Vec<Cause>) {
    let Some(fields) = object.as_object() else {
        return;
    };
    for required in schema["required"].as_array().into_iter().flatten() {
        let key = required.as_str().unwrap_or_default();
        if !fields.contains_key(key) {
            causes.push(cause(
                "FieldValueRequired",
                &child(path, key),
                "Required value".into(),
            ));
        }
    }
    let count = fields.len() as u64;
    if let Some(least) = schema["minProperties"]
        .as_u64()
        .filter(|least| count < *least)
    {
        let message = format!("{path} in body should have at least {least} properties");
        causes.push(invalid(path, count, message));
    }
    if let Some(most) = schema["maxProperties"]
        .as_u64()
        .filter(|most| count > *most)
    {
        causes.push(cause(
            "FieldValueTooMany",
            path,
            format!("Too many: {count}: must have at most {most} items"),
        ));
    }
    for (key, value) in fields {
        if path.is_empty() && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        let field = child(path, key);
        if let Some(schema) = schema["properties"].get(key) {
            check(schema, value, &field, causes);
        } else if schema["additionalProperties"].is_object() {
            check(&schema["additionalProperties"], value, &field, causes);
        }
    }
}

fn check_array(schema: &Value, items: &[Value], path: &str, causes: &mut Vec<Cause>) {
    let count = items.len() as u64;
    if let Some(least) = schema["minItems"].as_u64().filter(|least| count < *least) {
        let message = format!("{path} in body should have at least {least} items");
        causes.push(invalid(path, count, message));
    }
    if let Some(most) = schema["maxItems"].as_u64().filter(|most| count > *most) {
        causes.push(cause(
            "FieldValueTooMany",
            path,
            format!("Too many: {count}: must have at most {most} items"),
        ));
    }
    if schema["items"].is_object() {
        for (index, item) in items.iter().enumerate() {
            check(&schema["items"], item, &format!("{path}[{index}]"), causes);
        }
    }
    check_keys(schema, items, path, causes);
}

/// Lists that are maps or sets have no item twice.
fn check_keys(schema: &Value, items: &[Value], path: &str, causes: &mut Vec<Cause>) {
    let keys: Vec<&str> = match schema["x-kubernetes-list-type"].as_str() {
        Some("map") => schema["x-kubernetes-list-map-keys"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect(),
        Some("set") => Vec::new(),
        _ if schema["uniqueItems"] == true => Vec::new(),
        _ => return,
    };
    let identity = |item: &Value| -> Value {
        if keys.is_empty() {
            item.clone()
        } else {
            keys.iter()
                .map(|key| ((*key).to_owned(), item[*key].clone()))
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
    };
    let mut seen: Vec<Value> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let identity = identity(item);
        if seen.contains(&identity) {
            causes.push(cause(
                "FieldValueDuplicate",
                &format!("{path}[{index}]"),
                format!("Duplicate value: {identity}"),
            ));
        }
        seen.push(identity);
    }
}

fn check_text(schema: &Value, text: &str, path: &str, causes: &mut Vec<Cause>) {
    let length = text.chars().count() as u64;
    if let Some(least) = schema["minLength"].as_u64().filter(|least| length < *least) {
        let message = format!("{path} in body should be at least {least} chars long");
        causes.push(invalid(path, format!("{text:?}"), message));
    }
    if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
        causes.push(cause(
            "FieldValueTooLong",
            path,
            format!("Too long: may not be more than {most} bytes"),
        ));
    }
    if let Some(pattern) = schema["pattern"].as_str()
        // a pattern beyond this engine cannot judge, and was warned about
        && let Ok(regex) = Regex::new(pattern)
        && !regex.is_match(text)
    {
        let message = format!("{path} in body should match '{pattern}'");
        causes.push(invalid(path, format!("{text:?}"), message));
    }
    let format = schema["format"].as_str().unwrap_or_default();
    let fits = match format {
        "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "uuid" => uuid::Uuid::parse_str(text).is_ok(),
        _ => true,
    };
    if !fits {
        let message = format!("{path} in body must be of type {format}: {text:?}");
        causes.push(invalid(path, format!("{text:?}"), message));
    }
}

fn check_number(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let number = value.as_f64().unwrap_or_default();
    if let Some(least) = schema["minimum"].as_f64() {
        let exclusive = schema["exclusiveMinimum"] == true;
        if number < least || (exclusive && number <= least) {
            let than = match exclusive {
                true => "greater than",
                false => "greater than or equal to",
            };
            let message = format!("{path} in body should be {than} {least}");
            causes.push(invalid(path, value, message));
        }
    }
    if let Some(most) = schema["maximum"].as_f64() {
        let exclusive = schema["exclusiveMaximum"] == true;
        if number > most || (exclusive && number >= most) {
            let than = match exclusive {
                true => "less than",
                false => "less than or equal to",
            };
            let message = format!("{path} in body should be {than} {most}");
            causes.push(invalid(path, value, message));
        }
    }
    if let Some(unit) = schema["multipleOf"].as_f64()
        && (number / unit).fract() != 0.0
    {
        let message = format!("{path} in body should be a multiple of {unit}");
        causes.push(invalid(path, value, message));
    }
    let fits = match schema["format"].as_str() {
        Some("int32") => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
        Some("uint32") => value.as_u64().is_some_and(|n| u32::try_from(n).is_ok()),
        _ => true,
    };
    if !fits {
        let format = schema["format"].as_str().unwrap_or_default();
        let message = format!("{path} in body must be of type {format}: {value}");
        causes.push(invalid(path, value, message));
    }
}

fn check_combinations(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let passes = |schema: &Value| {
        let mut causes = Vec::new();
        check(schema, value, path, &mut causes);
        causes.is_empty()
    };
    // these failures have no field of their own
    let mut fail = |message: String| causes.push(invalid("<nil>", "\"\"", message));
    if let Some(all) = schema["oneOf"].as_array() {
        match all.iter().filter(|schema| passes(schema)).count() {
            1 => {}
            0 => fail(format!(
                "{path:?} must validate one and only one schema (oneOf). Found none valid"
            )),
            count => fail(format!(
                "{path:?} must validate one and only one schema (oneOf). Found {count} valid alternatives"
            )),
        }
    }
    if let Some(all) = schema["anyOf"].as_array()
        && !all.iter().any(passes)
    {
        fail(format!(
            "{path:?} must validate at least one schema (anyOf)"
        ));
    }
    if let Some(all) = schema["allOf"].as_array()
        && !all.iter().all(passes)
    {
        fail(format!("{path:?} must validate all the schemas (allOf)"));
    }
    if schema["not"].is_object() && passes(&schema["not"]) {
        fail(format!("{path:?} must not validate the schema (not)"));
    }
}
