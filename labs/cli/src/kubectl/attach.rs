//! `attach`: to the container's own process, and not to another one as `exec` does.

use std::{io::Write as _, process::ExitCode};

use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::Value;

use super::{
    exec::{self, Streams},
    objects::name,
    pods,
    server::Server,
};

/// `kubectl attach`.
#[derive(Args)]
pub struct AttachArgs {
    /// POD, pod/NAME or deploy/NAME
    reference: String,
    /// The container
    #[arg(short, long)]
    container: Option<String>,
    #[command(flatten)]
    streams: Streams,
}

/// Shows what the process writes, until it ends.
pub async fn run(server: &Server, args: AttachArgs) -> anyhow::Result<ExitCode> {
    let pod = &pods::of(server, &args.reference).await?[0];
    let container = pods::container(pod, args.container.as_deref())?;
    to(server, pod, container, &args.streams).await?;
    let _ = std::io::stdout().flush();
    // A thread may still wait for a key; the process ends without it.
    std::process::exit(0)
}

/// Attaches to a container until its process ends or goes on alone.
///
/// # Errors
/// What the server refuses.
pub async fn to(
    server: &Server,
    pod: &Value,
    container: String,
    streams: &Streams,
) -> anyhow::Result<()> {
    let mut terminal = streams.terminal()?;
    if streams.stdin {
        eprintln!("If you don't see a command prompt, try pressing enter.");
    }
    let parameters = streams.parameters(container.clone(), terminal.is_some());
    let api: Api<Pod> = Api::namespaced(server.client.clone(), &server.namespace);
    let process = api.attach(name(pod), &parameters).await;
    let process = process.map_err(|error| server.refused(error))?;
    exec::attend(process, terminal.as_ref()).await?;
    let returns = pod["spec"]["restartPolicy"] == "Always";
    if terminal.take().is_some() && returns {
        println!(
            "Session ended, resume using 'kubectl attach {} -c {container} -i -t' command when the pod is running",
            name(pod)
        );
    }
    Ok(())
}
