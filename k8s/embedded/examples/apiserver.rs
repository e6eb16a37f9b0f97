//! The API server alone: no controllers, no pods. Prints the path of a kubeconfig.
//!
//! `cargo run -p k8s-embedded --example apiserver -- FOLDER`

use k8s_embedded::auth::Authority;
use k8s_embedded::network::addresses::AddressPlan;
use k8s_embedded::server::{ApiServer, Config, serve};
use k8s_embedded::store::Store;
use std::path::PathBuf;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let folder = PathBuf::from(
        std::env::args()
            .nth(1)
            .unwrap_or_else(|| "apiserver".into()),
    );
    std::fs::create_dir_all(&folder)?;
    let local = ["127.0.0.1".parse()?];
    let server = ApiServer::new(
        Store::open(&folder.join("state.redb"))?,
        Config {
            addresses: AddressPlan::new(16)?,
            authority: Authority::load_or_generate(&folder.join("pki"), &local)?,
        },
    );
    server
        .bootstrap()
        .await
        .map_err(|error| anyhow::anyhow!(error.message))?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let kubeconfig = folder.join("kubeconfig");
    let text = server
        .authority()
        .kubeconfig("apiserver", listener.local_addr()?.port());
    std::fs::write(&kubeconfig, text)?;
    println!("{}", kubeconfig.display());
    serve(server, listener).await?;
    Ok(())
}
