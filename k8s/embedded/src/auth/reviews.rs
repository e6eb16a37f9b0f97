//! Tokens judged against the objects they speak of: authentication and TokenReview.

use super::rbac::{self, Attributes};
use super::{Binding, Claims, TokenKey, User, tokens::AUDIENCE};
use crate::discovery::Resource;
use crate::gvk::Gvk;
use crate::status::{ApiError, Cause};
use crate::store::Store;
use http::StatusCode;
use serde_json::{Value, json};

/// Unix time, seconds.
pub(crate) fn unix_now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// The caller whom a token stands for, if it is ours, has not expired, is meant for one of
/// `audiences` (this API server when empty), and its ServiceAccount and bound object still exist.
pub fn user_of_token(
    store: &Store,
    key: &TokenKey,
    token: &str,
    audiences: &[String],
) -> Result<(User, Vec<String>), String> {
    let claims = key
        .verify(token, unix_now())
        .ok_or("[invalid bearer token]")?;
    let own = [AUDIENCE.to_owned()];
    let wanted = if audiences.is_empty() {
        &own[..]
    } else {
        audiences
    };
    let common: Vec<String> = wanted
        .iter()
        .filter(|audience| claims.audiences.contains(audience))
        .cloned()
        .collect();
    if common.is_empty() {
        return Err(format!(
            "[invalid bearer token, token audiences {:?} is invalid for the target audiences {wanted:?}]",
            claims.audiences
        ));
    }
    check_objects(store, &claims)?;
    Ok((claims.user(), common))
}

fn check_objects(store: &Store, claims: &Claims) -> Result<(), String> {
    let same_uid = |resource: &str, namespace: &str, name: &str, uid: &str| {
        store
            .get(resource, namespace, name)
            .is_some_and(|object| object.value()["metadata"]["uid"] == uid)
    };
    if !same_uid(
        "core/serviceaccounts",
        &claims.namespace,
        &claims.account,
        &claims.account_uid,
    ) {
        return Err(format!(
            "[invalid bearer token, service account {}/{} is gone]",
            claims.namespace, claims.account
        ));
    }
    if let Some(binding) = &claims.binding {
        let (resource, namespace) = match binding.kind.as_str() {
            "Pod" => ("core/pods", claims.namespace.as_str()),
            "Secret" => ("core/secrets", claims.namespace.as_str()),
            _ => ("core/nodes", ""),
        };
        if !same_uid(resource, namespace, &binding.name, &binding.uid) {
            return Err(
                "[invalid bearer token, service account token has been invalidated]".into(),
            );
        }
    }
    Ok(())
}

/// A user as the reviews show it.
pub fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    info["groups"] = json!(user.groups);
    for (key, values) in &user.extra {
        info["extra"][key] = json!(values);
    }
    info
}

/// Why a token was not given.
#[derive(Debug)]
pub enum Refusal {
    /// A field of the request is wrong: field, reason, message.
    Invalid(&'static str, &'static str, String),
    /// The object to which the token was to be bound is not there: resource, name.
    NotFound(&'static str, String),
    /// It is another object of the same name: kind, name, uid.
    OtherUid(String, String, String),
}

impl Refusal {
    /// The answer.
    pub fn into_error(self, resource: &Resource, name: &str) -> ApiError {
        match self {
            Refusal::Invalid(field, reason, message) => {
                let kind = Gvk::new("authentication.k8s.io", "v1", "TokenRequest");
                let cause = Cause {
                    reason: reason.into(),
                    message,
                    field: field.into(),
                };
                ApiError::invalid(&kind, "", vec![cause])
            }
            Refusal::NotFound(what, bound) => {
                let message = format!("{what} {bound:?} not found");
                let mut error = ApiError::new(StatusCode::NOT_FOUND, "NotFound", message);
                error.details = Some(Box::new(json!({"name": bound, "kind": what})));
                error
            }
            Refusal::OtherUid(kind, bound, uid) => ApiError::conflict(
                resource,
                name,
                &format!(
                    "the UID in the bound object reference ({uid}) does not match the UID in record of {kind} {bound}"
                ),
            ),
        }
    }
}

/// Seconds that a token lives when the request says nothing.
const DEFAULT_SECONDS: i64 = 3600;

/// Answers a TokenRequest for `account`.
pub fn request_token(
    store: &Store,
    key: &TokenKey,
    account: &Value,
    mut request: Value,
) -> Result<Value, Refusal> {
    let spec = &request["spec"];
    let seconds = spec["expirationSeconds"]
        .as_i64()
        .unwrap_or(DEFAULT_SECONDS);
    if seconds < 600 {
        return Err(Refusal::Invalid(
            "spec.expirationSeconds",
            "FieldValueInvalid",
            format!("Invalid value: {seconds}: may not specify a duration less than 10 minutes"),
        ));
    }
    if seconds > 1 << 32 {
        return Err(Refusal::Invalid(
            "spec.expirationSeconds",
            "FieldValueInvalid",
            format!(
                "Invalid value: {seconds}: may not specify a duration larger than 2^32 seconds"
            ),
        ));
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut audiences: Vec<String> = spec["audiences"]
        .as_array()
        .map(|list| list.iter().map(text).collect())
        .unwrap_or_default();
    if audiences.is_empty() {
        audiences.push(AUDIENCE.into());
    }
    let namespace = text(&account["metadata"]["namespace"]);
    let binding = match &spec["boundObjectRef"] {
        Value::Null => None,
        reference => Some(bind(store, &namespace, reference)?),
    };
    let issued = unix_now();
    let claims = Claims {
        audiences: audiences.clone(),
        issued,
        expires: issued + seconds,
        namespace: namespace.clone(),
        account: text(&account["metadata"]["name"]),
        account_uid: text(&account["metadata"]["uid"]),
        binding,
        id: uuid::Uuid::new_v4().to_string(),
    };
    let expires = jiff::Timestamp::from_second(claims.expires)
        .map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
        .unwrap_or_default();
    request["metadata"] = json!({
        "name": claims.account,
        "namespace": namespace,
        "creationTimestamp": crate::status::timestamp(),
    });
    request["spec"]["audiences"] = json!(audiences);
    request["spec"]["expirationSeconds"] = seconds.into();
    request["status"] = json!({"token": key.sign(&claims), "expirationTimestamp": expires});
    Ok(request)
}

fn bind(store: &Store, namespace: &str, reference: &Value) -> Result<Binding, Refusal> {
    let text = |key: &str| reference[key].as_str().unwrap_or_default().to_owned();
    let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
    let (plural, resource, namespace) = match kind.as_str() {
        "Pod" => ("pods", "core/pods", namespace),
        "Secret" => ("secrets", "core/secrets", namespace),
        "Node" => ("nodes", "core/nodes", ""),
        _ => {
            return Err(Refusal::Invalid(
                "spec.boundObjectRef",
                "FieldValueInvalid",
                format!("Invalid value: {kind:?}: cannot bind token to object of type {kind}"),
            ));
        }
    };
    let Some(object) = store.get(resource, namespace, &name) else {
        return Err(Refusal::NotFound(plural, name));
    };
    let found = object.value()["metadata"]["uid"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if !uid.is_empty() && uid != found {
        return Err(Refusal::OtherUid(kind, name, uid));
    }
    Ok(Binding {
        kind,
        name,
        uid: found,
    })
}

/// The status of a TokenReview.
pub fn token_review(store: &Store, key: &TokenKey, spec: &Value) -> Result<Value, String> {
    let token = spec["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err("token is required for TokenReview in authentication".into());
    }
    let audiences: Vec<String> = spec["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|audience| audience.as_str().map(str::to_owned))
        .collect();
    Ok(match user_of_token(store, key, token, &audiences) {
        Ok((user, audiences)) => json!({
            "authenticated": true,
            "user": user_info(&user),
            "audiences": audiences,
        }),
        Err(error) => json!({"user": {}, "error": error}),
    })
}

/// The status of an access review about a caller, who is `asking` unless the spec names another.
pub fn access(store: &Store, asking: &User, spec: &Value) -> Value {
    let named = spec["user"].as_str().unwrap_or_default();
    let groups = spec["groups"].as_array().into_iter().flatten();
    let groups: Vec<&str> = groups.filter_map(Value::as_str).collect();
    let user = match named.is_empty() && groups.is_empty() {
        true => asking.clone(),
        false => User {
            name: named.to_owned(),
            uid: String::new(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            extra: Vec::new(),
        },
    };
    match rbac::allowed(store, &user, &Attributes::of_review(spec)) {
        Some(reason) if reason.is_empty() => json!({"allowed": true}),
        Some(reason) => json!({"allowed": true, "reason": reason}),
        None => json!({"allowed": false}),
    }
}
