//! `scale`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{
    all_well,
    objects::{self, Selection},
    patch::MERGE,
    server::Server,
};

/// `kubectl scale`.
#[derive(Args)]
pub struct ScaleArgs {
    /// TYPE NAME or TYPE/NAME...
    #[arg(required = true)]
    words: Vec<String>,
    /// So many
    #[arg(long)]
    replicas: u32,
    #[command(flatten)]
    selection: Selection,
}

/// Sets the number of replicas.
pub async fn run(server: &Server, args: ScaleArgs) -> anyhow::Result<ExitCode> {
    let mut outcomes = Vec::new();
    for (kind, object) in objects::fetch(server, &args.words, &args.selection).await? {
        let name = objects::name(&object);
        let path = kind.path_of(objects::namespace(&object), name) + "/scale";
        let patch = json!({ "spec": { "replicas": args.replicas } });
        let scaled = server.patch(&path, MERGE, &patch).await;
        outcomes.push(scaled.map(|_| println!("{}/{name} scaled", kind.title())));
    }
    Ok(all_well(outcomes))
}
