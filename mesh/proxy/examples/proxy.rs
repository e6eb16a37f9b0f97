//! A proxy by itself, for benchmarks: `proxy sidecar --config snapshot.json --no-agent`.

#[derive(clap::Parser)]
struct Command {
    #[command(flatten)]
    args: mesh_proxy::Args,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let command = <Command as clap::Parser>::parse();
    mesh_proxy::run(command.args).await
}
