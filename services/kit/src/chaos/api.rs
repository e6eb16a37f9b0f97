//! `/chaos`: seeing and changing chaos while the service runs.
//!
//! `GET` shows it, `PUT` replaces it with the JSON of [`Settings`], `DELETE` ends it. A page in a
//! browser must not be able to break a student's services, so a change is refused when a browser
//! sends it from another site: the content type must be `application/json` (which a form cannot
//! send), and an `Origin` must be the service itself, under an address and not under a name that
//! somebody's DNS could point here.

use std::net::IpAddr;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::Chaos;
use super::settings::Settings;

/// The largest body of a PUT, in bytes.
const MAX_BODY: usize = 16 * 1024;

/// The routes of `/chaos`.
pub fn router<S: Clone + Send + Sync + 'static>(chaos: Chaos) -> Router<S> {
    Router::new()
        .route("/chaos", get(show).put(change).delete(end))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(chaos)
}

async fn show(State(chaos): State<Chaos>) -> Response {
    Json(chaos.status()).into_response()
}

async fn change(State(chaos): State<Chaos>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refused) = refusal(&headers) {
        return refused;
    }
    let json_given = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            value.split(';').next().unwrap_or_default().trim() == "application/json"
        });
    if !json_given {
        return problem(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send the settings with the header Content-Type: application/json",
        );
    }
    let settings: Settings = match serde_json::from_slice(&body) {
        Ok(settings) => settings,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    if let Err(error) = settings.validate() {
        return problem(StatusCode::BAD_REQUEST, &error.to_string());
    }
    chaos.set(settings);
    show(State(chaos)).await
}

async fn end(State(chaos): State<Chaos>, headers: HeaderMap) -> Response {
    if let Some(refused) = refusal(&headers) {
        return refused;
    }
    chaos.set(Settings::default());
    show(State(chaos)).await
}

/// The answer to what a browser sends from a page of another site.
fn refusal(headers: &HeaderMap) -> Option<Response> {
    let origin = headers.get(ORIGIN)?;
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let same = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"))
        .is_some_and(|(_, authority)| authority == host);
    if same && is_address(host) {
        return None;
    }
    Some(problem(
        StatusCode::FORBIDDEN,
        "a page of another site may not change chaos; use curl, or open the service by its IP address",
    ))
}

/// Whether a host (with or without a port) is an IP address or `localhost`.
fn is_address(host: &str) -> bool {
    let Ok(authority) = host.parse::<http::uri::Authority>() else {
        return false;
    };
    let name = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok()
}

fn problem(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({"error": text}))).into_response()
}
