//! Request bodies in Kubernetes' protobuf form, as `kubectl create` sends them, turned into JSON.
//!
//! A body is four magic bytes and a `runtime.Unknown`: apiVersion, kind, and the object's own
//! bytes. The object is read by one generic walker over the table in [`crate::types`]; nothing is
//! compiled per kind. The result is what the same client would have sent as JSON: Go always
//! writes fields that are not pointers, so empty strings, and zeros of the fields that are known
//! not to be pointers, are left out.
//!
//! A field that the table does not have is an error: nothing that was sent is lost silently.

use bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};
use serde_json::{Map, Value};

use crate::gvk::Gvk;
use crate::types::{self, Arity, Field, Message, Type};

mod scalar;

/// The media type of these bodies.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8] = b"k8s\0";

/// Messages nest about 15 deep; a limit keeps a hostile body from exhausting the stack.
const MAX_DEPTH: usize = 40;

/// A body that cannot be read: 400 BadRequest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProtobufError {
    /// Another format.
    #[error("provided data does not appear to be a protobuf message, expected prefix \"k8s\\0\"")]
    NotKubernetes,
    /// A kind that is not in the table.
    #[error("no kind \"{kind}\" is registered for version \"{version}\" in protobuf: send JSON")]
    UnknownKind {
        /// apiVersion of the envelope.
        version: String,
        /// Kind of the envelope.
        kind: String,
    },
    /// A field that is not in the table.
    #[error("unknown protobuf field number {number} in {message}: send JSON")]
    UnknownField {
        /// Name of the message.
        message: &'static str,
        /// Field number.
        number: u32,
    },
    /// Bytes that are not valid protobuf, or do not fit the field's type.
    #[error("error decoding protobuf in {message}: {reason}")]
    Malformed {
        /// Name of the message.
        message: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// Reads a body into a JSON object with `apiVersion` and `kind`.
///
/// # Errors
/// See [`ProtobufError`]; all of them are 400 BadRequest.
pub fn decode(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let unknown = bytes
        .strip_prefix(MAGIC)
        .ok_or(ProtobufError::NotKubernetes)?;
    let (version, kind, raw) = envelope(unknown)?;
    let gvk = Gvk::from_api_version(&version, &kind);
    // Options of a request are in the meta group, and known in every group.
    let message = match kind.as_str() {
        "DeleteOptions" => types::message("DeleteOptions"),
        _ => types::of_kind(&gvk),
    };
    let Some(message) = message else {
        return Err(ProtobufError::UnknownKind { version, kind });
    };
    let mut object = Map::new();
    object.insert("apiVersion".into(), version.into());
    object.insert("kind".into(), kind.into());
    read_message(raw, message, &mut object, 0)?;
    Ok(Value::Object(object))
}

/// apiVersion, kind and the bytes of the object.
fn envelope(mut bytes: &[u8]) -> Result<(String, String, &[u8]), ProtobufError> {
    const NAME: &str = "runtime.Unknown";
    let (mut version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    while bytes.has_remaining() {
        match next(&mut bytes, NAME)? {
            (1, Wire::Bytes(mut meta)) => {
                while meta.has_remaining() {
                    match next(&mut meta, "runtime.TypeMeta")? {
                        (1, Wire::Bytes(text)) => version = scalar::text(text, NAME)?,
                        (2, Wire::Bytes(text)) => kind = scalar::text(text, NAME)?,
                        (number, _) => {
                            return Err(ProtobufError::UnknownField {
                                message: NAME,
                                number,
                            });
                        }
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            // The content's encoding and type: empty, for protobuf within protobuf.
            (3 | 4, Wire::Bytes([])) => {}
            (3, _) => return Err(malformed(NAME, "a content encoding is not supported")),
            (4, Wire::Bytes(kind)) if kind == MEDIA_TYPE.as_bytes() => {}
            (4, _) => return Err(malformed(NAME, "another content type is not supported")),
            (number, _) => {
                return Err(ProtobufError::UnknownField {
                    message: NAME,
                    number,
                });
            }
        }
    }
    Ok((version, kind, raw))
}

/// A value as it is on the wire.
enum Wire<'b> {
    Varint(u64),
    Bytes(&'b [u8]),
}

fn malformed(message: &'static str, reason: impl ToString) -> ProtobufError {
    ProtobufError::Malformed {
        message,
        reason: reason.to_string(),
    }
}

/// The next field's number and value.
fn next<'b>(bytes: &mut &'b [u8], message: &'static str) -> Result<(u32, Wire<'b>), ProtobufError> {
    let (number, wire) = decode_key(bytes).map_err(|error| malformed(message, error))?;
    let value = match wire {
        WireType::Varint => {
            Wire::Varint(decode_varint(bytes).map_err(|error| malformed(message, error))?)
        }
        WireType::LengthDelimited => {
            let length = decode_varint(bytes).map_err(|error| malformed(message, error))?;
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let Some((value, rest)) = bytes.split_at_checked(length) else {
                return Err(malformed(message, "the body ends within a field"));
            };
            *bytes = rest;
            Wire::Bytes(value)
        }
        // The tables of this API have no field of another wire type.
        _ => {
            return Err(malformed(
                message,
                format!("field {number} has wire type {wire:?}"),
            ));
        }
    };
    Ok((number, value))
}

fn read_message(
    mut bytes: &[u8],
    message: &'static Message,
    object: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), ProtobufError> {
    if depth > MAX_DEPTH {
        return Err(malformed(message.name, "nested too deeply"));
    }
    while bytes.has_remaining() {
        let (number, wire) = next(&mut bytes, message.name)?;
        let Some(field) = message.number(number) else {
            return Err(ProtobufError::UnknownField {
                message: message.name,
                number,
            });
        };
        match field.arity {
            Arity::Inline => {
                let (Type::Message(inner), Wire::Bytes(bytes)) = (field.ty, wire) else {
                    return Err(malformed(message.name, "an inline struct is a message"));
                };
                if let Some(inner) = types::message(inner) {
                    read_message(bytes, inner, object, depth + 1)?;
                }
            }
            Arity::One => {
                let value = read_value(wire, field.ty, message.name, depth)?;
                if !is_omitted(message, field, &value) {
                    object.insert(field.name.into(), value);
                }
            }
            Arity::List => {
                let value = read_value(wire, field.ty, message.name, depth)?;
                if let Value::Array(list) = object
                    .entry(field.name)
                    .or_insert_with(|| Value::Array(Vec::new()))
                {
                    list.push(value);
                }
            }
            Arity::Map => {
                let (key, value) = read_entry(wire, field.ty, message.name, depth)?;
                if let Value::Object(map) = object
                    .entry(field.name)
                    .or_insert_with(|| Value::Object(Map::new()))
                {
                    map.insert(key, value);
                }
            }
        }
    }
    Ok(())
}

/// An entry of a map: a message of key (1) and value (2).
fn read_entry(
    wire: Wire,
    ty: Type,
    message: &'static str,
    depth: usize,
) -> Result<(String, Value), ProtobufError> {
    let Wire::Bytes(mut bytes) = wire else {
        return Err(malformed(message, "an entry of a map is a message"));
    };
    let mut key = String::new();
    let mut value = None;
    while bytes.has_remaining() {
        match next(&mut bytes, message)? {
            (1, Wire::Bytes(text)) => key = scalar::text(text, message)?,
            (2, wire) => value = Some(read_value(wire, ty, message, depth)?),
            (number, _) => return Err(ProtobufError::UnknownField { message, number }),
        }
    }
    let value = match value {
        Some(value) => value,
        None => read_value(Wire::Bytes(&[]), ty, message, depth)?,
    };
    Ok((key, value))
}

fn read_value(
    wire: Wire,
    ty: Type,
    message: &'static str,
    depth: usize,
) -> Result<Value, ProtobufError> {
    match (ty, wire) {
        (Type::Bool, Wire::Varint(number)) => Ok(Value::Bool(number != 0)),
        // Both sizes are written as 64 bits with the sign extended.
        (Type::Int32 | Type::Int64, Wire::Varint(number)) => Ok(Value::from(number.cast_signed())),
        (Type::String, Wire::Bytes(bytes)) => scalar::text(bytes, message).map(Value::String),
        (Type::Bytes, Wire::Bytes(bytes)) => Ok(scalar::base64(bytes)),
        (Type::Quantity, Wire::Bytes(bytes)) => scalar::quantity(bytes),
        (Type::IntOrString, Wire::Bytes(bytes)) => scalar::int_or_string(bytes),
        (Type::Time, Wire::Bytes(bytes)) => scalar::time(bytes, 0),
        (Type::MicroTime, Wire::Bytes(bytes)) => scalar::time(bytes, 6),
        (Type::FieldsV1, Wire::Bytes(bytes)) => scalar::fields(bytes),
        (Type::Message(name), Wire::Bytes(bytes)) => {
            let Some(inner) = types::message(name) else {
                return Err(malformed(message, format!("{name} is not in the table")));
            };
            let mut object = Map::new();
            read_message(bytes, inner, &mut object, depth + 1)?;
            // A named list in Go: `{items: [...]}` on the wire only.
            if name.ends_with(".ExtraValue") {
                return Ok(object
                    .remove("items")
                    .unwrap_or_else(|| Value::Array(Vec::new())));
            }
            Ok(Value::Object(object))
        }
        (_, _) => Err(malformed(
            message,
            "a field has the wire type of another type",
        )),
    }
}

/// True for a zero value that Go writes to the wire and leaves out of JSON.
fn is_omitted(message: &Message, field: &Field, value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty() && !is_pointer_to_string(message, field),
        Value::Null => true,
        Value::Number(number) => {
            number.as_i64() == Some(0)
                && (NOT_POINTERS.contains(&field.name) || message.name.ends_with("Status"))
        }
        Value::Bool(value) => !value && NOT_POINTERS.contains(&field.name),
        _ => false,
    }
}

/// Integers and booleans that are not pointers in Go: on the wire even when nobody set them.
const NOT_POINTERS: &[&str] = &[
    "containerPort",
    "failureThreshold",
    "generation",
    "healthCheckNodePort",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostPort",
    "initialDelaySeconds",
    "minReadySeconds",
    "nodePort",
    "number",
    "paused",
    "periodSeconds",
    "publishNotReadyAddresses",
    "readOnly",
    "stdin",
    "stdinOnce",
    "successThreshold",
    "tty",
    "unschedulable",
];

/// The strings where empty means something else than absent.
fn is_pointer_to_string(message: &Message, field: &Field) -> bool {
    matches!(
        (message.name, field.name),
        (_, "storageClassName" | "ingressClassName") | ("discovery.v1.EndpointPort", "name")
    )
}

#[cfg(test)]
mod tests;
