//! What kind of failure it was, told by the exit code.

use std::process::ExitCode;

/// The kinds of failure that scripts can tell apart. `2` (usage) is clap's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anything else.
    Unexpected = 1,
    /// The environment is unfit: a port in use, no permission, a cluster that is not running.
    Environment = 4,
    /// It did not happen in time.
    Timeout = 5,
}

/// A failure of a known kind. Its message says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    kind: Kind,
    message: String,
}

/// The environment is unfit.
pub fn environment(message: impl Into<String>) -> anyhow::Error {
    Failure {
        kind: Kind::Environment,
        message: message.into(),
    }
    .into()
}

/// It did not happen in time.
pub fn timeout(message: impl Into<String>) -> anyhow::Error {
    Failure {
        kind: Kind::Timeout,
        message: message.into(),
    }
    .into()
}

/// The exit code for an error.
pub fn kind(error: &anyhow::Error) -> Kind {
    error
        .downcast_ref::<Failure>()
        .map_or(Kind::Unexpected, |failure| failure.kind)
}

/// Prints the error on one line and gives the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let broken_pipe = error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    });
    if !broken_pipe {
        eprintln!("meshdojo: {error:#}");
    }
    ExitCode::from(kind(error) as u8)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_kind_survives_added_context() {
        let error = Err::<(), _>(environment("port 8080 is in use"))
            .context("starting")
            .unwrap_err();
        assert_eq!(kind(&error), Kind::Environment);
        assert_eq!(kind(&anyhow::anyhow!("odd")), Kind::Unexpected);
        assert_eq!(kind(&timeout("no answer")), Kind::Timeout);
    }
}
