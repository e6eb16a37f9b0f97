//! GET: one object, and lists.

use super::answer::{self, Form};
use super::selectors::Selectors;
use super::{ApiError, Call, Cause};
use crate::discovery::Resource;
use crate::gvk::Gvk;
use crate::store::Object;
use crate::versions;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::{BufMut, BytesMut};
use http::StatusCode;
use serde_json::{Value, json};

/// The object that a path names, in the version of the path.
pub(super) fn stored(call: &Call<'_>) -> Result<(Object, Value), ApiError> {
    let target = call.target;
    let object = call
        .api
        .store
        .get(&target.resource.storage, target.namespace(), target.name())
        .ok_or_else(|| ApiError::not_found(&target.resource, target.name()))?;
    let value = versions::read(&target.resource, &object.json);
    Ok((object, value))
}

pub(super) fn get(call: &Call<'_>) -> Result<Response, ApiError> {
    revision(call, "resourceVersion")?;
    let (_, mut value) = stored(call)?;
    if value["aggregationRule"].is_object() {
        // gathered when asked, where Kubernetes has a controller write them
        let rules = crate::auth::rbac::rules_of(
            &call.api.store,
            &call.target.resource.gvk.kind,
            call.target.name(),
            "",
        );
        value["rules"] = rules.into();
    }
    Ok(respond(call, StatusCode::OK, &value))
}

/// An answer with one object, in the form that was asked for.
pub(super) fn respond(call: &Call<'_>, code: StatusCode, object: &Value) -> Response {
    match call.form {
        Form::Object => answer::json(code, object),
        Form::Metadata => answer::json(code, &answer::metadata_only(object)),
        Form::Table => {
            let mut table = table(&call.target.resource, std::slice::from_ref(object), call);
            table["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
            answer::json(code, &table)
        }
    }
}

/// A table of some objects of a resource.
fn table(resource: &Resource, objects: &[Value], call: &Call<'_>) -> Value {
    rows(resource, objects, call.options.get("includeObject"))
}

/// A table of some objects of a resource; `include_object` is `None`, `Metadata` or `Object`.
pub(super) fn rows(resource: &Resource, objects: &[Value], include_object: Option<&str>) -> Value {
    let columns = resource
        .custom()
        .map(|custom| custom.columns.as_slice())
        .filter(|columns| !columns.is_empty());
    crate::table::render(
        &resource.gvk,
        objects,
        columns,
        include_object.unwrap_or("Metadata"),
        jiff::Timestamp::now(),
    )
}

/// A revision parameter: `None` when it is absent or 0. A revision that does not exist yet is
/// refused: nothing here is behind another server.
fn revision(call: &Call<'_>, name: &str) -> Result<Option<u64>, ApiError> {
    let Some(text) = call.options.get(name) else {
        return Ok(None);
    };
    let asked: u64 = text.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))
    })?;
    let current = call.api.store.revision();
    if asked > current {
        let mut error = ApiError::new(
            StatusCode::GATEWAY_TIMEOUT,
            "Timeout",
            format!("Timeout: Too large resource version: {asked}, current: {current}"),
        );
        error.details = Some(Box::new(json!({"causes": [
            {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]})));
        error.retry_after = Some(1);
        return Err(error);
    }
    Ok(Some(asked).filter(|revision| *revision > 0))
}

/// Where a list goes on: `continue`.
struct Place {
    revision: u64,
    start: String,
}

impl Place {
    fn parse(token: &str) -> Result<Self, ApiError> {
        let invalid = || {
            ApiError::bad_request(
                "invalid continue token: continue key is not valid: it was not given by this server",
            )
        };
        let decoded = BASE64_URL_SAFE_NO_PAD
            .decode(token)
            .map_err(|_| invalid())?;
        let token: Value = serde_json::from_slice(&decoded).map_err(|_| invalid())?;
        match (token["rv"].as_u64(), token["start"].as_str()) {
            (Some(revision), Some(start)) => Ok(Place {
                revision,
                start: start.to_owned(),
            }),
            _ => Err(invalid()),
        }
    }

    fn token(&self) -> String {
        let token = json!({"v": "meta.k8s.io/v1", "rv": self.revision, "start": self.start});
        BASE64_URL_SAFE_NO_PAD.encode(token.to_string())
    }
}

fn check_match(call: &Call<'_>) -> Result<(), ApiError> {
    let options = call.options;
    let Some(wanted) = options.get("resourceVersionMatch") else {
        return Ok(());
    };
    let (reason, message) = if options.get("resourceVersion").is_none() {
        (
            "FieldValueForbidden",
            "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
                .to_owned(),
        )
    } else if !matches!(wanted, "Exact" | "NotOlderThan") {
        (
            "FieldValueNotSupported",
            format!(
                "Unsupported value: {wanted:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""
            ),
        )
    } else {
        return Ok(());
    };
    let cause = Cause {
        reason: reason.into(),
        message,
        field: "resourceVersionMatch".into(),
    };
    let kind = Gvk::new("meta.k8s.io", "v1", "ListOptions");
    Err(ApiError::invalid(&kind, "", vec![cause]))
}

/// The objects of the collection that a path names and that match its selectors.
pub(super) fn matching(call: &Call<'_>, selectors: &Selectors) -> (Vec<Object>, u64) {
    let (target, store) = (call.target, &call.api.store);
    let storage = &target.resource.storage;
    // one name in one namespace needs no scan
    if let Some(name) = selectors.name()
        && (target.namespace.is_some() || !target.resource.namespaced)
    {
        let revision = store.revision();
        let object = store
            .get(storage, target.namespace(), name)
            .filter(|object| selectors.matches(&versions::read(&target.resource, &object.json)));
        return (object.into_iter().collect(), revision);
    }
    let (mut objects, revision) = store.list(storage, target.namespace.as_deref());
    if !selectors.is_empty() {
        objects.retain(|object| selectors.matches(&versions::read(&target.resource, &object.json)));
    }
    (objects, revision)
}

pub(super) fn list(call: &Call<'_>) -> Result<Response, ApiError> {
    check_match(call)?;
    let (options, resource) = (call.options, &call.target.resource);
    let asked = revision(call, "resourceVersion")?;
    let exact = options.get("resourceVersionMatch") == Some("Exact");
    if exact && asked.is_some_and(|asked| asked != call.api.store.revision()) {
        return Err(ApiError::expired(
            "The resourceVersion for the provided list is too old.",
        ));
    }
    let selectors = Selectors::parse(
        resource,
        options.get("labelSelector"),
        options.get("fieldSelector"),
    )?;
    let place = options.get("continue").map(Place::parse).transpose()?;
    if place.is_some() && asked.is_some() {
        return Err(ApiError::bad_request(
            "specifying resource version is not allowed when using continue",
        ));
    }
    let (mut objects, mut at) = matching(call, &selectors);
    if let Some(place) = &place {
        at = place.revision;
        objects.retain(|object| position(&object.value()) > place.start);
    }
    // from a cache (resourceVersion=0) the limit is ignored
    let limit = match options.get("resourceVersion") {
        Some("0") => None,
        _ => options.number("limit")?.filter(|limit| *limit > 0),
    };
    let mut metadata = json!({"resourceVersion": at.to_string()});
    if let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok())
        && objects.len() > limit
    {
        let next = Place {
            revision: at,
            start: position(&objects[limit - 1].value()),
        };
        metadata["continue"] = next.token().into();
        if selectors.is_empty() {
            metadata["remainingItemCount"] = (objects.len() - limit).into();
        }
        objects.truncate(limit);
    }
    match call.form {
        Form::Object => {
            let mut body = BytesMut::with_capacity(
                256 + objects
                    .iter()
                    .map(|object| object.json.len() + 1)
                    .sum::<usize>(),
            );
            let head = format!(
                "{{\"kind\":{:?},\"apiVersion\":{:?},\"metadata\":{metadata},\"items\":[",
                resource.list_kind,
                resource.gvk.api_version()
            );
            body.put_slice(head.as_bytes());
            for (index, object) in objects.iter().enumerate() {
                if index > 0 {
                    body.put_u8(b',');
                }
                body.put_slice(&versions::bytes(resource, &object.json));
            }
            body.put_slice(b"]}\n");
            Ok(answer::raw(StatusCode::OK, body.freeze()))
        }
        Form::Table => {
            let values = values(resource, &objects);
            let mut table = table(resource, &values, call);
            table["metadata"] = metadata;
            Ok(answer::json(StatusCode::OK, &table))
        }
        Form::Metadata => {
            let items: Vec<Value> = values(resource, &objects)
                .iter()
                .map(answer::metadata_only)
                .collect();
            let list = json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "items": items,
            });
            Ok(answer::json(StatusCode::OK, &list))
        }
    }
}

fn values(resource: &Resource, objects: &[Object]) -> Vec<Value> {
    objects
        .iter()
        .map(|object| versions::read(resource, &object.json))
        .collect()
}

/// An object's place in the order of a list.
fn position(object: &Value) -> String {
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    // the separator sorts before every character of a name, as the pair (namespace, name) does
    format!("{}\u{1}{}", text("namespace"), text("name"))
}
