//! ratings: how many stars each reviewer gives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use dojo_kit::{Identity, Kit, ServeArgs, StartError};
use serde_json::{Value, json};

/// The largest body of a POST, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// The most products whose ratings are kept.
const MAX_PRODUCTS: usize = 256;

/// The flags of ratings.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The version: `v1`.
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    pub version: String,
    /// What every service takes.
    #[command(flatten)]
    pub serve: ServeArgs,
}

impl Args {
    /// Serves until the process is told to stop.
    ///
    /// # Errors
    /// When the service cannot start.
    pub async fn run(self) -> Result<(), StartError> {
        let identity = Identity::new("ratings", &self.version);
        dojo_kit::run(identity, &self.serve, crate::PORT, |_: &Kit| router()).await
    }
}

/// Ratings that were posted, by product.
type Posted = Arc<Mutex<HashMap<i64, Value>>>;

/// The routes of ratings.
pub fn router() -> Router {
    Router::new()
        .route(
            "/health",
            get(|| async {
                crate::json_text(StatusCode::OK, r#"{"status":"Ratings is healthy"}"#)
            }),
        )
        .route("/ratings/{id}", get(show).post(keep))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Posted::default())
}

async fn show(State(posted): State<Posted>, Path(id): Path<String>) -> Response {
    let Some(id) = product(&id) else {
        return not_numeric();
    };
    let posted = posted.lock().unwrap_or_else(PoisonError::into_inner);
    let ratings = posted
        .get(&id)
        .cloned()
        .unwrap_or_else(|| json!({"Reviewer1": 5, "Reviewer2": 4}));
    axum::Json(json!({"id": id, "ratings": ratings})).into_response()
}

async fn keep(State(posted): State<Posted>, Path(id): Path<String>, body: Bytes) -> Response {
    let Some(id) = product(&id) else {
        return not_numeric();
    };
    let Ok(ratings) = serde_json::from_slice::<Value>(&body) else {
        return crate::json_text(
            StatusCode::BAD_REQUEST,
            r#"{"error":"please provide valid ratings JSON"}"#,
        );
    };
    let mut posted = posted.lock().unwrap_or_else(PoisonError::into_inner);
    if posted.len() >= MAX_PRODUCTS && !posted.contains_key(&id) {
        return crate::json_text(
            StatusCode::INSUFFICIENT_STORAGE,
            r#"{"error":"ratings of too many products are kept; restart the service to forget them"}"#,
        );
    }
    posted.insert(id, ratings.clone());
    axum::Json(json!({"id": id, "ratings": ratings})).into_response()
}

fn not_numeric() -> Response {
    crate::json_text(
        StatusCode::BAD_REQUEST,
        r#"{"error":"please provide numeric product ID"}"#,
    )
}

/// The product's number: leading digits count and the rest is ignored, as in the upstream service.
fn product(text: &str) -> Option<i64> {
    let text = text.trim_start();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = digits
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end]
        .parse::<i64>()
        .ok()
        .map(|number| sign * number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{get, post};

    #[tokio::test]
    async fn two_reviewers_and_their_stars() {
        let answer = get(router(), "/ratings/0").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.content_type, "application/json");
        assert_eq!(
            answer.body,
            r#"{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4}}"#
        );
    }

    #[tokio::test]
    async fn posted_ratings_are_kept_for_their_product() {
        let router = router();
        let body = r#"{"Reviewer1":1,"Reviewer2":"none"}"#;
        let answer = post(router.clone(), "/ratings/7", body).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, format!(r#"{{"id":7,"ratings":{body}}}"#));
        assert_eq!(get(router.clone(), "/ratings/7").await.body, answer.body);
        assert!(
            get(router, "/ratings/0")
                .await
                .body
                .contains(r#""Reviewer1":5"#)
        );
    }

    #[tokio::test]
    async fn what_is_not_a_number_or_not_json_is_refused() {
        let answer = get(router(), "/ratings/abc").await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (400, r#"{"error":"please provide numeric product ID"}"#)
        );
        let answer = post(router(), "/ratings/abc", "{}").await;
        assert_eq!(answer.status, 400);
        let answer = post(router(), "/ratings/0", "{").await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (400, r#"{"error":"please provide valid ratings JSON"}"#)
        );
    }

    #[tokio::test]
    async fn other_paths_are_empty_404s() {
        let answer = get(router(), "/else").await;
        assert_eq!((answer.status, answer.body.as_str()), (404, ""));
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let answer = post(router(), "/ratings/0", &"1".repeat(MAX_BODY + 1)).await;
        assert_eq!(answer.status, 413);
        let router = router();
        for id in 0..MAX_PRODUCTS {
            assert_eq!(
                post(router.clone(), &format!("/ratings/{id}"), "{}")
                    .await
                    .status,
                200
            );
        }
        assert_eq!(post(router.clone(), "/ratings/999", "{}").await.status, 507);
        assert_eq!(post(router, "/ratings/0", "{}").await.status, 200);
    }

    #[test]
    fn leading_digits_count() {
        assert_eq!(product("12"), Some(12));
        assert_eq!(product("12abc"), Some(12));
        assert_eq!(product("-3"), Some(-3));
        assert_eq!(product("abc"), None);
        assert_eq!(product(""), None);
        assert_eq!(product("99999999999999999999"), None);
    }
}
