//! From start to end of a proxy process.

use std::sync::Arc;

use anyhow::Context as _;

use crate::{
    access_log::Sink,
    args::Args,
    proxy::{Options, Proxy},
    stats::Registry,
};

/// Runs a proxy until SIGTERM or SIGINT.
///
/// # Errors
/// When the static configuration cannot be read, or a port of the proxy's own cannot be bound.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let registry = Arc::new(Registry::default());
    let mut proxy = Proxy::start(Options {
        identity: args.identity(),
        source_address: args.source_address,
        concurrency: args.concurrency.into(),
        log: Sink::stdout(registry.clone())?,
        registry,
        seed: None,
    })?;
    if let Some(path) = &args.config {
        let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let snapshot = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not a snapshot", path.display()))?;
        for message in proxy.apply(snapshot) {
            anyhow::bail!("{}: {message}", path.display());
        }
    }
    tokio::signal::ctrl_c().await?;
    proxy.shut_down(args.drain()).await;
    Ok(())
}
