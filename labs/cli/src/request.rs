//! `pilot-agent request METHOD PATH [BODY]`: asks the admin interface of the pod's proxy, as courses
//! type it into the container `istio-proxy`.

use std::{env, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use http::Method;

const PORT: u16 = 15000;
const PATIENCE: Duration = Duration::from_secs(10);

/// A request to the pod's proxy.
#[derive(Args)]
pub struct RequestArgs {
    /// GET or POST
    method: Method,
    /// Page of the admin interface: stats, /config_dump?mask=bootstrap
    path: String,
    /// What is sent with it
    #[arg(default_value = "")]
    body: String,
}

/// Prints the answer.
///
/// # Errors
/// There is no proxy, or its status is none of success.
pub async fn run(args: RequestArgs) -> anyhow::Result<()> {
    let loopback = env::var("DOJO_LOOPBACK_IP").unwrap_or_else(|_| "127.0.0.1".into());
    let url = format!(
        "http://{loopback}:{PORT}/{}",
        args.path.trim_start_matches('/')
    );
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()?;
    let answer = client
        .request(args.method, &url)
        .body(args.body)
        .send()
        .await;
    let answer = answer.with_context(|| format!("{url}: is this the container of a proxy?"))?;
    let status = answer.status();
    let text = answer.text().await?;
    if !status.is_success() {
        bail!("{url}: {status}: {}", text.trim_end());
    }
    print!("{text}");
    Ok(())
}
