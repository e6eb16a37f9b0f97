//! Reading a JSON object as its kind: what the kind does not have is taken out and named, and a
//! value of another type is an error, in the words of the API server, which are those of Go's decoder.

use base64::{DecodeError as Base64Error, Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use super::{Arity, Field, Message, Type, message};

/// A value that its field cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// JSON of another type.
    #[error(
        "json: cannot unmarshal {found} into Go struct field {owner}.{field} of type {expected}"
    )]
    Type {
        /// `string`, `number 1.5`, `object`.
        found: String,
        /// The struct that declares the field, e.g. `DeploymentSpec`.
        owner: &'static str,
        /// Fields from the top, without indices: `spec.replicas`.
        field: String,
        /// The type in Go, e.g. `int32`.
        expected: String,
    },
    /// JSON of another type where a type reads itself and does not know its field.
    #[error("json: cannot unmarshal {found} into Go value of type {expected}")]
    Value {
        /// As above.
        found: &'static str,
        /// As above.
        expected: &'static str,
    },
    /// A text that is no time.
    #[error("parsing time {0:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {0:?}")]
    Time(String),
    /// A text that is not base64.
    #[error("illegal base64 data at input byte {0}")]
    Base64(usize),
}

/// Removes from an object what its kind does not have; returns the paths of what it removed, such as
/// `spec.containers[0].imag`.
///
/// # Errors
/// The first field whose value is of another type.
pub(crate) fn decode(
    kind: &'static Message,
    object: &mut Map<String, Value>,
) -> Result<Vec<String>, DecodeError> {
    let mut unknown = Vec::new();
    Place::default().fields(kind, object, &mut unknown)?;
    Ok(unknown)
}

/// Where in an object a value is.
#[derive(Clone, Default)]
struct Place {
    /// With indices and keys, e.g. `spec.containers[0].env`.
    path: String,
    /// Names of fields alone, e.g. `spec.containers.env`.
    fields: String,
}

impl Place {
    fn field(&self, name: &str) -> Self {
        Place {
            path: dotted(&self.path, name),
            fields: dotted(&self.fields, name),
        }
    }

    fn key(&self, key: &str) -> Self {
        Place {
            path: dotted(&self.path, key),
            fields: self.fields.clone(),
        }
    }

    fn index(&self, index: usize) -> Self {
        Place {
            path: format!("{}[{index}]", self.path),
            fields: self.fields.clone(),
        }
    }

    /// The fields of a struct.
    fn fields(
        &self,
        owner: &'static Message,
        object: &mut Map<String, Value>,
        unknown: &mut Vec<String>,
    ) -> Result<(), DecodeError> {
        let mut strange = Vec::new();
        for (name, value) in object.iter_mut() {
            let place = self.field(name);
            match owner.field(name) {
                Some(field) => place.value(owner, field, value, unknown)?,
                // A kind says of itself what it is.
                None if self.path.is_empty() && matches!(&**name, "apiVersion" | "kind") => {}
                None => {
                    strange.push(name.clone());
                    unknown.push(place.path);
                }
            }
        }
        for name in strange {
            object.shift_remove(&name);
        }
        Ok(())
    }

    /// The value of a field.
    fn value(
        &self,
        owner: &'static Message,
        field: &'static Field,
        value: &mut Value,
        unknown: &mut Vec<String>,
    ) -> Result<(), DecodeError> {
        match (field.arity, value) {
            (Arity::List, Value::Array(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.index(index).one(owner, field, item, unknown)?;
                }
                Ok(())
            }
            (Arity::Map, Value::Object(entries)) => {
                for (key, item) in entries.iter_mut() {
                    self.key(key).one(owner, field, item, unknown)?;
                }
                Ok(())
            }
            (Arity::List | Arity::Map, Value::Null) => Ok(()),
            (Arity::List | Arity::Map, value) => Err(self.mistyped(owner, field, value, true)),
            (Arity::One | Arity::Inline, value) => self.one(owner, field, value, unknown),
        }
    }

    /// A value of a field's type, or an element of its list or map.
    fn one(
        &self,
        owner: &'static Message,
        field: &'static Field,
        value: &mut Value,
        unknown: &mut Vec<String>,
    ) -> Result<(), DecodeError> {
        match (field.ty, &mut *value) {
            (_, Value::Null)
            | (Type::FieldsV1 | Type::Json, _)
            | (Type::String, Value::String(_))
            | (Type::Bool, Value::Bool(_))
            | (Type::Number, Value::Number(_))
            | (Type::Quantity, Value::String(_))
            | (Type::IntOrString, Value::String(_)) => Ok(()),
            // `cpu: 1` is kept as the text that it stands for.
            (Type::Quantity, Value::Number(number)) => {
                *value = number.to_string().into();
                Ok(())
            }
            (Type::Int32, Value::Number(number)) => match number.as_i64().map(i32::try_from) {
                Some(Ok(_)) => Ok(()),
                _ => Err(self.mistyped(owner, field, value, false)),
            },
            (Type::Int64, Value::Number(number)) if number.is_i64() => Ok(()),
            (Type::IntOrString, Value::Number(number))
                if number.as_i64().is_some_and(|it| i32::try_from(it).is_ok()) =>
            {
                Ok(())
            }
            (Type::IntOrString, other) => Err(DecodeError::Value {
                found: kind_of(other),
                expected: "int32",
            }),
            (Type::Time | Type::MicroTime, Value::String(text)) => {
                match text.parse::<jiff::Timestamp>() {
                    Ok(_) => Ok(()),
                    Err(_) => Err(DecodeError::Time(text.clone())),
                }
            }
            (Type::Time | Type::MicroTime, other) => Err(DecodeError::Value {
                found: kind_of(other),
                expected: "string",
            }),
            (Type::Bytes, Value::String(text)) => base64(text),
            (Type::Message(name), value) if name.ends_with(".ExtraValue") => match value {
                Value::Array(items) if items.iter().all(Value::is_string) => Ok(()),
                other => Err(self.mistyped(owner, field, other, false)),
            },
            (Type::Message(name) | Type::SchemaOr(name), Value::Object(object)) => {
                match message(name) {
                    Some(inner) => self.fields(inner, object, unknown),
                    None => Ok(()),
                }
            }
            (Type::SchemaOr(_), Value::Bool(_)) => Ok(()),
            (Type::SchemaOr(_), Value::Array(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.index(index).one(owner, field, item, unknown)?;
                }
                Ok(())
            }
            (Type::SchemaOr(_), Value::String(_)) => Ok(()),
            (_, value) => Err(self.mistyped(owner, field, value, false)),
        }
    }

    /// `whole`: a list or map was expected, not one of its elements.
    fn mistyped(
        &self,
        owner: &'static Message,
        field: &Field,
        value: &Value,
        whole: bool,
    ) -> DecodeError {
        let element = go_type(field.ty);
        let found = match value {
            Value::Number(number) if matches!(field.ty, Type::Int32 | Type::Int64) && !whole => {
                format!("number {number}")
            }
            other => kind_of(other).to_owned(),
        };
        DecodeError::Type {
            found,
            owner: last(owner.name),
            field: self.fields.clone(),
            expected: match (whole, field.arity) {
                (true, Arity::List) => format!("[]{element}"),
                (true, Arity::Map) => format!("map[string]{element}"),
                _ => element,
            },
        }
    }
}

fn dotted(parent: &str, name: &str) -> String {
    match parent {
        "" => name.to_owned(),
        _ => format!("{parent}.{name}"),
    }
}

/// Go's name of a struct without its package.
fn last(name: &'static str) -> &'static str {
    name.rsplit('.').next().unwrap_or(name)
}

fn go_type(ty: Type) -> String {
    match ty {
        Type::String => "string".into(),
        Type::Bool => "bool".into(),
        Type::Int32 => "int32".into(),
        Type::Int64 => "int64".into(),
        Type::Number => "float64".into(),
        Type::Bytes => "[]uint8".into(),
        Type::Quantity => "resource.Quantity".into(),
        Type::IntOrString => "intstr.IntOrString".into(),
        Type::Time => "v1.Time".into(),
        Type::MicroTime => "v1.MicroTime".into(),
        Type::FieldsV1 => "v1.FieldsV1".into(),
        Type::Json => "v1.JSON".into(),
        Type::Message(name) | Type::SchemaOr(name) => {
            let version = name.rsplit('.').nth(1).unwrap_or("v1");
            format!("{version}.{}", last(name))
        }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn base64(text: &str) -> Result<(), DecodeError> {
    // Line breaks are no part of the data.
    let data: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    match STANDARD.decode(&data) {
        Ok(_) => Ok(()),
        Err(Base64Error::InvalidByte(at, _) | Base64Error::InvalidLastSymbol(at, _)) => {
            Err(DecodeError::Base64(at))
        }
        Err(Base64Error::InvalidLength(_) | Base64Error::InvalidPadding) => {
            Err(DecodeError::Base64(data.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gvk::Gvk;
    use crate::types::of_kind;
    use serde_json::json;

    fn read(group: &str, kind: &str, object: Value) -> (Value, Result<Vec<String>, String>) {
        let kind = of_kind(&Gvk::new(group, "v1", kind)).unwrap();
        let Value::Object(mut object) = object else {
            panic!("{object}: an object")
        };
        let unknown = decode(kind, &mut object).map_err(|error| error.to_string());
        (Value::Object(object), unknown)
    }

    #[test]
    fn unknown_fields_are_taken_out_and_named() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "annotations": {"a.b/c": "d"}},
            "spec": {"containers": [{"name": "c", "imag": "x"}], "kind": "x"}, "x": 1,
        });
        let (rest, unknown) = read("", "Pod", pod);
        assert_eq!(
            unknown.unwrap(),
            ["spec.containers[0].imag", "spec.kind", "x"]
        );
        assert_eq!(
            rest,
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "annotations": {"a.b/c": "d"}},
                "spec": {"containers": [{"name": "c"}]},
            })
        );
    }

    #[test]
    fn wrong_types_are_told_as_the_api_server_tells_them() {
        for (group, kind, object, told) in [
            (
                "apps",
                "Deployment",
                json!({"spec": {"replicas": "two"}}),
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                "apps",
                "Deployment",
                json!({"spec": {"replicas": 1.5}}),
                "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                "",
                "ConfigMap",
                json!({"data": {"a": 1}}),
                "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
            ),
            (
                "apps",
                "Deployment",
                json!({"spec": {"template": {"spec": {"containers": [{"env": [{"name": "A", "value": 1}]}]}}}}),
                "json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string",
            ),
            (
                "",
                "Pod",
                json!({"spec": {"containers": "nginx"}}),
                "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container",
            ),
            (
                "",
                "Secret",
                json!({"data": {"a": "not base64!"}}),
                "illegal base64 data at input byte 3",
            ),
        ] {
            assert_eq!(read(group, kind, object).1.unwrap_err(), told);
        }
    }

    #[test]
    fn what_has_several_forms_is_taken_in_each() {
        let pod = json!({"spec": {"containers": [{
            "name": "c", "ports": [], "resources": {"limits": {"cpu": 1, "memory": "64Mi"}},
            "livenessProbe": {"httpGet": {"port": "http"}}, "readinessProbe": {"httpGet": {"port": 80}},
        }]}});
        let (pod, unknown) = read("", "Pod", pod);
        assert_eq!(unknown.unwrap(), [""; 0]);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"]["limits"]["cpu"],
            "1"
        );
        let definition = json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {
            "type": "object", "default": {"a": [1]}, "typ": "x", "properties": {"a": {
                "items": [{"type": "string", "maximum": 1.5}], "additionalProperties": true,
                "x-kubernetes-int-or-string": true, "enum": [1, "a", null]}},
        }}}]}});
        let at = "spec.versions[0].schema.openAPIV3Schema.typ";
        let (_, unknown) = read(
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            definition,
        );
        assert_eq!(unknown.unwrap(), [at]);
    }
}
