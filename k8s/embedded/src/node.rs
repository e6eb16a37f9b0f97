//! What only a node can answer, asked by the API server: the kubelet's side of a pod's subresources.
//!
//! Logs are kept, and commands run, where the containers run. The API server knows nothing of that: it
//! is given an implementation of [`Node`] and passes requests on. Without one (tests of the API alone) it
//! answers as a real API server does whose node is out of reach.

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};

/// Options of `GET .../pods/NAME/log`, as the API's query parameters name them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogOptions {
    /// Keep the stream open and send what is written from now on.
    pub follow: bool,
    /// The last terminated run of the container instead of the current one.
    pub previous: bool,
    /// Prefix each line with its RFC 3339 timestamp and a space.
    pub timestamps: bool,
    /// Only lines of the last so many seconds; at least 1.
    pub since_seconds: Option<i64>,
    /// Only lines since this moment.
    pub since_time: Option<jiff::Timestamp>,
    /// Only the last so many lines; 0 gives none.
    pub tail_lines: Option<u64>,
    /// Stop after so many bytes; at least 1.
    pub limit_bytes: Option<u64>,
}

/// Why a node did not answer.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The container exists in the pod but has nothing to show yet. Answered with 400; the text
    /// is the kubelet's, e.g. `container "x" in pod "y" is waiting to start: ContainerCreating`.
    #[error("{0}")]
    BadRequest(String),
    /// The node knows no such pod. Answered with 404.
    #[error("{0}")]
    NotFound(String),
    /// The container does not run. Answered with 500 and this text alone, as a kubelet does.
    #[error("container not found ({0:?})")]
    NotRunning(String),
    /// Anything else. Answered with 500.
    #[error("{0}")]
    Internal(String),
}

/// What to run in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOptions {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Whether the client will send input; without, the command reads the end of a file.
    pub stdin: bool,
    /// Whether the command gets a terminal: one stream for output and errors, keys that send
    /// signals, a size.
    pub tty: bool,
}

/// One of the two streams that a command writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output; of a terminal, everything.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// What a client sends to a command or container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Bytes of standard input.
    Stdin(Bytes),
    /// The end of standard input.
    End,
    /// The client's terminal has this size now.
    Resize(TerminalSize),
}

/// How a session ended: the command's exit code, or why it could not be run.
pub type Exit = Result<i32, String>;

/// A command that runs, or a container that somebody is attached to. Dropped, it ends: a command
/// is killed, a container left alone.
#[derive(Debug)]
pub struct Session {
    /// Input. Sending waits while the command does not read.
    pub input: mpsc::Sender<Input>,
    /// Output; ends with the command. The command waits while nobody reads.
    pub output: mpsc::Receiver<(Output, Bytes)>,
    /// The outcome, once the output has ended.
    pub exit: oneshot::Receiver<Exit>,
}

/// What a container uses.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The container.
    pub container: String,
    /// CPUs, over `window`.
    pub cpu: f64,
    /// Resident memory, in bytes.
    pub memory: u64,
    /// Over how long a time.
    pub window: Duration,
}

/// A connection to a port of a pod.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A stream of log bytes.
pub type LogStream = BoxStream<'static, Result<Bytes, io::Error>>;

/// The kubelet's answers about the pods of this cluster.
pub trait Node: Send + Sync + 'static {
    /// The log of one container. The API server has checked that the pod exists and has that
    /// container. The stream ends at the end of the log, or, with `follow`, when the container
    /// has ended.
    fn logs<'a>(
        &'a self,
        namespace: &'a str,
        pod: &'a str,
        container: &'a str,
        options: LogOptions,
    ) -> BoxFuture<'a, Result<LogStream, NodeError>>;

    /// Runs a command in a container. A command that cannot be started is a session that ends with
    /// the reason.
    fn exec<'a>(
        &'a self,
        namespace: &'a str,
        pod: &'a str,
        container: &'a str,
        options: ExecOptions,
    ) -> BoxFuture<'a, Result<Session, NodeError>>;

    /// Joins the streams of a container's own process. With `stdin` the client's input is the
    /// container's, if the container was started to take any.
    fn attach<'a>(
        &'a self,
        namespace: &'a str,
        pod: &'a str,
        container: &'a str,
        stdin: bool,
    ) -> BoxFuture<'a, Result<Session, NodeError>>;

    /// Connects to a port of a pod, on its localhost.
    fn connect<'a>(
        &'a self,
        namespace: &'a str,
        pod: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, NodeError>>;

    /// What the containers of the node use. May take a second, to measure.
    fn usage(&self) -> BoxFuture<'_, Vec<Usage>>;
}
