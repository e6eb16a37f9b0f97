//! `meshdojo down`: stops a cluster and everything it started.

use std::time::{Duration, Instant};

use anyhow::Context;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    arguments::DownArgs,
    exit,
    home::{Cluster, Home},
    progress::Progress,
};

/// Pods are given this long to end by themselves, the cluster included.
const GRACE: Duration = Duration::from_secs(20);

/// Stops the cluster; with `--purge` its state goes too. A cluster that does not run is no error.
pub async fn run(home: &Home, args: DownArgs) -> anyhow::Result<()> {
    let cluster = home.cluster(&args.cluster.name);
    let progress = Progress::new();
    if cluster.process().is_some() {
        let what = format!("stopping cluster {}", cluster.name);
        let step = progress.step(&what);
        stop_running(&cluster).await?;
        step.done();
    } else {
        eprintln!("cluster {:?} is not running", cluster.name);
    }
    if args.purge {
        cluster.purge()?;
    }
    Ok(())
}

/// Ends the cluster's process if there is one: politely first, by force after [`GRACE`].
pub async fn stop_running(cluster: &Cluster) -> anyhow::Result<()> {
    let Some(process) = cluster.process() else {
        return Ok(());
    };
    let pid = Pid::from_raw(i32::try_from(process)?);
    kill(pid, Signal::SIGTERM).with_context(|| format!("stopping process {process}"))?;
    if gone(cluster, GRACE).await {
        return Ok(());
    }
    kill(pid, Signal::SIGKILL).with_context(|| format!("killing process {process}"))?;
    if gone(cluster, Duration::from_secs(5)).await {
        return Ok(());
    }
    Err(exit::timeout(format!(
        "process {process} does not end; see {}",
        cluster.log().display()
    )))
}

async fn gone(cluster: &Cluster, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    while Instant::now() < deadline {
        if cluster.process().is_none() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}
