//! `cp`: files to and from a container, as an archive through its `tar`.

use std::{
    fs::File,
    io::{Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::AttachParams};
use tokio::io::AsyncWriteExt as _;

use super::{
    exec::{self, CHUNK},
    objects::name,
    pods,
    server::Server,
};

/// `kubectl cp`.
#[derive(Args)]
pub struct CpArgs {
    /// A file or folder, here or in a container: PATH, POD:PATH or NAMESPACE/POD:PATH
    from: Place,
    /// Where it goes, of the same form
    to: Place,
    /// The container
    #[arg(short, long)]
    container: Option<String>,
}

/// One side of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Here(PathBuf),
    Pod {
        namespace: Option<String>,
        pod: String,
        path: String,
    },
}

impl std::str::FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((pod, path)) = text.split_once(':') else {
            return Ok(Self::Here(text.into()));
        };
        if pod.is_empty() || path.is_empty() {
            return Err(
                "filespec must match the canonical format: [[namespace/]pod:]file/path".into(),
            );
        }
        let (namespace, pod) = match pod.split_once('/') {
            Some((namespace, pod)) => (Some(namespace.to_owned()), pod),
            None => (None, pod),
        };
        Ok(Self::Pod {
            namespace,
            pod: pod.to_owned(),
            path: path.to_owned(),
        })
    }
}

/// A container, in which commands can be run.
struct Container {
    api: Api<Pod>,
    pod: String,
    container: String,
}

/// Copies.
pub async fn run(server: &Server, args: CpArgs) -> anyhow::Result<ExitCode> {
    match (&args.from, &args.to) {
        (
            Place::Here(from),
            Place::Pod {
                namespace,
                pod,
                path,
            },
        ) => {
            let there = container(server, &args, namespace.as_deref(), pod).await?;
            upload(&there, from, path).await?;
        }
        (
            Place::Pod {
                namespace,
                pod,
                path,
            },
            Place::Here(to),
        ) => {
            let there = container(server, &args, namespace.as_deref(), pod).await?;
            download(&there, path, to).await?;
        }
        _ => bail!("one of src or dest must be a local file specification"),
    }
    Ok(ExitCode::SUCCESS)
}

async fn container(
    server: &Server,
    args: &CpArgs,
    namespace: Option<&str>,
    pod: &str,
) -> anyhow::Result<Container> {
    let namespace = namespace.unwrap_or(&server.namespace);
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}");
    let found = server.get(&path).await?;
    Ok(Container {
        api: Api::namespaced(server.client.clone(), namespace),
        pod: name(&found).to_owned(),
        container: pods::container(&found, args.container.as_deref())?,
    })
}

impl Container {
    /// Runs a command with `input`, writes its output to `output`; its errors go to stderr. Whether it succeeded.
    async fn run(
        &self,
        command: &[&str],
        input: Option<File>,
        mut output: impl std::io::Write,
    ) -> anyhow::Result<bool> {
        let parameters = AttachParams {
            container: Some(self.container.clone()),
            stdin: input.is_some(),
            stdout: true,
            stderr: true,
            tty: false,
            max_stdin_buf_size: Some(CHUNK),
            max_stdout_buf_size: Some(CHUNK),
            max_stderr_buf_size: Some(CHUNK),
        };
        let words = command.iter().copied();
        let mut process = self.api.exec(&self.pod, words, &parameters).await?;
        let status = process.take_status();
        let (stdin, stdout, stderr) = (process.stdin(), process.stdout(), process.stderr());
        let writing = async {
            if let (Some(file), Some(mut stdin)) = (input, stdin) {
                // What ends before it has read everything says why on stderr.
                let _ = tokio::io::copy(&mut tokio::fs::File::from_std(file), &mut stdin).await;
                let _ = stdin.shutdown().await;
            }
            anyhow::Ok(())
        };
        tokio::try_join!(
            writing,
            exec::copy(stdout, &mut output),
            exec::copy(stderr, std::io::stderr())
        )?;
        let status = match status {
            Some(status) => status.await.unwrap_or_default(),
            None => Default::default(),
        };
        let code = exec::ended(&status)?;
        Ok(code == 0)
    }
}

async fn upload(there: &Container, from: &Path, to: &str) -> anyhow::Result<()> {
    if !from.exists() {
        bail!("{} doesn't exist in local filesystem", from.display());
    }
    // Into a folder that is there, else as what is named.
    let is_folder = there
        .run(&["test", "-d", to], None, std::io::sink())
        .await?;
    let own = from
        .canonicalize()?
        .file_name()
        .context("a folder with a name is needed")?
        .to_owned();
    let target = Path::new(to);
    let (folder, file) = if is_folder {
        (target, own.as_os_str())
    } else {
        let file = target.file_name().context("the target needs a name")?;
        (target.parent().unwrap_or(Path::new("")), file)
    };
    let mut archive = tar::Builder::new(tempfile::tempfile()?);
    if from.is_dir() {
        archive.append_dir_all(file, from)?;
    } else {
        archive.append_path_with_name(from, file)?;
    }
    let mut packed = archive.into_inner()?;
    packed.seek(SeekFrom::Start(0))?;
    let folder = folder.to_string_lossy();
    let mut command = vec![
        "tar",
        "--no-same-permissions",
        "--no-same-owner",
        "-xmf",
        "-",
    ];
    if !folder.is_empty() {
        command.extend(["-C", &folder]);
    }
    match there.run(&command, Some(packed), std::io::sink()).await? {
        true => Ok(()),
        false => bail!("command terminated with exit code 2"),
    }
}

async fn download(there: &Container, from: &str, to: &Path) -> anyhow::Result<()> {
    let mut packed = tempfile::tempfile()?;
    let command = ["tar", "cf", "-", from];
    if !there.run(&command, None, &mut packed).await? {
        bail!("command terminated with exit code 2");
    }
    packed.flush()?;
    packed.seek(SeekFrom::Start(0))?;
    let root = from.trim_matches('/').trim_start_matches("./");
    let base = if to.is_dir() {
        to.join(Path::new(root).file_name().unwrap_or_default())
    } else {
        to.to_owned()
    };
    unpack(packed, Path::new(root), &base)
}

/// Writes what the archive holds below `root` to `base`. Links are left out: a container must not say where they lead here.
fn unpack(packed: File, root: &Path, base: &Path) -> anyhow::Result<()> {
    for entry in tar::Archive::new(packed).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let below = path
            .strip_prefix(root)
            .with_context(|| format!("the archive holds {} too", path.display()))?;
        if below
            .components()
            .any(|part| !matches!(part, std::path::Component::Normal(_)))
        {
            bail!(
                "the archive holds {}, which leads out of it",
                path.display()
            );
        }
        let target = if below.as_os_str().is_empty() {
            base.to_owned()
        } else {
            base.join(below)
        };
        let told = || target.display().to_string();
        match entry.header().entry_type() {
            tar::EntryType::Directory => std::fs::create_dir_all(&target).with_context(told)?,
            tar::EntryType::Regular => {
                if let Some(parent) = target.parent() {
                    std::fs::create_dir_all(parent).with_context(told)?;
                }
                let mut file = File::create(&target).with_context(told)?;
                std::io::copy(&mut entry, &mut file).with_context(told)?;
            }
            _ => eprintln!(
                "warning: skipping symlink: {:?}",
                path.display().to_string()
            ),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_here_or_in_a_pod() {
        let place = |text: &str| text.parse::<Place>();
        assert_eq!(place("/tmp/a").unwrap(), Place::Here("/tmp/a".into()));
        let pod = |namespace: Option<&str>| Place::Pod {
            namespace: namespace.map(str::to_owned),
            pod: "web".into(),
            path: "/tmp/a".into(),
        };
        assert_eq!(place("web:/tmp/a").unwrap(), pod(None));
        assert_eq!(place("shop/web:/tmp/a").unwrap(), pod(Some("shop")));
        assert!(place("web:").unwrap_err().contains("canonical"));
    }

    #[test]
    fn an_archive_stays_below_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let pack = |path: &str| {
            let mut archive = tar::Builder::new(tempfile::tempfile().unwrap());
            let mut header = tar::Header::new_gnu();
            // The builder would refuse what a container may still send.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(2);
            header.set_mode(0o644);
            header.set_cksum();
            archive.append(&header, &b"hi"[..]).unwrap();
            let mut file = archive.into_inner().unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            file
        };
        let base = folder.path().join("copy");
        unpack(pack("var/log/a/b"), Path::new("var/log"), &base).unwrap();
        assert_eq!(std::fs::read(base.join("a/b")).unwrap(), b"hi");
        for bad in ["var/log/../../x", "etc/x"] {
            assert!(
                unpack(pack(bad), Path::new("var/log"), &base).is_err(),
                "{bad}"
            );
        }
    }
}
