//! The resource store: objects by resource, namespace and name, with one revision counter.
//!
//! What etcd is to a Kubernetes API server. Objects are compact JSON (`Bytes`), so that a cluster at
//! rest costs what its objects cost; they are parsed when somebody looks inside. Each write gets the
//! next revision, which becomes `metadata.resourceVersion`, and an [`Event`] in the ring of its
//! resource, from which watches are served ([`Watch`]).
//!
//! A write answers when it is on disk. The disk is written by a thread of its own that commits
//! everything that has queued up in one transaction ([`durable`]), so a burst of status updates
//! costs a few `fsync`s, not thousands. Readers and watches see a write a moment before it is
//! durable. A crash in that moment is told to them by the revision: after a start it jumps ahead by
//! more than can have been lost, so a watcher that had seen a lost revision is sent to list again.

mod durable;
mod ring;
mod watch;

pub use ring::{Change, Event};
pub use watch::{Expired, Watch};

use bytes::Bytes;
use durable::{Operation, Writer};
use ring::Ring;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch as signal;

/// Why a write did not happen.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum StoreError {
    /// Create of a name that is taken.
    #[error("an object of this name exists")]
    Exists,
    /// Update or delete of a name that is not there.
    #[error("no object of this name")]
    NotFound,
    /// The object has another revision than the expected one.
    #[error("the object has changed meanwhile")]
    Conflict,
    /// The disk refused. Nothing can be written until the cluster is started again.
    #[error("the cluster's state cannot be written: {0}")]
    Disk(String),
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the cluster's state {path}: {reason}")]
pub struct OpenError {
    path: String,
    reason: String,
}

/// A stored object.
#[derive(Clone, Debug)]
pub struct Object {
    /// The revision of its last write: `metadata.resourceVersion`.
    pub revision: u64,
    /// The object as compact JSON, `apiVersion` and `kind` included.
    pub json: Bytes,
}

impl Object {
    /// The object, parsed.
    pub fn value(&self) -> Value {
        parse(&self.json)
    }
}

/// Parses what this store has serialized.
pub fn parse(json: &Bytes) -> Value {
    // the store wrote it, or read it back from a database that checks its pages
    serde_json::from_slice(json).unwrap_or(Value::Null)
}

/// Namespace (empty for cluster-scoped) and name.
type Name = (String, String);

struct Table {
    objects: BTreeMap<Name, Object>,
    ring: Ring,
    changed: signal::Sender<u64>,
}

struct State {
    revision: u64,
    /// The revision at start: nothing older can be replayed.
    base: u64,
    tables: HashMap<Arc<str>, Table>,
}

impl State {
    fn table(&mut self, resource: &str) -> &mut Table {
        if !self.tables.contains_key(resource) {
            let table = Table {
                objects: BTreeMap::new(),
                ring: Ring::new(self.base),
                changed: signal::Sender::new(0),
            };
            self.tables.insert(resource.into(), table);
        }
        // inserted above when it was missing
        self.tables.get_mut(resource).expect("the table exists")
    }
}

struct Inner {
    state: Mutex<State>,
    writer: Option<Writer>,
}

/// The store. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

impl Store {
    /// A store that forgets everything when it is dropped.
    pub fn in_memory() -> Self {
        Store(Arc::new(Inner {
            state: Mutex::new(State {
                revision: 1,
                base: 1,
                tables: HashMap::new(),
            }),
            writer: None,
        }))
    }

    /// Opens (or creates) the store in the file `path`.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let (writer, loaded) = Writer::open(path).map_err(|error| OpenError {
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
        let base = loaded.revision + durable::QUEUE as u64 + 1;
        let mut state = State {
            revision: base,
            base,
            tables: HashMap::new(),
        };
        for (resource, namespace, name, json) in loaded.objects {
            let revision = revision_of(&parse(&json));
            state
                .table(&resource)
                .objects
                .insert((namespace, name), Object { revision, json });
        }
        Ok(Store(Arc::new(Inner {
            state: Mutex::new(state),
            writer: Some(writer),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // no code panics while it holds the lock half-way through a change
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The revision of the last write.
    pub fn revision(&self) -> u64 {
        self.state().revision
    }

    /// One object.
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Object> {
        let state = self.state();
        let table = state.tables.get(resource)?;
        table
            .objects
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// All objects of a resource, ordered by namespace and name, of one namespace or of all, and
    /// the revision at which this was so.
    pub fn list(&self, resource: &str, namespace: Option<&str>) -> (Vec<Object>, u64) {
        let state = self.state();
        let revision = state.revision;
        let Some(table) = state.tables.get(resource) else {
            return (Vec::new(), revision);
        };
        let objects = match namespace {
            None => table.objects.values().cloned().collect(),
            Some(namespace) => table
                .objects
                .range((namespace.to_owned(), String::new())..)
                .take_while(|((of, _), _)| of == namespace)
                .map(|(_, object)| object.clone())
                .collect(),
        };
        (objects, revision)
    }

    /// Writes a new object. Its `metadata.resourceVersion` is set here.
    pub async fn create(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
        object: Value,
    ) -> Result<Object, StoreError> {
        self.write(resource, namespace, name, Write::Create(object))
            .await
    }

    /// Replaces an object whose revision is still `expected`.
    pub async fn update(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
        expected: u64,
        object: Value,
    ) -> Result<Object, StoreError> {
        self.write(resource, namespace, name, Write::Update(expected, object))
            .await
    }

    /// Removes an object whose revision is still `expected`; returns its last state, which carries
    /// the revision of the deletion.
    pub async fn delete(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
        expected: u64,
    ) -> Result<Object, StoreError> {
        self.write(resource, namespace, name, Write::Delete(expected))
            .await
    }

    async fn write(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
        write: Write,
    ) -> Result<Object, StoreError> {
        let slot = match &self.0.writer {
            Some(writer) => Some(writer.slot().await.map_err(StoreError::Disk)?),
            None => None,
        };
        let (object, durable) = {
            let mut state = self.state();
            let revision = state.revision + 1;
            let (object, deleted) = state.change(resource, namespace, name, write, revision)?;
            let durable = slot.map(|slot| {
                let key = durable::key(resource, namespace, name);
                let operation = match deleted {
                    true => Operation::Remove(key),
                    false => Operation::Put(key, object.json.clone()),
                };
                // queued under the lock: the disk sees writes in the order of their revisions
                slot.write(revision, operation)
            });
            (object, durable)
        };
        if let Some(durable) = durable {
            durable.wait().await.map_err(StoreError::Disk)?;
        }
        Ok(object)
    }

    /// Follows a resource from after `revision`.
    pub fn watch(&self, resource: &str, revision: u64) -> Watch {
        let changed = self.state().table(resource).changed.subscribe();
        Watch::new(self.clone(), resource, revision, changed)
    }

    /// The events of a resource after `revision`, at most `limit`, and the revision up to which
    /// they are complete.
    fn events(
        &self,
        resource: &str,
        revision: u64,
        limit: usize,
    ) -> Result<(Vec<Event>, u64), Expired> {
        let mut state = self.state();
        let current = state.revision;
        let events = state.table(resource).ring.after(revision, limit)?;
        let complete = match events.last() {
            Some(last) if events.len() == limit => last.revision,
            _ => current.max(revision),
        };
        Ok((events, complete))
    }
}

enum Write {
    Create(Value),
    Update(u64, Value),
    Delete(u64),
}

impl State {
    /// Applies a write; says whether it removed the object.
    fn change(
        &mut self,
        resource: &str,
        namespace: &str,
        name: &str,
        write: Write,
        revision: u64,
    ) -> Result<(Object, bool), StoreError> {
        let table = self.table(resource);
        let key = (namespace.to_owned(), name.to_owned());
        let previous = table.objects.get(&key).cloned();
        let (change, mut value) = match (write, &previous) {
            (Write::Create(_), Some(_)) => return Err(StoreError::Exists),
            (Write::Create(value), None) => (Change::Added, value),
            (_, None) => return Err(StoreError::NotFound),
            (Write::Update(expected, _) | Write::Delete(expected), Some(previous))
                if previous.revision != expected =>
            {
                return Err(StoreError::Conflict);
            }
            (Write::Update(_, value), Some(_)) => (Change::Modified, value),
            (Write::Delete(_), Some(previous)) => (Change::Deleted, previous.value()),
        };
        set_revision(&mut value, revision);
        let object = Object {
            revision,
            json: serialize(&value),
        };
        let deleted = change == Change::Deleted;
        if deleted {
            table.objects.remove(&key);
        } else {
            table.objects.insert(key, object.clone());
        }
        table.ring.push(Event {
            revision,
            change,
            namespace: namespace.into(),
            object: object.json.clone(),
            previous: previous.map(|previous| previous.json),
        });
        table.changed.send_replace(revision);
        self.revision = revision;
        Ok((object, deleted))
    }
}

/// Compact JSON in a buffer that is no larger than it needs to be.
fn serialize(value: &Value) -> Bytes {
    // maps with string keys and plain values always serialize
    let json = serde_json::to_vec(value).unwrap_or_default();
    Bytes::from(json.into_boxed_slice())
}

fn set_revision(object: &mut Value, revision: u64) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".into(), revision.to_string().into());
    }
}

fn revision_of(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
