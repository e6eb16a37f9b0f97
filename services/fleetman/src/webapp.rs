//! webapp: the page with the map, and the way to the gateway for its questions.
//!
//! It behaves as a web server with a reverse proxy in front of the gateway: `/api/...` goes there
//! with the prefix taken off, files are files, and everything else is the page. Script and styles
//! are inside the page, because under routing by prefix a second request would go to another
//! version.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use bytes::Bytes;
use dojo_kit::chaos::settings::Settings;
use dojo_kit::{Identity, Kit, ServeArgs, StartError};

use crate::upstream::Upstream;

mod page;
mod proxy;

/// The flags of webapp.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The version: original, or experimental with another name and colour.
    #[arg(long, env = "SERVICE_VERSION", value_enum, default_value_t = Edition::Original)]
    pub version: Edition,
    /// The address of api-gateway.
    #[arg(
        long,
        env = "API_GATEWAY_URL",
        default_value = "http://fleetman-api-gateway:8080"
    )]
    pub api_gateway: Upstream,
    /// What every service takes.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// The editions of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Edition {
    /// "Fleet Management", dark.
    Original,
    /// "Fleet Management Istio Premium Enterprise Edition", red.
    Experimental,
}

impl Edition {
    fn name(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Experimental => "experimental",
        }
    }
}

impl Args {
    /// Serves until the process is told to stop.
    ///
    /// # Errors
    /// When the service cannot start.
    pub async fn run(self) -> Result<(), StartError> {
        let identity = Identity::new("webapp", self.version.name());
        dojo_kit::run(
            identity,
            &self.serve,
            crate::PORT,
            Settings::default(),
            |kit: &Kit| {
                tracing::info!(api_gateway = %self.api_gateway, "configuration");
                router(kit, self.version, self.api_gateway)
            },
        )
        .await
    }
}

struct Webapp {
    client: reqwest::Client,
    api_gateway: Upstream,
    page: Bytes,
}

/// The routes of webapp.
pub fn router(kit: &Kit, edition: Edition, api_gateway: Upstream) -> Router {
    Router::new().fallback(answer).with_state(Arc::new(Webapp {
        client: kit.client.clone(),
        api_gateway,
        page: page::render(edition).into(),
    }))
}

async fn answer(State(webapp): State<Arc<Webapp>>, request: Request) -> Response {
    let path = request.uri().path();
    if path.starts_with("/api/") {
        return proxy::forward(&webapp.client, &webapp.api_gateway, request).await;
    }
    if path == "/health" {
        return "Webapp is healthy".into_response();
    }
    if let Some(photo) = page::photo(path) {
        let headers = [
            (header::CONTENT_TYPE, "image/svg+xml"),
            (header::CACHE_CONTROL, "public, max-age=3600"),
        ];
        return (headers, photo).into_response();
    }
    if !matches!(request.method().as_str(), "GET" | "HEAD") {
        return error_page(StatusCode::METHOD_NOT_ALLOWED);
    }
    // Which version a mesh gives next must show: a browser must not keep this one.
    let no_store = HeaderValue::from_static("no-cache, no-store, must-revalidate");
    let headers = [(header::CACHE_CONTROL, no_store)];
    (headers, Html(webapp.page.clone())).into_response()
}

/// The page of an error that is the web server's own.
fn error_page(status: StatusCode) -> Response {
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{status}</title></head>\n<body><h1>{status}</h1></body>\n</html>\n"
    );
    (status, Html(page)).into_response()
}

#[cfg(test)]
mod tests;
