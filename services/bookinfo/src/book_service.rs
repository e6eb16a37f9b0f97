//! Stands in for the book service on the Internet that details v2 asks, with the one book that it
//! asks for. A lab about ways out of the mesh runs it outside, under whatever name it likes.

use axum::Router;
use axum::extract::Query;
use axum::routing::get;
use dojo_kit::chaos::settings::Settings;
use dojo_kit::{Identity, Kit, ServeArgs, StartError};
use serde::Deserialize;
use serde_json::{Value, json};

/// The address of its books.
pub const PATH: &str = "/books/v1/volumes";
const PORT: u16 = 8080;

/// The flags of the book service.
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
        let identity = Identity::new("book-service", &self.version);
        let chaos = Settings::default();
        dojo_kit::run(identity, &self.serve, PORT, chaos, |_: &Kit| router()).await
    }
}

#[derive(Deserialize)]
struct Question {
    #[serde(default)]
    q: String,
}

/// The routes of the book service.
pub fn router() -> Router {
    let volumes = |Query(question): Query<Question>| async move {
        axum::Json(record(question.q.trim_start_matches("isbn:")))
    };
    Router::new()
        .route(PATH, get(volumes))
        .route("/health", get(|| async { "OK" }))
}

/// The books with this ISBN: one, or none.
pub(crate) fn record(isbn: &str) -> Value {
    if !matches!(isbn, "0486424618" | "9780486424613") {
        return json!({"kind": "books#volumes", "totalItems": 0});
    }
    json!({
        "kind": "books#volumes",
        "totalItems": 1,
        "items": [{"kind": "books#volume", "volumeInfo": {
            "title": "The Comedy of Errors",
            "authors": ["William Shakespeare"],
            "publisher": "Courier Corporation",
            "publishedDate": "2002-06-14",
            "industryIdentifiers": [
                {"type": "ISBN_10", "identifier": "0486424618"},
                {"type": "ISBN_13", "identifier": "9780486424613"},
            ],
            "pageCount": 96,
            "printType": "BOOK",
            "language": "en",
        }}],
    })
}
