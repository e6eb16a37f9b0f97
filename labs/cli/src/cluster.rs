//! `meshdojo cluster`: the process that is the cluster. `up` starts it; it can also be run by hand.

use anyhow::Context;

use crate::{arguments::ClusterArgs, catalogue, home::Home};

/// Runs the cluster until it is told to stop.
///
/// # Errors
/// When the same cluster already runs, or the embedded cluster fails.
pub fn run(args: ClusterArgs) -> anyhow::Result<()> {
    if args.detach {
        // Fails only for the leader of a process group, which nothing that was spawned is.
        nix::unistd::setsid().context("leaving the terminal's session")?;
    }
    let cluster = Home::locate()?.cluster(&args.cluster.name);
    cluster.create()?;
    let _lock = cluster.lock()?;
    crate::logged(k8s_embedded::run(k8s_embedded::Config {
        name: cluster.name,
        state_dir: cluster.folder,
        images: catalogue::images()?,
    }))
}
