//! What lies below an object: `status`, `scale`, `log`, `binding`, `eviction`, `token`, `finalize`;
//! and the reviews, which are answered and not stored.

mod binding;
pub(super) mod container;
mod log;
mod scale;

use super::delete::{self, DeleteOptions};
use super::{ApiError, Call, answer, body, read, update, write};
use crate::auth::{rbac, reviews};
use crate::discovery::Subresource;
use crate::node::NodeError;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

pub(super) async fn run(
    call: &Call<'_>,
    subresource: &Subresource,
    verb: &str,
    body: Bytes,
) -> Result<Response, ApiError> {
    match (subresource.name, verb) {
        ("log", _) => log::run(call).await,
        ("scale", _) => scale::run(call, verb, body).await,
        ("binding", _) => binding::run(call, &body).await,
        ("eviction", _) => evict(call, &body).await,
        ("token", _) => token(call, &body),
        (_, "get") => read::get(call),
        (name, "patch") => update::patch_subresource(call, body, Some(name)).await,
        (name, _) => update::put_subresource(call, body, Some(name)).await,
    }
}

/// `pods/eviction`: a deletion that a PodDisruptionBudget could refuse, were there any.
async fn evict(call: &Call<'_>, body: &Bytes) -> Result<Response, ApiError> {
    let mut sent = body::object(call.media_type, body)?;
    let kind = crate::gvk::Gvk::new("policy", "v1", "Eviction");
    write::check_gvk(&kind, &mut sent)?;
    let mut options = DeleteOptions::default();
    options.take(&sent["deleteOptions"]);
    delete::with_options(call, &options).await?;
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    });
    Ok(answer::json(StatusCode::CREATED, &status))
}

/// `serviceaccounts/token`: a TokenRequest.
fn token(call: &Call<'_>, body: &Bytes) -> Result<Response, ApiError> {
    let mut request = body::object(call.media_type, body)?;
    let kind = crate::gvk::Gvk::new("authentication.k8s.io", "v1", "TokenRequest");
    write::check_gvk(&kind, &mut request)?;
    let (_, account) = read::stored(call)?;
    let answer = reviews::request_token(
        &call.api.store,
        &call.api.config.authority.tokens,
        &account,
        request,
    )
    .map_err(|refusal| refusal.into_error(&call.target.resource, call.target.name()))?;
    Ok(answer::json(StatusCode::CREATED, &answer))
}

/// What a node refused.
pub(super) fn of_node(error: NodeError) -> ApiError {
    match error {
        NodeError::BadRequest(message) => ApiError::bad_request(message),
        NodeError::NotFound(message) => ApiError::new(StatusCode::NOT_FOUND, "NotFound", message),
        NodeError::NotRunning(_) => ApiError::bad_request(error.to_string()),
        NodeError::Internal(message) => ApiError::internal(message),
    }
}

/// A review: the request with its `status` filled in.
pub(super) fn review(call: &Call<'_>, mut object: Value) -> Result<Value, ApiError> {
    let kind = &call.target.resource.gvk;
    object["status"] = match kind.kind.as_str() {
        "TokenReview" => reviews::token_review(
            &call.api.store,
            &call.api.config.authority.tokens,
            &object["spec"],
        )
        .map_err(ApiError::bad_request)?,
        "SelfSubjectReview" => json!({"userInfo": reviews::user_info(call.user)}),
        "SelfSubjectRulesReview" => rbac::rules(
            &call.api.store,
            call.user,
            object["spec"]["namespace"].as_str().unwrap_or_default(),
        ),
        "LocalSubjectAccessReview" => {
            object["spec"]["resourceAttributes"]["namespace"] = call.target.namespace().into();
            reviews::access(&call.api.store, call.user, &object["spec"])
        }
        _ => reviews::access(&call.api.store, call.user, &object["spec"]),
    };
    object["metadata"] = json!({"creationTimestamp": null});
    Ok(object)
}
