//! `meshdojo proxy-config`: what a proxy was told, in the form of `istioctl proxy-config`.

mod secret;

use std::path::Path;

use anyhow::Context;
use http_body_util::BodyExt;
use serde_json::Value;

use crate::pod_admin::{PodAdmin, PodArgs, client};

/// `meshdojo proxy-config`.
#[derive(clap::Args, Clone, Debug)]
pub struct ProxyConfigArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum What {
    /// The certificates of a proxy and the authorities that it trusts
    #[command(visible_alias = "s")]
    Secret(Args),
}

#[derive(clap::Args, Clone, Debug)]
struct Args {
    #[command(flatten)]
    pod: PodArgs,
    /// Print short or json
    #[arg(short, long, default_value = "short", value_parser = ["short", "json"])]
    output: String,
}

/// Runs the verb. `kubeconfig` leads to the cluster of this machine, used unless KUBECONFIG is set.
///
/// # Errors
/// The pod's proxy cannot be asked.
pub async fn run(args: ProxyConfigArgs, kubeconfig: &Path) -> anyhow::Result<()> {
    let What::Secret(args) = args.what;
    let mut admin = PodAdmin::connect(client(kubeconfig).await?, &args.pod).await?;
    let page = admin.get("/config_dump").await?.into_body();
    let dump: Value = serde_json::from_slice(&page.collect().await?.to_bytes())
        .context("the proxy's configuration is not JSON")?;
    let secrets = secret::section(&dump).context("the proxy tells nothing of secrets")?;
    match args.output.as_str() {
        "json" => println!("{}", serde_json::to_string_pretty(secrets)?),
        _ => print!("{}", secret::table(secrets)),
    }
    Ok(())
}

/// Columns as wide as their widest cell, five spaces between them: the form of istioctl's tables.
fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..count)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let padded = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        let line = padded.collect::<Vec<_>>().join("     ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
