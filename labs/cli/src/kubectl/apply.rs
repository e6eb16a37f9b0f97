//! `apply`: by server-side apply, so that the server merges.

use std::process::ExitCode;

use clap::Args;

use super::{
    all_well,
    create::DryRun,
    kinds::Kinds,
    manifest::{Manifest, Sources},
    objects::same,
    server::{self, Server, when},
};

/// `kubectl apply`.
#[derive(Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    sources: Sources,
    /// It always is: the server merges
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    server_side: Option<bool>,
    /// It always does: a field that another owns is taken over
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    force_conflicts: Option<bool>,
    #[command(flatten)]
    form: DryRun,
}

/// The media type of a manifest that is applied; JSON is YAML.
pub const APPLY: &str = "application/apply-patch+yaml";

/// Applies manifests.
pub async fn run(server: &Server, args: ApplyArgs) -> anyhow::Result<ExitCode> {
    if args.server_side == Some(false) {
        anyhow::bail!("--server-side=false is not carried out: the server merges, always");
    }
    if args.sources.is_empty() {
        anyhow::bail!("must specify one of -f and -k");
    }
    let manifests = args.sources.read()?;
    let mut kinds = Kinds::of(server).await?;
    let mut outcomes = Vec::new();
    for mut manifest in manifests {
        let mut outcome = apply(server, &kinds, &mut manifest, &args.form).await;
        if outcome.is_err() {
            // A definition earlier in the same file may have brought the kind.
            kinds = Kinds::of(server).await?;
            if kinds_lacked(&outcome) {
                outcome = apply(server, &kinds, &mut manifest, &args.form).await;
            }
        }
        outcomes.push(outcome);
    }
    Ok(all_well(outcomes))
}

fn kinds_lacked(outcome: &anyhow::Result<()>) -> bool {
    outcome
        .as_ref()
        .is_err_and(|error| format!("{error:#}").contains("no matches for kind"))
}

async fn apply(
    server: &Server,
    kinds: &Kinds,
    manifest: &mut Manifest,
    form: &DryRun,
) -> anyhow::Result<()> {
    let (kind, path) = manifest.place(server, kinds)?;
    let before = match server.get(&path).await {
        Ok(object) => Some(object),
        Err(error) if server::is_not_found(&error) => None,
        Err(error) => return Err(error),
    };
    let dry = if form.is_dry() { "&dryRun=All" } else { "" };
    let query = format!("{path}?force=true{dry}");
    let doing = if before.is_some() {
        "applying patch to"
    } else {
        "creating"
    };
    let after = when(
        server.patch(&query, APPLY, &manifest.object).await,
        doing,
        &manifest.source,
    )?;

    let verb = match before {
        None => "created",
        Some(before) if same(&before, &after) => "unchanged",
        Some(_) => "configured",
    };
    form.tell(&kind, &after, verb)
}
