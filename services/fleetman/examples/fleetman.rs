//! One service of fleetman alone: `cargo run -p fleetman --example fleetman -- staff-service`.

use clap::Parser as _;

/// A service of fleetman.
#[derive(clap::Parser)]
struct Arguments {
    #[command(subcommand)]
    command: fleetman::Command,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    Arguments::parse().command.run().await
}
