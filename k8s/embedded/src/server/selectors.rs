//! Label and field selectors.

use crate::discovery::Resource;
use crate::status::ApiError;
use serde_json::Value;

/// Both selectors of a list or watch.
#[derive(Clone, Debug, Default)]
pub(super) struct Selectors {
    labels: Vec<Requirement>,
    fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    NotExists,
    Greater(i64),
    Less(i64),
}

#[derive(Clone, Debug, PartialEq)]
struct Field {
    path: String,
    value: String,
    equal: bool,
}

impl Selectors {
    /// Parses both selectors, which may be empty. Fields that the resource does not support are
    /// refused.
    pub(super) fn parse(
        resource: &Resource,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Self, ApiError> {
        let labels = parse_labels(labels.unwrap_or_default()).map_err(|reason| {
            ApiError::bad_request(format!("unable to parse requirement: {reason}"))
        })?;
        let fields = parse_fields(fields.unwrap_or_default()).map_err(ApiError::bad_request)?;
        for field in &fields {
            if !supported(resource, &field.path) {
                return Err(ApiError::bad_request(format!(
                    "field label not supported: {}",
                    field.path
                )));
            }
        }
        Ok(Selectors { labels, fields })
    }

    /// Whether everything matches.
    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object matches both.
    pub(super) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels
            .iter()
            .all(|requirement| requirement.matches(labels[&requirement.key].as_str()))
            && self
                .fields
                .iter()
                .all(|field| (field_value(object, &field.path) == field.value) == field.equal)
    }

    /// The only name that can match, when a field selector gives one.
    pub(super) fn name(&self) -> Option<&str> {
        self.fields
            .iter()
            .find(|field| field.path == "metadata.name" && field.equal)
            .map(|field| field.value.as_str())
    }
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.iter().any(|v| v == value)),
            Test::NotIn(values) => !value.is_some_and(|value| values.iter().any(|v| v == value)),
            Test::Exists => value.is_some(),
            Test::NotExists => value.is_none(),
            Test::Greater(than) => number().is_some_and(|number| number > *than),
            Test::Less(than) => number().is_some_and(|number| number < *than),
        }
    }
}

/// Splits at commas outside parentheses.
fn split(selector: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (index, character) in selector.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&selector[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&selector[start..]);
    parts
}

fn parse_labels(selector: &str) -> Result<Vec<Requirement>, String> {
    if selector.trim().is_empty() {
        return Ok(Vec::new());
    }
    split(selector).into_iter().map(parse_label).collect()
}

fn parse_label(part: &str) -> Result<Requirement, String> {
    let part = part.trim();
    let requirement = |key: &str, test| {
        let key = key.trim();
        let valid = !key.is_empty()
            && key
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        match valid {
            true => Ok(Requirement {
                key: key.to_owned(),
                test,
            }),
            false => Err(format!("found {part:?}, expected: identifier")),
        }
    };
    let one = |value: &str| vec![value.trim().to_owned()];
    let set = |text: &str| -> Option<Vec<String>> {
        let inner = text.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(inner.split(',').map(|v| v.trim().to_owned()).collect())
    };
    if let Some((key, value)) = part.split_once("!=") {
        return requirement(key, Test::NotIn(one(value)));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return requirement(key, Test::In(one(value)));
    }
    if let Some(key) = part.strip_prefix('!') {
        return requirement(key, Test::NotExists);
    }
    for (operator, test) in [
        ('>', Test::Greater as fn(i64) -> Test),
        ('<', Test::Less as fn(i64) -> Test),
    ] {
        if let Some((key, value)) = part.split_once(operator) {
            let number = value.trim().parse();
            return requirement(
                key,
                test(number.map_err(|_| format!("{value:?} is not an integer"))?),
            );
        }
    }
    let mut words = part.splitn(2, char::is_whitespace);
    let (key, rest) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default().trim(),
    );
    let negated = rest.strip_prefix("notin").and_then(set);
    let positive = rest.strip_prefix("in").and_then(set);
    match (rest, negated, positive) {
        ("", _, _) => requirement(key, Test::Exists),
        (_, Some(values), _) => requirement(key, Test::NotIn(values)),
        (_, _, Some(values)) => requirement(key, Test::In(values)),
        _ => Err(format!(
            "found {rest:?}, expected: in, notin, =, ==, !=, gt, lt"
        )),
    }
}

fn parse_fields(selector: &str) -> Result<Vec<Field>, String> {
    selector
        .split(',')
        .filter(|part| !part.trim().is_empty())
        .map(|part| {
            let (path, value, equal) = if let Some((path, value)) = part.split_once("!=") {
                (path, value, false)
            } else if let Some((path, value)) =
                part.split_once("==").or_else(|| part.split_once('='))
            {
                (path, value, true)
            } else {
                return Err(format!(
                    "invalid selector: '{selector}'; can't understand '{part}'"
                ));
            };
            Ok(Field {
                path: path.trim().to_owned(),
                value: value.trim().to_owned(),
                equal,
            })
        })
        .collect()
}

/// The fields by which a kind can be selected, besides name and namespace.
fn supported(resource: &Resource, path: &str) -> bool {
    if matches!(path, "metadata.name" | "metadata.namespace") {
        return true;
    }
    if let Some(custom) = resource.custom() {
        return custom.selectable_fields.iter().any(|field| field == path);
    }
    let fields: &[&str] = match resource.gvk.kind.as_str() {
        "Pod" => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        "Event" => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        "Secret" => &["type"],
        "Namespace" => &["status.phase", "name"],
        "Node" => &["spec.unschedulable"],
        "Service" => &["spec.clusterIP", "spec.type"],
        "ReplicaSet" => &["status.replicas"],
        _ => &[],
    };
    fields.contains(&path)
}

fn field_value(object: &Value, path: &str) -> String {
    let path = match path {
        "source" => "source.component",
        "name" => "metadata.name",
        path => path,
    };
    let value = path.split('.').fold(object, |value, key| &value[key]);
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        // an unset boolean selects as false
        _ if matches!(path, "spec.unschedulable" | "spec.hostNetwork") => "false".into(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn labels(selector: &str) -> Selectors {
        Selectors {
            labels: parse_labels(selector).unwrap(),
            fields: Vec::new(),
        }
    }

    #[test]
    fn label_selectors_match_as_in_kubernetes() {
        let object = json!({"metadata": {"labels": {"app": "web", "tier": "front", "n": "5"}}});
        for yes in [
            "app=web",
            "app==web,tier=front",
            "app!=db",
            "app in (web, db)",
            "app notin (db)",
            "app",
            "!nosuch",
            "nosuch!=x",
            "n>4",
            "n<6",
            "",
        ] {
            assert!(labels(yes).matches(&object), "{yes}");
        }
        for no in ["app=db", "app notin (web,db)", "!app", "nosuch", "n>5"] {
            assert!(!labels(no).matches(&object), "{no}");
        }
        assert!(parse_labels("a b c").is_err());
        assert!(parse_labels("=x").is_err());
    }

    #[test]
    fn field_selectors_compare_text() {
        let fields = parse_fields("metadata.name=x,status.phase!=Running").unwrap();
        let selectors = Selectors {
            labels: Vec::new(),
            fields,
        };
        assert_eq!(selectors.name(), Some("x"));
        assert!(selectors.matches(&json!({"metadata": {"name": "x"}})));
        assert!(
            !selectors.matches(&json!({"metadata": {"name": "x"}, "status": {"phase": "Running"}}))
        );
    }
}
