//! From objects to messages: the reports of the control plane, and what only a look at workloads
//! shows.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::Serialize;

use super::{Source, effects, workloads};
use crate::{
    compile::Compiler,
    report::{Level, Message, of_object, of_world},
    world::World,
};

/// Something to say about an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `Error`, `Warning` or `Info`.
    pub level: &'static str,
    /// Istio's code, or `DOJO0001` for what this mesh does not carry out.
    pub code: &'static str,
    /// `VirtualService default/reviews`.
    pub origin: String,
    /// `FILE:LINE`, for an object of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            level,
            code,
            origin,
            message,
            ..
        } = self;
        write!(to, "{level} [{code}] ({origin}")?;
        if let Some(reference) = &self.reference {
            write!(to, " {reference}")?;
        }
        write!(to, ") {message}")
    }
}

/// Kind, namespace and name.
pub(super) type Id = (String, String, String);

/// Everything to say about the objects of a namespace (`None`: of all), worst first. All objects
/// count for what is referred to.
pub fn analyze(sources: &[Source], namespace: Option<&str>) -> Vec<Finding> {
    let mut world = World::default();
    let mut said: Vec<(Id, Message)> = Vec::new();
    let mut places = BTreeMap::new();
    for source in sources {
        let object = &source.object;
        let kind = object["kind"].as_str().unwrap_or_default();
        let text = |field: &str| {
            object["metadata"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let id = (kind.to_owned(), text("namespace"), text("name"));
        places.insert(id.clone(), source.place.clone());
        let messages = match mesh_api::kind(kind) {
            Some(_) => of_object(kind, object),
            None => Vec::new(),
        };
        let void = messages.iter().any(|message| message.invalidates);
        said.extend(messages.into_iter().map(|message| (id.clone(), message)));
        if !void && let Err(error) = world.insert(object) {
            let text = format!("Schema validation error: {error}");
            said.push((id, Message::error("IST0106", "SchemaValidationError", text)));
        }
    }
    let compiler = Compiler::new(Arc::new(world), 1);
    for ((kind, (namespace, name)), messages) in of_world(&compiler) {
        let id = (kind.to_owned(), namespace, name);
        said.extend(messages.into_iter().map(|message| (id.clone(), message)));
    }
    said.extend(workloads::look(sources, &compiler));
    said.extend(effects::look(&compiler));
    said.sort_by(|(a, x), (b, y)| (x.level, x.code, a).cmp(&(y.level, y.code, b)));
    said.dedup();
    said.into_iter()
        .filter(|((kind, of, name), _)| {
            let of = if kind == "Namespace" { name } else { of };
            namespace.is_none_or(|only| of == only)
        })
        .map(|(id, message)| {
            let reference = places.get(&id).cloned().flatten();
            let (kind, namespace, name) = id;
            Finding {
                level: match message.level {
                    Level::Error => "Error",
                    Level::Warning => "Warning",
                    Level::Info => "Info",
                },
                code: message.code,
                origin: match namespace.as_str() {
                    "" => format!("{kind} {name}"),
                    namespace => format!("{kind} {namespace}/{name}"),
                },
                reference,
                message: message.text,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn source(kind: &str, name: &str, rest: Value) -> Source {
        let mut object = json!({"kind": kind, "metadata": {"name": name, "namespace": "default"}});
        for (field, value) in rest.as_object().unwrap() {
            object[field] = value.clone();
        }
        Source {
            object,
            place: (kind == "VirtualService").then(|| "vs.yaml:1".to_owned()),
        }
    }

    #[test]
    fn messages_read_as_istioctls() {
        let sources = [
            source(
                "Service",
                "web",
                json!({"spec": {"ports": [{"port": 80, "name": "odd"}], "selector": {"app": "web"}}}),
            ),
            source(
                "Pod",
                "web-1",
                json!({"spec": {"containers": []}, "status": {"podIP": "10.0.0.1"}}),
            ),
            source(
                "VirtualService",
                "web",
                json!({"spec": {"hosts": ["web"], "http": [
                {"route": [{"destination": {"host": "web", "subset": "v9"}}]},
                {"match": [{"uri": {"prefix": "/a"}}], "route": [{"destination": {"host": "gone"}}]}]}}),
            ),
            source(
                "DestinationRule",
                "web",
                json!({"spec": {"host": "web", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}}),
            ),
            source(
                "Namespace",
                "default",
                json!({"metadata": {"name": "default"}}),
            ),
        ];
        let lines: Vec<String> = analyze(&sources, Some("default"))
            .iter()
            .map(ToString::to_string)
            .collect();
        let start = |line: &String| line.split(") ").next().unwrap().to_owned() + ")";
        assert_eq!(
            lines.iter().map(start).collect::<Vec<_>>(),
            [
                "Error [IST0101] (VirtualService default/web vs.yaml:1)",
                "Error [IST0101] (VirtualService default/web vs.yaml:1)",
                "Error [IST0173] (DestinationRule default/web)",
                "Warning [IST0130] (VirtualService default/web vs.yaml:1)",
                "Info [IST0102] (Namespace default)",
                "Info [IST0118] (Service default/web)",
            ],
            "{lines:#?}"
        );
        let missing = "(VirtualService default/web vs.yaml:1) Referenced host not found: \"gone\"";
        assert!(lines[1].ends_with(missing), "{}", lines[1]);
        assert!(analyze(&sources, Some("elsewhere")).is_empty());
    }
}
