//! Who may: basic and bearer authentication.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::asked::{answer, document};
use crate::{Bin, Style, problem};

/// The routes that want credentials.
pub(crate) fn routes() -> Router<Bin> {
    Router::new()
        .route("/basic-auth/{user}/{password}", get(basic))
        .route("/hidden-basic-auth/{user}/{password}", get(hidden))
        .route("/bearer", get(bearer))
}

/// The credentials of a header `Authorization: SCHEME ...`.
fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (given, rest) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

fn is_user(headers: &HeaderMap, user: &str, password: &str) -> bool {
    credentials(headers, "basic")
        .and_then(|text| STANDARD.decode(text).ok())
        .is_some_and(|bytes| bytes == format!("{user}:{password}").into_bytes())
}

/// In the Go style a success is called both `authenticated` and `authorized`.
fn success(bin: Bin, user: &str) -> Response {
    let mut object = Map::from_iter([("authenticated".to_owned(), Value::Bool(true))]);
    if bin.style == Style::Go {
        object.insert("authorized".into(), Value::Bool(true));
    }
    object.insert("user".into(), json!(user));
    answer(bin.style, object)
}

fn refused(challenge: &'static str) -> Response {
    let mut response = document(
        StatusCode::UNAUTHORIZED,
        &json!({"authenticated": false, "authorized": false, "user": ""}),
    );
    response.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static(challenge),
    );
    response
}

async fn basic(
    State(bin): State<Bin>,
    Path((user, password)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if is_user(&headers, &user, &password) {
        success(bin, &user)
    } else {
        refused(r#"Basic realm="Fake Realm""#)
    }
}

async fn hidden(
    State(bin): State<Bin>,
    Path((user, password)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if is_user(&headers, &user, &password) {
        success(bin, &user)
    } else {
        problem(
            StatusCode::NOT_FOUND,
            "there is nothing at this path; see /",
        )
        .into_response()
    }
}

async fn bearer(State(bin): State<Bin>, headers: HeaderMap) -> Response {
    match credentials(&headers, "bearer").filter(|token| !token.is_empty()) {
        Some(token) => answer(
            bin.style,
            Map::from_iter([
                ("authenticated".to_owned(), Value::Bool(true)),
                ("token".to_owned(), json!(token)),
            ]),
        ),
        None => refused("Bearer"),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{get, go, python, send};
    use serde_json::json;

    #[tokio::test]
    async fn the_right_password_opens_the_door() {
        let right = [("authorization", "Basic dXNlcjpwYXNz")];
        let wrong = [("authorization", "Basic dXNlcjp3cm9uZw==")];
        for path in ["/basic-auth/user/pass", "/hidden-basic-auth/user/pass"] {
            let answer = send(&go(), "GET", path, &right, "").await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.json()["authorized"], true);
            assert_eq!(answer.json()["user"], "user");
        }
        let answer = send(&python(), "GET", "/basic-auth/user/pass", &right, "").await;
        assert_eq!(
            answer.json(),
            json!({"authenticated": true, "user": "user"})
        );
        let answer = send(&go(), "GET", "/basic-auth/user/pass", &wrong, "").await;
        assert_eq!(answer.status, 401);
        assert_eq!(
            answer.header("www-authenticate"),
            r#"Basic realm="Fake Realm""#
        );
        assert_eq!(get("/hidden-basic-auth/user/pass").await.status, 404);
        let garbage = [("authorization", "Basic ###")];
        assert_eq!(
            send(&go(), "GET", "/basic-auth/a/b", &garbage, "")
                .await
                .status,
            401
        );
    }

    #[tokio::test]
    async fn any_bearer_token_is_taken() {
        let token = [("authorization", "Bearer abc.def")];
        let answer = send(&go(), "GET", "/bearer", &token, "").await;
        assert_eq!(
            answer.json(),
            json!({"authenticated": true, "token": "abc.def"})
        );
        let answer = get("/bearer").await;
        assert_eq!(
            (answer.status, answer.header("www-authenticate")),
            (401, "Bearer")
        );
    }
}
