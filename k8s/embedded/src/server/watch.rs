//! Watches: an endless list of changes, one JSON object per line.
//!
//! A watch reads from the ring of its resource only when the client takes what it was given: a
//! client that stops reading costs nothing, and finds 410 when it comes back too late. The listener
//! closes connections on which a write is stuck.

use super::answer::{self, Form};
use super::read;
use super::selectors::Selectors;
use super::{ApiError, Call, Inner};
use crate::discovery::Resource;
use crate::store::{self, Change, Event, Expired};
use crate::versions;
use axum::body::Body;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use http::StatusCode;
use rand::RngExt;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Shortest time of a watch whose client gives none; it is ended after once to twice of this.
const MIN_TIMEOUT: Duration = Duration::from_secs(1800);

/// Time between bookmarks.
const BOOKMARKS: Duration = Duration::from_secs(60);

/// How long before its end a watch sends a last bookmark.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

/// Initial objects that are sent at once.
const BATCH: usize = 64;

struct Stream {
    /// Keeps the server alive as long as somebody watches.
    _api: Arc<Inner>,
    resource: Arc<Resource>,
    namespace: Option<Arc<str>>,
    selectors: Selectors,
    form: Form,
    include_object: Option<String>,
    headed: bool,
    watch: store::Watch,
    initial: VecDeque<Bytes>,
    /// A bookmark that ends the initial objects.
    initial_bookmark: bool,
    bookmarks: bool,
    next_bookmark: Instant,
    end: Instant,
    ended: bool,
}

pub(super) fn run(api: Arc<Inner>, call: &Call<'_>) -> Result<Response, ApiError> {
    let (options, target) = (call.options, call.target);
    let mut fields = options.get("fieldSelector").unwrap_or_default().to_owned();
    if let Some(name) = &target.name {
        fields = format!("metadata.name={name},{fields}");
    }
    let selectors = Selectors::parse(
        &target.resource,
        options.get("labelSelector"),
        Some(&fields),
    )?;
    let asked = options.get("resourceVersion");
    let revision: u64 = asked.unwrap_or("0").parse().map_err(|_| {
        let asked = asked.unwrap_or_default();
        ApiError::unclassified(format!(
            "resourceVersion: Invalid value: {asked:?}: strconv.ParseUint: parsing {asked:?}: invalid syntax"
        ))
    })?;
    let streaming_list = options.flag("sendInitialEvents");
    let bookmarks = options.flag("allowWatchBookmarks");
    let from_start =
        streaming_list || (revision == 0 && options.get("sendInitialEvents").is_none());
    let (initial, start) = if from_start {
        let (objects, revision) = read::matching(call, &selectors);
        (
            objects.into_iter().map(|object| object.json).collect(),
            revision,
        )
    } else if revision == 0 {
        (VecDeque::new(), api.store.revision())
    } else {
        (VecDeque::new(), revision)
    };
    let timeout = match options.number("timeoutSeconds")? {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds.unsigned_abs()),
        _ => MIN_TIMEOUT.mul_f64(1.0 + rand::rng().random::<f64>()),
    };
    let now = Instant::now();
    // far beyond any client's patience, and safe to add to the clock
    let end = now + timeout.min(Duration::from_secs(24 * 3600));
    let stream = Stream {
        watch: api.store.watch(&target.resource.storage, start),
        _api: api,
        resource: target.resource.clone(),
        namespace: target.namespace.as_deref().map(Arc::from),
        selectors,
        form: call.form,
        include_object: options.get("includeObject").map(str::to_owned),
        headed: false,
        initial,
        initial_bookmark: from_start && bookmarks,
        bookmarks,
        next_bookmark: first_bookmark(now, end),
        end,
        ended: false,
    };
    let chunks = futures::stream::unfold(stream, |mut stream| async move {
        let chunk = stream.next().await?;
        Some((Ok::<_, Infallible>(chunk), stream))
    });
    Ok(answer::raw(StatusCode::OK, Body::from_stream(chunks)))
}

fn first_bookmark(now: Instant, end: Instant) -> Instant {
    let last = end - LAST_BOOKMARK.min(end - now);
    (now + BOOKMARKS).min(last)
}

impl Stream {
    /// The next lines; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        let mut chunk = BytesMut::new();
        if !self.initial.is_empty() || self.initial_bookmark {
            for _ in 0..BATCH {
                let Some(object) = self.initial.pop_front() else {
                    break;
                };
                self.line(&mut chunk, "ADDED", &object);
            }
            if self.initial.is_empty() && self.initial_bookmark {
                self.initial_bookmark = false;
                self.bookmark(&mut chunk, true);
            }
            return Some(chunk.freeze());
        }
        while chunk.is_empty() {
            if self.ended {
                return None;
            }
            tokio::select! {
                biased;
                events = self.watch.next() => match events {
                    Ok(events) => for event in events {
                        self.event(&mut chunk, &event);
                    },
                    Err(expired) => {
                        self.ended = true;
                        expire(&mut chunk, expired);
                    }
                },
                () = sleep_until(self.end) => self.ended = true,
                () = sleep_until(self.next_bookmark), if self.bookmarks => {
                    let now = Instant::now();
                    self.next_bookmark = match now + BOOKMARKS {
                        next if next < self.end => next,
                        _ if now + LAST_BOOKMARK < self.end => self.end - LAST_BOOKMARK,
                        // the last one is being sent
                        _ => self.end + BOOKMARKS,
                    };
                    self.bookmark(&mut chunk, false);
                }
            }
        }
        Some(chunk.freeze())
    }

    fn event(&mut self, chunk: &mut BytesMut, event: &Event) {
        if self
            .namespace
            .as_ref()
            .is_some_and(|namespace| *namespace != event.namespace)
        {
            return;
        }
        let change = if self.selectors.is_empty() {
            Some(event.change)
        } else {
            let matches = |json: &Bytes| {
                self.selectors
                    .matches(&versions::read(&self.resource, json))
            };
            let before = event.previous.as_ref().is_some_and(&matches);
            let after = event.change != Change::Deleted && matches(&event.object);
            match (before, after) {
                (false, true) => Some(Change::Added),
                (true, true) => Some(Change::Modified),
                (true, false) => Some(Change::Deleted),
                (false, false) => None,
            }
        };
        match change {
            Some(Change::Added) => self.line(chunk, "ADDED", &event.object),
            Some(Change::Modified) => self.line(chunk, "MODIFIED", &event.object),
            Some(Change::Deleted) if event.change == Change::Deleted => {
                self.line(chunk, "DELETED", &event.object);
            }
            // it stopped to match: the state that did, with the revision of the change
            Some(Change::Deleted) => {
                let mut object = store::parse(event.previous.as_ref().unwrap_or(&event.object));
                object["metadata"]["resourceVersion"] = event.revision.to_string().into();
                let json = serde_json::to_vec(&object).unwrap_or_default();
                self.line(chunk, "DELETED", &json.into());
            }
            None => {}
        }
    }

    fn line(&mut self, chunk: &mut BytesMut, kind: &str, json: &Bytes) {
        chunk.put_slice(b"{\"type\":\"");
        chunk.put_slice(kind.as_bytes());
        chunk.put_slice(b"\",\"object\":");
        match self.form {
            Form::Object => chunk.put_slice(&versions::bytes(&self.resource, json)),
            Form::Metadata => {
                let object = versions::read(&self.resource, json);
                chunk.put_slice(answer::metadata_only(&object).to_string().as_bytes());
            }
            Form::Table => {
                let object = versions::read(&self.resource, json);
                let version = object["metadata"]["resourceVersion"].clone();
                let table = self.table(&[object], version);
                chunk.put_slice(table.to_string().as_bytes());
            }
        }
        chunk.put_slice(b"}\n");
    }

    /// A table, with column definitions the first time.
    fn table(&mut self, objects: &[Value], version: Value) -> Value {
        let mut table = read::rows(&self.resource, objects, self.include_object.as_deref());
        table["metadata"] = json!({"resourceVersion": version});
        if self.headed {
            table["columnDefinitions"] = Value::Null;
        }
        self.headed = true;
        table
    }

    fn bookmark(&mut self, chunk: &mut BytesMut, initial: bool) {
        let version = Value::from(self.watch.position().to_string());
        let mut metadata = json!({"resourceVersion": version});
        if initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.form {
            Form::Object => json!({
                "kind": self.resource.gvk.kind,
                "apiVersion": self.resource.gvk.api_version(),
                "metadata": metadata,
            }),
            Form::Metadata => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
            }),
            Form::Table => {
                let mut table = self.table(&[], version);
                table["metadata"] = metadata;
                table
            }
        };
        let line = json!({"type": "BOOKMARK", "object": object});
        chunk.put_slice(line.to_string().as_bytes());
        chunk.put_u8(b'\n');
    }
}

fn expire(chunk: &mut BytesMut, expired: Expired) {
    let status = ApiError::expired(expired.to_string()).status();
    let line = json!({"type": "ERROR", "object": status});
    chunk.put_slice(line.to_string().as_bytes());
    chunk.put_u8(b'\n');
}
