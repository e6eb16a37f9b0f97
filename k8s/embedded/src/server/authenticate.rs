//! The first layer: who is calling, and whether a path that names no resource is open to them.

use super::{ApiError, ApiServer, authorize};
use crate::auth::User;
use crate::auth::rbac::{self, Attributes};
use crate::auth::reviews;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header;

pub(super) async fn layer(
    State(server): State<ApiServer>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let checked = user(&server, &request)
        .and_then(|user| impersonated(&server, &request, user))
        .and_then(|user| {
            if !authorize::names_resource(path) {
                authorize::path(&server.0, &user, request.method(), path)?;
            }
            Ok(user)
        });
    match checked {
        Ok(user) => {
            request.extensions_mut().insert(user);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

fn user(server: &ApiServer, request: &Request) -> Result<User, ApiError> {
    if let Some(user) = request.extensions().get::<User>() {
        return Ok(user.clone());
    }
    let Some(authorization) = request.headers().get(header::AUTHORIZATION) else {
        return Ok(User::anonymous());
    };
    let token = authorization
        .to_str()
        .ok()
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or_else(ApiError::unauthorized)?;
    reviews::user_of_token(
        &server.0.store,
        &server.0.config.authority.tokens,
        token.trim(),
        &[],
    )
    .map(|(user, _)| user)
    .map_err(|_| ApiError::unauthorized())
}

/// Who the caller wants to be taken for (`kubectl --as`), if they may.
fn impersonated(server: &ApiServer, request: &Request, user: User) -> Result<User, ApiError> {
    let all = |name: &str| -> Vec<String> {
        let values = request.headers().get_all(name).iter();
        values
            .filter_map(|value| value.to_str().ok().map(str::to_owned))
            .collect()
    };
    let groups = all("impersonate-group");
    let Some(name) = all("impersonate-user").into_iter().next() else {
        return match groups.is_empty() {
            true => Ok(user),
            false => Err(ApiError::bad_request(
                "header Impersonate-Group needs Impersonate-User",
            )),
        };
    };
    let subjects = [("users", name.clone())]
        .into_iter()
        .chain(groups.iter().map(|group| ("groups", group.clone())));
    for (resource, name) in subjects {
        let wanted = Attributes {
            verb: "impersonate".into(),
            resource: resource.into(),
            name: name.clone(),
            ..Attributes::default()
        };
        if rbac::allowed(&server.0.store, &user, &wanted).is_none() {
            let message = format!(
                "{resource} {name:?} is forbidden: {}",
                wanted.refusal(&user)
            );
            let code = http::StatusCode::FORBIDDEN;
            return Err(ApiError::new(code, "Forbidden", message));
        }
    }
    let account = name
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'));
    let mut other = match account {
        Some((namespace, account)) => User::service_account(namespace, account, ""),
        None if name == "system:anonymous" => User::anonymous(),
        None => User::new(name, &[]),
    };
    for group in groups {
        if !other.groups.contains(&group) {
            other.groups.insert(0, group);
        }
    }
    Ok(other)
}
