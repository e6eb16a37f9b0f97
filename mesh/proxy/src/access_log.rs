//! The access log: one line per request in Istio's default format, to standard output.
//!
//! A worker gathers lines and hands them to a writer thread soon after; when standard output is
//! too slow the lines are dropped and counted rather than holding requests up.

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
    io::Write as _,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use http::{HeaderValue, Method, Version};

use crate::{exchange::Exchange, request::Downstream, stats::Registry};

/// The longest that a line waits in the worker.
const FLUSH_AFTER: Duration = Duration::from_millis(200);
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

/// What the log says of a request, copied before the request moves on.
pub(crate) struct Entry {
    pub(crate) start: jiff::Timestamp,
    pub(crate) method: Method,
    pub(crate) path: Box<str>,
    pub(crate) version: Version,
    pub(crate) forwarded_for: Option<HeaderValue>,
    pub(crate) user_agent: Option<HeaderValue>,
    pub(crate) request_id: Option<HeaderValue>,
    pub(crate) authority: Box<str>,
    pub(crate) route: Option<Arc<str>>,
    pub(crate) upstream_local: Option<SocketAddr>,
    pub(crate) downstream_local: SocketAddr,
    pub(crate) downstream_remote: SocketAddr,
}

impl Entry {
    /// What is known as soon as there is a request.
    pub(crate) fn new(connection: &Downstream, method: Method, path: &str) -> Self {
        Self {
            start: jiff::Timestamp::now(),
            method,
            path: path.into(),
            version: Version::HTTP_11,
            forwarded_for: None,
            user_agent: None,
            request_id: None,
            authority: "-".into(),
            route: None,
            upstream_local: None,
            downstream_local: connection.local,
            downstream_remote: connection.remote,
        }
    }

    /// The line of a finished request.
    pub(crate) fn line(&self, exchange: &Exchange, received: u64, duration_ms: u64) -> String {
        let mut line = String::with_capacity(384);
        let details: &str = match exchange.details.as_ref() {
            "" => "-",
            details => details,
        };
        // Writing to a String does not fail.
        let _ = writeln!(
            line,
            "[{}] \"{} {} {}\" {} {} {} - \"-\" {} {} {} {} \"{}\" \"{}\" \"{}\" \"{}\" \"{}\" {} {} {} {} - {}",
            self.start.strftime("%Y-%m-%dT%H:%M:%S.%3fZ"),
            self.method,
            self.path,
            protocol(self.version),
            exchange.status,
            exchange.flags,
            details.replace(' ', "_"),
            received,
            exchange.response_body_bytes,
            duration_ms,
            OrDash(exchange.upstream_time_ms),
            Header(&self.forwarded_for),
            Header(&self.user_agent),
            Header(&self.request_id),
            self.authority,
            OrDash(exchange.host.as_ref().map(|host| host.address)),
            OrDash(exchange.cluster.as_ref().map(|cluster| &cluster.name)),
            OrDash(self.upstream_local),
            self.downstream_local,
            self.downstream_remote,
            OrDash(self.route.as_deref().filter(|route| !route.is_empty())),
        );
        line
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

struct OrDash<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for OrDash<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("-"),
        }
    }
}

struct Header<'a>(&'a Option<HeaderValue>);

impl fmt::Display for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            // A quote in a header must not end the field.
            Some(value) => String::from_utf8_lossy(value.as_bytes())
                .replace('"', "\\\"")
                .fmt(f),
            None => f.write_str("-"),
        }
    }
}
