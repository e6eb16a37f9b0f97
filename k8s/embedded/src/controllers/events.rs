//! Events: what happened to an object, written for the people who `kubectl describe` it.
//!
//! Repetitions of the same message raise the count of one Event instead of making new ones, as
//! client-go's correlator does. Writing happens in the background: recording never waits, and when
//! the API is slower than the events come, the oldest waiting ones are kept and new ones dropped.

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use std::collections::{HashMap, VecDeque};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Events that may wait to be written.
const QUEUE: usize = 512;
/// Recent Events that are known by their content, so that a repetition is counted.
const REMEMBERED: usize = 256;

/// How serious an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// The way things should go.
    Normal,
    /// Something a person may have to mend.
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Content {
    component: &'static str,
    uid: String,
    field_path: Option<String>,
    event_type: EventType,
    reason: String,
    message: String,
}

struct Occurrence {
    content: Content,
    object: ObjectReference,
    host: Option<String>,
    at: jiff::Timestamp,
}

/// Records events in the background. Clones share one queue.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Occurrence>,
    component: &'static str,
    host: Option<String>,
}

impl Recorder {
    /// A recorder that writes through `client` until `shutdown`, in the name of `component`.
    pub fn start(client: Client, component: &'static str, shutdown: CancellationToken) -> Self {
        let (queue, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = Writer::new(client).run(receiver) => {}
            }
        });
        Self {
            queue,
            component,
            host: None,
        }
    }

    /// The same queue under another component's name.
    #[must_use]
    pub fn named(&self, component: &'static str) -> Self {
        Self {
            component,
            ..self.clone()
        }
    }

    /// The same queue with `source.host` set, as the kubelet does.
    #[must_use]
    pub fn on_host(&self, host: &str) -> Self {
        Self {
            host: Some(host.to_owned()),
            ..self.clone()
        }
    }

    /// Records an event about `object`.
    pub fn record<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        event_type: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.record_field(object, None, event_type, reason, message);
    }

    /// Records an event about a part of `object`, such as `spec.containers{app}`.
    pub fn record_field<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        field_path: Option<String>,
        event_type: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        let meta = object.meta();
        let object = ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            field_path: field_path.clone(),
        };
        let occurrence = Occurrence {
            content: Content {
                component: self.component,
                uid: meta.uid.clone().unwrap_or_default(),
                field_path,
                event_type,
                reason: reason.to_owned(),
                message: message.into(),
            },
            object,
            host: self.host.clone(),
            at: jiff::Timestamp::now(),
        };
        if let Err(error) = self.queue.try_send(occurrence) {
            tracing::debug!(%error, "event dropped");
        }
    }
}

struct Known {
    namespace: String,
    name: String,
    count: i32,
}

struct Writer {
    client: Client,
    known: HashMap<Content, Known>,
    order: VecDeque<Content>,
}

impl Writer {
    fn new(client: Client) -> Self {
        Self {
            client,
            known: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    async fn run(mut self, mut queue: mpsc::Receiver<Occurrence>) {
        while let Some(occurrence) = queue.recv().await {
            if let Err(error) = self.write(occurrence).await {
                // a namespace that is being deleted takes no events: not worth a warning
                tracing::debug!(%error, "event not written");
            }
        }
    }

    async fn write(&mut self, occurrence: Occurrence) -> Result<(), kube::Error> {
        let at = whole_seconds(occurrence.at);
        if let Some(known) = self.known.get_mut(&occurrence.content) {
            let count = known.count + 1;
            let patch = serde_json::json!({"count": count, "lastTimestamp": Time(at)});
            let api: Api<Event> = Api::namespaced(self.client.clone(), &known.namespace);
            match api
                .patch(&known.name, &PatchParams::default(), &Patch::Merge(patch))
                .await
            {
                Ok(_) => {
                    known.count = count;
                    return Ok(());
                }
                // gone (deleted or expired): write a new one
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    self.known.remove(&occurrence.content);
                    self.order.retain(|c| *c != occurrence.content);
                }
                Err(error) => return Err(error),
            }
        }
        self.create(occurrence, at).await
    }

    async fn create(
        &mut self,
        occurrence: Occurrence,
        at: jiff::Timestamp,
    ) -> Result<(), kube::Error> {
        let Occurrence {
            content,
            object,
            host,
            at: exact,
        } = occurrence;
        // events about cluster-scoped objects live in `default`
        let namespace = object.namespace.clone().unwrap_or_else(|| "default".into());
        let name = format!(
            "{}.{:x}",
            object.name.as_deref().unwrap_or_default(),
            exact.as_nanosecond()
        );
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: object,
            reason: Some(content.reason.clone()),
            message: Some(content.message.clone()),
            type_: Some(content.event_type.as_str().to_owned()),
            count: Some(1),
            first_timestamp: Some(Time(at)),
            last_timestamp: Some(Time(at)),
            source: Some(EventSource {
                component: Some(content.component.to_owned()),
                host,
            }),
            reporting_component: Some(content.component.to_owned()),
            reporting_instance: Some(String::new()),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let created = api.create(&PostParams::default(), &event).await?;
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(content.clone());
        self.known.insert(
            content,
            Known {
                namespace,
                name: created.name_any(),
                count: 1,
            },
        );
        Ok(())
    }
}

/// Kubernetes writes `metav1.Time` in whole seconds.
pub fn whole_seconds(at: jiff::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// Now, in whole seconds.
pub fn now() -> Time {
    Time(whole_seconds(jiff::Timestamp::now()))
}
