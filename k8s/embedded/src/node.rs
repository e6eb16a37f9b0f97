//! What only a node can answer, asked by the API server: the kubelet's side of a pod's subresources.
//!
//! Pod logs are kept where the containers run. The API server knows nothing of that: it is given an
//! implementation of [`Node`] and passes requests on. Without one (tests of the API alone) it
//! answers as a real API server does whose node is out of reach.

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::io;

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
    /// Anything else. Answered with 500.
    #[error("{0}")]
    Internal(String),
}

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
}
