//! details: facts about the book. v1 knows them itself; v2 has them from a book service: one that
//! a variable names, else a record of its own, so that no lab needs the Internet.

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use dojo_kit::chaos::settings::Settings;
use dojo_kit::{Identity, Kit, ServeArgs, client, propagation};
use serde_json::{Value, json};

use crate::book_service;

/// How long the book service may take.
const LIMIT: Duration = Duration::from_secs(5);
/// The book that v2 asks for.
const ISBN: &str = "0486424618";

/// The flags of details.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The version, for information: in logs and metrics.
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    pub version: String,
    /// `true`: have the facts from a book service, as v2 does.
    #[arg(
        long,
        env = "ENABLE_EXTERNAL_BOOK_SERVICE",
        value_name = "true|false",
        default_value = "false"
    )]
    pub enable_external_book_service: String,
    /// The book service, http://HOST[:PORT]. Empty: a record within details, and no call.
    #[arg(long, env = "BOOK_SERVICE_URL", value_name = "URL", default_value = "")]
    pub book_service_url: String,
    /// Whether an address without a scheme means plain HTTP, which is all that can be asked:
    /// encryption is the mesh's work.
    #[arg(
        long,
        env = "DO_NOT_ENCRYPT",
        value_name = "true|false",
        default_value = "true"
    )]
    pub do_not_encrypt: String,
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
        let identity = Identity::new("details", &self.version);
        let source = self.source()?;
        let own = Settings::default();
        dojo_kit::run(identity, &self.serve, crate::PORT, own, |kit| {
            tracing::info!("facts come from {source:?}");
            router(kit, source)
        })
        .await?;
        Ok(())
    }

    /// Where the facts come from.
    ///
    /// # Errors
    /// When the address of the book service is none.
    pub fn source(&self) -> anyhow::Result<Source> {
        // Only the exact word, as in the upstream service.
        if self.enable_external_book_service != "true" {
            return Ok(Source::Own);
        }
        let text = self.book_service_url.trim_end_matches('/');
        if text.is_empty() {
            return Ok(Source::Record);
        }
        let url = if text.contains("://") {
            text.to_owned()
        } else {
            let scheme = if self.do_not_encrypt == "false" {
                "https"
            } else {
                "http"
            };
            format!("{scheme}://{text}")
        };
        match reqwest::Url::parse(&url) {
            Ok(parsed) if parsed.scheme() == "http" && parsed.has_host() => {
                Ok(Source::BookService(url))
            }
            _ => anyhow::bail!(
                "BOOK_SERVICE_URL: `{text}` is not an address like http://book-service:8080; for TLS let the mesh originate it"
            ),
        }
    }
}

/// Where the facts come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// v1: this program.
    Own,
    /// v2 without an address: the record that [`book_service`] serves, read here.
    Record,
    /// v2: the book service at this address.
    BookService(String),
}

/// The routes of details.
pub fn router(kit: &Kit, source: Source) -> Router {
    let bare = |state, headers| details(state, Path(String::new()), headers);
    Router::new()
        .route(
            "/health",
            get(|| async {
                crate::json_text(StatusCode::OK, r#"{"status":"Details is healthy"}"#)
            }),
        )
        .route("/details", get(bare))
        .route("/details/{*rest}", get(details))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .with_state((kit.clone(), source))
}

async fn details(
    State((kit, source)): State<(Kit, Source)>,
    Path(rest): Path<String>,
    headers: HeaderMap,
) -> Response {
    // Whatever lies between is ignored, as in the upstream service.
    let last = rest.rsplit('/').next().unwrap_or_default();
    let Ok(id) = last.parse::<i64>() else {
        return crate::json_text(
            StatusCode::BAD_REQUEST,
            r#"{"error":"please provide numeric product id"}"#,
        );
    };
    let book = match source {
        Source::Own => Ok(own(id)),
        Source::Record => book(id, &book_service::record(ISBN)),
        Source::BookService(url) => ask(&kit, &url, &headers)
            .await
            .and_then(|answer| book(id, &answer)),
    };
    match book {
        Ok(book) => axum::Json(book).into_response(),
        Err(error) => {
            tracing::warn!("book service: {error}");
            (StatusCode::BAD_REQUEST, axum::Json(json!({"error": error}))).into_response()
        }
    }
}

fn own(id: i64) -> Value {
    json!({
        "id": id,
        "author": "William Shakespeare",
        "year": 1595,
        "type": "paperback",
        "pages": 200,
        "publisher": "PublisherA",
        "language": "English",
        "ISBN-10": "1234567890",
        "ISBN-13": "123-1234567890",
    })
}

async fn ask(kit: &Kit, url: &str, incoming: &HeaderMap) -> Result<Value, String> {
    let url = format!("{url}{}?q=isbn:{ISBN}", book_service::PATH);
    let lists = &[propagation::TRACE_HEADERS, crate::reviews::PASSED_ON];
    let headers = propagation::propagated(incoming, lists);
    let answer = client::get(&kit.client, &url, headers, LIMIT)
        .await
        .map_err(|error| error.to_string())?;
    serde_json::from_slice(&answer.body).map_err(|error| {
        let status = answer.status.as_u16();
        format!("the answer (status {status}) is not JSON: {error}")
    })
}

/// The facts in the first book of a book service's answer.
fn book(id: i64, answer: &Value) -> Result<Value, String> {
    let volume = answer.pointer("/items/0/volumeInfo");
    let volume = volume.ok_or_else(|| format!("no book with ISBN {ISBN}"))?;
    let identifier = |kind: &str| {
        let all = volume["industryIdentifiers"].as_array();
        let found = all.into_iter().flatten().find(|one| one["type"] == kind);
        found.map_or(Value::Null, |one| one["identifier"].clone())
    };
    let or_unknown = |field: &str, value: &str, word: &str| {
        if volume[field] == value {
            word.to_owned()
        } else {
            "unknown".to_owned()
        }
    };
    Ok(json!({
        "id": id,
        "author": volume["authors"][0],
        "year": volume["publishedDate"],
        "type": or_unknown("printType", "BOOK", "paperback"),
        "pages": volume["pageCount"],
        "publisher": volume["publisher"],
        "language": or_unknown("language", "en", "English"),
        "ISBN-10": identifier("ISBN_10"),
        "ISBN-13": identifier("ISBN_13"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{get, kit, serve, silence};

    fn router() -> Router {
        from(Source::Own)
    }

    fn from(source: Source) -> Router {
        super::router(&kit("details", None), source)
    }

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

    /// What v2 says of a record that is not wrong in any way.
    const BOOK: &str = r#"{"id":0,"author":"William Shakespeare","year":"2002-06-14","type":"paperback","pages":96,"publisher":"Courier Corporation","language":"English","ISBN-10":"0486424618","ISBN-13":"9780486424613"}"#;

    #[tokio::test]
    async fn v2_has_the_book_from_its_record_or_a_book_service() {
        assert_eq!(get(from(Source::Record), "/details/0").await.body, BOOK);
        let shop = serve(book_service::router()).await;
        let source = Source::BookService(format!("http://127.0.0.1:{shop}"));
        assert_eq!(get(from(source), "/details/0").await.body, BOOK);
    }

    #[tokio::test]
    async fn a_book_service_that_fails_is_a_400_with_an_error() {
        let failing = async |port: u16| {
            let source = Source::BookService(format!("http://127.0.0.1:{port}"));
            let answer = get(from(source), "/details/0").await;
            assert_eq!(answer.status, 400, "{}", answer.body);
            answer.body
        };
        let garbage = serve(Router::new().fallback(|| async { "<html>" })).await;
        assert!(failing(garbage).await.contains("is not JSON"));
        let none = serve(Router::new().fallback(|| async { "{\"totalItems\":0}" })).await;
        assert!(failing(none).await.contains("no book with ISBN 0486424618"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_book_service_that_hangs_is_waited_for_five_seconds() {
        let source = Source::BookService(format!("http://127.0.0.1:{}", silence().await));
        let started = tokio::time::Instant::now();
        let answer = get(from(source), "/details/0").await;
        assert_eq!(answer.body, r#"{"error":"no answer within 5 s"}"#);
        assert_eq!(started.elapsed(), LIMIT);
    }

    #[test]
    fn only_the_exact_word_switches_the_book_service_on() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            args: Args,
        }
        let source = |flags: &str| {
            let line = std::iter::once("details").chain(flags.split_whitespace());
            let cli = <Cli as clap::Parser>::parse_from(line);
            cli.args.source().map_err(|error| error.to_string())
        };
        assert_eq!(source(""), Ok(Source::Own));
        assert_eq!(
            source("--enable-external-book-service TRUE"),
            Ok(Source::Own)
        );
        let on = "--enable-external-book-service true";
        assert_eq!(source(on), Ok(Source::Record));
        let at = |url: &str| source(&format!("{on} --book-service-url {url}"));
        assert_eq!(
            at("books:8080/"),
            Ok(Source::BookService("http://books:8080".into()))
        );
        let error = at("https://books").expect_err("TLS");
        assert!(error.contains("let the mesh originate it"), "{error}");
    }
}
