//! PUT and PATCH.

use super::write::{self, Sent};
use super::{ApiError, Call, Cause, body, create, read};
use crate::admission;
use crate::crd::CustomKind;
use crate::gvk::Gvk;
use crate::{defaults, patch};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

/// Attempts to apply a patch to an object that others change too.
const ATTEMPTS: usize = 10;

/// Fields of metadata that only the server writes.
const SERVER_FIELDS: [&str; 6] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "managedFields",
];

/// A server-side apply.
pub(super) struct Apply<'a> {
    /// What was sent.
    pub(super) applied: &'a Value,
    /// Take fields that others own.
    pub(super) force: bool,
}

pub(super) async fn put(call: &Call<'_>, body: Bytes) -> Result<Response, ApiError> {
    put_subresource(call, body, None).await
}

/// PUT of an object or of its `status`.
pub(super) async fn put_subresource(
    call: &Call<'_>,
    body: Bytes,
    subresource: Option<&str>,
) -> Result<Response, ApiError> {
    let mut object = body::object(call.media_type, &body)?;
    drop(body);
    write::check_kind(&call.target.resource, &mut object)?;
    let warnings = write::decode(call, &mut object, Sent::Object)?;
    check_address(call, &object)?;
    let unconditional = object["metadata"]["resourceVersion"]
        .as_str()
        .is_none_or(str::is_empty);
    for attempt in 1.. {
        let (stored, live) = read::stored(call)?;
        let result = change(
            call,
            &live,
            object.clone(),
            stored.revision,
            None,
            subresource,
        )
        .await;
        match result {
            Err(error) if unconditional && attempt < ATTEMPTS && is_race(&error) => {}
            result => {
                let (object, more) = result?;
                let warnings = [warnings, more].concat();
                return Ok(write::respond(call, StatusCode::OK, &object, &warnings));
            }
        }
    }
    unreachable!("the loop returns at the last attempt")
}

fn is_race(error: &ApiError) -> bool {
    error.reason == "Conflict" && error.message.contains("has been modified")
}

/// The object's name and namespace must be those of the path.
fn check_address(call: &Call<'_>, object: &Value) -> Result<(), ApiError> {
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    let (name, namespace) = (text("name"), text("namespace"));
    if name.is_empty() {
        let cause = Cause {
            reason: "FieldValueRequired".into(),
            message: "Required value: name is required".into(),
            field: "metadata.name".into(),
        };
        return Err(create::invalid(call, object, vec![cause]));
    }
    if name != call.target.name() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.target.name()
        )));
    }
    if !namespace.is_empty()
        && call.target.resource.namespaced
        && namespace != call.target.namespace()
    {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

pub(super) async fn patch(call: &Call<'_>, body: Bytes) -> Result<Response, ApiError> {
    patch_subresource(call, body, None).await
}

/// PATCH of an object or of its `status`.
pub(super) async fn patch_subresource(
    call: &Call<'_>,
    body: Bytes,
    subresource: Option<&str>,
) -> Result<Response, ApiError> {
    let resource = &call.target.resource;
    let kind = PatchKind::of(call)?;
    let sent = match kind {
        PatchKind::Apply => body::yaml(&body)?,
        _ => body::json(&body)?,
    };
    drop(body);
    if kind == PatchKind::Apply {
        return apply(call, sent, subresource).await;
    }
    if kind != PatchKind::Json && !sent.is_object() {
        return Err(ApiError::bad_request(
            "error decoding patch: the patch is not an object",
        ));
    }
    let unconditional = sent["metadata"]["resourceVersion"].is_null();
    for attempt in 1.. {
        let (stored, live) = read::stored(call)?;
        let mut patched = match kind {
            PatchKind::Json => patch::json(&live, &sent),
            PatchKind::Strategic => patch::strategic(&live, &sent, &resource.gvk),
            _ => Ok(patch::merge(&live, &sent)),
        }
        .map_err(|error| patch_error(call, &error))?;
        write::check_kind(resource, &mut patched)?;
        let warnings = write::decode(call, &mut patched, Sent::Patch(&sent))?;
        check_address(call, &patched)?;
        let result = change(call, &live, patched, stored.revision, None, subresource).await;
        match result {
            Err(error) if unconditional && attempt < ATTEMPTS && is_race(&error) => {}
            result => {
                let (object, more) = result?;
                let warnings = [warnings, more].concat();
                return Ok(write::respond(call, StatusCode::OK, &object, &warnings));
            }
        }
    }
    unreachable!("the loop returns at the last attempt")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl PatchKind {
    fn of(call: &Call<'_>) -> Result<Self, ApiError> {
        let custom = call.target.resource.custom().is_some();
        match call.media_type {
            "application/json-patch+json" => Ok(PatchKind::Json),
            "application/merge-patch+json" => Ok(PatchKind::Merge),
            "application/strategic-merge-patch+json" if !custom => Ok(PatchKind::Strategic),
            "application/apply-patch+yaml" => Ok(PatchKind::Apply),
            other => {
                let strategic = match custom {
                    true => "",
                    false => "application/strategic-merge-patch+json, ",
                };
                let accepted = format!(
                    "application/json-patch+json, application/merge-patch+json, {strategic}application/apply-patch+yaml"
                );
                Err(ApiError::unsupported_media_type(other, &accepted))
            }
        }
    }
}

fn patch_error(call: &Call<'_>, error: &patch::PatchError) -> ApiError {
    let (code, reason) = error.status();
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST);
    let mut answer = ApiError::new(code, reason, error.to_string());
    if code == StatusCode::UNPROCESSABLE_ENTITY {
        tracing::debug!(name = call.target.name(), ?error, "patch refused");
        answer.details = Some(Box::new(json!({})));
    }
    answer
}

async fn apply(
    call: &Call<'_>,
    mut applied: Value,
    subresource: Option<&str>,
) -> Result<Response, ApiError> {
    if !call.options.manager_given {
        let cause = Cause {
            reason: "FieldValueRequired".into(),
            message: "Required value: is required for apply patch".into(),
            field: "fieldManager".into(),
        };
        let kind = Gvk::new("meta.k8s.io", "v1", "PatchOptions");
        return Err(ApiError::invalid(&kind, "", vec![cause]));
    }
    if !applied.is_object() {
        return Err(ApiError::bad_request(
            "error decoding YAML: the applied configuration is not an object",
        ));
    }
    if applied["apiVersion"].is_null() || applied["kind"].is_null() {
        return Err(ApiError::bad_request(
            "the applied configuration must have apiVersion and kind",
        ));
    }
    write::check_kind(&call.target.resource, &mut applied)?;
    if !applied["metadata"]["managedFields"].is_null() {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    if applied["metadata"]["name"].is_null() {
        applied["metadata"]["name"] = call.target.name().into();
    }
    check_address(call, &applied)?;
    let warnings = write::decode(call, &mut applied, Sent::Apply)?;
    let apply = Apply {
        applied: &applied,
        force: call.options.flag("force"),
    };
    for attempt in 1.. {
        let stored = match read::stored(call) {
            Err(error) if error.reason == "NotFound" && subresource.is_none() => None,
            stored => Some(stored?),
        };
        let (code, result) = match stored {
            None => {
                let mut object = merged(call, None, &apply, None)?;
                write::decode(call, &mut object, Sent::Made)?;
                let result = create::create(call, object, Some(&apply)).await;
                (StatusCode::CREATED, result)
            }
            Some((stored, live)) => {
                let mut object = merged(call, Some(&live), &apply, subresource)?;
                write::decode(call, &mut object, Sent::Made)?;
                let revision = stored.revision;
                let result = change(call, &live, object, revision, Some(&apply), subresource).await;
                (StatusCode::OK, result)
            }
        };
        match result {
            Err(error)
                if attempt < ATTEMPTS && (is_race(&error) || error.reason == "AlreadyExists") => {}
            result => {
                let (object, more) = result?;
                let warnings = [warnings, more].concat();
                return Ok(write::respond(call, code, &object, &warnings));
            }
        }
    }
    unreachable!("the loop returns at the last attempt")
}

/// What an apply makes of an object.
fn merged(
    call: &Call<'_>,
    live: Option<&Value>,
    apply: &Apply<'_>,
    subresource: Option<&str>,
) -> Result<Value, ApiError> {
    let resource = &call.target.resource;
    let schema = resource.custom().map(CustomKind::schema);
    patch::apply(
        live,
        apply.applied,
        &call.options.manager,
        apply.force,
        &resource.gvk,
        schema.as_ref(),
        subresource,
        jiff::Timestamp::now(),
    )
    .map_err(|error| {
        let (code, reason) = error.status();
        let code = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST);
        let mut answer = ApiError::new(code, reason, error.to_string());
        let causes = error.causes();
        if !causes.is_empty() {
            answer.details = Some(Box::new(json!({"causes": causes})));
        }
        answer
    })
}

/// Replaces `live` by `new`: keeps what the request may not change, admits, validates, stores.
pub(super) async fn change(
    call: &Call<'_>,
    live: &Value,
    mut new: Value,
    revision: u64,
    apply: Option<&Apply<'_>>,
    subresource: Option<&str>,
) -> Result<(Value, Vec<String>), ApiError> {
    let resource = &call.target.resource;
    preconditions(call, live, &new)?;
    if subresource == Some("status") {
        new = with_status(live, &new);
    } else if subresource == Some("finalize") {
        let finalizers = new["spec"]["finalizers"].take();
        new = live.clone();
        new["spec"]["finalizers"] = match finalizers {
            Value::Array(_) => finalizers,
            _ => json!([]),
        };
    } else if write::has_status(resource) {
        keep(&mut new, live, "status");
    }
    for field in SERVER_FIELDS {
        if field == "managedFields" && apply.is_some() {
            continue;
        }
        keep(&mut new["metadata"], &live["metadata"], field);
    }
    for field in ["name", "namespace", "generateName", "resourceVersion"] {
        keep(&mut new["metadata"], &live["metadata"], field);
    }
    if subresource != Some("finalize") {
        fill_in(call, &mut new);
    }
    if apply.is_none() {
        record(call, Some(live), &mut new, subresource);
    }
    let warnings = admit_and_validate(call, Some(live), &mut new, subresource).await?;
    let _allocation = match resource.gvk.kind.as_str() {
        "Service" if resource.gvk.group.is_empty() && subresource.is_none() => {
            let guard = call.api.allocation.lock().await;
            admission::services::allocate(
                &call.api.store,
                call.api.config.addresses,
                Some(live),
                &mut new,
            )
            .map_err(|causes| create::invalid(call, &new, causes))?;
            Some(guard)
        }
        _ => None,
    };
    if write::has_generation(resource)
        && matches!(subresource, None | Some("scale"))
        && spec_differs(live, &new)
    {
        let generation = live["metadata"]["generation"].as_i64().unwrap_or(0);
        new["metadata"]["generation"] = (generation + 1).into();
    }
    if same_but_managers(live, &new) && (apply.is_none() || same_managers(live, &new)) {
        return Ok((live.clone(), warnings));
    }
    if is_finished(&new) {
        let (name, namespace) = (call.target.name(), call.target.namespace());
        write::remove_object(call, name, namespace, revision).await?;
        return Ok((new, warnings));
    }
    let written = write::replace(call, revision, new).await?;
    Ok((written, warnings))
}

/// Copies a field from `from`; removes it when `from` has none.
fn keep(object: &mut Value, from: &Value, field: &str) {
    if let Some(fields) = object.as_object_mut() {
        match &from[field] {
            Value::Null => {
                fields.shift_remove(field);
            }
            value => {
                fields.insert(field.to_owned(), value.clone());
            }
        }
    }
}

fn with_status(live: &Value, new: &Value) -> Value {
    let mut object = live.clone();
    keep(&mut object, new, "status");
    keep(&mut object["metadata"], &new["metadata"], "managedFields");
    object
}

fn preconditions(call: &Call<'_>, live: &Value, new: &Value) -> Result<(), ApiError> {
    let (resource, name) = (&call.target.resource, call.target.name());
    let text = |object: &Value, key: &str| {
        object["metadata"][key]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let (version, uid) = (text(new, "resourceVersion"), text(new, "uid"));
    if !version.is_empty() && version.parse::<u64>().is_err() {
        return Err(ApiError::unclassified(format!(
            "strconv.ParseUint: parsing {version:?}: invalid syntax"
        )));
    }
    if !version.is_empty() && version != text(live, "resourceVersion") {
        return Err(ApiError::modified(resource, name));
    }
    if !uid.is_empty() && uid != text(live, "uid") {
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: /registry/{}/{}/{name}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            resource.plural,
            call.target.namespace(),
            text(live, "uid")
        );
        return Err(ApiError::conflict(resource, name, &why));
    }
    Ok(())
}

/// Fills in what the kind's defaults say.
pub(super) fn fill_in(call: &Call<'_>, object: &mut Value) {
    let resource = &call.target.resource;
    match resource.custom() {
        Some(custom) => super::custom::default(custom, object),
        None => defaults::apply(&resource.gvk, object),
    }
}

/// Admission and validation: the same for new and changed objects. Returns warnings.
pub(super) async fn admit_and_validate(
    call: &Call<'_>,
    live: Option<&Value>,
    object: &mut Value,
    subresource: Option<&str>,
) -> Result<Vec<String>, ApiError> {
    let resource = &call.target.resource;
    let mut warnings = Vec::new();
    let new_pod = live.is_none() && resource.gvk.kind == "Pod" && resource.gvk.group.is_empty();
    if new_pod {
        admit_account(call, object)?;
    }
    if super::custom::is_definition(resource) && subresource.is_none() {
        let told = super::custom::admit_definition(call.api, live, object)
            .map_err(|causes| create::invalid(call, object, causes))?;
        warnings.extend(told);
    }
    let review = review(
        call,
        if live.is_none() { "CREATE" } else { "UPDATE" },
        subresource,
    );
    let before = object.clone();
    warnings.extend(admission::webhooks::mutate(&review, live, object).await?);
    if *object != before {
        write::decode(call, object, Sent::Made)?;
        fill_in(call, object);
        if new_pod {
            admit_account(call, object)?;
        }
    }
    drop(before);
    if let Some(custom) = resource.custom() {
        super::custom::validate(custom, object)
            .map_err(|causes| create::invalid(call, object, causes))?;
    }
    // both objects in one form, the one in which they are stored: what is only written differently
    // has not been changed
    let normal = live.map(|live| {
        let mut live = live.clone();
        if resource.custom().is_none() {
            fill_in(call, &mut live);
            write::remove_nulls(&mut live);
        }
        live
    });
    if resource.custom().is_none() {
        write::remove_nulls(object);
    }
    let causes = write::validate(resource, normal.as_ref(), object);
    if !causes.is_empty() {
        return Err(create::invalid(call, object, causes));
    }
    super::authorize::escalation(call.api, call.user, call.target, object)?;
    warnings.extend(admission::webhooks::validate(&review, live, Some(object)).await?);
    if resource.gvk.kind == "EndpointSlice" {
        // lists that Kubernetes writes also when there is nothing in them
        for list in ["endpoints", "ports"] {
            if object[list].is_null() {
                object[list] = Value::Null;
            }
        }
    }
    Ok(warnings)
}

fn admit_account(call: &Call<'_>, pod: &mut Value) -> Result<(), ApiError> {
    let name = pod["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    admission::service_accounts::admit(&call.api.store, call.target.namespace(), pod)
        .map_err(|why| ApiError::forbidden(&call.target.resource, &name, &why))
}

/// What the webhooks are told of a request.
pub(super) fn review<'a>(
    call: &'a Call<'_>,
    operation: &'static str,
    subresource: Option<&'a str>,
) -> admission::webhooks::Review<'a> {
    let kind = match operation {
        "CREATE" => "CreateOptions",
        "DELETE" => "DeleteOptions",
        _ => "UpdateOptions",
    };
    let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if call.options.dry_run {
        options["dryRun"] = json!(["All"]);
    }
    if call.options.manager_given {
        options["fieldManager"] = call.options.manager.as_str().into();
    }
    admission::webhooks::Review {
        store: &call.api.store,
        user: call.user,
        resource: &call.target.resource,
        subresource,
        operation,
        namespace: call.target.namespace(),
        dry_run: call.options.dry_run,
        options,
    }
}

/// Records in managedFields who has written what. A server-side apply has done so itself.
pub(super) fn record(
    call: &Call<'_>,
    live: Option<&Value>,
    object: &mut Value,
    subresource: Option<&str>,
) {
    let schema = call.target.resource.custom().map(CustomKind::schema);
    let writer = patch::managed::Writer {
        manager: &call.options.manager,
        subresource,
        schema: schema.as_ref(),
        now: jiff::Timestamp::now(),
    };
    patch::managed::updated(live, object, writer);
}

/// Whether anything but metadata and status differs.
fn spec_differs(live: &Value, new: &Value) -> bool {
    let rest = |object: &Value| -> Vec<(String, Value)> {
        let mut rest: Vec<(String, Value)> = object
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| !matches!(key.as_str(), "metadata" | "status" | "apiVersion"))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        rest.sort_by(|a, b| a.0.cmp(&b.0));
        rest
    };
    rest(live) != rest(new)
}

fn same_but_managers(live: &Value, new: &Value) -> bool {
    let plain = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.shift_remove("managedFields");
        }
        object
    };
    plain(live) == plain(new)
}

/// Whether the managers are the same but for the times of their last writes.
fn same_managers(live: &Value, new: &Value) -> bool {
    let timeless = |object: &Value| {
        let mut managers = object["metadata"]["managedFields"].clone();
        for manager in managers.as_array_mut().into_iter().flatten() {
            if let Some(manager) = manager.as_object_mut() {
                manager.shift_remove("time");
            }
        }
        managers
    };
    timeless(live) == timeless(new)
}

/// Whether an object that is being deleted has nothing left to wait for.
pub(super) fn is_finished(object: &Value) -> bool {
    let metadata = &object["metadata"];
    let empty = |value: &Value| value.as_array().is_none_or(Vec::is_empty);
    !metadata["deletionTimestamp"].is_null()
        && empty(&metadata["finalizers"])
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && (object["kind"] != "Namespace" || empty(&object["spec"]["finalizers"]))
}
