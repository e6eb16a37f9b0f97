//! `meshdojo lab test`: types labs as written, each on a fresh cluster or all on a given one, and holds every check
//! against the cluster before and after its step.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use futures::{StreamExt, stream};
use tokio::process::Command;

use crate::{
    attempt::{attempt, passed},
    book::Book,
    cluster::Cluster,
    judge::Verdict,
    lab::{Lab, Step, Typed},
    language::Language,
    say,
    snapshot::Snapshot,
    type_in::{Given, Shell},
};

/// How long the last effect of a step may take to show.
const PATIENCE: Duration = Duration::from_secs(20);
/// From the gateway's HTTP port to its HTTPS port.
const HTTPS_OFFSET: u16 = 363;

/// Where labs are tested.
#[derive(Clone, Debug)]
pub enum Stages {
    /// Each on an embedded cluster of its own.
    Own,
    /// One after the other on the cluster of a context, which is put back as it was after each.
    Given {
        /// Of the user's kubeconfig.
        context: String,
        /// Address of the ingress gateway, where its Service does not tell.
        gateway: Option<String>,
    },
}

/// How a lab went.
pub struct Rehearsal {
    /// The lab.
    pub id: String,
    /// A line for each step.
    pub lines: Vec<String>,
    /// What went wrong.
    pub error: Option<String>,
    /// How long it took.
    pub time: Duration,
}

/// Tests labs, some at a time, typed with this program as `kubectl` if so told; `told` gets each as it is done. Whether all went well.
///
/// # Errors
/// Those of `told`.
pub async fn rehearse_all(
    book: &Book,
    stages: Stages,
    labs: Vec<Lab>,
    at_a_time: usize,
    language: Language,
    own_kubectl: bool,
    mut told: impl FnMut(&Rehearsal) -> anyhow::Result<()>,
) -> anyhow::Result<bool> {
    let book = Arc::new(book.clone());
    let mut done = std::pin::pin!(
        stream::iter(labs)
            .map(|lab| {
                let (book, stages) = (book.clone(), stages.clone());
                async move { rehearse(&book, &stages, &lab, language, own_kubectl).await }
            })
            .buffer_unordered(at_a_time.max(1))
    );
    let mut all_well = true;
    while let Some(rehearsal) = done.next().await {
        all_well &= rehearsal.error.is_none();
        told(&rehearsal)?;
    }
    Ok(all_well)
}

/// Tests one lab.
async fn rehearse(
    book: &Book,
    stages: &Stages,
    lab: &Lab,
    language: Language,
    own_kubectl: bool,
) -> Rehearsal {
    let begun = Instant::now();
    let mut lines = Vec::new();
    let stage = match stages {
        Stages::Own => Stage::own(book, lab, own_kubectl).await,
        Stages::Given { context, gateway } => {
            Stage::given(book, lab, own_kubectl, context, gateway.as_deref()).await
        }
    };
    let error = match stage {
        Ok(stage) => {
            let played = play(lab, &stage, language, &mut lines).await;
            let struck = stage.strike().await;
            played.and(struck).err()
        }
        Err(error) => Some(error),
    };
    Rehearsal {
        id: lab.id.clone(),
        lines,
        error: error.map(|e| format!("{e:#}")),
        time: begun.elapsed(),
    }
}

/// A cluster, and a copy of the book, so that what steps write does not litter the book.
struct Stage {
    scratch: tempfile::TempDir,
    cluster: Cluster,
    clearing: Clearing,
    /// Whether this program is typed with as `kubectl`.
    own_kubectl: bool,
}

/// What is left to do when a lab is over.
enum Clearing {
    /// Stop the cluster with this state.
    Down(Down),
    /// Put the namespaces back as they were.
    Back {
        context: String,
        root: PathBuf,
        namespaces: Vec<String>,
        before: Snapshot,
    },
}

/// A cluster to be stopped, at the latest when this is dropped: a rehearsal that is given up, by Ctrl-C too, leaves none
/// behind.
struct Down {
    home: PathBuf,
    standing: bool,
}

impl Stage {
    async fn own(book: &Book, lab: &Lab, own_kubectl: bool) -> anyhow::Result<Self> {
        let scratch = scratch(book)?;
        let home = scratch.path().join("home");
        let down = Down {
            home: home.clone(),
            standing: true,
        };
        let port = free_port()?.to_string();
        for need in &lab.front.needs {
            let arguments = [&["up", "--gateway-port", &port], &apps(need)?[..]].concat();
            meshdojo(&home, &arguments).await?;
        }
        let gateway = format!("http://127.0.0.1:{port}");
        let kubeconfig = home.join("clusters/meshdojo/kubeconfig");
        Ok(Self {
            scratch,
            cluster: Cluster::connect(Some(&kubeconfig), None, Some(&gateway)).await?,
            clearing: Clearing::Down(down),
            own_kubectl,
        })
    }

    async fn given(
        book: &Book,
        lab: &Lab,
        own_kubectl: bool,
        context: &str,
        gateway: Option<&str>,
    ) -> anyhow::Result<Self> {
        let cluster = Cluster::connect(None, Some(context), gateway).await?;
        let namespaces = lab.front.namespaces.clone();
        let stage = Self {
            scratch: scratch(book)?,
            clearing: Clearing::Back {
                context: context.to_owned(),
                root: book.root().to_owned(),
                before: Snapshot::take(&cluster, &namespaces).await?,
                namespaces,
            },
            cluster,
            own_kubectl,
        };
        let mut shell = stage.shell()?;
        for need in &lab.front.needs {
            apps(need)?;
            let typed = Typed {
                line: 1,
                text: format!("{need}\n"),
                fails: false,
            };
            shell.type_as_written(&typed).await?;
        }
        Ok(stage)
    }

    fn shell(&self) -> anyhow::Result<Shell> {
        let folder = self.scratch.path();
        let mut environment = Vec::new();
        let given = match &self.clearing {
            Clearing::Back { context, root, .. } => Some(Given { context, root }),
            Clearing::Down(down) => {
                environment.extend([
                    ("HOME", folder.to_owned()),
                    ("MESHDOJO_HOME", down.home.clone()),
                    ("MESHDOJO_NAME", "meshdojo".into()),
                ]);
                None
            }
        };
        let gateway = &self.cluster.gateway;
        Shell::start(folder, &environment, given, gateway, self.own_kubectl)
    }

    /// Stops the cluster or puts it back, and tells when that fails.
    async fn strike(self) -> anyhow::Result<()> {
        match self.clearing {
            Clearing::Down(mut down) => {
                down.standing = false;
                meshdojo(&down.home, &["down", "--purge"]).await
            }
            Clearing::Back {
                namespaces, before, ..
            } => before.restore(&self.cluster, &namespaces).await.map(drop),
        }
    }
}

/// A folder with a copy of the book.
fn scratch(book: &Book) -> anyhow::Result<tempfile::TempDir> {
    let scratch = tempfile::tempdir()?;
    copy(&book.folder, &scratch.path().join("labs/book"))?;
    Ok(scratch)
}

/// The applications that a lab needs.
fn apps(need: &str) -> anyhow::Result<Vec<&str>> {
    let words: Vec<&str> = need.split_whitespace().collect();
    let ["meshdojo", "up", apps @ ..] = &words[..] else {
        bail!(
            "needs: {need:?}: only `meshdojo up APP...` can be had for a test; `kubectl` goes into the text"
        );
    };
    Ok(apps.to_vec())
}

async fn meshdojo(home: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(arguments)
        .env("MESHDOJO_HOME", home)
        .env_remove("MESHDOJO_NAME")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output().await?;
    if !output.status.success() {
        bail!(
            "meshdojo {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

impl Drop for Down {
    fn drop(&mut self) {
        let Ok(program) = std::env::current_exe() else {
            return;
        };
        if self.standing {
            let mut down = std::process::Command::new(program);
            down.args(["down", "--purge"])
                .env("MESHDOJO_HOME", &self.home)
                .env_remove("MESHDOJO_NAME")
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let _ = down.status();
        }
    }
}

async fn play(
    lab: &Lab,
    stage: &Stage,
    language: Language,
    lines: &mut Vec<String>,
) -> anyhow::Result<()> {
    let mut shell = stage.shell()?;
    for typed in &lab.setup.typed {
        shell
            .type_as_written(typed)
            .await
            .context("before the first step")?;
    }
    for step in &lab.steps {
        let begun = Instant::now();
        play_step(step, &stage.cluster, &mut shell, language)
            .await
            .with_context(|| {
                format!("{}:{}: step {}", lab.file.display(), step.line, step.number)
            })?;
        lines.push(format!(
            "{}. {} ({:.1} s)",
            step.number,
            step.title,
            begun.elapsed().as_secs_f64()
        ));
    }
    Ok(())
}

async fn play_step(
    step: &Step,
    cluster: &Cluster,
    shell: &mut Shell,
    language: Language,
) -> anyhow::Result<()> {
    if !step.checks.is_empty() {
        let before = attempt(&step.checks, cluster, language, Duration::ZERO, false).await?;
        if passed(&before) {
            bail!("its check passes before the step is done: it proves nothing");
        }
    }
    let mut printed = String::new();
    for typed in &step.section.typed {
        printed.push_str(&shell.type_as_written(typed).await?.output);
        printed.push('\n');
    }
    let after = attempt(&step.checks, cluster, language, PATIENCE, false).await?;
    for (check, verdict) in &after {
        if let Verdict::Failed(finding) = verdict {
            bail!(
                "its check does not pass after it\n{}\ncheck: {check:?}\nthe step printed:\n{printed}",
                say::finding(finding, &[], language)
            );
        }
    }
    Ok(())
}

/// A port that nobody uses, and whose neighbour for HTTPS is free too.
/// For a gateway; below the ports that the system gives to outgoing connections, so nobody takes it by
/// chance before the gateway does.
fn free_port() -> anyhow::Result<u16> {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    std::iter::repeat_with(|| rand::random_range(10_000..20_000))
        .take(1000)
        .find(|port| free(*port) && free(port + HTTPS_OFFSET))
        .context("no free port for a gateway")
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
