//! Admission webhooks: which are called for a request, and what their answers do.

mod call;
mod rules;

use crate::auth::{User, reviews};
use crate::discovery::Resource;
use crate::status::ApiError;
use crate::store::Store;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use call::CallError;
use http::StatusCode;
use serde_json::{Value, json};

const MUTATING: &str = "admissionregistration.k8s.io/mutatingwebhookconfigurations";
const VALIDATING: &str = "admissionregistration.k8s.io/validatingwebhookconfigurations";

/// A request under admission.
pub struct Review<'a> {
    /// Where the configurations and services are.
    pub store: &'a Store,
    /// Who asks.
    pub user: &'a User,
    /// What is written.
    pub resource: &'a Resource,
    /// Which part of it, e.g. `status`.
    pub subresource: Option<&'a str>,
    /// `CREATE`, `UPDATE` or `DELETE`.
    pub operation: &'static str,
    /// Its namespace; empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// Nothing will be stored.
    pub dry_run: bool,
    /// The request's options object.
    pub options: Value,
}

/// Calls the mutating webhooks that the request concerns, one after the other, and applies their
/// patches to `object`. Returns warnings.
///
/// # Errors
/// A webhook denies the request, or fails and its policy is `Fail`.
pub async fn mutate(
    review: &Review<'_>,
    old: Option<&Value>,
    object: &mut Value,
) -> Result<Vec<String>, ApiError> {
    let mut warnings = Vec::new();
    for webhook in concerned(review, MUTATING, old, Some(object)) {
        let Some(response) = ask(review, &webhook, old, Some(object), &mut warnings).await? else {
            continue;
        };
        if let Some(patch) = response["patch"].as_str().filter(|patch| !patch.is_empty()) {
            let failed = |error: String| ApiError::internal(error);
            let patch = BASE64_STANDARD
                .decode(patch)
                .map_err(|error| failed(error.to_string()))?;
            let patch =
                serde_json::from_slice(&patch).map_err(|error| failed(error.to_string()))?;
            *object = crate::patch::json(object, &patch).map_err(|error| match error {
                crate::patch::PatchError::Rejected(reason) => failed(reason),
                error => failed(error.to_string()),
            })?;
        }
    }
    Ok(warnings)
}

/// Calls the validating webhooks that the request concerns. `object` is `None` for a deletion.
/// Returns warnings.
///
/// # Errors
/// As [`mutate`].
pub async fn validate(
    review: &Review<'_>,
    old: Option<&Value>,
    object: Option<&Value>,
) -> Result<Vec<String>, ApiError> {
    let mut warnings = Vec::new();
    for webhook in concerned(review, VALIDATING, old, object) {
        ask(review, &webhook, old, object, &mut warnings).await?;
    }
    Ok(warnings)
}

/// Calls all webhooks that a deletion concerns.
///
/// # Errors
/// As [`mutate`].
pub async fn delete(review: &Review<'_>, old: &Value) -> Result<(), ApiError> {
    for configurations in [MUTATING, VALIDATING] {
        for webhook in concerned(review, configurations, Some(old), None) {
            ask(review, &webhook, Some(old), None, &mut Vec::new()).await?;
        }
    }
    Ok(())
}

/// The webhooks to call, in the order of their configurations' names.
fn concerned(
    review: &Review<'_>,
    configurations: &str,
    old: Option<&Value>,
    object: Option<&Value>,
) -> Vec<Value> {
    // they cannot keep themselves from being repaired
    if review.resource.gvk.group == "admissionregistration.k8s.io" {
        return Vec::new();
    }
    let (configurations, _) = review.store.list(configurations, None);
    if configurations.is_empty() {
        return Vec::new();
    }
    let namespace_labels = rules::namespace_labels(review, object.or(old));
    configurations
        .iter()
        .flat_map(|configuration| {
            let mut configuration = configuration.value();
            match configuration["webhooks"].take() {
                Value::Array(webhooks) => webhooks,
                _ => Vec::new(),
            }
        })
        .filter(|webhook| rules::concerns(webhook, review, old, object, namespace_labels.as_ref()))
        .collect()
}

/// Asks one webhook; `None` when it failed and that is to be ignored.
async fn ask(
    review: &Review<'_>,
    webhook: &Value,
    old: Option<&Value>,
    object: Option<&Value>,
    warnings: &mut Vec<String>,
) -> Result<Option<Value>, ApiError> {
    let name = webhook["name"].as_str().unwrap_or_default();
    let uid = uuid::Uuid::new_v4().to_string();
    let request = request(review, &uid, old, object);
    let answer = call::call(review.store, webhook, &request).await;
    let response = answer.and_then(|answer| check(answer, &uid));
    let response = match response {
        Ok(response) => response,
        Err(error) if webhook["failurePolicy"] == "Ignore" => {
            tracing::warn!(webhook = name, %error, "a failing webhook is ignored");
            return Ok(None);
        }
        Err(error) => {
            return Err(ApiError::internal(format!(
                "failed calling webhook {name:?}: {error}"
            )));
        }
    };
    let told = response["warnings"].as_array().into_iter().flatten();
    warnings.extend(told.filter_map(|warning| warning.as_str().map(str::to_owned)));
    match response["allowed"].as_bool() {
        Some(true) => Ok(Some(response)),
        _ => Err(denial(name, &response["status"])),
    }
}

fn request(review: &Review<'_>, uid: &str, old: Option<&Value>, object: Option<&Value>) -> Value {
    let gvk = &review.resource.gvk;
    let kind = json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind});
    let resource = json!({
        "group": gvk.group, "version": gvk.version, "resource": review.resource.plural,
    });
    let mut request = json!({"uid": uid, "kind": kind, "resource": resource});
    if let Some(subresource) = review.subresource {
        request["subResource"] = subresource.into();
    }
    request["requestKind"] = kind;
    request["requestResource"] = resource;
    if let Some(subresource) = review.subresource {
        request["requestSubResource"] = subresource.into();
    }
    let named = object.or(old).map(|object| &object["metadata"]["name"]);
    if let Some(Value::String(name)) = named {
        request["name"] = name.as_str().into();
    }
    if !review.namespace.is_empty() {
        request["namespace"] = review.namespace.into();
    }
    request["operation"] = review.operation.into();
    request["userInfo"] = reviews::user_info(review.user);
    request["object"] = object.cloned().unwrap_or_default();
    request["oldObject"] = old.cloned().unwrap_or_default();
    request["dryRun"] = review.dry_run.into();
    request["options"] = review.options.clone();
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request})
}

/// The response of a review, if it is well-formed.
fn check(mut answer: Value, uid: &str) -> Result<Value, CallError> {
    let invalid = |why: String| {
        Err(CallError::Invalid(format!(
            "received invalid webhook response: {why}"
        )))
    };
    if answer["kind"] != "AdmissionReview" || answer["apiVersion"] != "admission.k8s.io/v1" {
        return invalid(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {}, Kind={}",
            answer["apiVersion"].as_str().unwrap_or_default(),
            answer["kind"].as_str().unwrap_or_default()
        ));
    }
    let response = answer["response"].take();
    let found = response["uid"].as_str().unwrap_or_default();
    if found != uid {
        return invalid(format!("expected response.uid={uid:?}, got {found:?}"));
    }
    let patched = response["patch"]
        .as_str()
        .is_some_and(|patch| !patch.is_empty());
    match response["patchType"].as_str() {
        None | Some("") if patched => {
            invalid("webhook returned response.patch but not response.patchType".into())
        }
        Some("JSONPatch") | None | Some("") => Ok(response),
        Some(other) => invalid(format!("invalid value of PatchType {other:?}")),
    }
}

/// What a denied client is told: 400 without a reason, unless the webhook gives them.
fn denial(name: &str, status: &Value) -> ApiError {
    let code = status["code"]
        .as_u64()
        .and_then(|code| StatusCode::from_u16(u16::try_from(code).ok()?).ok())
        .filter(|code| code.is_client_error() || code.is_server_error())
        .unwrap_or(StatusCode::BAD_REQUEST);
    let given = |key: &str| status[key].as_str().filter(|text| !text.is_empty());
    let (message, reason) = (given("message"), given("reason"));
    let why = match message.or(reason) {
        Some(why) => format!("denied the request: {why}"),
        None => "denied the request without explanation".into(),
    };
    let text = format!("admission webhook {name:?} {why}");
    let mut error = ApiError::new(code, reason.unwrap_or_default(), text);
    if status["details"].is_object() {
        error.details = Some(Box::new(status["details"].clone()));
    }
    error
}

#[cfg(test)]
mod tests;
