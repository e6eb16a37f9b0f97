//! JSON with a blank after each comma and colon, as the upstream productpage writes it.

use std::io;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize as _;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

/// A JSON answer.
pub(super) fn response(status: StatusCode, value: &Value) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        text(value),
    )
        .into_response()
}

fn text(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, Spaced);
    // A Value has string keys only, and writing to memory cannot fail.
    let _ = value.serialize(&mut serializer);
    bytes
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_stand_after_commas_and_colons_but_not_in_strings() {
        let value = serde_json::json!({"a": [1, 2, {}], "b": "x,y:z"});
        assert_eq!(text(&value), br#"{"a": [1, 2, {}], "b": "x,y:z"}"#);
    }
}
