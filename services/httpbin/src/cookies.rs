//! Cookies: shown, set and deleted.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::{Map, Value};

use crate::asked::{Asked, answer, object};
use crate::{Bin, bad};

/// The routes about cookies.
pub(crate) fn routes() -> Router<Bin> {
    Router::new()
        .route("/cookies", get(show))
        .route("/cookies/set", get(set))
        .route("/cookies/set/{name}/{value}", get(set_one))
        .route("/cookies/delete", get(delete))
}

async fn show(State(bin): State<Bin>, asked: Asked) -> Response {
    let mut cookies = Map::new();
    for header in asked.headers.get_all(header::COOKIE) {
        for pair in String::from_utf8_lossy(header.as_bytes()).split(';') {
            if let Some((name, value)) = pair.trim().split_once('=') {
                cookies.insert(name.to_owned(), value.into());
            }
        }
    }
    answer(bin.style, object("cookies", Value::Object(cookies)))
}

async fn set(asked: Asked) -> Response {
    write(
        asked
            .query()
            .into_iter()
            .map(|(name, value)| cookie(&name, &value, "")),
    )
}

async fn set_one(Path((name, value)): Path<(String, String)>) -> Response {
    write(std::iter::once(cookie(&name, &value, "")))
}

async fn delete(asked: Asked) -> Response {
    let over = "; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0";
    write(
        asked
            .query()
            .into_iter()
            .map(|(name, _)| cookie(&name, "", over)),
    )
}

/// A cookie, unless a character in it would end it or begin another one.
fn cookie(name: &str, value: &str, attributes: &str) -> Option<HeaderValue> {
    let plain = |text: &str| !text.contains([';', ',', '"', '\\', ' ']);
    if name.is_empty() || name.contains('=') || !plain(name) || !plain(value) {
        return None;
    }
    HeaderValue::from_str(&format!("{name}={value}; Path=/{attributes}")).ok()
}

fn write(cookies: impl Iterator<Item = Option<HeaderValue>>) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::LOCATION, HeaderValue::from_static("/cookies"));
    for cookie in cookies {
        let Some(cookie) = cookie else {
            return bad(
                "a cookie's name and value must be plain: no blanks, quotes, commas or semicolons",
            );
        };
        headers.append(header::SET_COOKIE, cookie);
    }
    (StatusCode::FOUND, headers).into_response()
}

#[cfg(test)]
mod tests {
    use crate::testing::{get, go, send};
    use serde_json::json;

    #[tokio::test]
    async fn cookies_are_shown_set_and_deleted() {
        let shown = send(&go(), "GET", "/cookies", &[("cookie", "a=1; b=x=y")], "").await;
        assert_eq!(shown.json(), json!({"cookies": {"a": "1", "b": "x=y"}}));
        let set = get("/cookies/set?a=1&b=2").await;
        assert_eq!((set.status, set.header("location")), (302, "/cookies"));
        let cookies: Vec<_> = set.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1; Path=/", "b=2; Path=/"]);
        assert_eq!(
            get("/cookies/set/a/1").await.header("set-cookie"),
            "a=1; Path=/"
        );
        let deleted = get("/cookies/delete?a").await;
        assert!(
            deleted
                .header("set-cookie")
                .starts_with("a=; Path=/; Expires=Thu, 01 Jan 1970")
        );
        assert_eq!(get("/cookies/set?a=1%3Bb").await.status, 400);
    }
}
