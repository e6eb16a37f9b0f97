//! The recent changes of one resource, bounded by number and by bytes.

use super::watch::Expired;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// Most events kept for one resource.
const EVENTS: usize = 1000;

/// Most bytes of objects kept for one resource...
const BYTES: usize = 1 << 20;

/// ...but never fewer events than this, however large their objects are.
const LEAST: usize = 16;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// It was replaced.
    Modified,
    /// It was removed.
    Deleted,
}

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Event {
    /// The revision of the change.
    pub revision: u64,
    /// What happened.
    pub change: Change,
    /// The object's namespace; empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    /// The object after the change; its last state, with the revision of the deletion, when it was
    /// removed.
    pub object: Bytes,
    /// The object before the change. A selector compares both.
    pub previous: Option<Bytes>,
}

/// Recent events, oldest first.
pub(super) struct Ring {
    events: VecDeque<Event>,
    bytes: usize,
    /// Events up to this revision are gone.
    gone: u64,
}

impl Ring {
    /// An empty ring; what happened up to `gone` cannot be told.
    pub(super) fn new(gone: u64) -> Self {
        Ring {
            events: VecDeque::new(),
            bytes: 0,
            gone,
        }
    }

    /// Appends an event, whose revision is higher than all before, and drops the oldest ones.
    pub(super) fn push(&mut self, event: Event) {
        self.bytes += event.object.len();
        self.events.push_back(event);
        while self.events.len() > EVENTS || (self.bytes > BYTES && self.events.len() > LEAST) {
            if let Some(oldest) = self.events.pop_front() {
                self.bytes -= oldest.object.len();
                self.gone = oldest.revision;
            }
        }
    }

    /// Events after `revision`, at most `limit`.
    pub(super) fn after(&self, revision: u64, limit: usize) -> Result<Vec<Event>, Expired> {
        if revision < self.gone {
            return Err(Expired {
                asked: revision,
                oldest: self.gone,
            });
        }
        let start = self
            .events
            .partition_point(|event| event.revision <= revision);
        Ok(self.events.range(start..).take(limit).cloned().collect())
    }
}
