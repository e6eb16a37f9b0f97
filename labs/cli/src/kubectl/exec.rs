//! `exec`.

use std::{
    io::{Read as _, Write as _},
    process::ExitCode,
};

use anyhow::bail;
use clap::Args;
use futures::SinkExt;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Status};
use kube::{
    Api,
    api::{AttachParams, AttachedProcess, TerminalSize},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use lab_runner::terminal::{Mode, Terminal};

use super::{objects::name, pods, server::Server};

/// `kubectl exec`.
#[derive(Args)]
pub struct ExecArgs {
    /// POD, pod/NAME or deploy/NAME
    reference: String,
    /// The container
    #[arg(short, long)]
    container: Option<String>,
    #[command(flatten)]
    streams: Streams,
    /// The command, after --
    #[arg(last = true)]
    command: Vec<String>,
}

/// What is passed on to a process beside its output.
#[derive(Args)]
pub struct Streams {
    /// Pass stdin on
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// The process has a terminal
    #[arg(short, long)]
    pub tty: bool,
}

impl Streams {
    /// The terminal, if one was asked for and is there.
    pub fn terminal(&self) -> anyhow::Result<Option<Terminal>> {
        if !self.tty || !self.stdin {
            return Ok(None);
        }
        let terminal = Terminal::take(Mode::Raw)?;
        if terminal.is_none() {
            eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
        }
        Ok(terminal)
    }

    /// The request for them.
    pub fn parameters(&self, container: String, tty: bool) -> AttachParams {
        AttachParams {
            container: Some(container),
            stdin: self.stdin,
            stdout: true,
            // A terminal has one output.
            stderr: !tty,
            tty,
            max_stdin_buf_size: Some(CHUNK),
            max_stdout_buf_size: Some(CHUNK),
            max_stderr_buf_size: Some(CHUNK),
        }
    }
}

/// So much is read from stdin at a time.
pub const CHUNK: usize = 16 * 1024;

/// Runs the command and gives its exit code.
pub async fn run(server: &Server, args: ExecArgs) -> anyhow::Result<ExitCode> {
    if args.command.is_empty() {
        bail!(
            "you must specify at least one command for the container: kubectl exec POD -- COMMAND"
        );
    }
    let pod = &pods::of(server, &args.reference).await?[0];
    let container = pods::container(pod, args.container.as_deref())?;
    let terminal = args.streams.terminal()?;
    let parameters = args.streams.parameters(container, terminal.is_some());
    let api: Api<Pod> = Api::namespaced(server.client.clone(), &server.namespace);
    let process = api.exec(name(pod), &args.command, &parameters).await;
    let process = process.map_err(|error| server.refused(error))?;
    let status = attend(process, terminal.as_ref()).await?;
    drop(terminal);
    // A thread may still wait for a key; the process ends without it.
    let code = ended(&status)?;
    if code != 0 {
        eprintln!("command terminated with exit code {code}");
    }
    let _ = std::io::stdout().flush();
    std::process::exit(code)
}

/// Passes everything to and fro until the process ends.
pub async fn attend(
    mut process: AttachedProcess,
    terminal: Option<&Terminal>,
) -> anyhow::Result<Status> {
    let ended = process.take_status();
    let (input, sizes) = (process.stdin(), process.terminal_size());
    let typing = async {
        if let Some(mut input) = input {
            let mut typed = stdin();
            while let Some(bytes) = typed.recv().await {
                if input.write_all(&bytes).await.is_err() {
                    break;
                }
                let _ = input.flush().await;
            }
            let _ = input.shutdown().await;
        }
        std::future::pending::<()>().await;
    };
    let resizing = async {
        if let (Some(terminal), Some(mut sizes)) = (terminal, sizes) {
            let mut changes = signal(SignalKind::window_change()).ok();
            while let Some((width, height)) = terminal.size() {
                if sizes.send(TerminalSize { width, height }).await.is_err() {
                    break;
                }
                match &mut changes {
                    Some(changes) => changes.recv().await,
                    None => break,
                };
            }
        }
        std::future::pending::<()>().await;
    };
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let printing = async {
        tokio::try_join!(
            copy(stdout, std::io::stdout()),
            copy(stderr, std::io::stderr())
        )?;
        anyhow::Ok(())
    };
    tokio::select! {
        printed = printing => printed?,
        () = typing => {}
        () = resizing => {}
    }
    let status = match ended {
        Some(ended) => ended.await,
        None => None,
    };
    Ok(status.unwrap_or_default())
}

/// Writes everything that comes to `to`, as it comes.
pub async fn copy(
    from: Option<impl AsyncRead + Unpin>,
    mut to: impl std::io::Write,
) -> anyhow::Result<()> {
    let Some(mut from) = from else {
        return Ok(());
    };
    let mut room = vec![0; CHUNK];
    loop {
        let read = from.read(&mut room).await?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&room[..read])?;
        to.flush()?;
    }
}

/// What is typed. A thread of its own reads it: reading a terminal cannot be given up half-way.
fn stdin() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut room = vec![0; CHUNK];
        while let Ok(read) = std::io::stdin().lock().read(&mut room) {
            if read == 0 || sender.blocking_send(room[..read].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The exit code that a status tells.
pub fn ended(status: &Status) -> anyhow::Result<i32> {
    if status.status.as_deref() != Some("Failure") {
        return Ok(0);
    }
    let causes = status.details.as_ref().and_then(|d| d.causes.as_ref());
    let code = causes
        .into_iter()
        .flatten()
        .find(|cause| cause.reason.as_deref() == Some("ExitCode"))
        .and_then(|cause| cause.message.as_ref()?.parse().ok());
    match code {
        Some(code) => Ok(code),
        None => bail!(
            "{}",
            status
                .message
                .as_deref()
                .unwrap_or("the command could not be run")
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_exit_code_is_that_of_the_command() {
        let status = |value| ended(&serde_json::from_value::<Status>(value).unwrap());
        assert_eq!(status(json!({ "status": "Success" })).unwrap(), 0);
        let three = json!({ "status": "Failure", "reason": "NonZeroExitCode",
            "details": { "causes": [{ "reason": "ExitCode", "message": "3" }] } });
        assert_eq!(status(three).unwrap(), 3);
        let lost = json!({ "status": "Failure", "message": "no such file" });
        assert_eq!(status(lost).unwrap_err().to_string(), "no such file");
    }
}
