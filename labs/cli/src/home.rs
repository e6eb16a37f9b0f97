//! Where clusters keep their state: `MESHDOJO_HOME`, else `$XDG_STATE_HOME/meshdojo`, else
//! `~/.local/state/meshdojo`. Each cluster has a folder `clusters/NAME` in it.

use std::{
    fs::{self, File, OpenOptions},
    io::Read,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use nix::fcntl::{Flock, FlockArg};

use crate::exit;

/// The folder of all clusters of this user.
pub struct Home {
    folder: PathBuf,
}

impl Home {
    /// Finds the folder in the environment; it is made when a cluster is.
    ///
    /// # Errors
    /// When neither `MESHDOJO_HOME`, `XDG_STATE_HOME` nor `HOME` is set.
    pub fn locate() -> anyhow::Result<Self> {
        let variable = |name| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        let folder = variable("MESHDOJO_HOME")
            .or_else(|| Some(variable("XDG_STATE_HOME")?.join("meshdojo")))
            .or_else(|| Some(variable("HOME")?.join(".local/state/meshdojo")))
            .ok_or_else(|| {
                exit::environment("no place for the state: set MESHDOJO_HOME to a folder")
            })?;
        let folder = std::path::absolute(folder).context("MESHDOJO_HOME")?;
        Ok(Self { folder })
    }

    /// The cluster called `name`, whether it exists or not.
    pub fn cluster(&self, name: &str) -> Cluster {
        Cluster {
            name: name.into(),
            folder: self.folder.join("clusters").join(name),
        }
    }

    /// Where the progress in the labs is kept.
    pub fn labs(&self) -> PathBuf {
        self.folder.join("labs")
    }

    /// Names of the clusters that have state here, sorted.
    pub fn clusters(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.join("clusters"))
            .into_iter()
            .flatten()
            .flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }
}

/// One cluster's folder.
pub struct Cluster {
    /// As given by `--name`.
    pub name: String,
    /// `HOME/clusters/NAME`.
    pub folder: PathBuf,
}

/// Held by the cluster's process for as long as it lives; the kernel lets go when it dies, however
/// that happens, so a stale lock cannot be.
pub struct Lock(#[expect(dead_code, reason = "held, never read")] Flock<File>);

impl Cluster {
    /// Makes the folder, for this user's eyes only: it holds keys.
    pub fn create(&self) -> anyhow::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(|error| {
                exit::environment(format!(
                    "cannot make {}: {error}; set MESHDOJO_HOME to a folder that you may write",
                    self.folder.display()
                ))
            })
    }

    /// What kubectl reads.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// What the cluster's process prints.
    pub fn log(&self) -> PathBuf {
        self.folder.join("cluster.log")
    }

    /// Local port of the gateway, kept so that a later `up` finds the same address.
    pub fn gateway_port(&self) -> Option<u16> {
        fs::read_to_string(self.folder.join("gateway-port"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Keeps the gateway's port.
    pub fn keep_gateway_port(&self, port: u16) -> anyhow::Result<()> {
        let file = self.folder.join("gateway-port");
        fs::write(&file, format!("{port}\n")).with_context(|| format!("writing {}", file.display()))
    }

    fn lock_file(&self) -> PathBuf {
        self.folder.join("lock")
    }

    /// Takes the cluster for this process and writes the process's number into the lock.
    ///
    /// # Errors
    /// When another process has it.
    pub fn lock(&self) -> anyhow::Result<Lock> {
        let path = self.lock_file();
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
            exit::environment(format!("cluster {:?} is already running", self.name))
        })?;
        use std::io::Write;
        lock.set_len(0)?;
        (&*lock).write_all(format!("{}\n", std::process::id()).as_bytes())?;
        Ok(Lock(lock))
    }

    /// The process that runs the cluster, if one does.
    pub fn process(&self) -> Option<u32> {
        let mut file = File::open(self.lock_file()).ok()?;
        let mut number = String::new();
        file.read_to_string(&mut number).ok()?;
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            // Nobody holds it: the number is of a process that is gone.
            Ok(_) => None,
            Err(_) => number.trim().parse().ok(),
        }
    }

    /// Fails when the cluster is not running, with the command that starts it.
    pub fn require_running(&self) -> anyhow::Result<u32> {
        self.process().ok_or_else(|| {
            let name = if self.name == DEFAULT_NAME {
                String::new()
            } else {
                format!(" --name {}", self.name)
            };
            exit::environment(format!(
                "cluster {:?} is not running; start it with `meshdojo up{name}`",
                self.name
            ))
        })
    }

    /// Removes everything the cluster keeps.
    pub fn purge(&self) -> anyhow::Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.folder.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Name of the cluster when none is given.
pub const DEFAULT_NAME: &str = "meshdojo";

/// Checks a `--name`: it becomes a folder, a context of kubectl and a part of object names.
pub fn cluster_name(name: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 63 {
        return Err(format!(
            "a name has 1 to 63 characters, this one has {}",
            name.len()
        ));
    }
    if !name.chars().all(inner) || name.starts_with('-') || name.ends_with('-') {
        return Err("a name has lower-case letters, digits and '-', and starts and ends with a letter or digit".into());
    }
    Ok(name.into())
}

/// The last lines of a file, for an error message.
pub fn last_lines(file: &Path, lines: usize) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "meshdojo", "class-7", &"x".repeat(63)] {
            assert!(cluster_name(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "a_b", "-a", "a-", "../a", "a/b", &"x".repeat(64)] {
            assert!(cluster_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_lock_tells_who_runs_the_cluster_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = Cluster {
            name: "one".into(),
            folder: folder.path().join("one"),
        };
        cluster.create().unwrap();
        assert_eq!(cluster.process(), None);
        let lock = cluster.lock().unwrap();
        assert_eq!(cluster.process(), Some(std::process::id()));
        assert_eq!(
            exit::kind(&cluster.lock().err().unwrap()),
            exit::Kind::Environment
        );
        drop(lock);
        assert_eq!(cluster.process(), None);
        assert!(cluster.require_running().is_err());
    }
}
