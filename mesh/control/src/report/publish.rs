//! Writes reports where students look: `status` of the object, and Events, which `kubectl describe`
//! shows.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1 as core,
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Level, Message, of_world};
use crate::{
    registry::{Facts, Published},
    world::ObjectId,
};

/// Changes come in groups, such as all the files of an application: a report waits for the rest of
/// the group, so that nothing is said of a service that is about to be there.
const SETTLE: Duration = Duration::from_secs(1);

/// Keeps statuses current until the registry ends, as long as this control plane `leads`.
pub(crate) async fn publish(
    client: Client,
    mut versions: watch::Receiver<Arc<Published>>,
    mut leads: watch::Receiver<bool>,
) {
    // What was last written, so that an object is not written again while its watch lags behind.
    let mut written: BTreeMap<ObjectId, Vec<String>> = BTreeMap::new();
    loop {
        let changed = tokio::select! {
            changed = versions.changed() => changed,
            changed = leads.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
        tokio::time::sleep(SETTLE).await;
        if !*leads.borrow_and_update() {
            written.clear();
            continue;
        }
        let version = versions.borrow_and_update().clone();
        if !version.complete {
            continue;
        }
        let mut others = of_world(&version.compiler);
        written.retain(|id, _| version.istio.contains_key(id));
        for (id, facts) in version.istio.iter() {
            let mut messages = facts.messages.clone();
            messages.extend(others.remove(id).unwrap_or_default());
            let texts: Vec<_> = messages
                .iter()
                .map(|message| message.text.clone())
                .collect();
            let known = written.get(id).unwrap_or(&facts.reported);
            if *known == texts {
                continue;
            }
            for message in messages
                .iter()
                .filter(|message| !known.contains(&message.text))
            {
                tracing::warn!("{} {}/{}: {}", id.0, id.1.0, id.1.1, message.text);
                event(&client, id, facts, message).await;
            }
            match write(&client, id, facts, &messages).await {
                Ok(()) => _ = written.insert(id.clone(), texts),
                Err(error) => tracing::warn!("status of {} {}/{}: {error}", id.0, id.1.0, id.1.1),
            }
        }
    }
}

async fn write(
    client: &Client,
    (kind, (namespace, name)): &ObjectId,
    facts: &Facts,
    messages: &[Message],
) -> kube::Result<()> {
    let Some(kind) = mesh_api::kind(kind) else {
        return Ok(());
    };
    let group = GroupVersionKind::gvk(kind.group, kind.versions[0], kind.kind);
    let resource = ApiResource::from_gvk_with_plural(&group, kind.plural);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let status = json!({ "status": status(facts.metadata.generation, messages, Timestamp::now()) });
    match api
        .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await
    {
        // Deleted in the meantime.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(|_| ()),
    }
}

/// The status that says all this; nulls take back what an earlier one said.
fn status(generation: i64, messages: &[Message], now: Timestamp) -> Value {
    if messages.is_empty() {
        return json!({ "observedGeneration": null, "conditions": null, "validationMessages": null });
    }
    let errors = messages.iter().any(|message| message.level == Level::Error);
    let texts: Vec<_> = messages
        .iter()
        .map(|message| message.text.as_str())
        .collect();
    json!({
        "observedGeneration": generation,
        "conditions": [{
            "type": "PassedAnalysis",
            "status": if errors { "False" } else { "True" },
            "reason": if errors { "AnalysisErrorsFound" } else { "AnalysisWarningsFound" },
            "message": texts.join("; "),
            "observedGeneration": generation,
            "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }],
        "validationMessages": messages.iter().map(|message| json!({
            "level": match message.level { Level::Error => "ERROR", Level::Warning => "WARNING", Level::Info => "INFO" },
            "type": { "code": message.code, "name": message.name },
            "message": message.text,
        })).collect::<Vec<_>>(),
    })
}

async fn event(
    client: &Client,
    (kind, (namespace, name)): &ObjectId,
    facts: &Facts,
    message: &Message,
) {
    let now = Timestamp::now();
    let event = core::Event {
        metadata: ObjectMeta {
            // As kubectl and controllers name them; the API server takes no generateName that ends in a dot.
            name: Some(format!("{name}.{:x}", now.as_nanosecond())),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: core::ObjectReference {
            api_version: Some(facts.metadata.api_version.clone()),
            kind: Some((*kind).to_owned()),
            name: Some(name.clone()),
            namespace: Some(namespace.clone()),
            uid: Some(facts.metadata.uid.clone()),
            ..core::ObjectReference::default()
        },
        type_: Some("Warning".into()),
        reason: Some(message.name.into()),
        message: Some(format!("[{}] {}", message.code, message.text)),
        source: Some(core::EventSource {
            component: Some("istiod".into()),
            host: None,
        }),
        reporting_component: Some("istiod".into()),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        event_time: None::<MicroTime>,
        count: Some(1),
        ..core::Event::default()
    };
    let api: Api<core::Event> = Api::namespaced(client.clone(), namespace);
    if let Err(error) = api.create(&PostParams::default(), &event).await {
        tracing::warn!("event about {kind} {namespace}/{name}: {error}");
    }
}
