//! `label` and `annotate`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::{Map, Value, json};

use super::{
    all_well,
    objects::{self, Selection},
    patch::MERGE,
    server::Server,
};

/// `kubectl label`, `kubectl annotate`.
#[derive(Args)]
pub struct AnnotateArgs {
    /// TYPE NAME... or TYPE/NAME..., then KEY=VALUE or KEY-
    #[arg(required = true)]
    words: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    /// Every object of the type
    #[arg(long)]
    all: bool,
    /// Values may be replaced
    #[arg(long)]
    overwrite: bool,
}

/// Which of the two maps.
pub struct Field {
    name: &'static str,
    command: &'static str,
    verb: &'static str,
}

/// Labels.
pub const LABELS: Field = Field {
    name: "labels",
    command: "label",
    verb: "labeled",
};
/// Annotations.
pub const ANNOTATIONS: Field = Field {
    name: "annotations",
    command: "annotate",
    verb: "annotated",
};

/// Sets and removes keys.
pub async fn run(server: &Server, args: AnnotateArgs, field: &Field) -> anyhow::Result<ExitCode> {
    let (objects, changes) = split(&args.words);
    let changes = parse(changes)?;
    if changes.is_empty() {
        bail!(
            "at least one {} update is required: KEY=VALUE, or KEY- to remove",
            field.name.trim_end_matches('s')
        );
    }
    if let Some(word) = objects.first().filter(|word| !word.contains('/')) {
        let kinds = super::kinds::Kinds::of(server).await?;
        if let Err(error) = kinds.called(word) {
            // `label user02 a=b`: the name was taken for a type.
            let changes = &args.words[objects.len()..];
            let of_namespaces = changes.iter().any(|c| c.starts_with("istio-injection"));
            let path = format!("/api/v1/namespaces/{word}");
            let what = match of_namespaces || server.get(&path).await.is_ok() {
                true => "namespace",
                false => "TYPE",
            };
            bail!(
                "{error}; the type comes before the name: kubectl {} {what} {word} {}",
                field.command,
                changes.join(" ")
            );
        }
        let named = objects.len() > 1 || args.all || !args.selection.is_empty();
        if !named {
            bail!(
                "one or more resources must be specified as <resource> <name> or <resource>/<name>"
            );
        }
    }
    let mut outcomes = Vec::new();
    for (kind, object) in objects::fetch(server, objects, &args.selection).await? {
        let name = objects::name(&object);
        let outcome = async {
            let patch = plan(&object["metadata"][field.name], &changes, args.overwrite)?;
            let verb = said(&patch, &object["metadata"][field.name], field);
            for (key, value) in &changes {
                if value.is_none() && object["metadata"][field.name][*key].is_null() {
                    println!("{} {key:?} not found.", field.name.trim_end_matches('s'));
                }
            }
            let path = kind.path_of(objects::namespace(&object), name);
            let patch = json!({ "metadata": { field.name: patch } });
            server.patch(&path, MERGE, &patch).await?;
            println!("{}/{name} {verb}", kind.title());
            anyhow::Ok(())
        };
        outcomes.push(outcome.await);
    }
    Ok(all_well(outcomes))
}

/// Where the objects end and the changes begin: at the first `KEY=VALUE` or `KEY-`.
fn split(words: &[String]) -> (&[String], &[String]) {
    let is_change = |word: &String| word.contains('=') || word.ends_with('-');
    let at = words.iter().position(is_change).unwrap_or(words.len());
    words.split_at(at)
}

/// A key, and its value; none: it goes.
type Change<'a> = (&'a str, Option<&'a str>);

fn parse(words: &[String]) -> anyhow::Result<Vec<Change<'_>>> {
    words.iter().map(change).collect()
}

fn change(word: &String) -> anyhow::Result<Change<'_>> {
    match (word.split_once('='), word.strip_suffix('-')) {
        (Some((key, value)), _) => Ok((key, Some(value))),
        (None, Some(key)) => Ok((key, None)),
        _ => bail!("{word:?} is neither KEY=VALUE nor KEY-"),
    }
}

/// The merge patch of the map.
fn plan(
    now: &Value,
    changes: &[Change<'_>],
    overwrite: bool,
) -> anyhow::Result<Map<String, Value>> {
    let mut patch = Map::new();
    for (key, value) in changes {
        if let (Some(old), Some(new), false) = (now[key].as_str(), value, overwrite)
            && old != *new
        {
            bail!("'{key}' already has a value ({old}), and --overwrite is false");
        }
        patch.insert((*key).to_owned(), value.map_or(Value::Null, Value::from));
    }
    Ok(patch)
}

/// What kubectl says that it did.
fn said(patch: &Map<String, Value>, now: &Value, field: &Field) -> String {
    let changes = patch.iter().any(|(key, value)| now[key] != *value);
    let only_removes = patch.values().all(Value::is_null);
    match (changes, field.name) {
        (false, "labels") => "not labeled".into(),
        (_, "labels") if only_removes => "unlabeled".into(),
        _ => field.verb.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_set_removed_and_not_overwritten_by_accident() {
        let words: Vec<String> = ["namespace", "a", "x=1", "y-"].map(String::from).to_vec();
        let (objects, changes) = split(&words);
        assert_eq!(objects, ["namespace", "a"]);
        let changes = parse(changes).unwrap();
        let now = json!({ "x": "2", "y": "3" });
        let told = plan(&now, &changes, false).unwrap_err().to_string();
        assert_eq!(
            told,
            "'x' already has a value (2), and --overwrite is false"
        );
        let patch = plan(&now, &changes, true).unwrap();
        assert_eq!(Value::from(patch.clone()), json!({ "x": "1", "y": null }));
        assert_eq!(said(&patch, &now, &LABELS), "labeled");
        let removal = plan(&now, &[("y", None)], false).unwrap();
        assert_eq!(said(&removal, &now, &LABELS), "unlabeled");
        assert_eq!(said(&removal, &json!({}), &LABELS), "not labeled");
        assert_eq!(said(&removal, &now, &ANNOTATIONS), "annotated");
    }
}
