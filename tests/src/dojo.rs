//! A cluster with its own home, ports and end.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use tempfile::TempDir;

/// From the gateway's HTTP port to its HTTPS port, as `meshdojo up` documents it.
const HTTPS_OFFSET: u16 = 363;

/// The binary under test: `MESHDOJO`, else the one of this workspace, built now if it is not.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(given) = std::env::var_os("MESHDOJO") {
            return given.into();
        }
        // target/PROFILE/deps/TEST: the binary of the same profile is two folders up.
        let test = std::env::current_exe().expect("a test has a path");
        let folder = test.ancestors().nth(2).expect("target/PROFILE").to_owned();
        let mut build = Command::new(env!("CARGO"));
        // chosen with a test of the whole workspace, so that what `cargo test --workspace` has
        // compiled is used: another choice has other features, and compiles everything again
        build.args(["build", "--quiet", "--workspace", "--bin", "meshdojo"]);
        build.args(["--test", "dependencies"]);
        if folder.ends_with("release") {
            build.arg("--release");
        }
        build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        assert!(
            build.status().expect("cargo runs").success(),
            "meshdojo does not build"
        );
        folder.join("meshdojo")
    })
}

/// The workspace's folder.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A port on 127.0.0.1 that nobody uses, and whose neighbour at [`HTTPS_OFFSET`] is free too. It is below those
/// that the system gives to outgoing connections, so nobody takes it by chance before it is used.
pub fn free_port() -> u16 {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    std::iter::repeat_with(|| rand::random_range(10_000..20_000))
        .take(1000)
        .find(|port| free(*port) && free(port + HTTPS_OFFSET))
        .expect("loopback has a free port")
}

/// A running cluster; dropped, it is gone without a trace.
pub struct Dojo {
    home: TempDir,
    variables: Variables,
    /// Port of the gateway on 127.0.0.1.
    pub port: u16,
}

impl Dojo {
    /// `meshdojo up APPS...`, waited for.
    ///
    /// # Errors
    /// What `up` said.
    pub fn up(apps: &[&str]) -> anyhow::Result<Self> {
        Self::up_with(apps, &[])
    }

    /// The same with variables in the cluster's environment.
    ///
    /// # Errors
    /// What `up` said.
    pub fn up_with(apps: &[&str], variables: Variables) -> anyhow::Result<Self> {
        let dojo = Self {
            home: tempfile::tempdir()?,
            variables,
            port: free_port(),
        };
        dojo.up_again(apps)?;
        Ok(dojo)
    }

    /// `meshdojo up` on the same home.
    ///
    /// # Errors
    /// What `up` said.
    pub fn up_again(&self, apps: &[&str]) -> anyhow::Result<Output> {
        let port = self.port.to_string();
        let output = self.meshdojo(&[&["up", "--gateway-port", &port], apps].concat())?;
        let log = std::fs::read_to_string(self.folder().join("cluster.log")).unwrap_or_default();
        ensure!(
            output.status.success(),
            "{}\n{log}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(output)
    }

    /// Runs the command under test with this home.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn meshdojo(&self, args: &[&str]) -> anyhow::Result<Output> {
        run(self.home.path(), args, self.variables)
    }

    /// The default cluster's folder.
    pub fn folder(&self) -> PathBuf {
        self.home.path().join("clusters/meshdojo")
    }

    /// The file that kubectl reads.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder().join("kubeconfig")
    }

    /// A Kubernetes client of the cluster.
    ///
    /// # Errors
    /// When the kubeconfig is not readable.
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        let file = kube::config::Kubeconfig::read_from(self.kubeconfig())?;
        let mut config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await?;
        config.proxy_url = None;
        Ok(config.try_into()?)
    }

    /// The cluster's own process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process(&self) -> anyhow::Result<i32> {
        let status = self.meshdojo(&["status", "-o", "json"])?;
        let status: serde_json::Value = serde_json::from_slice(&status.stdout)?;
        let process = status["process"]
            .as_i64()
            .context("the cluster does not run")?;
        Ok(process.try_into()?)
    }
}

impl Drop for Dojo {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log =
                std::fs::read_to_string(self.folder().join("cluster.log")).unwrap_or_default();
            eprintln!("the cluster's log:\n{log}");
        }
        let _ = self.meshdojo(&["down", "--purge"]);
    }
}

/// Runs the command under test in a home of the caller's.
///
/// # Errors
/// When it cannot be started.
pub fn meshdojo(home: &Path, args: &[&str]) -> anyhow::Result<Output> {
    run(home, args, &[])
}

/// Names and values of an environment.
type Variables = &'static [(&'static str, &'static str)];

fn run(home: &Path, args: &[&str], variables: Variables) -> anyhow::Result<Output> {
    let mut command = Command::new(binary());
    command
        .args(args)
        .envs(variables.iter().copied())
        .env("MESHDOJO_HOME", home)
        .env_remove("KUBECONFIG")
        .env_remove("MESHDOJO_NAME");
    command
        .output()
        .with_context(|| format!("running {}", binary().display()))
}

/// Waits until `look` gives a value.
///
/// # Errors
/// After the deadline, with what `look` said last.
pub async fn eventually<T, F>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let deadline = Instant::now() + within;
    loop {
        match look().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("{what}: not within {within:?}")));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
