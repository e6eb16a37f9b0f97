//! Commands run beside a container's own process: `kubectl exec`.
//!
//! Such a command has the container's environment and folder. It dies with the container, and when
//! the client goes away; what it left in the background lives as long as the container.

use super::containers::Running;
use super::paths;
use super::process::{Launch, exit_code, signal_group};
use super::shim;
use super::terminal::Terminal;
use crate::node::{ExecOptions, Exit, Input, Output, Session};
use bytes::{Bytes, BytesMut};
use nix::sys::signal::Signal;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Environment variable that marks what was run beside a container; its value is the run's id.
const MARK: &str = "DOJO_EXEC";
/// Messages that may wait on either side.
const QUEUE: usize = 16;
/// Most bytes that are passed on at once.
const CHUNK: usize = 32 << 10;
/// How long an ended command's streams may stay silent while what it left behind holds them open.
const DRAIN: Duration = Duration::from_millis(500);

/// Runs a command beside a container.
pub(super) fn run(container: &Arc<Running>, options: &ExecOptions) -> Session {
    let (input, incoming) = mpsc::channel(QUEUE);
    let (outgoing, output) = mpsc::channel(QUEUE);
    let (result, exit) = oneshot::channel();
    container.entered.store(true, Ordering::Relaxed);
    match start(container, options, incoming, &outgoing) {
        Ok((child, readers)) => {
            let course = course(Arc::clone(container), child, readers, outgoing);
            tokio::spawn(async move {
                let exit = course.await;
                // the client has left: nobody to tell
                let _ = result.send(exit);
            });
        }
        Err(why) => {
            // as above
            let _ = result.send(Err(why));
        }
    }
    Session {
        input,
        output,
        exit,
    }
}

/// What passes on a command's output, and how it is told that the command has ended.
#[derive(Default)]
struct Readers {
    tasks: JoinSet<()>,
    ended: CancellationToken,
}

impl Readers {
    fn read(
        &mut self,
        from: impl AsyncRead + Unpin + Send + 'static,
        stream: Output,
        to: &mpsc::Sender<(Output, Bytes)>,
    ) {
        let ended = self.ended.clone();
        self.tasks.spawn(read(from, stream, to.clone(), ended));
    }
}

fn start(
    container: &Running,
    options: &ExecOptions,
    input: mpsc::Receiver<Input>,
    output: &mpsc::Sender<(Output, Bytes)>,
) -> Result<(Child, Readers), String> {
    let mut launch = Launch {
        argv: paths::inside(&container.launch, &options.command),
        ..container.launch.clone()
    };
    launch.env.insert(MARK.into(), container.id.clone());
    let failed = |error: std::io::Error| format!("opening a terminal: {error}");
    let mut readers = Readers::default();
    if options.tty {
        launch
            .env
            .entry("TERM".into())
            .or_insert_with(|| "xterm".into());
        let (terminal, theirs) = Terminal::open().map_err(failed)?;
        let child = container.launcher.spawn_on(&launch, theirs)?;
        readers.read(terminal.clone(), Output::Stdout, output);
        tokio::spawn(type_in(terminal, input));
        return Ok((child, readers));
    }
    let mut child = container.launcher.spawn(&launch, options.stdin)?;
    if let Some(pipe) = child.stdout.take() {
        readers.read(pipe, Output::Stdout, output);
    }
    if let Some(pipe) = child.stderr.take() {
        readers.read(pipe, Output::Stderr, output);
    }
    if let Some(pipe) = child.stdin.take() {
        tokio::spawn(write(pipe, input));
    }
    Ok((child, readers))
}

/// Waits for the command's end, or brings it about.
async fn course(
    container: Arc<Running>,
    mut child: Child,
    mut readers: Readers,
    output: mpsc::Sender<(Output, Bytes)>,
) -> Exit {
    let pid = child.id();
    let kill = || {
        if let Some(pid) = pid {
            signal_group(pid, Signal::SIGHUP);
            signal_group(pid, Signal::SIGKILL);
        }
    };
    let status = tokio::select! {
        status = child.wait() => status,
        () = output.closed() => {
            kill();
            child.wait().await
        }
        () = container.end.cancelled() => {
            kill();
            child.wait().await
        }
    };
    readers.ended.cancel();
    while readers.tasks.join_next().await.is_some() {}
    // an error means that somebody else has reaped it: the code is not known
    Ok(status.map_or(255, exit_code))
}

/// Passes on what a command writes until it closes the stream, nobody takes it, or the command has
/// ended and nothing more comes. A client that reads slowly still gets everything.
async fn read(
    mut from: impl AsyncRead + Unpin,
    stream: Output,
    to: mpsc::Sender<(Output, Bytes)>,
    ended: CancellationToken,
) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        let silent = async {
            ended.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        let read = tokio::select! {
            read = from.read_buf(&mut buffer) => read,
            () = silent => return,
        };
        if !matches!(read, Ok(1..)) || to.send((stream, buffer.split().freeze())).await.is_err() {
            return;
        }
    }
}

/// Writes what a client sends to a pipe until its end. What the command no longer reads is dropped.
pub(super) async fn write(pipe: impl AsyncWrite + Unpin, mut input: mpsc::Receiver<Input>) {
    let mut pipe = Some(pipe);
    while let Some(input) = input.recv().await {
        match (input, &mut pipe) {
            (Input::Stdin(bytes), Some(open)) => {
                if open.write_all(&bytes).await.is_err() {
                    pipe = None;
                }
            }
            (Input::End, _) => pipe = None,
            (Input::Stdin(_) | Input::Resize(_), _) => {}
        }
    }
}

/// The same for a terminal, whose end of input is a key.
pub(super) async fn type_in(mut terminal: Terminal, mut input: mpsc::Receiver<Input>) {
    const END_OF_TRANSMISSION: &[u8] = &[4];
    while let Some(input) = input.recv().await {
        let typed = match input {
            Input::Stdin(bytes) => terminal.write_all(&bytes).await,
            Input::End => terminal.write_all(END_OF_TRANSMISSION).await,
            Input::Resize(size) => {
                terminal.resize(size);
                Ok(())
            }
        };
        if typed.is_err() {
            return;
        }
    }
}

/// Kills what was run beside a container that has ended.
pub(super) fn kill_entered(id: &str) {
    let mut needle = format!("{MARK}=").into_bytes();
    needle.extend_from_slice(id.as_bytes());
    shim::kill_once(&needle);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_gets_all_that_an_ended_command_wrote() {
        let (mut write, from) = tokio::io::duplex(1 << 10);
        let (to, mut read_by_client) = mpsc::channel(1);
        let ended = CancellationToken::new();
        tokio::spawn(read(from, Output::Stdout, to, ended.clone()));
        let writing =
            tokio::spawn(async move { write.write_all(&[7; 4 << 10]).await.map(|()| write) });
        let mut got = 0;
        ended.cancel();
        while let Some((_, bytes)) = read_by_client.recv().await {
            got += bytes.len();
            tokio::time::sleep(DRAIN * 4).await;
        }
        assert_eq!(got, 4 << 10);
        // the other end is still open: silence was the end
        writing.await.unwrap().unwrap();
    }
}
