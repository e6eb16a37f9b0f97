//! Headers that caches look at, and headers as asked for.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::Value;

use crate::asked::{Asked, answer, document, pairs};
use crate::{Bin, Style, bad};

/// Since when `/cache` has not changed.
const LAST_MODIFIED: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

/// The routes about headers of answers.
pub(crate) fn routes() -> Router<Bin> {
    Router::new()
        .route("/cache", get(cache))
        .route("/cache/{seconds}", get(cache_for))
        .route("/etag/{tag}", get(etag))
        .route(
            "/response-headers",
            get(response_headers).post(response_headers),
        )
}

async fn cache(State(bin): State<Bin>, asked: Asked) -> Response {
    let conditional = [header::IF_MODIFIED_SINCE, header::IF_NONE_MATCH];
    if conditional
        .iter()
        .any(|name| asked.headers.contains_key(name))
    {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let mut response = answer(bin.style, asked.describe(bin.style));
    let headers = response.headers_mut();
    headers.insert(
        header::LAST_MODIFIED,
        HeaderValue::from_static(LAST_MODIFIED),
    );
    headers.insert(header::ETAG, HeaderValue::from_static("\"cache\""));
    response
}

async fn cache_for(State(bin): State<Bin>, Path(seconds): Path<String>, asked: Asked) -> Response {
    let Ok(seconds) = seconds.parse::<u32>() else {
        return bad(&format!("`{seconds}` is not a number of seconds"));
    };
    let mut response = answer(bin.style, asked.describe(bin.style));
    if let Ok(value) = HeaderValue::from_str(&format!("public, max-age={seconds}")) {
        response.headers_mut().insert(header::CACHE_CONTROL, value);
    }
    response
}

async fn etag(State(bin): State<Bin>, Path(tag): Path<String>, asked: Asked) -> Response {
    let Ok(value) = HeaderValue::from_str(&format!("\"{tag}\"")) else {
        return bad("the tag has characters that a header cannot have");
    };
    let names = |name: HeaderName| {
        asked.headers.get(name).map(|list| {
            String::from_utf8_lossy(list.as_bytes())
                .split(',')
                .map(|entry| entry.trim().trim_start_matches("W/").trim_matches('"'))
                .any(|entry| entry == "*" || entry == tag)
        })
    };
    let mut response = if names(header::IF_NONE_MATCH) == Some(true) {
        StatusCode::NOT_MODIFIED.into_response()
    } else if names(header::IF_MATCH) == Some(false) {
        StatusCode::PRECONDITION_FAILED.into_response()
    } else {
        answer(bin.style, asked.describe(bin.style))
    };
    response.headers_mut().insert(header::ETAG, value);
    response
}

async fn response_headers(State(bin): State<Bin>, asked: Asked) -> Response {
    let mut headers = HeaderMap::new();
    for (name, value) in asked.query() {
        let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&value))
        else {
            return bad(&format!("`{name}: {value}` is not a header"));
        };
        // These belong to the connection; a false one would break it.
        if [
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
            header::CONNECTION,
            header::UPGRADE,
        ]
        .contains(&name)
        {
            return bad(&format!("the header {name} cannot be chosen"));
        }
        headers.append(name, value);
    }
    let body = match pairs(bin.style, asked.query()) {
        Value::Object(object) if bin.style == Style::Python => answer(bin.style, object),
        object => document(StatusCode::OK, &object),
    };
    let mut response = body;
    for (name, value) in &headers {
        if name == header::CONTENT_TYPE {
            response.headers_mut().insert(name, value.clone());
        } else {
            response.headers_mut().append(name, value.clone());
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use crate::testing::{get, go, send};
    use serde_json::json;

    #[tokio::test]
    async fn what_has_not_changed_is_not_sent_again() {
        let answer = get("/cache").await;
        assert_eq!((answer.status, answer.header("etag")), (200, "\"cache\""));
        let since = [("if-modified-since", "x")];
        assert_eq!(send(&go(), "GET", "/cache", &since, "").await.status, 304);
        let answer = get("/cache/60").await;
        assert_eq!(answer.header("cache-control"), "public, max-age=60");
        assert_eq!(get("/cache/x").await.status, 400);
        assert_eq!(get("/etag/a").await.header("etag"), "\"a\"");
        for (name, value, status) in [
            ("if-none-match", "\"b\", W/\"a\"", 304),
            ("if-none-match", "\"b\"", 200),
            ("if-match", "\"b\"", 412),
            ("if-match", "*", 200),
        ] {
            assert_eq!(
                send(&go(), "GET", "/etag/a", &[(name, value)], "")
                    .await
                    .status,
                status
            );
        }
    }

    #[tokio::test]
    async fn headers_as_asked_for() {
        let answer = get("/response-headers?x-a=1&x-a=2&content-type=text/x").await;
        assert_eq!(answer.headers.get_all("x-a").iter().count(), 2);
        assert_eq!(answer.header("content-type"), "text/x");
        assert_eq!(answer.json()["x-a"], json!(["1", "2"]));
        for query in ["content-length=5", "a%20b=1", "a=%0D%0Ab"] {
            assert_eq!(
                get(&format!("/response-headers?{query}")).await.status,
                400,
                "{query}"
            );
        }
    }
}
