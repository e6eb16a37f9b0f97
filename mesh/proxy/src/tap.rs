//! `GET /tap`: what passes through the proxy, live, for those who watch.
//!
//! ```text
//! exchange, tcp ─► requests, connections ─┐
//! wire ─► the first bytes each way ───────┴─► a bounded queue per watcher ─► the admin interface
//! ```
//!
//! While nobody watches, a request costs a look at one atomic number, and so does a piece of bytes.
//! A watcher that is too slow loses lines, and is told how many. Headers are never shown, and of
//! bytes only what tells their kind, unless more is asked for.

mod event;
mod wire;

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};

pub(crate) use event::{Connection, Ends, Event, Request, direction, time};
pub(crate) use wire::{Hop, Wire};

/// Lines that wait for one watcher.
const QUEUE: usize = 512;
/// Watchers at one time.
pub(crate) const WATCHERS: usize = 8;
/// The most that is shown of one piece of bytes.
pub(crate) const MOST_BYTES: usize = 1024;

const REQUESTS: u8 = 1;
const BYTES: u8 = 2;

/// Those who watch.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    /// 0, [`REQUESTS`] or [`BYTES`]: the most that anyone wants.
    level: AtomicU8,
    watchers: Mutex<Vec<Watcher>>,
}

#[derive(Debug)]
struct Watcher {
    lines: Sender<Bytes>,
    raw: Option<Raw>,
    /// Lines that found no room.
    lost: u64,
}

/// Bytes are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Raw {
    /// What tells their kind: no header, no body.
    Kind,
    /// So many of them, whatever they are.
    First(usize),
}

impl Tap {
    /// Requests are wanted.
    pub(crate) fn is_watched(&self) -> bool {
        self.level.load(Relaxed) > 0
    }

    /// Bytes are wanted.
    fn wants_bytes(&self) -> bool {
        self.level.load(Relaxed) >= BYTES
    }

    /// Tells everyone of a request or a connection.
    pub(crate) fn tell(&self, event: &Event<'_>) {
        self.each(|_| Some(event.line()));
    }

    /// Gives each watcher its line, where it has one.
    fn each(&self, line: impl Fn(Option<Raw>) -> Option<Bytes>) {
        for watcher in self.lock().iter_mut() {
            let Some(line) = line(watcher.raw) else {
                continue;
            };
            if watcher.lost > 0 {
                let lost = Event::Lost {
                    lines: watcher.lost,
                };
                if watcher.lines.try_send(lost.line()).is_ok() {
                    watcher.lost = 0;
                }
            }
            if let Err(TrySendError::Full(_)) = watcher.lines.try_send(line) {
                watcher.lost += 1;
            }
        }
    }

    /// Begins to watch; `None`: too many do.
    pub(crate) fn watch(self: &Arc<Self>, raw: Option<Raw>) -> Option<Lines> {
        let mut watchers = self.lock();
        if watchers.len() >= WATCHERS {
            return None;
        }
        let (lines, received) = channel(QUEUE);
        watchers.push(Watcher {
            lines,
            raw,
            lost: 0,
        });
        self.level.store(level(&watchers), Relaxed);
        Some(Lines {
            received,
            tap: self.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Watcher>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn level(watchers: &[Watcher]) -> u8 {
    let wanted = |watcher: &Watcher| watcher.raw.map_or(REQUESTS, |_| BYTES);
    watchers.iter().map(wanted).max().unwrap_or(0)
}

/// What a watcher is told: a body that ends with the proxy.
#[derive(Debug)]
pub(crate) struct Lines {
    received: Receiver<Bytes>,
    tap: Arc<Tap>,
}

#[cfg(test)]
impl Lines {
    /// What came, without waiting.
    pub(crate) fn come(&mut self) -> Vec<serde_json::Value> {
        let lines = std::iter::from_fn(|| self.received.try_recv().ok());
        lines
            .map(|line| serde_json::from_slice(&line).unwrap())
            .collect()
    }
}

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let line = self.received.poll_recv(cx);
        line.map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.received.close();
        let mut watchers = self.tap.lock();
        watchers.retain(|watcher| !watcher.lines.is_closed());
        self.tap.level.store(level(&watchers), Relaxed);
    }
}
