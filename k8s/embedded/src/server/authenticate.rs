//! The first layer: who is calling, and whether the path is open to nobody.

use super::{ApiError, ApiServer};
use crate::auth::User;
use crate::auth::reviews;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

/// Paths that need no credential.
const OPEN: [&str; 4] = ["/version", "/livez", "/readyz", "/healthz"];

pub(super) async fn layer(
    State(server): State<ApiServer>,
    mut request: Request,
    next: Next,
) -> Response {
    let user = match user(&server, &request) {
        Ok(user) => user,
        Err(error) => return error.into_response(),
    };
    let path = request.uri().path();
    if !user.is_authenticated() && !OPEN.contains(&path) {
        return refuse(&user, &request).into_response();
    }
    request.extensions_mut().insert(user);
    next.run(request).await
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

fn refuse(user: &User, request: &Request) -> ApiError {
    let verb = match request.method().as_str() {
        "GET" | "HEAD" => "get",
        "POST" => "create",
        "PUT" => "update",
        "DELETE" => "delete",
        _ => "patch",
    };
    let message = format!(
        "forbidden: User {:?} cannot {verb} path {:?}",
        user.name,
        request.uri().path()
    );
    let mut error = ApiError::new(StatusCode::FORBIDDEN, "Forbidden", message);
    error.details = Some(Box::new(serde_json::json!({})));
    error
}
