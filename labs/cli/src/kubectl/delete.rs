//! `delete`.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use futures::StreamExt;
use kube::core::WatchEvent;
use serde_json::{Value, json};

use super::{
    all_well,
    create::DryRun,
    kinds::{Kind, Kinds},
    manifest::Sources,
    objects::{Meant, Selection, meant, name, namespace},
    server::{self, OBJECTS, Server, when},
};

/// `kubectl delete`.
#[derive(Args)]
pub struct DeleteArgs {
    /// TYPE NAME..., TYPE/NAME..., or TYPE with -l or --all
    words: Vec<String>,
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    selection: Selection,
    /// Every object of the type
    #[arg(long)]
    all: bool,
    /// Not an error when it is not there
    #[arg(long)]
    ignore_not_found: bool,
    /// Seconds that a pod has to end
    #[arg(long)]
    grace_period: Option<i64>,
    /// Do not wait for pods to end; with --grace-period=0
    #[arg(long)]
    force: bool,
    /// Wait until the objects are gone
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    wait: bool,
    #[command(flatten)]
    form: DryRun,
}

/// What is to be deleted.
struct Doomed {
    kind: Kind,
    namespace: String,
    name: String,
    /// The file that names it.
    source: Option<String>,
}

/// Deletes objects and waits until they are gone.
pub async fn run(server: &Server, args: DeleteArgs) -> anyhow::Result<ExitCode> {
    let kinds = Kinds::of(server).await?;
    let doomed = doomed(server, &kinds, &args).await?;
    if doomed.is_empty() && !args.selection.is_empty() {
        println!("No resources found");
    }
    let mut outcomes = Vec::new();
    let mut going = Vec::new();
    for one in doomed {
        match delete(server, &args, &one).await {
            Ok(answer) => {
                let forced = if args.force {
                    "force deleted"
                } else {
                    "deleted"
                };
                let note = args.form.note();
                println!("{} {:?} {forced}{note}", one.kind.title(), one.name);
                going.push((one, uid(&answer)));
            }
            Err(error) if args.ignore_not_found && server::is_not_found(&error) => {}
            Err(error) => outcomes.push(Err(error)),
        }
    }
    if args.wait && !args.force && !args.form.is_dry() {
        for (one, uid) in going {
            gone(server, &one, uid.as_deref()).await?;
        }
    }
    Ok(all_well(outcomes))
}

async fn doomed(server: &Server, kinds: &Kinds, args: &DeleteArgs) -> anyhow::Result<Vec<Doomed>> {
    if !args.sources.is_empty() {
        let mut all = Vec::new();
        for mut manifest in args.sources.read()? {
            let (kind, _) = manifest.place(server, kinds)?;
            all.push(Doomed {
                kind,
                namespace: namespace(&manifest.object).to_owned(),
                name: name(&manifest.object).to_owned(),
                source: Some(manifest.source),
            });
        }
        return Ok(all);
    }
    let here = |kind: Kind, name: String| Doomed {
        kind,
        name,
        namespace: server.namespace.clone(),
        source: None,
    };
    match meant(kinds, &args.words)? {
        Meant::Named(named) => Ok(named.into_iter().map(|(k, n)| here(k, n)).collect()),
        Meant::All(_) if !args.all && args.selection.is_empty() => {
            anyhow::bail!("resource(s) were provided, but no name was specified")
        }
        Meant::All(kinds) => {
            let mut all = Vec::new();
            for kind in kinds {
                let path = kind.path(Some(&server.namespace)) + &args.selection.query();
                let list = server.get(&path).await?;
                let names = list["items"].as_array().into_iter().flatten().map(name);
                all.extend(names.map(|name| here(kind.clone(), name.to_owned())));
            }
            Ok(all)
        }
    }
}

async fn delete(server: &Server, args: &DeleteArgs, one: &Doomed) -> anyhow::Result<Value> {
    let mut options = json!({
        "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
    });
    if let Some(seconds) = args.grace_period.or(args.force.then_some(0)) {
        options["gracePeriodSeconds"] = seconds.into();
    }
    if args.form.is_dry() {
        options["dryRun"] = json!(["All"]);
    }
    let path = one.kind.path_of(&one.namespace, &one.name);
    let answer = if args.form.only_here() {
        server.get(&path).await
    } else {
        server.delete(&path, &options).await
    };
    match &one.source {
        Some(source) => when(answer, "deleting", source),
        None => answer,
    }
}

/// The uid of what was deleted; the answer is the object, or a Status that names it.
fn uid(answer: &Value) -> Option<String> {
    let uid = answer["metadata"]["uid"]
        .as_str()
        .or(answer["details"]["uid"].as_str());
    uid.map(str::to_owned)
}

/// Waits until the object is gone, or another has its name.
async fn gone(server: &Server, one: &Doomed, uid: Option<&str>) -> anyhow::Result<()> {
    let selection = Selection {
        fields: Some(format!("metadata.name={}", one.name)),
        labels: None,
    };
    let path = one.kind.path(Some(&one.namespace)) + &selection.query();
    let list = server.get(&path).await?;
    let same = |object: &Value| uid.is_none_or(|uid| object["metadata"]["uid"] == uid);
    if !list["items"].as_array().into_iter().flatten().any(same) {
        return Ok(());
    }
    let version = list["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default();
    let mut events = std::pin::pin!(
        server
            .watch(&format!("{path}&resourceVersion={version}"), OBJECTS)
            .await?
    );
    let seen = async {
        while let Some(event) = events.next().await {
            match event? {
                WatchEvent::Deleted(object) if same(&object) => return Ok(()),
                WatchEvent::Error(status) => anyhow::bail!("{}", status.message),
                _ => {}
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, seen)
        .await
        .unwrap_or_else(|_| {
            let name = &one.name;
            Err(anyhow::anyhow!(
                "{} {name:?} is still there: it has finalizers, or its containers do not end",
                one.kind.title()
            ))
        })
}

/// How long an object may take to go.
const PATIENCE: Duration = Duration::from_secs(300);
