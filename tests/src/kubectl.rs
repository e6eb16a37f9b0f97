//! The real kubectl, typed as a student types it.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, ensure};

/// Whether kubectl is on the machine. Absent, a suite that needs it fails in CI and is skipped
/// loudly elsewhere.
pub fn available() -> bool {
    let found = Command::new("kubectl")
        .args(["version", "--client"])
        .output()
        .is_ok_and(|o| o.status.success());
    if !found {
        assert!(
            std::env::var_os("CI").is_none(),
            "kubectl is not on the PATH; CI needs it"
        );
        eprintln!("SKIPPED: kubectl is not on the PATH");
    }
    found
}

/// `kubectl ARGS` against the cluster of a kubeconfig, with `stdin` typed into it.
///
/// # Errors
/// When it cannot be started.
pub fn run(kubeconfig: &Path, args: &[&str], stdin: &str) -> anyhow::Result<Output> {
    let mut command = Command::new("kubectl");
    // Discovery is cached per server address, and tests reuse addresses. Before the arguments, which
    // may end in a command for a container.
    command
        .arg(format!(
            "--cache-dir={}",
            kubeconfig.with_file_name("kubectl-cache").display()
        ))
        .args(args)
        .env("KUBECONFIG", kubeconfig)
        .env_remove("http_proxy")
        .env_remove("HTTPS_PROXY");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("kubectl")?;
    child
        .stdin
        .take()
        .context("a pipe")?
        .write_all(stdin.as_bytes())?;
    Ok(child.wait_with_output()?)
}

/// The same, and it must succeed; gives what it printed.
///
/// # Errors
/// With both outputs when it does not succeed.
pub fn ok(kubeconfig: &Path, args: &[&str], stdin: &str) -> anyhow::Result<String> {
    let output = run(kubeconfig, args, stdin)?;
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(
        output.status.success(),
        "kubectl {}: {}\n{out}{err}",
        args.join(" "),
        output.status
    );
    Ok(out.into_owned())
}
