//! Pods without a cluster: network namespaces on a bridge, with addresses of both families.
//!
//! The kernel's redirection can be tried there with or without root. Each namespace lives as long as
//! the process that holds it, which ends with its standard input: nothing is left behind.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
};

use anyhow::{Context, ensure};

/// Who makes the namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    /// Root, in the system's own user namespace.
    Root,
    /// The root of a user namespace: what an ordinary user may be, too.
    UserNamespace,
}

impl As {
    /// What this process can be here; the other way is said on standard error.
    pub fn available() -> Vec<Self> {
        [Self::Root, Self::UserNamespace]
            .into_iter()
            .filter(|way| match Network::new(*way) {
                Ok(_) => true,
                Err(error) => {
                    eprintln!("SKIPPED: network namespaces as {way:?}: {error:#}");
                    false
                }
            })
            .collect()
    }

    /// `unshare`, with users beside root where they are to be had.
    fn unshare(self) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Root => &["unshare"],
            // Mapped by us, see `Holder::map_users`.
            Self::UserNamespace if is_root() => &["unshare", "--user"],
            // Needs newuidmap and lines in /etc/subuid and /etc/subgid, as containers without root do.
            Self::UserNamespace => &["unshare", "--map-root-user", "--map-auto"],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }
}

/// A process that keeps namespaces open.
struct Holder(Child);

impl Holder {
    fn start(unshare: &[String], namespaces: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(&unshare[0]);
        command.args(&unshare[1..]).args(namespaces);
        // Says that it is there, then waits for the end of its input.
        command.args(["--", "sh", "-c", "echo held; exec cat"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("unshare")?;
        let mut said = String::new();
        let output = child.stdout.take().context("piped")?;
        BufReader::new(output).read_line(&mut said)?;
        if said != "held\n" {
            let output = child.wait_with_output()?;
            anyhow::bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(Self(child))
    }

    /// All users under their own numbers.
    fn map_users(&self) -> anyhow::Result<()> {
        for map in ["uid_map", "gid_map"] {
            let path = format!("/proc/{}/{map}", self.0.id());
            std::fs::write(&path, "0 0 65536").context(path)?;
        }
        Ok(())
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A bridge and the pods on it.
pub struct Network {
    way: As,
    holder: Holder,
    pods: u8,
}

impl Network {
    /// A network without pods.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub fn new(way: As) -> anyhow::Result<Self> {
        let holder = Holder::start(&way.unshare(), &["--net"])?;
        if way == As::UserNamespace && is_root() {
            holder.map_users()?;
        }
        let network = Self {
            way,
            holder,
            pods: 0,
        };
        network.ip("link add bridge type bridge")?;
        network.ip("addr add 10.99.0.1/24 dev bridge")?;
        network.ip("-6 addr add fd99::1/64 dev bridge nodad")?;
        network.ip("link set bridge up")?;
        Ok(network)
    }

    /// Another pod: 10.99.0.2 and fd99::2, and so on. Everything else is reached through the bridge.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub fn pod(&mut self) -> anyhow::Result<Pod> {
        self.pods += 1;
        let last = self.pods + 1;
        let enter = self.enter();
        let inside: Vec<String> = enter.iter().cloned().chain(["unshare".into()]).collect();
        let holder = Holder::start(&inside, &["--net"])?;
        let pid = holder.0.id();
        // `nsenter` replaced itself by `unshare`, and that by the shell and `cat`: all one process.
        self.ip(&format!(
            "link add pod{last} type veth peer name eth0 netns {pid}"
        ))?;
        self.ip(&format!("link set pod{last} master bridge up"))?;
        let pod = Pod {
            way: self.way,
            holder,
            v4: format!("10.99.0.{last}"),
            v6: format!("fd99::{last}"),
        };
        for line in [
            "link set lo up".to_owned(),
            format!("addr add {}/24 dev eth0", pod.v4),
            format!("-6 addr add {}/64 dev eth0 nodad", pod.v6),
            "link set eth0 up".into(),
            "route add default via 10.99.0.1".into(),
            "-6 route add default via fd99::1".into(),
        ] {
            succeeded(pod.command(0, "ip").args(line.split(' ')).output()?, &line)?;
        }
        Ok(pod)
    }

    fn enter(&self) -> Vec<String> {
        nsenter(self.way, self.holder.0.id())
    }

    fn ip(&self, line: &str) -> anyhow::Result<()> {
        let enter = self.enter();
        let mut command = Command::new(&enter[0]);
        succeeded(
            command
                .args(&enter[1..])
                .arg("ip")
                .args(line.split(' '))
                .output()?,
            line,
        )
    }
}

fn succeeded(output: Output, line: &str) -> anyhow::Result<()> {
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {line}: {error}");
    Ok(())
}

fn nsenter(way: As, pid: u32) -> Vec<String> {
    let pid = format!("--target={pid}");
    let mut words = vec!["nsenter".to_owned(), pid, "--net".into()];
    if way == As::UserNamespace {
        words.extend(["--user".into(), "--setuid=0".into(), "--setgid=0".into()]);
    }
    words
}

/// A network namespace with the addresses of a pod.
pub struct Pod {
    way: As,
    holder: Holder,
    /// Its IPv4 address.
    pub v4: String,
    /// Its IPv6 address.
    pub v6: String,
}

impl Pod {
    /// A program in the pod as a user; dies with this process's thread. Whoever it is, it may read
    /// what this process may, wherever the workspace lies.
    pub fn command(&self, uid: u32, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let words = nsenter(self.way, self.holder.0.id());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        let (uid, gid) = (format!("--reuid={uid}"), format!("--regid={uid}"));
        command.args(["setpriv", &uid, &gid, "--clear-groups", "--pdeathsig=KILL"]);
        command.args([
            "--inh-caps=+dac_read_search",
            "--ambient-caps=+dac_read_search",
        ]);
        command.arg(program);
        command
    }
}
