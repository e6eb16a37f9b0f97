//! POST: new objects.

use super::write::{self, Sent};
use super::{ApiError, Call, answer, body};
use crate::admission;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use rand::RngExt;
use serde_json::{Value, json};

/// Letters of generated names: no vowels, so that no words appear, and no look-alikes.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Attempts to find a free generated name.
const NAME_ATTEMPTS: usize = 8;

/// Longest prefix of a generated name.
const LONGEST_PREFIX: usize = 58;

pub(super) async fn run(call: &Call<'_>, body: Bytes) -> Result<Response, ApiError> {
    let mut object = body::object(call.media_type, &body)?;
    drop(body);
    write::check_kind(&call.target.resource, &mut object)?;
    if !call.target.resource.verbs.contains(&"get") {
        let answer = super::subresources::review(call, object)?;
        return Ok(answer::json(StatusCode::CREATED, &answer));
    }
    let warnings = write::decode(call, &mut object, Sent::Object)?;
    let (created, more) = create(call, object, None).await?;
    let warnings = [warnings, more, without_effect(call)].concat();
    Ok(write::respond(
        call,
        StatusCode::CREATED,
        &created,
        &warnings,
    ))
}

/// What to say of kinds that are only stored.
fn without_effect(call: &Call<'_>) -> Vec<String> {
    let kind = call.target.resource.gvk.kind.as_str();
    match kind {
        "LimitRange" | "NetworkPolicy" | "PodDisruptionBudget" | "ResourceQuota" => {
            vec![format!(
                "{kind} is stored, and has no effect on the embedded cluster"
            )]
        }
        _ => Vec::new(),
    }
}

/// Stores a decoded object. `apply` is the body of a server-side apply that creates its object.
pub(super) async fn create(
    call: &Call<'_>,
    mut object: Value,
    apply: Option<&super::update::Apply<'_>>,
) -> Result<(Value, Vec<String>), ApiError> {
    let resource = &call.target.resource;
    place(call, &mut object)?;
    let generated = name(&mut object);
    let metadata = &mut object["metadata"];
    if metadata["resourceVersion"]
        .as_str()
        .is_some_and(|v| !v.is_empty())
    {
        return Err(ApiError::unclassified(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    if let Some(metadata) = metadata.as_object_mut() {
        for field in [
            "resourceVersion",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
            "generation",
        ] {
            metadata.shift_remove(field);
        }
        metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
        metadata.insert(
            "creationTimestamp".into(),
            crate::status::timestamp().into(),
        );
        if write::has_generation(resource) {
            metadata.insert("generation".into(), 1.into());
        }
    }
    if write::has_status(resource)
        && let Some(fields) = object.as_object_mut()
    {
        fields.shift_remove("status");
    }
    namespace_is_open(call, &object)?;
    super::update::fill_in(call, &mut object);
    if apply.is_none() {
        super::update::record(call, None, &mut object, None);
    }
    let warnings = super::update::admit_and_validate(call, None, &mut object, None).await?;
    let _allocation = match resource.gvk.kind.as_str() {
        "Service" if resource.gvk.group.is_empty() => {
            let guard = call.api.allocation.lock().await;
            admission::services::allocate(
                &call.api.store,
                call.api.config.addresses,
                None,
                &mut object,
            )
            .map_err(|causes| invalid(call, &object, causes))?;
            Some(guard)
        }
        _ => None,
    };
    let mut attempts = 0;
    let created = loop {
        match write::insert(call, object.clone()).await {
            Err(error)
                if error.reason == "AlreadyExists" && generated && attempts < NAME_ATTEMPTS =>
            {
                attempts += 1;
                let prefix = object["metadata"]["generateName"].clone();
                object["metadata"]["name"] = generate(prefix.as_str().unwrap_or_default()).into();
            }
            result => break result?,
        }
    };
    if resource.gvk.kind == "Namespace" && !call.options.dry_run {
        super::bootstrap::furnish(call.api, created["metadata"]["name"].as_str()).await?;
    }
    Ok((created, warnings))
}

/// A 422 about an object.
pub(super) fn invalid(call: &Call<'_>, object: &Value, causes: Vec<super::Cause>) -> ApiError {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    ApiError::invalid(&call.target.resource.gvk, name, causes)
}

/// Puts the path's namespace into the object.
fn place(call: &Call<'_>, object: &mut Value) -> Result<(), ApiError> {
    let metadata = &mut object["metadata"];
    let said = metadata["namespace"].as_str().unwrap_or_default();
    if !call.target.resource.namespaced {
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.shift_remove("namespace");
        }
        return Ok(());
    }
    let Some(namespace) = call.target.namespace.as_deref() else {
        return Err(ApiError::method_not_allowed());
    };
    if !said.is_empty() && said != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    metadata["namespace"] = namespace.into();
    Ok(())
}

/// Generates a name when only `generateName` is given.
fn name(object: &mut Value) -> bool {
    let metadata = &mut object["metadata"];
    if metadata["name"]
        .as_str()
        .is_some_and(|name| !name.is_empty())
    {
        return false;
    }
    let Some(prefix) = metadata["generateName"].as_str().filter(|p| !p.is_empty()) else {
        return false;
    };
    metadata["name"] = generate(prefix).into();
    true
}

fn generate(prefix: &str) -> String {
    let mut random = rand::rng();
    let mut name: String = prefix.chars().take(LONGEST_PREFIX).collect();
    for _ in 0..5 {
        name.push(char::from(LETTERS[random.random_range(0..LETTERS.len())]));
    }
    name
}

/// Objects are created in namespaces that exist and are not being deleted.
fn namespace_is_open(call: &Call<'_>, object: &Value) -> Result<(), ApiError> {
    let Some(namespace) = call.target.namespace.as_deref() else {
        return Ok(());
    };
    let Some(found) = call.api.store.get("core/namespaces", "", namespace) else {
        return Err(ApiError::no_namespace(namespace));
    };
    let found = found.value();
    if found["metadata"]["deletionTimestamp"].is_null() {
        return Ok(());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let why = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    let mut error = ApiError::forbidden(&call.target.resource, name, &why);
    if let Some(details) = &mut error.details {
        details["causes"] = json!([{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        }]);
    }
    Err(error)
}
