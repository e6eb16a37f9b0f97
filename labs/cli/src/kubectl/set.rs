//! `set env` and `set image`.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{all_well, objects, patch::STRATEGIC, server::Server};

/// `kubectl set`.
#[derive(Subcommand)]
pub enum Set {
    /// Environment variables
    Env(SetArgs),
    /// Images
    Image(SetArgs),
}

/// What is changed, and how.
#[derive(Args)]
pub struct SetArgs {
    /// TYPE/NAME or TYPE NAME, then NAME=VALUE or, for env, NAME-
    #[arg(required = true)]
    words: Vec<String>,
    /// The container [default: all]
    #[arg(short, long)]
    container: Option<String>,
    #[command(flatten)]
    selection: objects::Selection,
}

/// Changes the containers of a template.
pub async fn run(server: &Server, set: Set) -> anyhow::Result<ExitCode> {
    let (args, what) = match &set {
        Set::Env(args) => (args, "env"),
        Set::Image(args) => (args, "image"),
    };
    let is_change = |word: &String| word.contains('=') || (what == "env" && word.ends_with('-'));
    let at = args.words.iter().position(is_change);
    let at = at.with_context(|| format!("at least one {what} is needed: NAME=VALUE"))?;
    let (words, changes) = args.words.split_at(at);
    let mut outcomes = Vec::new();
    for (kind, object) in objects::fetch(server, words, &args.selection).await? {
        let name = objects::name(&object);
        let outcome = async {
            let patch = plan(&object, what, changes, args.container.as_deref())?;
            let path = kind.path_of(objects::namespace(&object), name);
            let after = server.patch(&path, STRATEGIC, &patch).await?;
            if !objects::same(&object, &after) {
                println!("{}/{name} {what} updated", kind.title());
            }
            anyhow::Ok(())
        };
        outcomes.push(outcome.await);
    }
    Ok(all_well(outcomes))
}

/// The strategic merge patch for the containers, which are known by their names.
fn plan(
    object: &Value,
    what: &str,
    changes: &[String],
    only: Option<&str>,
) -> anyhow::Result<Value> {
    let in_template = object["spec"]["template"].is_object();
    let spec = if in_template {
        &object["spec"]["template"]["spec"]
    } else {
        &object["spec"]
    };
    let known: Vec<&str> = spec["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|container| container["name"].as_str())
        .collect();
    let mut containers: Vec<Value> = Vec::new();
    for name in known
        .iter()
        .filter(|name| only.is_none_or(|only| only == **name))
    {
        let mut container = json!({ "name": name });
        let mut variables = Vec::new();
        for change in changes {
            match (change.split_once('='), change.strip_suffix('-')) {
                (Some((key, value)), _) if what == "env" => {
                    variables.push(json!({ "name": key, "value": value, "valueFrom": null }));
                }
                (Some((key, image)), _) if key == *name || key == "*" => {
                    container["image"] = image.into();
                }
                (None, Some(key)) => variables.push(json!({ "name": key, "$patch": "delete" })),
                _ => {}
            }
        }
        if !variables.is_empty() {
            container["env"] = variables.into();
        }
        if container.as_object().is_some_and(|fields| fields.len() > 1) {
            containers.push(container);
        }
    }
    if containers.is_empty() {
        bail!(
            "unable to find container {:?}; there are {}",
            only.unwrap_or(&changes.join(" ")),
            known.join(", ")
        );
    }
    let spec = json!({ "containers": containers });
    Ok(if in_template {
        json!({ "spec": { "template": { "spec": spec } } })
    } else {
        json!({ "spec": spec })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_changed_by_name() {
        let object = json!({ "spec": { "template": { "spec": { "containers": [{ "name": "a" }, { "name": "b" }] } } } });
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let patch = plan(&object, "env", &words("X=1 Y-"), Some("b")).unwrap();
        assert_eq!(
            patch["spec"]["template"]["spec"]["containers"],
            json!([{ "name": "b", "env": [{ "name": "X", "value": "1", "valueFrom": null }, { "name": "Y", "$patch": "delete" }] }])
        );
        let patch = plan(&object, "image", &words("a=i:2"), None).unwrap();
        assert_eq!(
            patch["spec"]["template"]["spec"]["containers"],
            json!([{ "name": "a", "image": "i:2" }])
        );
        assert!(plan(&object, "image", &words("c=i:2"), None).is_err());
    }
}
