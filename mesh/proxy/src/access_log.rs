//! The access log: one line per request or connection, to standard output, in Istio's default
//! [format](Format) or a configured one.
//!
//! A worker gathers lines and hands them to a writer thread soon after; when standard output is
//! too slow the lines are dropped and counted rather than holding requests up.

mod format;

use std::{
    cell::RefCell,
    io::Write as _,
    rc::Rc,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use http::Version;

pub(crate) use format::{Format, Record};

use crate::stats::Registry;

/// The longest that a line waits in the worker: less than it takes to type, or to start, the command
/// that looks for it.
const FLUSH_AFTER: Duration = Duration::from_millis(20);
/// Bytes gathered before they are handed on at once.
const FLUSH_AT: usize = 16 * 1024;
/// Batches that may wait for standard output.
const BATCHES: usize = 64;

/// Where the lines of all workers go.
#[derive(Clone)]
pub(crate) struct Sink {
    batches: SyncSender<Vec<u8>>,
    registry: Arc<Registry>,
}

impl Sink {
    /// Lines go to standard output, written by a thread of its own.
    pub(crate) fn stdout(registry: Arc<Registry>) -> std::io::Result<Self> {
        let (sink, lines) = Self::channel(registry);
        std::thread::Builder::new()
            .name("access-log".into())
            .stack_size(64 * 1024)
            .spawn(move || {
                for batch in lines {
                    let mut out = std::io::stdout().lock();
                    if out.write_all(&batch).and_then(|()| out.flush()).is_err() {
                        return;
                    }
                }
            })?;
        Ok(sink)
    }

    /// Lines go to the receiver.
    pub(crate) fn channel(registry: Arc<Registry>) -> (Self, Receiver<Vec<u8>>) {
        let (batches, lines) = sync_channel(BATCHES);
        (Self { batches, registry }, lines)
    }

    fn send(&self, batch: Vec<u8>) {
        let lines = batch.iter().filter(|byte| **byte == b'\n').count();
        if self.batches.try_send(batch).is_err() {
            self.registry.server.access_log_dropped.add(lines as u64);
        }
    }
}

/// The lines of one worker that are not handed on yet.
pub(crate) struct Buffer {
    sink: Sink,
    pending: Rc<RefCell<Vec<u8>>>,
}

impl Buffer {
    pub(crate) fn new(sink: Sink) -> Self {
        Self {
            sink,
            pending: Rc::default(),
        }
    }

    pub(crate) fn write(&self, line: &str) {
        let (first, length) = {
            let mut pending = self.pending.borrow_mut();
            let first = pending.is_empty();
            pending.extend_from_slice(line.as_bytes());
            (first, pending.len())
        };
        if length >= FLUSH_AT {
            self.flush();
        } else if first {
            // No timer runs while nothing is logged.
            let (pending, sink) = (self.pending.clone(), self.sink.clone());
            tokio::task::spawn_local(async move {
                tokio::time::sleep(FLUSH_AFTER).await;
                let batch = pending.take();
                if !batch.is_empty() {
                    sink.send(batch);
                }
            });
        }
    }

    pub(crate) fn flush(&self) {
        let batch = self.pending.take();
        if !batch.is_empty() {
            self.sink.send(batch);
        }
    }
}

/// `HTTP/1.1`, `HTTP/2`.
pub(crate) fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}
