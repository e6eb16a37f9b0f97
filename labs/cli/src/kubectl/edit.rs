//! `edit`: an object in the student's editor.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context, bail};
use clap::Args;
use k8s_embedded::controllers::merge_patch::merge_patch;
use serde_json::Value;

use super::{
    kinds::Kinds,
    objects::{self, name, namespace},
    output,
    patch::MERGE,
    server::Server,
};

/// `kubectl edit`.
#[derive(Args)]
pub struct EditArgs {
    /// TYPE NAME or TYPE/NAME
    #[arg(required = true)]
    words: Vec<String>,
}

/// What stands above the object.
const HEAD: &str = "\
# Please edit the object below. Lines beginning with a '#' will be ignored,
# and an empty file will abort the edit. If an error occurs while saving this file will be
# reopened with the relevant failures.
#
";

/// Opens the editor until what it leaves is taken, unchanged or empty.
pub async fn run(server: &Server, args: EditArgs) -> anyhow::Result<ExitCode> {
    let kinds = Kinds::of(server).await?;
    let (kind, wanted) = objects::single(&kinds, &args.words)?;
    let path = kind.path_of(&server.namespace, &wanted);
    let before = server.get(&path).await?;
    let mut shown = before.clone();
    if let Some(metadata) = shown["metadata"].as_object_mut() {
        metadata.shift_remove("managedFields");
    }
    let shown = output::sorted(&shown);
    let mut body = output::yaml(&shown)?;
    let mut complaint = String::new();
    let file = tempfile::Builder::new()
        .prefix("kubectl-edit-")
        .suffix(".yaml")
        .tempfile()?;
    loop {
        std::fs::write(file.path(), format!("{HEAD}{complaint}{body}"))?;
        open(file.path())?;
        let text = std::fs::read_to_string(file.path())?;
        let left: String = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| format!("{line}\n"))
            .collect();
        if left.trim().is_empty() {
            println!("Edit cancelled, saved file was empty.");
            return Ok(ExitCode::SUCCESS);
        }
        if left == body {
            if !complaint.is_empty() {
                // The same mistake again: kept for another try.
                eprint!("{}", complaint.replace("# ", "").replace("#\n", ""));
                let (_, kept) = file.keep()?;
                eprintln!(
                    "A copy of your changes has been stored to {:?}",
                    kept.display()
                );
                bail!("Edit cancelled, no valid changes were saved.");
            }
            println!("Edit cancelled, no changes made.");
            return Ok(ExitCode::SUCCESS);
        }
        match save(server, &path, &left, &shown).await {
            Ok(Some(())) => {
                println!("{}/{wanted} edited", kind.title());
                return Ok(ExitCode::SUCCESS);
            }
            Ok(None) => {
                println!("Edit cancelled, no changes made.");
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => {
                let lines = format!("{error:#}");
                complaint = lines.lines().map(|line| format!("# {line}\n")).collect();
                complaint.push_str("#\n");
                body = left;
            }
        }
    }
}

/// Sends what has changed; `None` when nothing has.
async fn save(
    server: &Server,
    path: &str,
    text: &str,
    before: &Value,
) -> anyhow::Result<Option<()>> {
    let after: Value =
        serde_norway::from_str(text).context("the edited file had a syntax error")?;
    if (name(&after), namespace(&after)) != (name(before), namespace(before)) {
        bail!("At least one of apiVersion, kind and name was changed");
    }
    // Only what was changed is sent: what controllers wrote meanwhile stays as it is.
    match merge_patch(before, &after) {
        None => Ok(None),
        Some(patch) => server.patch(path, MERGE, &patch).await.map(|_| Some(())),
    }
}

/// Runs the editor, whose command may have words of its own: `code --wait`.
fn open(file: &Path) -> anyhow::Result<()> {
    let named = ["KUBE_EDITOR", "EDITOR"].map(std::env::var);
    let editor = named
        .into_iter()
        .flatten()
        .find(|words| !words.is_empty())
        .unwrap_or_else(|| "vi".into());
    std::io::stdout().flush()?;
    let status = Command::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(file)
        .status()
        .with_context(|| format!("unable to launch the editor {editor:?}"))?;
    if !status.success() {
        bail!("there was a problem with the editor {editor:?}: set EDITOR to another one");
    }
    Ok(())
}
