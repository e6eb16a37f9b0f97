//! A reader's place in the stream of changes of one resource.

use super::{Event, Store};
use std::sync::Arc;
use tokio::sync::watch as signal;

/// Most events handed out at once.
const BATCH: usize = 64;

/// The asked revision is older than what is remembered: list again (HTTP 410).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {asked} ({oldest})")]
pub struct Expired {
    /// The revision after which events were asked for.
    pub asked: u64,
    /// The oldest revision from which a watch can start.
    pub oldest: u64,
}

/// Follows one resource. It holds no events itself: a reader that is too slow finds that the ring
/// has moved on, and is told so by [`Expired`].
pub struct Watch {
    store: Store,
    resource: Arc<str>,
    position: u64,
    changed: signal::Receiver<u64>,
}

impl Watch {
    pub(super) fn new(
        store: Store,
        resource: &str,
        position: u64,
        changed: signal::Receiver<u64>,
    ) -> Self {
        Watch {
            store,
            resource: resource.into(),
            position,
            changed,
        }
    }

    /// The revision up to which this reader has been told everything: what a bookmark says.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// What has happened meanwhile, oldest first; empty when nothing has.
    pub fn pending(&mut self) -> Result<Vec<Event>, Expired> {
        self.changed.mark_unchanged();
        let (events, complete) = self.store.events(&self.resource, self.position, BATCH)?;
        self.position = complete;
        Ok(events)
    }

    /// Waits for changes. Safe to cancel.
    pub async fn next(&mut self) -> Result<Vec<Event>, Expired> {
        loop {
            let events = self.pending()?;
            if !events.is_empty() {
                return Ok(events);
            }
            // the sender lives in the store, which this watch keeps alive
            let _ = self.changed.changed().await;
        }
    }
}
