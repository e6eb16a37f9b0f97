//! `diff`: what `apply` would change.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::Context;
use clap::Args;
use serde_json::Value;

use super::{
    apply::APPLY,
    kinds::Kinds,
    manifest::Sources,
    output,
    server::{self, Server, when},
};

/// `kubectl diff`.
#[derive(Args)]
pub struct DiffArgs {
    #[command(flatten)]
    sources: Sources,
}

/// Shows the differences. Exit code 1: there are some.
pub async fn run(server: &Server, args: DiffArgs) -> anyhow::Result<ExitCode> {
    if args.sources.is_empty() {
        anyhow::bail!("must specify one of -f and -k");
    }
    let kinds = Kinds::of(server).await?;
    let folder = |prefix: &str| tempfile::Builder::new().prefix(prefix).tempdir();
    let (live, merged) = (folder("LIVE-")?, folder("MERGED-")?);
    for mut manifest in args.sources.read()? {
        let (kind, path) = manifest.place(server, &kinds)?;
        let before = match server.get(&path).await {
            Ok(object) => Some(object),
            Err(error) if server::is_not_found(&error) => None,
            Err(error) => return Err(error),
        };
        let query = format!("{path}?force=true&dryRun=All");
        let after = server.patch(&query, APPLY, &manifest.object).await;
        let after = when(after, "applying patch to", &manifest.source)?;
        let name = format!(
            "{}.{}.{}.{}",
            kind.api_version().replace('/', "."),
            kind.kind,
            super::objects::namespace(&after),
            super::objects::name(&after)
        );
        if let Some(before) = before {
            write(live.path(), &name, &before)?;
        }
        write(merged.path(), &name, &after)?;
    }
    let program = std::env::var("KUBECTL_EXTERNAL_DIFF").unwrap_or_else(|_| "diff -u -N".into());
    let mut words = program.split_whitespace();
    let status = Command::new(words.next().unwrap_or("diff"))
        .args(words)
        .args([live.path(), merged.path()])
        .status()
        .with_context(|| format!("running {program:?}"))?;
    Ok(match status.code() {
        Some(0) => ExitCode::SUCCESS,
        Some(1) => ExitCode::from(1),
        _ => ExitCode::from(2),
    })
}

fn write(folder: &Path, name: &str, object: &Value) -> anyhow::Result<()> {
    let mut object = output::sorted(object);
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.shift_remove("managedFields");
    }
    Ok(std::fs::write(folder.join(name), output::yaml(&object)?)?)
}
