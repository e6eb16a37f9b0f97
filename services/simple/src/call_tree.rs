//! The answer: who was called, how long it took, what came of it.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};

use crate::go_text;

/// The order in which fields are written.
const ORDER: [&str; 14] = [
    "name",
    "uri",
    "type",
    "ip_addresses",
    "path",
    "start_time",
    "end_time",
    "duration",
    "headers",
    "cookies",
    "body",
    "upstream_calls",
    "code",
    "error",
];

/// An answer that is not yet written down; found in the extensions of a response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CallTree {
    fields: Map<String, Value>,
}

impl CallTree {
    /// The answer of this service to a request for `uri`.
    #[must_use]
    pub fn new(name: &str, uri: &str, ip_addresses: &[String]) -> Self {
        let mut tree = Self::default();
        tree.set("name", name);
        tree.set("uri", uri);
        tree.set("type", "HTTP");
        tree.set("ip_addresses", ip_addresses);
        tree
    }

    /// What another service answered: its own tree, if it is one.
    #[must_use]
    pub fn read(answer: &[u8]) -> Self {
        let fields = match serde_json::from_slice(answer) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        Self { fields }
    }

    /// Sets a field.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.fields.insert(name.to_owned(), value.into());
    }

    /// Sets the headers and cookies of a called service's answer.
    pub fn set_headers(&mut self, headers: &HeaderMap) {
        let mut object = Map::new();
        let mut cookies = Map::new();
        let mut names: Vec<_> = headers.keys().collect();
        names.sort_by_key(|name| name.as_str().to_owned());
        for name in names {
            let values: Vec<_> = headers
                .get_all(name)
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .collect();
            if name == header::SET_COOKIE {
                for value in &values {
                    let pair = value.split(';').next().unwrap_or_default();
                    if let Some((name, value)) = pair.split_once('=') {
                        cookies.insert(name.to_owned(), value.into());
                    }
                }
            }
            object.insert(canonical(name.as_str()), values.join(",").into());
        }
        self.set("headers", object);
        self.set("cookies", cookies);
    }

    /// Sets when it began, when it ended, and how long it took.
    pub fn set_times(&mut self, start: String, took: Duration) {
        self.set("start_time", start);
        self.set("end_time", go_text::now());
        self.set("duration", go_text::duration(took));
    }

    /// As JSON: fields in their order, empty ones left out, except the code.
    #[must_use]
    pub fn into_value(mut self) -> Value {
        let mut ordered = Map::new();
        for name in ORDER {
            let Some(value) = self.fields.remove(name) else {
                continue;
            };
            let empty = match &value {
                Value::Null => true,
                Value::String(text) => text.is_empty(),
                Value::Array(values) => values.is_empty(),
                Value::Object(fields) => fields.is_empty(),
                _ => false,
            };
            if !empty {
                ordered.insert(name.to_owned(), value);
            }
        }
        Value::Object(ordered)
    }

    /// Writes the answer down.
    #[must_use]
    pub fn into_response(mut self, status: StatusCode) -> Response {
        self.set("code", status.as_u16());
        let text = format!("{:#}\n", self.into_value());
        (
            status,
            [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
            text,
        )
            .into_response()
    }
}

/// A header's name as people write it: `X-Envoy-Overloaded`.
fn canonical(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let mut letters = word.chars();
        letters.next().map_or_else(String::new, |first| {
            format!("{}{}", first.to_ascii_uppercase(), letters.as_str())
        })
    });
    words.collect::<Vec<_>>().join("-")
}

/// The calls to other services: a list, or an object by address.
#[must_use]
pub fn calls(calls: Vec<(String, CallTree)>, by_address: bool) -> Value {
    if by_address {
        let calls = calls
            .into_iter()
            .map(|(uri, call)| (uri, call.into_value()));
        Value::Object(calls.collect())
    } else {
        json!(
            calls
                .into_iter()
                .map(|(_, call)| call.into_value())
                .collect::<Vec<_>>()
        )
    }
}
