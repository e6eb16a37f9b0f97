//! Typing what a lab tells to type, into a shell of its own.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{cluster::write_kubeconfig, lab::Typed};

/// The address of the gateway as the texts write it.
const WRITTEN: &str = "127.0.0.1:8080";
/// And of its HTTPS port.
const WRITTEN_HTTPS: &str = "127.0.0.1:8443";
/// From the gateway's HTTP port to its HTTPS port.
const HTTPS_OFFSET: u16 = 363;
/// No block takes longer.
const LONGEST: Duration = Duration::from_secs(150);

/// A shell that keeps its variables, functions and folder from block to block, as a student's does.
pub struct Shell {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    scripts: tempfile::TempDir,
    blocks: usize,
    gateway: String,
    /// Of a given cluster: its kubeconfig, and the folder with the manifests of the applications.
    given: Option<(PathBuf, PathBuf)>,
}

/// A cluster that is there already.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// Its context in the user's kubeconfig.
    pub context: &'a str,
    /// The folder above `labs/book` and `k8s/apps`.
    pub root: &'a Path,
}

/// What a block did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// What it printed, errors among it.
    pub output: String,
    /// Exit code of its last command.
    pub code: i32,
}

impl Shell {
    /// Starts one in `folder`. `environment` is added to this process's. `meshdojo` is this program; so is `kubectl` when
    /// there is no other, or `own_kubectl` asks for it. On a `given` cluster all is typed to that,
    /// and `meshdojo up APP` applies the application's manifests.
    ///
    /// # Errors
    /// When there is no bash, or no such context.
    pub fn start(
        folder: &Path,
        environment: &[(&str, PathBuf)],
        given: Option<Given<'_>>,
        gateway: &str,
        own_kubectl: bool,
    ) -> anyhow::Result<Self> {
        let scripts = tempfile::tempdir()?;
        let mut command = Command::new("bash");
        command
            .args(["--noprofile", "--norc"])
            .env("PATH", search_path(scripts.path(), own_kubectl)?)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        for (name, value) in environment {
            command.env(name, value);
        }
        let mut its = None;
        if let Some(Given { context, root }) = given {
            let kubeconfig = scripts.path().join("kubeconfig");
            write_kubeconfig(context, &kubeconfig)?;
            command.env("KUBECONFIG", &kubeconfig);
            its = Some((kubeconfig, std::path::absolute(root)?.join("k8s/apps")));
        }
        let mut child = command
            .spawn()
            .context("the labs are typed into bash, which cannot be started")?;
        let input = child.stdin.take().context("a pipe")?;
        let output = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        Ok(Self {
            child,
            input,
            output,
            scripts,
            blocks: 0,
            gateway: gateway.to_owned(),
            given: its,
        })
    }

    /// Types a block and waits for its end.
    ///
    /// # Errors
    /// When it takes too long or ends the shell.
    pub async fn type_in(&mut self, typed: &Typed) -> anyhow::Result<Done> {
        self.blocks += 1;
        let script = self.scripts.path().join(format!("block-{}", self.blocks));
        let mut text = at_gateway(&typed.text, &self.gateway);
        if let Some((kubeconfig, apps)) = &self.given {
            text = at_given(&text, kubeconfig, apps);
        }
        std::fs::write(&script, text)?;
        // Commands must not read the next block as their input.
        let mark = format!("--end of block {}--", self.blocks);
        let line = format!(
            ". '{}' </dev/null 2>&1; printf '\\n%s %s\\n' '{mark}' $?\n",
            script.display()
        );
        self.input.write_all(line.as_bytes()).await?;
        let mut output = String::new();
        let read = async {
            while let Some(line) = self.output.next_line().await? {
                if let Some(code) = line.strip_prefix(&mark) {
                    return anyhow::Ok(code.trim().parse::<i32>()?);
                }
                output.push_str(&line);
                output.push('\n');
            }
            bail!("the block ended the shell")
        };
        let code = match tokio::time::timeout(LONGEST, read).await {
            Ok(code) => code.with_context(|| output.clone())?,
            Err(_) => {
                let _ = self.child.start_kill();
                bail!(
                    "not done after {} s: {}\n{output}",
                    LONGEST.as_secs(),
                    typed.text
                )
            }
        };
        Ok(Done {
            output: output.trim_end().to_owned(),
            code,
        })
    }

    /// Types a block whose end must be as the text says: well, or for `sh fails` badly.
    ///
    /// # Errors
    /// When it is not, with what was printed.
    pub async fn type_as_written(&mut self, typed: &Typed) -> anyhow::Result<Done> {
        let done = self.type_in(typed).await?;
        if (done.code != 0) != typed.fails {
            let how = if typed.fails {
                "ends well and should fail".into()
            } else {
                format!("fails with {}", done.code)
            };
            bail!(
                "the block of line {} {how}:\n{}\n{}",
                typed.line,
                typed.text.trim_end(),
                done.output
            );
        }
        Ok(done)
    }
}

/// Where commands are looked for: beside this program first, and a link `kubectl` to it before that where one is needed.
fn search_path(links: &Path, own_kubectl: bool) -> anyhow::Result<OsString> {
    let program = std::env::current_exe()?;
    let given = std::env::var_os("PATH").unwrap_or_default();
    let has_kubectl = std::env::split_paths(&given).any(|folder| folder.join("kubectl").is_file());
    let mut folders = Vec::new();
    if own_kubectl || !has_kubectl {
        std::os::unix::fs::symlink(&program, links.join("kubectl"))?;
        folders.push(links.to_owned());
    }
    folders.extend(program.parent().map(Path::to_owned));
    folders.extend(std::env::split_paths(&given));
    Ok(std::env::join_paths(folders)?)
}

/// The text with the gateway's real address in place of the one that texts show.
pub fn at_gateway(text: &str, gateway: &str) -> String {
    let address = gateway.trim_start_matches("http://");
    let https = address
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?.checked_add(HTTPS_OFFSET)?)))
        .map(|(host, port)| format!("{host}:{port}"));
    let text = text.replace(WRITTEN, address);
    // Without a port it is the usual one, and so is that of HTTPS.
    text.replace(WRITTEN_HTTPS, https.as_deref().unwrap_or(address))
}

/// The text for a cluster that is there already: only the application comes up, and this is its kubeconfig.
fn at_given(text: &str, kubeconfig: &Path, apps: &Path) -> String {
    let line = |line: &str| match line.strip_prefix("meshdojo up") {
        None => line.to_owned(),
        Some(rest) => match rest.split_whitespace().next().unwrap_or("bookinfo") {
            "none" => String::new(),
            app => format!(
                "kubectl label namespace default istio-injection=enabled --overwrite && kubectl apply -k '{}' && \
                 kubectl wait --for=condition=Available deployment --all --timeout=120s\n",
                apps.join(app).display()
            ),
        },
    };
    let lines: String = text.split_inclusive('\n').map(line).collect();
    let own = format!("'{}'", kubeconfig.display());
    lines.replace("$(meshdojo kubeconfig)", &own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Typed {
        Typed {
            line: 1,
            text: text.into(),
            fails: false,
        }
    }

    #[test]
    fn on_a_given_cluster_only_the_application_comes_up() {
        let text =
            "meshdojo up none\nexport KUBECONFIG=$(meshdojo kubeconfig)\ncd a\nmeshdojo up hello\n";
        let given = at_given(text, Path::new("/b/config"), Path::new("/apps"));
        let (first, rest) = given.split_once("cd a\n").unwrap();
        assert_eq!(first, "export KUBECONFIG='/b/config'\n");
        assert!(rest.contains("kubectl apply -k '/apps/hello' &&"), "{rest}");
    }

    #[tokio::test]
    async fn a_shell_keeps_what_it_was_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut shell =
            Shell::start(folder.path(), &[], None, "http://127.0.0.1:9999", false).unwrap();
        let done = shell
            .type_in(&typed("f() { echo \"$1 at 127.0.0.1:8080\"; }\nx=1"))
            .await;
        assert_eq!(done.unwrap().code, 0);
        let done = shell
            .type_in(&typed("f $x; cat; printf end; false"))
            .await
            .unwrap();
        assert_eq!(
            (done.output.as_str(), done.code),
            ("1 at 127.0.0.1:9999\nend", 1)
        );
        let refused = shell.type_as_written(&typed("echo why >&2; false")).await;
        assert!(format!("{:#}", refused.unwrap_err()).contains("why"));
        assert!(shell.type_in(&typed("exit 3")).await.is_err());
    }

    #[test]
    fn this_program_is_kubectl_where_it_is_asked_for() {
        let links = tempfile::tempdir().unwrap();
        let path = search_path(links.path(), true).unwrap();
        let first = std::env::split_paths(&path).next().unwrap();
        let linked = std::fs::read_link(first.join("kubectl")).unwrap();
        assert_eq!(linked, std::env::current_exe().unwrap());
    }

    #[test]
    fn addresses_are_those_of_the_gateway() {
        assert_eq!(
            at_gateway(
                "curl http://127.0.0.1:8080/a https://127.0.0.1:8443/b",
                "http://127.0.0.1:18080"
            ),
            "curl http://127.0.0.1:18080/a https://127.0.0.1:18443/b"
        );
        assert_eq!(
            at_gateway(
                "http://127.0.0.1:8080/a https://127.0.0.1:8443/b",
                "http://kim.test"
            ),
            "http://kim.test/a https://kim.test/b"
        );
    }
}
