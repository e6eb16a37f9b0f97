//! DELETE: at once, gracefully, or when finalizers are done.

use super::selectors::Selectors;
use super::{ApiError, Call, answer, body, read, write};
use crate::admission;
use crate::discovery::Resource;
use crate::store::Object;
use crate::versions;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

/// Attempts to delete an object that others change.
const ATTEMPTS: usize = 10;

/// `DeleteOptions`, from the body or the query.
#[derive(Debug, Default)]
pub(super) struct DeleteOptions {
    grace: Option<i64>,
    propagation: Option<String>,
    uid: Option<String>,
    revision: Option<String>,
    dry_run: bool,
}

impl DeleteOptions {
    pub(super) fn parse(call: &Call<'_>, body: &Bytes) -> Result<Self, ApiError> {
        let mut options = DeleteOptions {
            grace: call.options.number("gracePeriodSeconds")?,
            propagation: call.options.get("propagationPolicy").map(str::to_owned),
            ..DeleteOptions::default()
        };
        if !body.is_empty() {
            let sent = body::object(call.media_type, body)?;
            options.take(&sent);
        }
        if let Some(policy) = &options.propagation
            && !matches!(policy.as_str(), "Foreground" | "Background" | "Orphan")
        {
            let cause = super::Cause {
                reason: "FieldValueNotSupported".into(),
                message: format!(
                    "Unsupported value: {policy:?}: supported values: \"Background\", \"Foreground\", \"Orphan\""
                ),
                field: "propagationPolicy".into(),
            };
            let kind = crate::gvk::Gvk::new("meta.k8s.io", "v1", "DeleteOptions");
            return Err(ApiError::invalid(&kind, "", vec![cause]));
        }
        Ok(options)
    }

    /// Takes what an object of kind `DeleteOptions` says.
    pub(super) fn take(&mut self, sent: &Value) {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        self.grace = sent["gracePeriodSeconds"].as_i64().or(self.grace);
        self.propagation = text(&sent["propagationPolicy"]).or(self.propagation.take());
        if sent["orphanDependents"] == true {
            self.propagation = Some("Orphan".into());
        }
        self.uid = text(&sent["preconditions"]["uid"]);
        self.revision = text(&sent["preconditions"]["resourceVersion"]);
        self.dry_run = sent["dryRun"].as_array().is_some_and(|all| !all.is_empty());
    }
}

pub(super) async fn one(call: &Call<'_>, body: Bytes) -> Result<Response, ApiError> {
    let options = DeleteOptions::parse(call, &body)?;
    with_options(call, &options).await
}

pub(super) async fn with_options(
    call: &Call<'_>,
    options: &DeleteOptions,
) -> Result<Response, ApiError> {
    let name = call.target.name();
    for attempt in 1.. {
        let (stored, live) = read::stored(call)?;
        match delete(call, &stored, &live, options).await {
            Err(error) if error.reason == "Conflict" && retry(options) && attempt < ATTEMPTS => {}
            result => {
                return Ok(match result? {
                    Outcome::Deleted(object) if call.target.resource.gvk.kind == "Pod" => {
                        read::respond(call, StatusCode::OK, &object)
                    }
                    Outcome::Deleted(object) => answer::json(
                        StatusCode::OK,
                        &success(&call.target.resource, name, &object),
                    ),
                    Outcome::Deleting(object) => read::respond(call, StatusCode::OK, &object),
                });
            }
        }
    }
    unreachable!("the loop returns at the last attempt")
}

fn retry(options: &DeleteOptions) -> bool {
    options.uid.is_none() && options.revision.is_none()
}

/// The Status that tells of a deleted object.
fn success(resource: &Resource, name: &str, object: &Value) -> Value {
    let mut details = json!({"name": name});
    if !resource.gvk.group.is_empty() {
        details["group"] = resource.gvk.group.as_str().into();
    }
    details["kind"] = resource.plural.as_str().into();
    details["uid"] = object["metadata"]["uid"].clone();
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    })
}

enum Outcome {
    /// It is gone.
    Deleted(Value),
    /// It waits for its grace period or for finalizers.
    Deleting(Value),
}

async fn delete(
    call: &Call<'_>,
    stored: &Object,
    live: &Value,
    options: &DeleteOptions,
) -> Result<Outcome, ApiError> {
    let resource = &call.target.resource;
    let metadata = &live["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    let namespace = metadata["namespace"].as_str().unwrap_or_default();
    preconditions(resource, name, metadata, options)?;
    protect(resource, name)?;
    let dry_run = options.dry_run || call.options.dry_run;

    let review = super::update::review(call, "DELETE", None);
    admission::webhooks::delete(&review, live).await?;
    let mut object = live.clone();
    let grace = match resource.gvk.kind.as_str() {
        "Pod" if resource.gvk.group.is_empty() => pod_grace(live, options.grace),
        _ => 0,
    };
    finalize(&mut object, options);
    let waits = grace > 0 || !is_final(&object);
    if !waits {
        if dry_run {
            return Ok(Outcome::Deleted(object));
        }
        write::remove_object(call, name, namespace, stored.revision).await?;
        if super::bootstrap::is_furniture(&resource.storage, name) {
            super::bootstrap::refurnish(call.api, namespace).await?;
        }
        return Ok(Outcome::Deleted(object));
    }
    mark(resource, &mut object, live, grace);
    if object == *live || dry_run {
        return Ok(Outcome::Deleting(object));
    }
    let written = call
        .api
        .store
        .update(
            &resource.storage,
            namespace,
            name,
            stored.revision,
            versions::store(resource, object),
        )
        .await
        .map_err(|error| ApiError::of_store(error, resource, name))?;
    super::custom::written(call.api, resource);
    if super::custom::is_definition(resource) {
        super::custom::clean_up(call.api);
    }
    Ok(Outcome::Deleting(versions::read(resource, &written.json)))
}

fn preconditions(
    resource: &Resource,
    name: &str,
    metadata: &Value,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    let fail = |what: &str, wanted: &str, found: &str| {
        let mut error = ApiError::conflict(
            resource,
            name,
            &format!(
                "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). The object might have been modified"
            ),
        );
        error.message = error
            .message
            .replacen(&resource.qualified(), &resource.gvk.kind, 1);
        Err(error)
    };
    let uid = metadata["uid"].as_str().unwrap_or_default();
    if let Some(wanted) = &options.uid
        && wanted != uid
    {
        return fail("UID", wanted, uid);
    }
    let revision = metadata["resourceVersion"].as_str().unwrap_or_default();
    if let Some(wanted) = &options.revision
        && wanted != revision
    {
        return fail("ResourceVersion", wanted, revision);
    }
    Ok(())
}

/// Namespaces without which the cluster cannot live.
fn protect(resource: &Resource, name: &str) -> Result<(), ApiError> {
    if resource.gvk.kind == "Namespace" && matches!(name, "default" | "kube-system" | "kube-public")
    {
        return Err(ApiError::forbidden(
            resource,
            name,
            "this namespace may not be deleted",
        ));
    }
    Ok(())
}

/// Seconds that a pod gets to end: none when it does not run anywhere.
fn pod_grace(pod: &Value, asked: Option<i64>) -> i64 {
    let ended = matches!(
        pod["status"]["phase"].as_str(),
        Some("Succeeded" | "Failed")
    );
    let unscheduled = pod["spec"]["nodeName"].as_str().is_none_or(str::is_empty);
    if ended || unscheduled {
        return 0;
    }
    let own = pod["spec"]["terminationGracePeriodSeconds"]
        .as_i64()
        .unwrap_or(30);
    let asked = asked.unwrap_or(own).max(0);
    match pod["metadata"]["deletionGracePeriodSeconds"].as_i64() {
        // a deletion under way can only become faster
        Some(running) => asked.min(running),
        None => asked,
    }
}

/// Adds or removes the finalizers that a propagation policy means.
fn finalize(object: &mut Value, options: &DeleteOptions) {
    let wanted = match options.propagation.as_deref() {
        Some("Foreground") => Some("foregroundDeletion"),
        Some("Orphan") => Some("orphan"),
        _ => None,
    };
    let Some(wanted) = wanted else {
        return;
    };
    let finalizers = &mut object["metadata"]["finalizers"];
    let mut list: Vec<Value> = finalizers.as_array().cloned().unwrap_or_default();
    list.retain(|f| f != "foregroundDeletion" && f != "orphan");
    list.push(wanted.into());
    *finalizers = Value::Array(list);
}

fn is_final(object: &Value) -> bool {
    let empty = |value: &Value| value.as_array().is_none_or(Vec::is_empty);
    empty(&object["metadata"]["finalizers"])
        && (object["kind"] != "Namespace" || empty(&object["spec"]["finalizers"]))
}

/// Marks an object as being deleted.
fn mark(resource: &Resource, object: &mut Value, live: &Value, grace: i64) {
    let metadata = &live["metadata"];
    let first = metadata["deletionTimestamp"].is_null();
    let running = metadata["deletionGracePeriodSeconds"].as_i64();
    if first || running.is_some_and(|running| grace < running) {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(grace);
        object["metadata"]["deletionTimestamp"] =
            at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
        object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        if first && write::has_generation(resource) {
            let generation = metadata["generation"].as_i64().unwrap_or(0);
            object["metadata"]["generation"] = (generation + 1).into();
        }
    }
    if resource.gvk.kind == "Namespace" {
        object["status"]["phase"] = "Terminating".into();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.shift_remove("deletionGracePeriodSeconds");
        }
    }
}

/// DELETE of a collection: each object that matches.
pub(super) async fn collection(call: &Call<'_>, body: Bytes) -> Result<Response, ApiError> {
    let options = DeleteOptions::parse(call, &body)?;
    let resource = &call.target.resource;
    let selectors = Selectors::parse(
        resource,
        call.options.get("labelSelector"),
        call.options.get("fieldSelector"),
    )?;
    let (objects, revision) = read::matching(call, &selectors);
    let mut deleted = Vec::with_capacity(objects.len());
    for object in objects {
        let live = versions::read(resource, &object.json);
        let mut current = Some((object, live));
        for _ in 0..ATTEMPTS {
            let Some((stored, live)) = current.take() else {
                break;
            };
            match delete(call, &stored, &live, &options).await {
                Ok(Outcome::Deleted(object) | Outcome::Deleting(object)) => deleted.push(object),
                Err(error) if error.reason == "NotFound" => {}
                Err(error) if error.reason == "Conflict" => {
                    let text = |key: &str| live["metadata"][key].as_str().unwrap_or_default();
                    current = call
                        .api
                        .store
                        .get(&resource.storage, text("namespace"), text("name"))
                        .map(|object| {
                            let live = versions::read(resource, &object.json);
                            (object, live)
                        });
                }
                Err(error) => return Err(error),
            }
        }
    }
    let list = json!({
        "kind": resource.list_kind,
        "apiVersion": resource.gvk.api_version(),
        "metadata": {"resourceVersion": revision.to_string()},
        "items": deleted,
    });
    Ok(answer::json(StatusCode::OK, &list))
}
