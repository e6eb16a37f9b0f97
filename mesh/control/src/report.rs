//! What is wrong with a resource, or in it not carried out: never a silence.
//!
//! [`of_object`] looks at an object alone: Istio's validation, unknown fields, fields and kinds
//! that this mesh does not carry out. [`of_world`] looks at how objects go together: a route to a
//! subset that nobody defines, two VirtualServices for one host. Both are pure; [`publish`] writes
//! them to the `status` of the object and, when they are new, as Events.

mod not_carried_out;
mod publish;
mod references;
mod rules;

use serde_json::Value;

pub(crate) use publish::publish;
pub(crate) use references::of_world;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Error,
    Warning,
    /// Only told when asked.
    Info,
}

/// Something to say about an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Message {
    pub(crate) level: Level,
    /// Istio's code, or `DOJO0001` for what is not carried out.
    pub(crate) code: &'static str,
    /// Its name, also the reason of the Event.
    pub(crate) name: &'static str,
    pub(crate) text: String,
    /// The object has no effect because of it.
    pub(crate) invalidates: bool,
}

impl Message {
    pub(crate) fn error(code: &'static str, name: &'static str, text: String) -> Self {
        Self {
            level: Level::Error,
            code,
            name,
            text,
            invalidates: false,
        }
    }

    pub(crate) fn warning(code: &'static str, name: &'static str, text: String) -> Self {
        Self {
            level: Level::Warning,
            ..Self::error(code, name, text)
        }
    }

    pub(crate) fn info(code: &'static str, name: &'static str, text: String) -> Self {
        Self {
            level: Level::Info,
            ..Self::error(code, name, text)
        }
    }

    pub(crate) fn not_carried_out(text: String) -> Self {
        Self::warning("DOJO0001", "NotCarriedOut", text)
    }
}

/// Messages about an object that need no look at others.
pub(crate) fn of_object(kind: &str, object: &Value) -> Vec<Message> {
    let mut messages: Vec<_> = mesh_api::validate(kind, object)
        .into_iter()
        .map(|error| {
            // A field that we do not know is no reason to drop the rest: the API server pruned it
            // or speaks a newer version.
            let invalidates = !error.starts_with("unknown field");
            let text = format!("Schema validation error: {error}");
            Message {
                invalidates,
                ..Message::error("IST0106", "SchemaValidationError", text)
            }
        })
        .collect();
    messages.extend(
        not_carried_out::of_object(kind, object)
            .into_iter()
            .map(Message::not_carried_out),
    );
    messages
}

/// Texts of the messages that the status of an object holds.
pub(crate) fn reported(object: &Value) -> Vec<String> {
    let messages = object["status"]["validationMessages"]
        .as_array()
        .into_iter()
        .flatten();
    messages
        .filter_map(|message| message["message"].as_str())
        .map(str::to_owned)
        .collect()
}
