//! `rollout`: status, restart, undo, history.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use futures::StreamExt;
use kube::core::WatchEvent;
use serde_json::{Value, json};

use super::{
    all_well,
    kinds::{Kind, Kinds},
    objects::{self, Meant, REVISION, Selection, meant},
    patch::{JSON, STRATEGIC},
    server::{OBJECTS, Server},
    wait,
};

/// `kubectl rollout`.
#[derive(Subcommand)]
pub enum Rollout {
    /// Wait until the new pods serve
    Status {
        #[command(flatten)]
        args: RolloutArgs,
        /// No longer than this: 60s, 2m; 0s: for ever
        #[arg(long, value_parser = wait::duration, default_value = "0s")]
        timeout: Duration,
        /// Do not wait, only tell
        #[arg(short, long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
        watch: bool,
    },
    /// Make the pods anew
    Restart(RolloutArgs),
    /// Back to the template before
    Undo {
        #[command(flatten)]
        args: RolloutArgs,
        /// Back to this revision
        #[arg(long)]
        to_revision: Option<u64>,
    },
    /// The revisions that there are
    History(RolloutArgs),
}

/// Of what.
#[derive(Args)]
pub struct RolloutArgs {
    /// TYPE/NAME or TYPE NAME
    #[arg(required = true)]
    words: Vec<String>,
    #[command(flatten)]
    selection: Selection,
}

/// Runs one of them.
pub async fn run(server: &Server, rollout: Rollout) -> anyhow::Result<ExitCode> {
    let (Rollout::Status { args, .. }
    | Rollout::Restart(args)
    | Rollout::Undo { args, .. }
    | Rollout::History(args)) = &rollout;
    let mut outcomes = Vec::new();
    for (kind, name) in named(server, args).await? {
        outcomes.push(match &rollout {
            Rollout::Status { timeout, watch, .. } => {
                status(server, &kind, &name, *timeout, *watch).await
            }
            Rollout::Restart(_) => restart(server, &kind, &name).await,
            Rollout::Undo { to_revision, .. } => undo(server, &kind, &name, *to_revision).await,
            Rollout::History(_) => history(server, &kind, &name).await,
        });
    }
    Ok(all_well(outcomes))
}

async fn named(server: &Server, args: &RolloutArgs) -> anyhow::Result<Vec<(Kind, String)>> {
    let kinds = Kinds::of(server).await?;
    if let Meant::Named(named) = meant(&kinds, &args.words)? {
        return Ok(named);
    }
    let found = objects::fetch(server, &args.words, &args.selection).await?;
    let pair = |(kind, object): (Kind, Value)| (kind, objects::name(&object).to_owned());
    Ok(found.into_iter().map(pair).collect())
}

async fn status(
    server: &Server,
    kind: &Kind,
    name: &str,
    timeout: Duration,
    watch: bool,
) -> anyhow::Result<()> {
    // The first answer tells that the object is not there at all.
    let object = server.get(&kind.path_of(&server.namespace, name)).await?;
    let mut said = String::new();
    if told(&object, kind, name, &mut said)? || !watch {
        return Ok(());
    }
    let selection = Selection {
        fields: Some(format!("metadata.name={name}")),
        labels: None,
    };
    let path = kind.path(Some(&server.namespace)) + &selection.query();
    let mut events = std::pin::pin!(server.watch(&path, OBJECTS).await?);
    let done = async {
        while let Some(event) = events.next().await {
            match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    if told(&object, kind, name, &mut said)? {
                        return Ok(());
                    }
                }
                WatchEvent::Deleted(_) => bail!("object has been deleted"),
                WatchEvent::Error(status) => bail!("{}", status.message),
                WatchEvent::Bookmark(_) => {}
            }
        }
        bail!("the watch ended")
    };
    if timeout.is_zero() {
        return done.await;
    }
    let ended = tokio::time::timeout(timeout, done).await;
    ended.unwrap_or_else(|_| bail!("timed out waiting for the condition"))
}

/// Prints how far it is when that has changed; whether it is done.
fn told(object: &Value, kind: &Kind, name: &str, said: &mut String) -> anyhow::Result<bool> {
    let (line, done) = progress(object, &kind.kind, name)?;
    if line != *said {
        println!("{line}");
        *said = line;
    }
    Ok(done)
}

/// How far a rollout is, in kubectl's words.
fn progress(object: &Value, kind: &str, name: &str) -> anyhow::Result<(String, bool)> {
    let status = |field: &str| object["status"][field].as_u64().unwrap_or(0);
    let wanted = object["spec"]["replicas"].as_u64().unwrap_or(1);
    let seen = object["metadata"]["generation"].as_u64()
        <= object["status"]["observedGeneration"].as_u64();
    let waiting = |rest: String| {
        let kind = kind.to_lowercase();
        Ok((
            format!("Waiting for {kind} {name:?} rollout to finish: {rest}"),
            false,
        ))
    };
    match kind {
        "Deployment" => {
            let mut conditions = object["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten();
            if conditions.any(|c| c["reason"] == "ProgressDeadlineExceeded") {
                bail!("deployment {name:?} exceeded its progress deadline");
            }
            let (updated, replicas, available) = (
                status("updatedReplicas"),
                status("replicas"),
                status("availableReplicas"),
            );
            if !seen {
                return Ok((
                    "Waiting for deployment spec update to be observed...".into(),
                    false,
                ));
            }
            if updated < wanted {
                return waiting(format!(
                    "{updated} out of {wanted} new replicas have been updated..."
                ));
            }
            if replicas > updated {
                let old = replicas - updated;
                return waiting(format!("{old} old replicas are pending termination..."));
            }
            if available < updated {
                return waiting(format!(
                    "{available} of {updated} updated replicas are available..."
                ));
            }
            Ok((format!("deployment {name:?} successfully rolled out"), true))
        }
        "StatefulSet" => {
            let (ready, updated) = (status("readyReplicas"), status("updatedReplicas"));
            if !seen || ready < wanted {
                let missing = wanted.saturating_sub(ready);
                return Ok((format!("Waiting for {missing} pods to be ready..."), false));
            }
            if updated < wanted
                && object["status"]["updateRevision"] != object["status"]["currentRevision"]
            {
                return Ok((
                    format!(
                        "waiting for statefulset rolling update to complete {updated} pods at revision {}...",
                        object["status"]["updateRevision"]
                            .as_str()
                            .unwrap_or_default()
                    ),
                    false,
                ));
            }
            Ok((
                format!(
                    "statefulset rolling update complete {wanted} pods at revision {}...",
                    object["status"]["currentRevision"]
                        .as_str()
                        .unwrap_or_default()
                ),
                true,
            ))
        }
        "DaemonSet" => {
            let (updated, wanted, available) = (
                status("updatedNumberScheduled"),
                status("desiredNumberScheduled"),
                status("numberAvailable"),
            );
            if !seen {
                return Ok((
                    "Waiting for daemon set spec update to be observed...".into(),
                    false,
                ));
            }
            if updated < wanted {
                return Ok((
                    format!(
                        "Waiting for daemon set {name:?} rollout to finish: {updated} out of {wanted} new pods have been updated..."
                    ),
                    false,
                ));
            }
            if available < wanted {
                return Ok((
                    format!(
                        "Waiting for daemon set {name:?} rollout to finish: {available} of {wanted} updated pods are available..."
                    ),
                    false,
                ));
            }
            Ok((format!("daemon set {name:?} successfully rolled out"), true))
        }
        other => bail!("no status viewer has been implemented for {other}"),
    }
}

async fn restart(server: &Server, kind: &Kind, name: &str) -> anyhow::Result<()> {
    let now = jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    let patch = json!({ "spec": { "template": { "metadata": { "annotations": {
        "kubectl.kubernetes.io/restartedAt": now,
    } } } } });
    let path = kind.path_of(&server.namespace, name);
    server.patch(&path, STRATEGIC, &patch).await?;
    println!("{}/{name} restarted", kind.title());
    Ok(())
}

/// The ReplicaSets of a Deployment by their revision, oldest first.
async fn revisions(server: &Server, kind: &Kind, name: &str) -> anyhow::Result<Vec<(u64, Value)>> {
    if kind.kind != "Deployment" {
        bail!(
            "{} keeps no revisions here: only deployments do",
            kind.title()
        );
    }
    let deployment = server.get(&kind.path_of(&server.namespace, name)).await?;
    let uid = &deployment["metadata"]["uid"];
    let path = format!("/apis/apps/v1/namespaces/{}/replicasets", server.namespace);
    let mut list = server.get(&path).await?;
    let mut found = Vec::new();
    for set in list["items"].as_array_mut().into_iter().flatten() {
        let mut owners = set["metadata"]["ownerReferences"]
            .as_array()
            .into_iter()
            .flatten();
        let revision = set["metadata"]["annotations"][REVISION]
            .as_str()
            .and_then(|r| r.parse().ok());
        if let (true, Some(revision)) = (owners.any(|owner| owner["uid"] == *uid), revision) {
            found.push((revision, set.take()));
        }
    }
    found.sort_by_key(|(revision, _)| *revision);
    Ok(found)
}

async fn undo(server: &Server, kind: &Kind, name: &str, to: Option<u64>) -> anyhow::Result<()> {
    let revisions = revisions(server, kind, name).await?;
    let chosen = match to.filter(|to| *to > 0) {
        Some(to) => revisions
            .iter()
            .find(|(revision, _)| *revision == to)
            .with_context(|| format!("unable to find specified revision {to} in history"))?,
        None => revisions
            .iter()
            .rev()
            .nth(1)
            .with_context(|| format!("no rollout history found for deployment {name:?}"))?,
    };
    let mut template = chosen.1["spec"]["template"].clone();
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.shift_remove("pod-template-hash");
    }
    let path = kind.path_of(&server.namespace, name);
    let patch = json!([{ "op": "replace", "path": "/spec/template", "value": template }]);
    server.patch(&path, JSON, &patch).await?;
    println!("{}/{name} rolled back", kind.title());
    Ok(())
}

async fn history(server: &Server, kind: &Kind, name: &str) -> anyhow::Result<()> {
    let revisions = revisions(server, kind, name).await?;
    println!("{}/{name} ", kind.title());
    println!("REVISION  CHANGE-CAUSE");
    for (revision, set) in revisions {
        let cause = set["metadata"]["annotations"]["kubernetes.io/change-cause"].as_str();
        println!("{revision:<9} {}", cause.unwrap_or("<none>"));
    }
    println!();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_is_told_as_kubectl_tells_it() {
        let deployment = |updated: u32, replicas: u32, available: u32| {
            let object = json!({ "metadata": { "generation": 2 }, "spec": { "replicas": 2 },
                "status": { "observedGeneration": 2, "updatedReplicas": updated, "replicas": replicas, "availableReplicas": available } });
            progress(&object, "Deployment", "d").unwrap()
        };
        let waiting = "Waiting for deployment \"d\" rollout to finish: ";
        assert_eq!(
            deployment(1, 2, 2),
            (
                format!("{waiting}1 out of 2 new replicas have been updated..."),
                false
            )
        );
        assert_eq!(
            deployment(2, 3, 2),
            (
                format!("{waiting}1 old replicas are pending termination..."),
                false
            )
        );
        assert_eq!(
            deployment(2, 2, 1),
            (
                format!("{waiting}1 of 2 updated replicas are available..."),
                false
            )
        );
        assert_eq!(
            deployment(2, 2, 2),
            ("deployment \"d\" successfully rolled out".into(), true)
        );
        let stuck =
            json!({ "status": { "conditions": [{ "reason": "ProgressDeadlineExceeded" }] } });
        assert!(progress(&stuck, "Deployment", "d").is_err());
        assert!(progress(&json!({}), "Service", "d").is_err());
    }
}
