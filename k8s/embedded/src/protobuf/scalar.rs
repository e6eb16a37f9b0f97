//! Values whose JSON form is not their protobuf form: quantities, times, bytes, int-or-string.

use base64::Engine;
use bytes::Buf;
use serde_json::Value;

use super::{ProtobufError, Wire, malformed, next};

/// UTF-8 text.
pub(super) fn text(bytes: &[u8], message: &'static str) -> Result<String, ProtobufError> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|error| malformed(message, error))
}

/// Bytes as JSON has them: base64.
pub(super) fn base64(bytes: &[u8]) -> Value {
    base64::engine::general_purpose::STANDARD
        .encode(bytes)
        .into()
}

/// A message of one string (1).
pub(super) fn quantity(mut bytes: &[u8]) -> Result<Value, ProtobufError> {
    const NAME: &str = "Quantity";
    let mut amount = String::from("0");
    while bytes.has_remaining() {
        match next(&mut bytes, NAME)? {
            (1, Wire::Bytes(bytes)) => amount = text(bytes, NAME)?,
            (number, _) => {
                return Err(ProtobufError::UnknownField {
                    message: NAME,
                    number,
                });
            }
        }
    }
    Ok(amount.into())
}

/// A message of a type (1: 0 for integer, 1 for text), an integer (2) and a text (3).
pub(super) fn int_or_string(mut bytes: &[u8]) -> Result<Value, ProtobufError> {
    const NAME: &str = "IntOrString";
    let (mut is_text, mut integer, mut string) = (false, 0, String::new());
    while bytes.has_remaining() {
        match next(&mut bytes, NAME)? {
            (1, Wire::Varint(kind)) => is_text = kind != 0,
            (2, Wire::Varint(value)) => integer = value.cast_signed(),
            (3, Wire::Bytes(bytes)) => string = text(bytes, NAME)?,
            (number, _) => {
                return Err(ProtobufError::UnknownField {
                    message: NAME,
                    number,
                });
            }
        }
    }
    Ok(if is_text {
        string.into()
    } else {
        integer.into()
    })
}

/// A message of seconds (1) and nanoseconds (2) since the epoch; an empty one is no time: null.
pub(super) fn time(mut bytes: &[u8], digits: usize) -> Result<Value, ProtobufError> {
    const NAME: &str = "Time";
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanoseconds) = (0, 0);
    while bytes.has_remaining() {
        match next(&mut bytes, NAME)? {
            (1, Wire::Varint(value)) => seconds = value.cast_signed(),
            (2, Wire::Varint(value)) => nanoseconds = value.cast_signed(),
            (number, _) => {
                return Err(ProtobufError::UnknownField {
                    message: NAME,
                    number,
                });
            }
        }
    }
    let nanoseconds = i32::try_from(nanoseconds).map_err(|error| malformed(NAME, error))?;
    let time =
        jiff::Timestamp::new(seconds, nanoseconds).map_err(|error| malformed(NAME, error))?;
    Ok(if digits == 0 {
        time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    } else {
        time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
    }
    .into())
}

/// A message of bytes (1) that are JSON.
pub(super) fn fields(mut bytes: &[u8]) -> Result<Value, ProtobufError> {
    const NAME: &str = "FieldsV1";
    let mut value = Value::Null;
    while bytes.has_remaining() {
        match next(&mut bytes, NAME)? {
            (1, Wire::Bytes(bytes)) => {
                value = serde_json::from_slice(bytes).map_err(|error| malformed(NAME, error))?;
            }
            (number, _) => {
                return Err(ProtobufError::UnknownField {
                    message: NAME,
                    number,
                });
            }
        }
    }
    Ok(value)
}
