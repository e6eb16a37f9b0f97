//! The shim: what runs for a moment between the cluster process and a container's program.
//!
//! A program cannot ask for its own parent-death signal before it is started, and asking for it
//! between fork and exec needs unsafe code. So the cluster starts our own binary as a *shim*, which
//! makes itself the leader of a new session and process group, asks the kernel to be killed with
//! its parent, and replaces itself by the program. Nothing of it stays in memory.
//!
//! The parent-death signal reaches the shim's program but not what that program starts. For those
//! there is the *reaper* ([`reap`]): one small process per cluster that waits until the cluster's
//! end of a pipe is closed, by whatever death, and then kills every process that carries the
//! cluster's mark in its environment ([`CLUSTER_MARK`]).

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid, setsid};
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Environment variable that marks every process of a cluster's pods. Its value is the path of the
/// cluster's state folder.
pub const CLUSTER_MARK: &str = "DOJO_CLUSTER";

/// Subcommand under which the binary must call [`run`].
pub const SUBCOMMAND: &str = "container-shim";

/// Why the shim could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// Not started by a cluster.
    #[error(
        "{SUBCOMMAND} is started by the cluster itself: usage: {SUBCOMMAND} exec|exec-on-terminal PARENT-PID PROGRAM [ARG...] | reap STATE-DIR"
    )]
    Usage,
    /// The cluster died while the shim was starting.
    #[error("the cluster process {0} is gone")]
    ParentGone(i32),
    /// A system call failed.
    #[error("{0}: {1}")]
    System(&'static str, nix::Error),
    /// The program could not be started.
    #[error("exec: {program:?}: {error}")]
    Exec {
        /// The program.
        program: OsString,
        /// What the system said.
        error: io::Error,
    },
}

/// Runs the shim with the arguments after the subcommand's name. Returns only on failure, or when
/// reaping is done.
///
/// # Errors
/// See [`ShimError`].
pub fn run(args: impl IntoIterator<Item = OsString>) -> Result<(), ShimError> {
    let mut args = args.into_iter();
    match args.next().as_deref().and_then(|a| a.to_str()) {
        Some(how @ ("exec" | "exec-on-terminal")) => {
            let on_terminal = how == "exec-on-terminal";
            let parent = args
                .next()
                .and_then(|p| p.to_str()?.parse().ok())
                .ok_or(ShimError::Usage)?;
            let program = args.next().ok_or(ShimError::Usage)?;
            Err(exec(parent, on_terminal, program, args))
        }
        Some("reap") => {
            let mark = args.next().ok_or(ShimError::Usage)?;
            reap(Path::new(&mark));
            Ok(())
        }
        _ => Err(ShimError::Usage),
    }
}

fn exec(
    parent: i32,
    on_terminal: bool,
    program: OsString,
    args: impl Iterator<Item = OsString>,
) -> ShimError {
    if let Err(error) = setsid() {
        return ShimError::System("setsid", error);
    }
    // the keys of a terminal send signals to the session that it controls
    if on_terminal && let Err(error) = rustix::process::ioctl_tiocsctty(io::stdin()) {
        return ShimError::System("ioctl(TIOCSCTTY)", Errno::from_raw(error.raw_os_error()));
    }
    if let Err(error) = set_pdeathsig(Signal::SIGKILL) {
        return ShimError::System("prctl(PR_SET_PDEATHSIG)", error);
    }
    // the parent may have died before the kernel was asked
    if getppid() != Pid::from_raw(parent) {
        return ShimError::ParentGone(parent);
    }
    let error = Command::new(&program).args(args).exec();
    ShimError::Exec { program, error }
}

/// Waits until standard input is closed, then kills what the cluster with this state folder has
/// left behind.
pub fn reap(state_dir: &Path) {
    let mut byte = [0; 1];
    // the pipe carries nothing; every outcome but an interrupted read is its end
    while let Err(error) = io::stdin().read_exact(&mut byte) {
        if error.kind() != io::ErrorKind::Interrupted {
            break;
        }
    }
    kill_marked(state_dir);
}

/// Kills every process that carries the mark of the cluster with this state folder; returns how
/// many there were. Looks again until there are none, since a dying process may start another.
pub fn kill_marked(state_dir: &Path) -> usize {
    let mut needle = format!("{CLUSTER_MARK}=").into_bytes();
    needle.extend_from_slice(state_dir.as_os_str().as_encoded_bytes());
    let mut killed = 0;
    for _ in 0..50 {
        let found = kill_once(&needle);
        if found == 0 {
            break;
        }
        killed += found;
        std::thread::sleep(Duration::from_millis(20));
    }
    killed
}

/// Kills every process whose environment holds `NAME=VALUE`; returns how many there were.
pub(super) fn kill_once(variable: &[u8]) -> usize {
    let found = marked(variable);
    for pid in &found {
        // gone meanwhile: nothing to do; not permitted: not ours after all
        let _ = nix::sys::signal::kill(*pid, Signal::SIGKILL);
    }
    found.len()
}

/// The processes whose environment holds a variable, without the caller. A zombie has no environment
/// and is not found.
fn marked(needle: &[u8]) -> Vec<Pid> {
    let own = std::process::id();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| u32::try_from(*pid) != Ok(own))
        .filter(|pid| {
            // processes of others cannot be read, and are not ours to kill
            std::fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environ| environ.split(|b| *b == 0).any(|entry| entry == needle))
        })
        .map(Pid::from_raw)
        .collect()
}
