//! The control plane alone, against the cluster of `KUBECONFIG`:
//! `cargo run -p mesh-control --example control -- --help`

use clap::Parser;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: mesh_control::Args,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    mesh_control::run(Command::parse().args).await
}
