//! details: facts about the book.

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use dojo_kit::chaos::settings::Settings;
use dojo_kit::{Identity, Kit, ServeArgs, StartError};
use serde_json::json;

/// The flags of details.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The version, for information: in logs and metrics.
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
        let identity = Identity::new("details", &self.version);
        dojo_kit::run(
            identity,
            &self.serve,
            crate::PORT,
            Settings::default(),
            |_: &Kit| router(),
        )
        .await
    }
}

/// The routes of details.
pub fn router() -> Router {
    Router::new()
        .route(
            "/health",
            get(|| async {
                crate::json_text(StatusCode::OK, r#"{"status":"Details is healthy"}"#)
            }),
        )
        .route("/details", get(|| details(Path(String::new()))))
        .route("/details/{*rest}", get(details))
        .fallback(|| async { StatusCode::NOT_FOUND })
}

async fn details(Path(rest): Path<String>) -> Response {
    // Whatever lies between is ignored, as in the upstream service.
    let last = rest.rsplit('/').next().unwrap_or_default();
    let Ok(id) = last.parse::<i64>() else {
        return crate::json_text(
            StatusCode::BAD_REQUEST,
            r#"{"error":"please provide numeric product id"}"#,
        );
    };
    axum::Json(json!({
        "id": id,
        "author": "William Shakespeare",
        "year": 1595,
        "type": "paperback",
        "pages": 200,
        "publisher": "PublisherA",
        "language": "English",
        "ISBN-10": "1234567890",
        "ISBN-13": "123-1234567890",
    }))
    .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::get;

    #[tokio::test]
    async fn the_book_is_described_field_by_field_in_order() {
        let answer = get(router(), "/details/0").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.content_type, "application/json");
        assert_eq!(
            answer.body,
            r#"{"id":0,"author":"William Shakespeare","year":1595,"type":"paperback","pages":200,"publisher":"PublisherA","language":"English","ISBN-10":"1234567890","ISBN-13":"123-1234567890"}"#
        );
    }

    #[tokio::test]
    async fn only_the_last_segment_of_the_path_counts() {
        let answer = get(router(), "/details/some/where/7").await;
        assert!(answer.body.starts_with(r#"{"id":7,"#), "{}", answer.body);
    }

    #[tokio::test]
    async fn an_id_must_be_a_number() {
        for path in ["/details/abc", "/details", "/details/1/x"] {
            let answer = get(router(), path).await;
            assert_eq!(answer.status, 400, "{path}");
            assert_eq!(
                answer.body,
                r#"{"error":"please provide numeric product id"}"#
            );
        }
    }

    #[tokio::test]
    async fn health_and_unknown_paths() {
        let answer = get(router(), "/health").await;
        assert_eq!(answer.body, r#"{"status":"Details is healthy"}"#);
        assert_eq!(get(router(), "/").await.status, 404);
    }
}
