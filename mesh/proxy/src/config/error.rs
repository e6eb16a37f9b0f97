//! What a snapshot may be refused for.

/// Something in a snapshot that cannot be carried out. The control plane validates before it
/// sends, so this is a defect of it; the resource is refused and the last good one stays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    #[error("bad regular expression {pattern:?}")]
    Regex {
        pattern: String,
        source: Box<regex::Error>,
    },
    #[error("bad header name {0:?}")]
    HeaderName(String),
    #[error("bad header value {0:?}")]
    HeaderValue(String),
    #[error("unknown operator in header value {0:?}; write %% for a percent sign")]
    Operator(String),
    #[error("bad status code {0}")]
    Status(u16),
    #[error("the body of a direct response is not base64")]
    Base64,
}
