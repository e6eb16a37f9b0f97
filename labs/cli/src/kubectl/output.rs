//! `-o yaml|json|name|jsonpath=...`: objects as kubectl writes them.

use serde_json::{Map, Value, json};

use super::{jsonpath::Template, kinds::Kind, objects, table::Columns};

/// How objects are printed.
#[derive(Clone, Debug)]
pub enum Output {
    /// In rows.
    Table {
        /// With the columns of less importance.
        wide: bool,
    },
    /// As YAML.
    Yaml,
    /// As JSON.
    Json,
    /// `pod/NAME`, a line each.
    Name,
    /// By a template.
    JsonPath(Template),
    /// In columns of one's own: `NAME:.metadata.name,...`.
    Columns(Vec<(String, Template)>),
}

impl std::str::FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.split_once('=') {
            Some(("jsonpath", template)) => Self::JsonPath(template.parse()?),
            Some(("custom-columns", columns)) => {
                let column = |text: &str| match text.split_once(':') {
                    Some((title, path)) => Ok((title.to_owned(), path.parse()?)),
                    None => Err(format!(
                        "unexpected custom-columns spec: {text}, expected <header>:<json-path-expr>"
                    )),
                };
                Self::Columns(columns.split(',').map(column).collect::<Result<_, _>>()?)
            }
            None if text == "wide" => Self::Table { wide: true },
            None if text == "yaml" => Self::Yaml,
            None if text == "json" => Self::Json,
            None if text == "name" => Self::Name,
            _ => {
                return Err(format!(
                    "unable to match a printer suitable for the output format {text:?}, allowed formats are: custom-columns=COLUMNS,json,jsonpath=TEMPLATE,name,wide,yaml"
                ));
            }
        })
    }
}

/// The text of objects; `alone` when one object was asked for by its name. Empty for a table, which is the server's matter.
///
/// # Errors
/// When an object has no form in YAML.
pub fn print(output: &Output, objects: &[(Kind, Value)], alone: bool) -> anyhow::Result<String> {
    if let Output::Name = output {
        let line = |(kind, object): &(Kind, Value)| {
            format!("{}/{}\n", kind.title(), objects::name(object))
        };
        return Ok(objects.iter().map(line).collect());
    }
    if let Output::Columns(columns) = output {
        return Ok(in_columns(columns, objects));
    }
    let whole = match objects {
        [(_, object)] if alone => tidy(object),
        _ => json!({
            "apiVersion": "v1",
            "items": objects.iter().map(|(_, object)| tidy(object)).collect::<Vec<_>>(),
            "kind": "List",
            "metadata": { "resourceVersion": "" },
        }),
    };
    Ok(match output {
        Output::Table { .. } | Output::Name | Output::Columns(_) => String::new(),
        Output::Yaml => yaml(&whole)?,
        Output::Json => {
            let mut text = Vec::new();
            let four = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            let mut printer = serde_json::Serializer::with_formatter(&mut text, four);
            serde::Serialize::serialize(&whole, &mut printer)?;
            String::from_utf8(text)? + "\n"
        }
        Output::JsonPath(template) => template.fill(&whole).map_err(anyhow::Error::msg)?,
    })
}

fn in_columns(columns: &[(String, Template)], objects: &[(Kind, Value)]) -> String {
    let titles = columns.iter().map(|(title, _)| title.clone()).collect();
    let cell = |object: &Value, path: &Template| match path.fill(object) {
        Ok(text) if !text.is_empty() => text,
        _ => "<none>".to_owned(),
    };
    let row = |(_, object): &(Kind, Value)| {
        let cells = columns.iter().map(|(_, path)| cell(object, path));
        cells.collect()
    };
    let mut rows: Vec<Vec<String>> = vec![titles];
    rows.extend(objects.iter().map(row));
    Columns::default().lines(&rows)
}

/// Without the bookkeeping of field owners, and with its keys in order.
fn tidy(object: &Value) -> Value {
    let mut object = sorted(object);
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.shift_remove("managedFields");
    }
    object
}

/// The object with the keys of all its maps in order.
pub fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<(&String, &Value)> = map.iter().collect();
            pairs.sort_by_key(|(key, _)| *key);
            let pairs = pairs.into_iter().map(|(k, v)| (k.clone(), sorted(v)));
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

/// YAML with the quotes that kubectl sets: double ones, and around times too.
pub fn yaml(value: &Value) -> anyhow::Result<String> {
    let mut out = String::new();
    // The indentation of a key whose text of several lines follows: that text stays as it is.
    let mut block: Option<usize> = None;
    for line in serde_norway::to_string(value)?.lines() {
        let indent = line.len() - line.trim_start().len();
        if block.is_some_and(|key| indent > key || line.is_empty()) {
            out.push_str(line);
        } else {
            let block_begins = [": |", ": |-", ": |+", ": >-", "- |", "- |-"]
                .iter()
                .any(|mark| line.ends_with(mark));
            block = block_begins.then_some(indent);
            out.push_str(&quoted(line));
        }
        out.push('\n');
    }
    Ok(out)
}

/// Words that YAML 1.1 takes for true or false.
const OLD_BOOLEANS: [&str; 16] = [
    "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off",
    "OFF",
];

/// A line with its scalar in double quotes, if it is a text that looks like a number, a time and so on.
fn quoted(line: &str) -> String {
    let item = line.len() - line.trim_start_matches([' ', '-']).len();
    let start = line.find(": ").map_or(item, |at| at + 2);
    let (key, scalar) = line.split_at(start);
    let inner = scalar
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''))
        .unwrap_or(scalar);
    let quoted = inner.len() < scalar.len();
    let is_time = inner.parse::<jiff::Timestamp>().is_ok();
    // What would be something else without quotes has double ones; other marks have single ones.
    let otherwise = quoted
        && matches!(
            serde_norway::from_str(inner),
            Ok(Value::Bool(_) | Value::Number(_) | Value::Null)
        );
    if otherwise || is_time || OLD_BOOLEANS.contains(&inner) {
        format!("{key}\"{inner}\"")
    } else {
        line.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::kinds::tests::some, *};

    #[test]
    fn yaml_is_as_kubectl_writes_it() {
        let object = json!({
            "kind": "Pod",
            "metadata": { "resourceVersion": "12", "name": "a", "managedFields": [{}],
                "creationTimestamp": "2026-01-02T03:04:05Z", "annotations": { "text": "a: '1'\nb: '2'\n" } },
            "spec": { "args": ["true", "on"], "hosts": ["*"] },
        });
        let pod = some().called("pod").unwrap().remove(0);
        let text = print(&Output::Yaml, &[(pod.clone(), object.clone())], true).unwrap();
        let wanted = "kind: Pod
metadata:
  annotations:
    text: |
      a: '1'
      b: '2'
  creationTimestamp: \"2026-01-02T03:04:05Z\"
  name: a
  resourceVersion: \"12\"
spec:
  args:
  - \"true\"
  - \"on\"
  hosts:
  - '*'
";
        assert_eq!(text, wanted);
        let names = print(&Output::Name, &[(pod, object)], false).unwrap();
        assert_eq!(names, "pod/a\n");
    }

    #[test]
    fn columns_of_ones_own() {
        let pod = some().called("pod").unwrap().remove(0);
        let object = json!({ "metadata": { "name": "a" } });
        let output: Output = "custom-columns=NAME:.metadata.name,IP:.status.podIP"
            .parse()
            .unwrap();
        let text = print(&output, &[(pod, object)], true).unwrap();
        assert_eq!(text, "NAME   IP\na      <none>\n");
        assert!("custom-columns=NAME".parse::<Output>().is_err());
    }

    #[test]
    fn unknown_formats_are_refused() {
        assert!("jsonpath={.a}".parse::<Output>().is_ok());
        assert!("jsonpath".parse::<Output>().is_err());
        assert!(
            "text"
                .parse::<Output>()
                .unwrap_err()
                .contains("allowed formats")
        );
    }
}
