//! Which fields a resource has, and what a client may send for them.

use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

use crate::problem::Problem;

/// The most characters of a text field: the width of the column in the original's database.
pub const MAX_TEXT: usize = 255;

/// One object of a resource, its fields in their order.
pub type Object = Map<String, Value>;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Number,
    /// Text of at most [`MAX_TEXT`] characters.
    Text,
}

/// A field of a resource.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name in JSON.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// A number that it has when the client sends none; else it is null.
    pub default: Option<i64>,
}

impl Field {
    /// A number, null by default.
    #[must_use]
    pub const fn number(name: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Number,
            default: None,
        }
    }

    /// A text, null by default.
    #[must_use]
    pub const fn text(name: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Text,
            default: None,
        }
    }

    /// The same, zero by default.
    #[must_use]
    pub const fn or_zero(mut self) -> Self {
        self.default = Some(0);
        self
    }

    fn read(&self, value: &Value) -> Result<Value, Problem> {
        let wrong = |expected: &str| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                format!(
                    "JSON parse error: field `{}` must be {expected}, not {value}",
                    self.name
                ),
            )
        };
        match (self.kind, value) {
            (_, Value::Null) => Ok(Value::Null),
            (Kind::Number, _) => {
                let number = match value {
                    Value::Number(number) => number
                        .as_i64()
                        // The original cuts the fraction off; out of range is caught by the cast back.
                        .or_else(|| number.as_f64().filter(|n| n.abs() < 9e15).map(|n| n as i64)),
                    Value::String(text) => text.trim().parse().ok(),
                    _ => None,
                };
                number.map(Value::from).ok_or_else(|| wrong("a number"))
            }
            (Kind::Text, Value::String(text)) if text.chars().count() > MAX_TEXT => {
                Err(Problem::new(
                    StatusCode::BAD_REQUEST,
                    format!("field `{}` is longer than {MAX_TEXT} characters", self.name),
                ))
            }
            (Kind::Text, Value::String(_)) => Ok(value.clone()),
            (Kind::Text, Value::Number(_) | Value::Bool(_)) => Ok(value.to_string().into()),
            (Kind::Text, _) => Err(wrong("a text")),
        }
    }
}

/// An object of these fields in which nothing is set.
#[must_use]
pub fn blank(fields: &[Field]) -> Object {
    fields
        .iter()
        .map(|field| (field.name.to_owned(), field.default.into()))
        .collect()
}

/// Puts what a client sent over `onto`. Fields that the resource does not have are ignored, as the
/// original ignores them.
///
/// # Errors
/// When the content type is not JSON (415), or the body is not a JSON object with these fields (400).
pub fn read(
    fields: &[Field],
    headers: &HeaderMap,
    body: &[u8],
    mut onto: Object,
) -> Result<Object, Problem> {
    expect_json(headers)?;
    let sent: Value = serde_json::from_slice(body).map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            format!("JSON parse error: {error}"),
        )
    })?;
    let Value::Object(sent) = sent else {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "JSON parse error: an object is needed",
        ));
    };
    for field in fields {
        if let Some(value) = sent.get(field.name) {
            onto.insert(field.name.to_owned(), field.read(value)?);
        }
    }
    Ok(onto)
}

fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = given
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
    {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!("Content type '{given}' not supported; send application/json"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Field] = &[
        Field::number("qty").or_zero(),
        Field::number("id2"),
        Field::text("status"),
    ];

    fn sent(content_type: &str, body: &str) -> Result<String, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(
            "content-type",
            content_type.parse().expect("a header value"),
        );
        read(FIELDS, &headers, body.as_bytes(), blank(FIELDS))
            .map(|object| Value::Object(object).to_string())
    }

    #[test]
    fn fields_are_kept_in_order_and_unknown_ones_ignored() {
        assert_eq!(
            sent("application/json", r#"{"x":1,"status":"s","id2":"7"}"#).expect("valid"),
            r#"{"qty":0,"id2":7,"status":"s"}"#
        );
        assert_eq!(
            sent(
                "application/hal+json;charset=UTF-8",
                r#"{"qty":2.9,"status":5}"#
            )
            .expect("valid"),
            r#"{"qty":2,"id2":null,"status":"5"}"#
        );
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        for (content_type, body, status, reason) in [
            ("text/plain", "{}", 415, "'text/plain' not supported"),
            ("application/json", "{", 400, "JSON parse error"),
            ("application/json", "[]", 400, "an object is needed"),
            ("application/json", "", 400, "JSON parse error"),
            (
                "application/json",
                r#"{"qty":"many"}"#,
                400,
                r#"field `qty` must be a number, not "many""#,
            ),
            (
                "application/json",
                r#"{"status":{}}"#,
                400,
                "field `status` must be a text",
            ),
        ] {
            let problem = sent(content_type, body).expect_err(body);
            assert_eq!(problem.status.as_u16(), status, "{problem:?}");
            assert!(problem.message.contains(reason), "{problem:?}");
        }
        let long = format!(r#"{{"status":"{}"}}"#, "x".repeat(MAX_TEXT + 1));
        assert_eq!(
            sent("application/json", &long).expect_err("long").status,
            400
        );
    }
}
