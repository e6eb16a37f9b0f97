//! Why an upstream gave no response.

use std::{io, sync::Arc};

/// Why there is no response.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("cannot connect: {0}")]
    Connect(#[source] Arc<io::Error>),
    #[error("connecting took too long")]
    ConnectTimeout,
    #[error("the request failed: {0}")]
    Request(#[source] Arc<hyper::Error>),
    #[error("the attempt took too long")]
    PerTryTimeout,
    #[error("a circuit breaker is open")]
    Overflow,
}

impl From<hyper::Error> for UpstreamError {
    fn from(error: hyper::Error) -> Self {
        Self::Request(Arc::new(error))
    }
}

/// An HTTP/2 stream was reset rather than its connection lost.
pub(crate) fn is_stream_reset(error: &hyper::Error) -> bool {
    source_text(error).contains("stream error received")
}

/// The upstream refused a stream before it looked at it.
pub(crate) fn is_refused_stream(error: &hyper::Error) -> bool {
    source_text(error).contains("refused stream")
}

/// h2's own error type is not part of hyper's interface; its words are.
fn source_text(error: &hyper::Error) -> String {
    std::error::Error::source(error).map_or_else(String::new, ToString::to_string)
}
