//! `meshdojo proxy-config`: what a proxy was told, in the form of `istioctl proxy-config`.

mod cluster;
mod dump;
mod endpoint;
mod listener;
mod log;
mod route;
mod secret;

use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use crate::pod_admin::{PodAdmin, PodArgs, client};
pub(crate) use dump::{Section, section};

/// `meshdojo proxy-config`.
#[derive(clap::Args, Clone, Debug)]
pub struct ProxyConfigArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum What {
    /// The clusters of a proxy: a service's port, or a subset of it, and the DestinationRule behind it
    #[command(visible_aliases = ["clusters", "c"])]
    Cluster(Args<cluster::Filter>),
    /// What a proxy listens for, and where it passes that on
    #[command(visible_aliases = ["listeners", "l"])]
    Listener(Args<listener::Filter>),
    /// The routes of a proxy, by name of the table and the virtual host, and the VirtualService behind each
    #[command(visible_aliases = ["routes", "r"])]
    Route(Args<route::Filter>),
    /// The endpoints of a proxy: whether they are healthy, and whether outlier detection has put them out
    #[command(visible_aliases = ["endpoints", "ep"])]
    Endpoint(Args<endpoint::Filter>),
    /// The certificates of a proxy and the authorities that it trusts
    #[command(visible_aliases = ["secrets", "s"])]
    Secret(Args<secret::Filter>),
    /// What a proxy logs of itself, and how much: --level debug, or --level rbac:debug,router:info
    Log(log::Args),
}

#[derive(clap::Args, Clone, Debug)]
struct Args<F: clap::Args> {
    #[command(flatten)]
    pod: PodArgs,
    #[command(flatten)]
    filter: F,
    /// Print short, json or yaml
    #[arg(short, long, default_value = "short", value_parser = ["short", "json", "yaml"])]
    output: String,
}

/// What is to be printed: lines of a table, the heads first, and the messages that they tell of.
struct Listing {
    table: Vec<Vec<String>>,
    messages: Value,
}

impl Listing {
    fn of<const N: usize>(
        heads: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
        messages: Value,
    ) -> Self {
        let mut table = vec![heads.map(str::to_owned).to_vec()];
        table.extend(rows.into_iter().map(|row| row.to_vec()));
        Self { table, messages }
    }
}

/// Runs the verb. `kubeconfig` leads to the cluster of this machine, used unless KUBECONFIG is set.
///
/// # Errors
/// The pod's proxy cannot be asked.
pub async fn run(args: ProxyConfigArgs, kubeconfig: &Path) -> anyhow::Result<()> {
    const DUMP: &str = "/config_dump";
    match args.what {
        What::Cluster(args) => print(args, kubeconfig, DUMP, cluster::list).await,
        What::Listener(args) => print(args, kubeconfig, DUMP, listener::list).await,
        What::Route(args) => print(args, kubeconfig, DUMP, route::list).await,
        What::Log(args) => log::run(&args, client(kubeconfig).await?).await,
        What::Secret(args) => print(args, kubeconfig, DUMP, secret::list).await,
        What::Endpoint(args) => {
            print(args, kubeconfig, "/clusters?format=json", endpoint::list).await
        }
    }
}

/// Asks for a page of the admin interface and prints what is made of it.
async fn print<F: clap::Args>(
    args: Args<F>,
    kubeconfig: &Path,
    page: &str,
    list: impl Fn(&Value, &F) -> Option<Listing>,
) -> anyhow::Result<()> {
    let mut admin = PodAdmin::connect(client(kubeconfig).await?, &args.pod).await?;
    let answer = admin.json(page).await?;
    let listing = list(&answer, &args.filter)
        .with_context(|| format!("the proxy tells nothing of this on {page}"))?;
    match args.output.as_str() {
        "json" => println!("{}", serde_json::to_string_pretty(&listing.messages)?),
        "yaml" => print!("{}", serde_norway::to_string(&listing.messages)?),
        _ => print!("{}", columns(&listing.table)),
    }
    Ok(())
}

/// Columns as wide as their widest cell, five spaces between them: the form of istioctl's tables.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
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
