//! `meshdojo cluster`: the process that is the cluster. `up` starts it; it can also be run by hand.

use std::{fs, io, os::unix::fs::symlink, path::Path};

use anyhow::Context;

use k8s_embedded::runtime::launch::TOOLS;

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
    link_tools(&cluster.folder.join(TOOLS))?;
    crate::logged(k8s_embedded::run(k8s_embedded::Config {
        name: cluster.name,
        state_dir: cluster.folder,
        images: catalogue::images()?,
    }))
}

/// Fills the folder in which containers find the tools of the labs by name: links to this program,
/// which looks at what it is called by.
fn link_tools(folder: &Path) -> anyhow::Result<()> {
    let context = || format!("linking the tools in {}", folder.display());
    fs::create_dir_all(folder).with_context(context)?;
    let own = std::env::current_exe().context("where this program is")?;
    for name in dojo_tools::NAMES {
        let link = folder.join(name);
        // It may lead to where this program was before.
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(context);
            }
            _ => symlink(&own, &link).with_context(context)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_linked_again_and_again() {
        let folder = tempfile::tempdir().unwrap();
        let tools = folder.path().join("tools");
        for _ in 0..2 {
            link_tools(&tools).unwrap();
            let own = std::env::current_exe().unwrap();
            assert_eq!(fs::read_link(tools.join("fortio")).unwrap(), own);
        }
    }
}
