//! `version`.

use std::process::ExitCode;

use clap::Args;

use super::server::Server;

/// `kubectl version`.
#[derive(Args)]
pub struct VersionArgs {
    /// Only that of this program
    #[arg(long)]
    client: bool,
}

/// Prints both versions.
pub async fn run(server: &Server, args: &VersionArgs) -> anyhow::Result<ExitCode> {
    println!("Client Version: meshdojo {}", env!("CARGO_PKG_VERSION"));
    if !args.client {
        let version = server.get("/version").await?;
        let text = version["gitVersion"].as_str().unwrap_or_default();
        println!("Server Version: {text}");
    }
    Ok(ExitCode::SUCCESS)
}
