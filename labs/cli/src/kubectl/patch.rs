//! `patch`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{kinds::Kinds, objects, server::Server};

/// The media type of a JSON merge patch.
pub const MERGE: &str = "application/merge-patch+json";
/// Of a strategic merge patch, which knows the keys of lists.
pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// Of a list of JSON patch operations.
pub const JSON: &str = "application/json-patch+json";

/// `kubectl patch`.
#[derive(Args)]
pub struct PatchArgs {
    /// TYPE NAME or TYPE/NAME
    #[arg(required = true)]
    words: Vec<String>,
    /// The patch, as JSON or YAML
    #[arg(short, long, required_unless_present = "patch_file")]
    patch: Option<String>,
    /// A file with it
    #[arg(long, conflicts_with = "patch")]
    patch_file: Option<PathBuf>,
    /// How it is merged
    #[arg(long = "type", value_enum, default_value = "strategic")]
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Strategic,
    Merge,
    Json,
}

/// Changes fields.
pub async fn run(server: &Server, args: PatchArgs) -> anyhow::Result<ExitCode> {
    let text = match (&args.patch, &args.patch_file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => std::fs::read_to_string(file)
            .with_context(|| format!("unable to read patch file {}", file.display()))?,
        (None, None) => bail!("must specify --patch or --patch-file"),
    };
    let patch: Value = serde_norway::from_str(&text).context("unable to parse the patch")?;
    let kinds = Kinds::of(server).await?;
    let (kind, name) = objects::single(&kinds, &args.words)?;
    let path = kind.path_of(&server.namespace, &name);
    let before = server.get(&path).await?;
    let form = match args.form {
        Form::Strategic => STRATEGIC,
        Form::Merge => MERGE,
        Form::Json => JSON,
    };
    let after = server.patch(&path, form, &patch).await.map_err(|error| {
        let refusal = error.downcast_ref::<super::server::Refusal>();
        match refusal {
            Some(refusal) if refusal.status.code == Some(415) => anyhow::anyhow!(
                "{form} is not supported by {}, Kind={}: {}; add --type=merge",
                kind.api_version(),
                kind.kind,
                refusal.status.message.as_deref().unwrap_or_default()
            ),
            _ => error,
        }
    })?;
    let note = if objects::same(&before, &after) {
        " (no change)"
    } else {
        ""
    };
    println!("{}/{name} patched{note}", kind.title());
    Ok(ExitCode::SUCCESS)
}
