//! ratings: how many stars each reviewer gives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use dojo_kit::chaos::settings::{ErrorType, Settings};
use dojo_kit::{Identity, Kit, ServeArgs};
use serde_json::{Value, json};

use database::{Database, DatabaseArgs};

pub mod database;
pub mod stand_in;

/// The largest body of a POST, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// The most products whose ratings are kept.
const MAX_PRODUCTS: usize = 256;

/// The flags of ratings.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The version: v1; v2, which has its ratings from a database; or one that fails in its own
    /// way: v-faulty, v-delayed, v-unavailable, v-unhealthy.
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    pub version: String,
    /// The database of v2.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// What every service takes.
    #[command(flatten)]
    pub serve: ServeArgs,
}

impl Args {
    /// Serves until the process is told to stop.
    ///
    /// # Errors
    /// When the service cannot start.
    pub async fn run(self) -> anyhow::Result<()> {
        let identity = Identity::new("ratings", &self.version);
        let chaos = chaos_of(&self.version);
        let source = dojo_kit::listen::container_address()?;
        let database = self.database.database(source)?;
        dojo_kit::run(identity, &self.serve, crate::PORT, chaos, |kit| {
            if self.version == WITH_DATABASE {
                tracing::info!("ratings come from {database}");
                return from_database(kit, database);
            }
            if !database.is_embedded() {
                tracing::warn!("only {WITH_DATABASE} asks a database; {database} is not asked");
            }
            router(kit)
        })
        .await?;
        Ok(())
    }
}

/// The version that has its ratings from a database.
const WITH_DATABASE: &str = "v2";

/// The version that admits in `/health` that it fails.
const UNHEALTHY: &str = "v-unhealthy";

/// The chaos that makes a version what it is. Flags and variables can change its rates and times.
fn chaos_of(version: &str) -> Settings {
    let of_get = Settings {
        method: Some("GET".into()),
        path: Some("/ratings/*".into()),
        error_code: 503,
        error_message: Some("Service unavailable".into()),
        ..Settings::default()
    };
    match version {
        "v-faulty" => Settings {
            error_rate: 0.5,
            ..of_get
        },
        "v-delayed" => Settings {
            error_rate: 0.5,
            error_type: ErrorType::Delay,
            error_delay: Duration::from_secs(7),
            // After the wait it answers as if nothing had been.
            error_code: 200,
            ..of_get
        },
        "v-unavailable" => Settings {
            error_rate: 1.0,
            alternate: Some(Duration::from_secs(60)),
            ..of_get
        },
        UNHEALTHY => Settings {
            error_rate: 1.0,
            alternate: Some(Duration::from_secs(15 * 60)),
            ..of_get
        },
        _ => Settings::default(),
    }
}

/// Ratings that were posted, by product.
type Posted = Arc<Mutex<HashMap<i64, Value>>>;

/// The routes of ratings.
pub fn router(kit: &Kit) -> Router {
    Router::new()
        .route("/health", get(health).with_state(kit.clone()))
        .route("/ratings/{id}", get(show).post(keep))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Posted::default())
}

/// The routes of the version that has its ratings from a database.
pub fn from_database(kit: &Kit, database: Database) -> Router {
    let show = |State(database): State<Arc<Database>>, Path(id): Path<String>| async move {
        let Some(id) = product(&id) else {
            return not_numeric();
        };
        match database.stars().await {
            Ok([first, second]) => {
                axum::Json(json!({"id": id, "ratings": {"Reviewer1": first, "Reviewer2": second}}))
                    .into_response()
            }
            Err(failure) => failure.into_response(),
        }
    };
    let keep = |Path(id): Path<String>| async move {
        match product(&id) {
            Some(_) => crate::json_text(
                StatusCode::NOT_IMPLEMENTED,
                r#"{"error":"Post not implemented for database backed ratings"}"#,
            ),
            None => not_numeric(),
        }
    };
    Router::new()
        .route("/health", get(health).with_state(kit.clone()))
        .route("/ratings/{id}", get(show).post(keep))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Arc::new(database))
}

async fn health(State(kit): State<Kit>) -> Response {
    if kit.identity.version == UNHEALTHY && kit.chaos.in_force() {
        crate::json_text(
            StatusCode::INTERNAL_SERVER_ERROR,
            r#"{"status":"Ratings is not healthy"}"#,
        )
    } else {
        crate::json_text(StatusCode::OK, r#"{"status":"Ratings is healthy"}"#)
    }
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
    use crate::testing::{get, kit, post};

    fn router() -> Router {
        super::router(&kit("ratings", None))
    }

    /// The whole service, as it runs in this version.
    fn version(version: &str, seed: u64) -> Router {
        let mut kit = kit("ratings", None);
        kit.identity.version = version.to_owned();
        let kit = kit.with_chaos(Settings {
            seed: Some(seed),
            ..chaos_of(version)
        });
        dojo_kit::assemble(&kit, super::router(&kit))
    }

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

    #[tokio::test]
    async fn v_faulty_fails_about_every_second_time() {
        let router = version("v-faulty", 1);
        let mut failed = 0;
        for _ in 0..200 {
            let answer = get(router.clone(), "/ratings/0").await;
            if answer.status == 503 {
                assert_eq!(answer.body, r#"{"error":"Service unavailable"}"#);
                failed += 1;
            }
        }
        assert!((65..=135).contains(&failed), "{failed}");
        assert_eq!(post(router, "/ratings/0", "{}").await.status, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn v_delayed_takes_seven_seconds_about_every_second_time() {
        let router = version("v-delayed", 1);
        let mut slow = 0;
        for _ in 0..200 {
            let started = tokio::time::Instant::now();
            assert_eq!(get(router.clone(), "/ratings/0").await.status, 200);
            match started.elapsed().as_secs() {
                0 => {}
                7 => slow += 1,
                other => panic!("{other} s"),
            }
        }
        assert!((65..=135).contains(&slow), "{slow}");
    }

    #[tokio::test(start_paused = true)]
    async fn v_unavailable_and_v_unhealthy_take_turns() {
        for (name, period, health) in [("v-unavailable", 60, 200), ("v-unhealthy", 900, 500)] {
            let router = version(name, 1);
            for (status, health) in [(200, 200), (503, health), (200, 200)] {
                assert_eq!(get(router.clone(), "/ratings/0").await.status, status);
                let answer = get(router.clone(), "/health").await;
                assert_eq!(answer.status, health);
                let text = if health == 200 {
                    "Ratings is healthy"
                } else {
                    "Ratings is not healthy"
                };
                assert_eq!(answer.body, format!(r#"{{"status":"{text}"}}"#));
                tokio::time::advance(Duration::from_secs(period)).await;
            }
        }
    }
}
