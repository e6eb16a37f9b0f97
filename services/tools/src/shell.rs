//! What surrounds a tool: where it writes, its environment, and the student's Ctrl-C.

use std::io::{IsTerminal as _, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::route::Environment;

/// A stream to write to, shared by the threads of a tool.
#[derive(Clone)]
pub struct Sink {
    write: Arc<Mutex<dyn Write + Send>>,
    /// Whether people read it as it comes: colours and progress lines go only to terminals.
    pub terminal: bool,
}

impl Sink {
    /// Writes at once. A reader that has gone away (`| head`) is no error of ours.
    pub fn bytes(&self, bytes: &[u8]) {
        let mut write = self.write.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = write.write_all(bytes).and_then(|()| write.flush());
    }

    /// Writes text at once.
    pub fn text(&self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Writes a line at once.
    pub fn line(&self, text: &str) {
        self.text(&format!("{text}\n"));
    }
}

/// Where a tool runs.
#[derive(Clone)]
pub struct Shell {
    /// Standard output.
    pub out: Sink,
    /// Standard error.
    pub err: Sink,
    /// The variables that decide how servers are reached.
    pub environment: Environment,
    /// Ends a run early, with its report.
    pub stop: CancellationToken,
    /// Decides jitter and rests.
    pub seed: u64,
}

impl Shell {
    /// This process's own.
    #[must_use]
    pub fn process() -> Self {
        Self {
            out: Sink {
                terminal: std::io::stdout().is_terminal(),
                write: Arc::new(Mutex::new(std::io::stdout())),
            },
            err: Sink {
                terminal: std::io::stderr().is_terminal(),
                write: Arc::new(Mutex::new(std::io::stderr())),
            },
            environment: Environment::read(),
            stop: CancellationToken::new(),
            seed: rand::random(),
        }
    }

    /// Makes the first Ctrl-C end a run with its report, and a second one the process. Must be
    /// called within a runtime.
    pub fn stop_on_interrupt(&self) {
        let stop = self.stop.clone();
        tokio::spawn(async move {
            // Without a handler Ctrl-C ends the process, as ever.
            if tokio::signal::ctrl_c().await.is_ok() {
                stop.cancel();
                if tokio::signal::ctrl_c().await.is_ok() {
                    std::process::exit(130);
                }
            }
        });
    }
}

#[cfg(test)]
pub(crate) mod captured {
    use super::*;

    /// A shell that keeps what is written: output and errors.
    pub(crate) struct Captured {
        pub(crate) shell: Shell,
        out: Arc<Mutex<Vec<u8>>>,
        err: Arc<Mutex<Vec<u8>>>,
    }

    impl Captured {
        pub(crate) fn new(terminal: bool) -> Self {
            let (out, err) = (Arc::default(), Arc::default());
            let sink = |write: &Arc<Mutex<Vec<u8>>>| Sink {
                write: Arc::clone(write) as Arc<Mutex<dyn Write + Send>>,
                terminal,
            };
            Self {
                shell: Shell {
                    out: sink(&out),
                    err: sink(&err),
                    environment: Environment::default(),
                    stop: CancellationToken::new(),
                    seed: 1,
                },
                out,
                err,
            }
        }

        pub(crate) fn out(&self) -> String {
            String::from_utf8(self.out.lock().expect("no panic").clone()).expect("text")
        }

        pub(crate) fn err(&self) -> String {
            String::from_utf8(self.err.lock().expect("no panic").clone()).expect("text")
        }
    }
}
