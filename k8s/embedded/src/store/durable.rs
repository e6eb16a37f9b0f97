//! The store's file: a redb database, written by one thread that commits in groups.

use bytes::Bytes;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Most writes that wait for the disk; more wait for a place in the queue.
pub(super) const QUEUE: usize = 1024;

/// Pages that redb keeps in memory. It is read at start only.
const CACHE_BYTES: usize = 1 << 20;

const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");
const REVISION: &str = "revision";

/// A change of the file.
pub(super) enum Operation {
    Put(String, Bytes),
    Remove(String),
}

struct Job {
    revision: u64,
    operation: Operation,
    done: oneshot::Sender<Result<(), String>>,
    _permit: OwnedSemaphorePermit,
}

/// What a file holds at start.
pub(super) struct Loaded {
    pub(super) revision: u64,
    /// Resource, namespace, name, JSON.
    pub(super) objects: Vec<(String, String, String, Bytes)>,
}

/// The key of an object in the file.
pub(super) fn key(resource: &str, namespace: &str, name: &str) -> String {
    // no part can hold a NUL: the first is ours, the others are validated names
    format!("{resource}\0{namespace}\0{name}")
}

/// The queue to the writing thread.
pub(super) struct Writer {
    jobs: mpsc::UnboundedSender<Job>,
    places: Arc<Semaphore>,
    failed: Arc<OnceLock<String>>,
}

impl Writer {
    /// Opens the file, reads it and starts the thread. The thread ends with the last sender.
    pub(super) fn open(path: &Path) -> Result<(Self, Loaded), redb::Error> {
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(path)?;
        let loaded = load(&database)?;
        // bounded by the permits of `places`
        let (jobs, queue) = mpsc::unbounded_channel();
        let failed = Arc::new(OnceLock::new());
        let writer = Writer {
            jobs,
            places: Arc::new(Semaphore::new(QUEUE)),
            failed: failed.clone(),
        };
        std::thread::Builder::new()
            .name("store".into())
            .stack_size(512 * 1024)
            .spawn(move || run(&database, queue, &failed))
            .map_err(redb::Error::Io)?;
        Ok((writer, loaded))
    }

    /// A place in the queue. Fails when the disk has failed before.
    pub(super) async fn slot(&self) -> Result<Slot<'_>, String> {
        if let Some(reason) = self.failed.get() {
            return Err(reason.clone());
        }
        // the semaphore is never closed
        let permit = self
            .places
            .clone()
            .acquire_owned()
            .await
            .map_err(|error| error.to_string())?;
        Ok(Slot {
            writer: self,
            permit,
        })
    }
}

/// A reserved place in the queue.
pub(super) struct Slot<'a> {
    writer: &'a Writer,
    permit: OwnedSemaphorePermit,
}

impl Slot<'_> {
    /// Queues a write.
    pub(super) fn write(self, revision: u64, operation: Operation) -> Pending {
        let (done, answer) = oneshot::channel();
        let job = Job {
            revision,
            operation,
            done,
            _permit: self.permit,
        };
        // when the thread is gone, `answer` says so
        let _ = self.writer.jobs.send(job);
        Pending(answer)
    }
}

/// A queued write.
pub(super) struct Pending(oneshot::Receiver<Result<(), String>>);

impl Pending {
    /// Waits until the write is on disk.
    pub(super) async fn wait(self) -> Result<(), String> {
        self.0
            .await
            .unwrap_or_else(|_| Err("the writing thread has ended".into()))
    }
}

fn load(database: &Database) -> Result<Loaded, redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(OBJECTS)?;
    transaction.open_table(COUNTERS)?;
    transaction.commit()?;
    let transaction = database.begin_read()?;
    let revision = transaction
        .open_table(COUNTERS)?
        .get(REVISION)?
        .map_or(1, |guard| guard.value());
    let mut objects = Vec::new();
    for entry in transaction.open_table(OBJECTS)?.iter()? {
        let (key, json) = entry?;
        let mut parts = key.value().splitn(3, '\0').map(str::to_owned);
        if let (Some(resource), Some(namespace), Some(name)) =
            (parts.next(), parts.next(), parts.next())
        {
            let json = Bytes::copy_from_slice(json.value());
            objects.push((resource, namespace, name, json));
        }
    }
    Ok(Loaded { revision, objects })
}

/// The writing thread: everything that has queued up becomes one transaction.
fn run(database: &Database, mut queue: mpsc::UnboundedReceiver<Job>, failed: &OnceLock<String>) {
    let mut jobs = Vec::new();
    while queue.blocking_recv_many(&mut jobs, QUEUE) > 0 {
        let result = match failed.get() {
            Some(reason) => Err(reason.clone()),
            None => commit(database, &jobs).map_err(|error| error.to_string()),
        };
        if let Err(reason) = &result
            && failed.set(reason.clone()).is_ok()
        {
            tracing::error!(%reason, "the cluster's state cannot be written; free the disk and start the cluster again");
        }
        for job in jobs.drain(..) {
            // nobody waits when the request was dropped
            let _ = job.done.send(result.clone());
        }
    }
}

fn commit(database: &Database, jobs: &[Job]) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        let mut counters = transaction.open_table(COUNTERS)?;
        for job in jobs {
            match &job.operation {
                Operation::Put(key, json) => objects.insert(key.as_str(), json.as_ref())?,
                Operation::Remove(key) => objects.remove(key.as_str())?,
            };
            counters.insert(REVISION, job.revision)?;
        }
    }
    transaction.commit()?;
    Ok(())
}
