//! What Kubernetes refuses with 422 Invalid, in its words.
//!
//! [`object`] checks a defaulted object of a built-in kind, alone and against the object that it
//! replaces. Custom resources are checked here for their metadata only; their schema is the
//! business of [`crate::crd`]. Types are taken as given: decoding has refused what is not a
//! number where a number belongs, and what has an unexpected type here is passed over.

use serde_json::{Map, Value};

use crate::gvk::Gvk;

mod container;
mod format;
mod metadata;
mod pod;
mod quantity;

pub(crate) use quantity::parse as amount;
mod resources;
mod service;
mod workload;

/// One field that is wrong: a cause of the Status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field, e.g. `spec.ports[0].name`.
    pub field: String,
    /// `FieldValueInvalid`, `FieldValueRequired`, `FieldValueDuplicate`, ...
    pub reason: &'static str,
    /// What is wrong: `Invalid value: -1: must be greater than or equal to 0`.
    pub message: String,
}

/// Everything that is wrong with `new`, in the order in which Kubernetes reports it. `old` is
/// the stored object, when there is one.
pub fn object(gvk: &Gvk, old: Option<&Value>, new: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    metadata::validate(gvk, old, new, &mut errors);
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Pod") => pod::validate(old, new, &mut errors),
        ("", "Service") => service::validate(old, new, &mut errors),
        ("", "ConfigMap") => resources::config_map(old, new, &mut errors),
        ("", "Secret") => resources::secret(old, new, &mut errors),
        ("", "Endpoints") => resources::endpoints(new, &mut errors),
        ("", "Event") => resources::event(new, &mut errors),
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet") => {
            workload::replicated(&gvk.kind, old, new, &mut errors);
        }
        ("batch", "Job") => workload::job(old, new, &mut errors),
        ("batch", "CronJob") => workload::cron_job(new, &mut errors),
        ("autoscaling", "HorizontalPodAutoscaler") => resources::autoscaler(new, &mut errors),
        ("autoscaling", "Scale") => {
            errors.not_negative(&At::root().key("spec"), &new["spec"], "replicas");
        }
        ("networking.k8s.io", "Ingress") => resources::ingress(new, &mut errors),
        ("discovery.k8s.io", "EndpointSlice") => resources::endpoint_slice(old, new, &mut errors),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => resources::role(new, &mut errors),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            resources::role_binding(old, new, &mut errors);
        }
        (
            "admissionregistration.k8s.io",
            "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration",
        ) => resources::webhooks(new, &mut errors),
        _ => {}
    }
    errors.0
}

/// The path of a field.
#[derive(Clone, Debug)]
struct At(String);

impl At {
    fn root() -> At {
        At(String::new())
    }

    fn key(&self, name: &str) -> At {
        if self.0.is_empty() {
            At(name.to_owned())
        } else {
            At(format!("{}.{name}", self.0))
        }
    }

    fn index(&self, index: usize) -> At {
        At(format!("{}[{index}]", self.0))
    }

    fn entry(&self, key: &str) -> At {
        At(format!("{}[{key}]", self.0))
    }
}

/// The errors found so far.
#[derive(Default)]
struct Errors(Vec<FieldError>);

impl Errors {
    fn push(&mut self, at: &At, reason: &'static str, message: String) {
        self.0.push(FieldError {
            field: at.0.clone(),
            reason,
            message,
        });
    }

    fn invalid(&mut self, at: &At, value: &Value, why: &str) {
        self.push(
            at,
            "FieldValueInvalid",
            format!("Invalid value: {value}: {why}"),
        );
    }

    fn required(&mut self, at: &At) {
        self.push(at, "FieldValueRequired", "Required value".into());
    }

    fn required_because(&mut self, at: &At, why: &str) {
        self.push(at, "FieldValueRequired", format!("Required value: {why}"));
    }

    fn duplicate(&mut self, at: &At, value: &Value) {
        self.push(
            at,
            "FieldValueDuplicate",
            format!("Duplicate value: {value}"),
        );
    }

    fn not_found(&mut self, at: &At, value: &Value) {
        self.push(at, "FieldValueNotFound", format!("Not found: {value}"));
    }

    fn forbidden(&mut self, at: &At, why: &str) {
        self.push(at, "FieldValueForbidden", format!("Forbidden: {why}"));
    }

    fn too_long(&mut self, at: &At, most: usize) {
        self.push(
            at,
            "FieldValueTooLong",
            format!("Too long: may not be more than {most} bytes"),
        );
    }

    fn unsupported(&mut self, at: &At, value: &Value, supported: &[&str]) {
        let supported: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        let message = format!(
            "Unsupported value: {value}: supported values: {}",
            supported.join(", ")
        );
        self.push(at, "FieldValueNotSupported", message);
    }

    /// A text that must be one of `supported`, unless it is absent.
    fn one_of(&mut self, at: &At, object: &Value, key: &str, supported: &[&str]) {
        if let Some(value @ Value::String(text)) = object.get(key)
            && !supported.contains(&text.as_str())
        {
            self.unsupported(&at.key(key), value, supported);
        }
    }

    /// A number that must not be negative, unless it is absent.
    fn not_negative(&mut self, at: &At, object: &Value, key: &str) {
        if let Some(value) = object.get(key)
            && value.as_i64().is_some_and(|number| number < 0)
        {
            self.invalid(&at.key(key), value, "must be greater than or equal to 0");
        }
    }

    /// A text against a format: each complaint is an error.
    fn format(&mut self, at: &At, value: &Value, complaints: Vec<String>) {
        for complaint in complaints {
            self.invalid(at, value, &complaint);
        }
    }

    /// A field that must not change once it is there.
    fn immutable(&mut self, at: &At, old: Option<&Value>, new: Option<&Value>, why: &str) {
        if old.unwrap_or(&Value::Null) != new.unwrap_or(&Value::Null) {
            self.invalid(at, new.unwrap_or(&Value::Null), why);
        }
    }
}

const IMMUTABLE: &str = "field is immutable";

/// The list at `key`, or an empty one.
fn list<'v>(object: &'v Value, key: &str) -> &'v [Value] {
    object
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The text at `key`, or "".
fn text<'v>(object: &'v Value, key: &str) -> &'v str {
    object.get(key).and_then(Value::as_str).unwrap_or("")
}

/// The entries of the object at `key`.
fn entries<'v>(object: &'v Value, key: &str) -> impl Iterator<Item = (&'v String, &'v Value)> {
    object
        .get(key)
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::iter)
}

/// The value at `key`, unless it is absent or null.
fn given<'v>(object: &'v Value, key: &str) -> Option<&'v Value> {
    object.get(key).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests;
