//! What the built-in kinds are made of: one table of facts, in `types/fields.txt`.
//!
//! A block per message of the Kubernetes API: its name (with `group.version.` for all but the
//! core and meta groups), then one line per field: JSON name, protobuf field number, type. The
//! numbers and types are those of the API's published protobuf definitions (0: it is read from JSON
//! alone); `inline` marks a Go embedded struct, whose fields sit beside the others in JSON.
//!
//! It serves the reading of objects, the protobuf decoder, the two merging patches (which list is
//! merged by which key) and server-side apply.

mod decode;

pub(crate) use decode::decode;

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::gvk::Gvk;

/// The type of a field's value, or of the elements of a list or map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// A string.
    String,
    /// A boolean.
    Bool,
    /// A signed integer of 32 bits.
    Int32,
    /// A signed integer of 64 bits.
    Int64,
    /// Any number.
    Number,
    /// Bytes: base64 in JSON.
    Bytes,
    /// `500m`, `64Mi`.
    Quantity,
    /// A port by number or name, a count or a percentage.
    IntOrString,
    /// RFC 3339 with seconds.
    Time,
    /// RFC 3339 with microseconds.
    MicroTime,
    /// JSON kept as bytes: a field set.
    FieldsV1,
    /// Any JSON.
    Json,
    /// This message, a list of it, a boolean, or names: the odd places of a JSON schema.
    SchemaOr(&'static str),
    /// Another message of the table.
    Message(&'static str),
}

/// How often a field's type occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arity {
    /// At most one value.
    One,
    /// A list.
    List,
    /// A map from strings.
    Map,
    /// A struct whose fields are the parent's in JSON.
    Inline,
}

/// A field of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    /// Name in JSON.
    pub(crate) name: &'static str,
    /// Field number in protobuf.
    pub(crate) number: u32,
    /// One, list, map or inline.
    pub(crate) arity: Arity,
    /// Type of the value or element.
    pub(crate) ty: Type,
}

/// A message: a kind, or a part of one.
#[derive(Debug)]
pub(crate) struct Message {
    /// Name, e.g. `PodSpec`, `apps.v1.DeploymentSpec`.
    pub(crate) name: &'static str,
    /// Fields in the order of their numbers.
    pub(crate) fields: Vec<Field>,
}

impl Message {
    /// The field with this JSON name; looks into inline structs.
    pub(crate) fn field(&self, name: &str) -> Option<&'static Field>
    where
        Self: 'static,
    {
        let own: &'static Message = message(self.name)?;
        own.fields.iter().find_map(|field| match field.arity {
            Arity::Inline => match field.ty {
                Type::Message(inner) => message(inner)?.field(name),
                _ => None,
            },
            _ => (field.name == name).then_some(field),
        })
    }

    /// The names of all fields in JSON, those of inline structs among them.
    #[cfg(test)]
    pub(crate) fn names(&self) -> Box<dyn Iterator<Item = &'static str>> {
        let fields = self.fields.clone();
        Box::new(
            fields
                .into_iter()
                .flat_map(|field| match (field.arity, field.ty) {
                    (Arity::Inline, Type::Message(name)) => message(name).unwrap().names(),
                    _ => Box::new(std::iter::once(field.name)),
                }),
        )
    }

    /// The field with this protobuf number.
    pub(crate) fn number(&self, number: u32) -> Option<&Field> {
        self.fields.iter().find(|field| field.number == number)
    }
}

/// The message of this name.
pub(crate) fn message(name: &str) -> Option<&'static Message> {
    table().get(name)
}

/// The message that describes a built-in kind; `None` for custom resources.
pub(crate) fn of_kind(gvk: &Gvk) -> Option<&'static Message> {
    match (gvk.group.as_str(), gvk.version.as_str()) {
        ("" | "meta.k8s.io", "v1") => message(&gvk.kind),
        (group, version) => {
            let short = group.split('.').next().unwrap_or(group);
            let known = matches!(
                group,
                "apps" | "batch" | "autoscaling" | "policy" | "admissionregistration.k8s.io"
            ) || group.ends_with(".k8s.io");
            known
                .then(|| message(&format!("{short}.{version}.{}", gvk.kind)))
                .flatten()
        }
    }
}

fn table() -> &'static HashMap<&'static str, Message> {
    static TABLE: OnceLock<HashMap<&'static str, Message>> = OnceLock::new();
    TABLE.get_or_init(|| parse(include_str!("types/fields.txt")))
}

fn parse(text: &'static str) -> HashMap<&'static str, Message> {
    let mut table = HashMap::new();
    let mut current: Option<Message> = None;
    for line in text.lines() {
        if let Some(field) = line.strip_prefix(' ') {
            // The table is part of the program and read whole by the tests.
            let field = parse_field(field).expect("types/fields.txt: a field line");
            if let Some(message) = &mut current {
                message.fields.push(field);
            }
        } else if !line.is_empty() {
            if let Some(done) = current.take() {
                table.insert(done.name, done);
            }
            current = Some(Message {
                name: line,
                fields: Vec::new(),
            });
        }
    }
    if let Some(done) = current {
        table.insert(done.name, done);
    }
    table
}

fn parse_field(line: &'static str) -> Option<Field> {
    let mut words = line.split(' ');
    let name = words.next()?;
    let number = words.next()?.parse().ok()?;
    let mut word = words.next()?;
    let arity = match word {
        "list" => Arity::List,
        "map" => Arity::Map,
        "inline" => Arity::Inline,
        _ => Arity::One,
    };
    if arity != Arity::One {
        word = words.next()?;
    }
    let ty = match word {
        "string" => Type::String,
        "bool" => Type::Bool,
        "int32" => Type::Int32,
        "int64" => Type::Int64,
        "double" => Type::Number,
        "bytes" => Type::Bytes,
        "Quantity" => Type::Quantity,
        "IntOrString" => Type::IntOrString,
        "Time" => Type::Time,
        "MicroTime" => Type::MicroTime,
        "FieldsV1" => Type::FieldsV1,
        "JSON" => Type::Json,
        "JSONSchemaPropsOr" => Type::SchemaOr("apiextensions.v1.JSONSchemaProps"),
        message => Type::Message(message),
    };
    Some(Field {
        name,
        number,
        arity,
        ty,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_named_by_a_field_is_in_the_table() {
        for message in table().values() {
            assert!(!message.name.contains(' '));
            for field in &message.fields {
                if let Type::Message(name) = field.ty {
                    assert!(
                        super::message(name).is_some(),
                        "{}.{}: {name}",
                        message.name,
                        field.name
                    );
                }
            }
        }
    }

    #[test]
    fn kinds_are_found_by_group_and_version() {
        let deployment = of_kind(&Gvk::new("apps", "v1", "Deployment")).unwrap();
        assert_eq!(deployment.name, "apps.v1.Deployment");
        assert!(of_kind(&Gvk::new("", "v1", "Pod")).is_some());
        assert!(of_kind(&Gvk::new("networking.k8s.io", "v1", "Ingress")).is_some());
        assert!(of_kind(&Gvk::new("networking.istio.io", "v1", "Ingress")).is_none());
    }

    #[test]
    fn fields_of_inline_structs_belong_to_the_parent() {
        let volume = message("Volume").unwrap();
        assert_eq!(
            volume.field("configMap").unwrap().ty,
            Type::Message("ConfigMapVolumeSource")
        );
        assert!(volume.field("volumeSource").is_none());
    }
}
