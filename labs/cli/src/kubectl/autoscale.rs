//! `autoscale`: a HorizontalPodAutoscaler.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::json;

use super::{
    create::{self, DryRun},
    kinds::Kinds,
    objects,
    server::Server,
};

/// `kubectl autoscale`.
#[derive(Args)]
pub struct AutoscaleArgs {
    /// TYPE NAME or TYPE/NAME
    #[arg(required = true)]
    words: Vec<String>,
    /// No fewer replicas
    #[arg(long)]
    min: Option<u32>,
    /// No more replicas
    #[arg(long)]
    max: u32,
    /// Per cent of the CPU requested that is aimed at
    #[arg(long)]
    cpu_percent: Option<u32>,
    /// The same in newer words: 15%
    #[arg(long, conflicts_with = "cpu_percent")]
    cpu: Option<String>,
    /// Its name [default: that of the object]
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    form: DryRun,
}

/// Makes the autoscaler.
pub async fn run(server: &Server, args: AutoscaleArgs) -> anyhow::Result<ExitCode> {
    let kinds = Kinds::of(server).await?;
    let (kind, target) = objects::single(&kinds, &args.words)?;
    server
        .get(&kind.path_of(&server.namespace, &target))
        .await?;
    let percent = match &args.cpu {
        None => args.cpu_percent.unwrap_or(80),
        Some(text) => text
            .trim_end_matches('%')
            .parse()
            .with_context(|| format!("--cpu {text:?} is not of the form 15%"))?,
    };
    let mut object = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": args.name.as_ref().unwrap_or(&target) },
        "spec": {
            "scaleTargetRef": { "apiVersion": kind.api_version(), "kind": kind.kind, "name": target },
            "maxReplicas": args.max,
            "metrics": [{ "type": "Resource", "resource": {
                "name": "cpu", "target": { "type": "Utilization", "averageUtilization": percent },
            } }],
        },
    });
    if let Some(min) = args.min {
        object["spec"]["minReplicas"] = min.into();
    }
    create::make(server, object, "autoscaled", &args.form).await?;
    Ok(ExitCode::SUCCESS)
}
