//! Processes: starting one behind the shim, stopping its whole group, telling how it ended.

use super::env::Env;
use super::shim::SUBCOMMAND;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::Instant;

/// How processes are started: the program that has the shim as a subcommand.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// The program, mostly our own.
    pub program: PathBuf,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Env,
    /// The working directory.
    pub dir: PathBuf,
    /// Programs of the upstream image, and what is run instead of them.
    pub programs: BTreeMap<String, Vec<String>>,
}

/// Where images keep programs.
const IMAGE_FOLDERS: [&str; 4] = ["/bin", "/usr/bin", "/usr/local/bin", "/sbin"];

/// Finds a program the way `execvp` would, with the container's `PATH`. One that an image has in
/// a usual folder (`/usr/bin/fortio`) and this machine has not is looked for by its name.
///
/// # Errors
/// The words of a container runtime for a program that is not there.
pub fn locate(program: &str, env: &Env, dir: &Path) -> Result<PathBuf, String> {
    let executable = |path: &Path| {
        path.metadata()
            .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        let path = dir.join(program);
        if executable(&path) {
            return Ok(path);
        }
        if let (Some(folder), Some(name)) = (path.parent(), path.file_name())
            && IMAGE_FOLDERS.iter().any(|usual| folder == Path::new(usual))
            && let Some(found) = name.to_str().and_then(|name| locate(name, env, dir).ok())
        {
            return Ok(found);
        }
        let why = if path.exists() {
            "permission denied"
        } else {
            "no such file or directory"
        };
        return Err(format!("exec: {program:?}: stat {program}: {why}"));
    }
    let path = env.get("PATH").map(String::as_str).unwrap_or_default();
    std::env::split_paths(path)
        .map(|folder| folder.join(program))
        .find(|path| executable(path))
        .ok_or_else(|| format!("exec: {program:?}: executable file not found in $PATH"))
}

impl Launcher {
    fn command(&self, launch: &Launch, how: &str) -> Result<Command, String> {
        let word = launch.argv.first().ok_or("no command specified")?;
        let program = locate(word, &launch.env, &launch.dir)?;
        let mut command = Command::new(&self.program);
        command
            .arg(SUBCOMMAND)
            .arg(how)
            .arg(std::process::id().to_string())
            .arg(program)
            .args(launch.argv.iter().skip(1).map(OsString::from))
            .env_clear()
            .envs(&launch.env)
            .current_dir(&launch.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(command)
    }

    /// Starts a process as the leader of its own group, which dies with us. Without `stdin` it reads
    /// the end of a file.
    ///
    /// The parent-death signal is tied to the thread that starts the process, so this must be
    /// called on a thread that lives as long as the runtime: a task's, never a blocking one.
    ///
    /// # Errors
    /// What a container runtime would say.
    pub fn spawn(&self, launch: &Launch, stdin: bool) -> Result<Child, String> {
        let mut command = self.command(launch, "exec")?;
        if stdin {
            command.stdin(Stdio::piped());
        }
        start(command, launch)
    }

    /// The same on a terminal.
    ///
    /// # Errors
    /// As above.
    pub fn spawn_on(&self, launch: &Launch, terminal: OwnedFd) -> Result<Child, String> {
        let copy = || {
            terminal
                .try_clone()
                .map(Stdio::from)
                .map_err(|error| format!("terminal: {error}"))
        };
        let mut command = self.command(launch, "exec-on-terminal")?;
        command.stdin(copy()?).stdout(copy()?).stderr(copy()?);
        start(command, launch)
    }

    /// Runs a process to its end, at most for `limit`; its exit code and the first 4 KiB of output.
    ///
    /// # Errors
    /// When it cannot be started or takes too long.
    pub async fn run(&self, launch: &Launch, limit: Duration) -> Result<(i32, String), String> {
        use tokio::io::AsyncReadExt;
        let mut child = self.spawn(launch, false)?;
        let pid = child.id();
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        let read = async {
            let mut output = Vec::new();
            if let Some(pipe) = stdout {
                // a process that writes more is stopped by the closed pipe, as it would be in a shell
                let _ = pipe.take(4096).read_to_end(&mut output).await;
            }
            if let Some(pipe) = stderr {
                let _ = pipe.take(4096).read_to_end(&mut output).await;
            }
            output
        };
        let result = tokio::time::timeout(limit, async { tokio::join!(read, child.wait()) }).await;
        if let Some(pid) = pid {
            signal_group(pid, Signal::SIGKILL);
        }
        match result {
            Ok((output, Ok(status))) => Ok((
                exit_code(status),
                String::from_utf8_lossy(&output).into_owned(),
            )),
            Ok((_, Err(error))) => Err(error.to_string()),
            Err(_) => {
                // reaped in the background by tokio when dropped
                Err(format!("command timed out after {limit:?}"))
            }
        }
    }
}

fn start(mut command: Command, launch: &Launch) -> Result<Child, String> {
    command
        .spawn()
        .map_err(|error| format!("exec: {:?}: {error}", launch.argv[0]))
}

/// Sends a signal to a process group, or to the process if it has not made its group yet.
pub fn signal_group(pid: u32, signal: Signal) {
    let Ok(pid) = i32::try_from(pid) else { return };
    if pid <= 1 {
        return;
    }
    if kill(Pid::from_raw(-pid), signal).is_err() {
        // ended already: nothing to signal
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// The exit code as containers report it: 128 plus the number for a death by signal.
pub fn exit_code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// When to have stopped by; sent again with an earlier moment when there is less time.
pub type StopOrder = watch::Receiver<Option<Instant>>;

/// Waits for the order to stop, runs `hook`, asks with SIGTERM, and when the time is over, kills.
/// Returns after the kill; whoever waits for the process's end drops this when it comes before.
pub async fn stop_when_ordered(mut order: StopOrder, pid: u32, hook: impl Future<Output = ()>) {
    let deadline = loop {
        if let Some(at) = *order.borrow_and_update() {
            break at;
        }
        if order.changed().await.is_err() {
            // the worker is gone, and with it the pod
            signal_group(pid, Signal::SIGKILL);
            return;
        }
    };
    let term = async {
        // the hook is part of the grace period
        let _ = tokio::time::timeout_at(deadline, hook).await;
        signal_group(pid, Signal::SIGTERM);
        std::future::pending::<()>().await;
    };
    let kill = async {
        loop {
            let at = (*order.borrow_and_update()).unwrap_or(deadline);
            tokio::select! {
                () = tokio::time::sleep_until(at) => return,
                changed = order.changed() => if changed.is_err() { return },
            }
        }
    };
    tokio::select! {
        () = term => {}
        () = kill => {}
    }
    signal_group(pid, Signal::SIGKILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_the_containers_path() {
        let env = Env::from([("PATH".to_owned(), "/nowhere:/bin:/usr/bin".to_owned())]);
        assert!(locate("sh", &env, Path::new("/")).is_ok());
        assert_eq!(
            locate("nosuch-program", &env, Path::new("/")).unwrap_err(),
            "exec: \"nosuch-program\": executable file not found in $PATH"
        );
        assert_eq!(
            locate("/nosuch", &env, Path::new("/")).unwrap_err(),
            "exec: \"/nosuch\": stat /nosuch: no such file or directory"
        );
        assert!(
            locate("/etc", &env, Path::new("/"))
                .unwrap_err()
                .contains("permission denied")
        );
    }
}
