//! productpage: the bookstore's web page, and a small JSON API.
//!
//! A page is built from details and reviews, asked one after the other. Their failures become
//! sections of the page that say so; the page itself is always 200.

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Form, OriginalUri, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use dojo_kit::chaos::settings::Settings;
use dojo_kit::{Identity, Kit, ServeArgs, StartError};
use futures::StreamExt as _;

use crate::upstream::Upstream;
use calls::{App, Part};

mod calls;
mod page;
mod session;
mod spaced_json;

/// The largest form that a login may post, in bytes.
const MAX_FORM: usize = 16 * 1024;
/// How many of a flood's calls are under way at a time.
const FLOOD_WIDTH: usize = 50;

/// The flags of productpage.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The version, for information: in logs and metrics.
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    pub version: String,
    /// The host name of details.
    #[arg(long, env = "DETAILS_HOSTNAME", default_value = "details")]
    pub details_hostname: String,
    /// The port of details.
    #[arg(long, env = "DETAILS_SERVICE_PORT", default_value_t = crate::PORT)]
    pub details_port: u16,
    /// The host name of reviews.
    #[arg(long, env = "REVIEWS_HOSTNAME", default_value = "reviews")]
    pub reviews_hostname: String,
    /// The port of reviews.
    #[arg(long, env = "REVIEWS_SERVICE_PORT", default_value_t = crate::PORT)]
    pub reviews_port: u16,
    /// The host name of ratings.
    #[arg(long, env = "RATINGS_HOSTNAME", default_value = "ratings")]
    pub ratings_hostname: String,
    /// The port of ratings.
    #[arg(long, env = "RATINGS_SERVICE_PORT", default_value_t = crate::PORT)]
    pub ratings_port: u16,
    /// Appended to the host names of the other services, after a dot.
    #[arg(long, env = "SERVICES_DOMAIN")]
    pub services_domain: Option<String>,
    /// How many extra calls to reviews each view of the page makes first.
    #[arg(long, env = "FLOOD_FACTOR", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub flood_factor: u16,
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
        let identity = Identity::new("productpage", &self.version);
        let config = self.config();
        dojo_kit::run(
            identity,
            &self.serve,
            crate::PORT,
            Settings::default(),
            |kit: &Kit| router(kit, config),
        )
        .await
    }

    /// Where the services are that the page is made from.
    #[must_use]
    pub fn config(&self) -> Config {
        let upstream =
            |host: &str, port| Upstream::new(host, port, self.services_domain.as_deref());
        Config {
            details: upstream(&self.details_hostname, self.details_port),
            reviews: upstream(&self.reviews_hostname, self.reviews_port),
            ratings: upstream(&self.ratings_hostname, self.ratings_port),
            flood_factor: self.flood_factor.into(),
        }
    }
}

/// What productpage needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    details: Upstream,
    reviews: Upstream,
    ratings: Upstream,
    flood_factor: usize,
}

#[derive(Clone)]
struct Productpage {
    kit: Kit,
    config: Config,
}

/// The routes of productpage.
pub fn router(kit: &Kit, config: Config) -> Router {
    Router::new()
        .route("/", get(landing))
        .route("/index.html", get(landing))
        .route("/health", get(|| async { "Product page is healthy" }))
        .route("/productpage", get(productpage))
        .route("/login", post(login))
        .route("/logout", get(logout))
        .route(
            "/api/v1/products",
            get(|| async { spaced_json::response(StatusCode::OK, &page::products()) }),
        )
        .route("/api/v1/products/{id}", get(product))
        .route("/api/v1/products/{id}/reviews", get(product_reviews))
        .route("/api/v1/products/{id}/ratings", get(product_ratings))
        .route(
            "/static/bookinfo.css",
            get(|| async { asset("text/css; charset=utf-8", page::STYLE) }),
        )
        .route(
            "/static/bookinfo.svg",
            get(|| async { asset("image/svg+xml", page::ICON) }),
        )
        .route(
            "/static/cover.svg",
            get(|| async { asset("image/svg+xml", page::COVER) }),
        )
        .fallback(|| async { (StatusCode::NOT_FOUND, Html(page::not_found())) })
        .layer(DefaultBodyLimit::max(MAX_FORM))
        .with_state(Productpage {
            kit: kit.clone(),
            config,
        })
}

async fn landing(State(service): State<Productpage>) -> Html<String> {
    Html(page::landing(&service.config))
}

async fn productpage(State(service): State<Productpage>, incoming: HeaderMap) -> Response {
    let user = session::user(&incoming);
    let headers = calls::forwarded(&incoming, user.as_deref());
    if service.config.flood_factor > 0 {
        flood(&service, &headers).await;
    }
    // One after the other, as in the upstream service: labs add the times up.
    let details = service.ask(App::Details, "0", &headers).await;
    let reviews = service.ask_reviews("0", &headers).await;
    let html = page::productpage(&page::View {
        user: user.as_deref(),
        pod: service.kit.identity.pod.as_deref(),
        version: &service.kit.identity.version,
        details: &details,
        reviews: &reviews,
    });
    // What a mesh does to the next view must show: a browser must not keep this one.
    ([(header::CACHE_CONTROL, "no-store")], Html(html)).into_response()
}

/// Many calls to reviews, whose answers are thrown away.
async fn flood(service: &Productpage, headers: &HeaderMap) {
    futures::stream::iter(0..service.config.flood_factor)
        .map(|_| service.ask(App::Reviews, "0", headers))
        .buffer_unordered(FLOOD_WIDTH)
        .for_each(|_| async {})
        .await;
}

#[derive(serde::Deserialize)]
struct Login {
    #[serde(default)]
    username: String,
}

async fn login(incoming: HeaderMap, Form(form): Form<Login>) -> Response {
    redirect_back(&incoming, &session::cookie(&form.username))
}

async fn logout(incoming: HeaderMap) -> Response {
    redirect_back(&incoming, session::EXPIRED_COOKIE)
}

/// 302 to where the user came from.
fn redirect_back(incoming: &HeaderMap, cookie: &str) -> Response {
    let target = incoming
        .get(header::REFERER)
        .cloned()
        .unwrap_or(HeaderValue::from_static("/productpage"));
    let mut response = (StatusCode::FOUND, [(header::LOCATION, target)]).into_response();
    // A cookie of ours is made of base64 and a few ASCII signs.
    if let Ok(cookie) = cookie.parse() {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

async fn product(
    State(service): State<Productpage>,
    OriginalUri(uri): OriginalUri,
    incoming: HeaderMap,
) -> Response {
    let headers = calls::forwarded(&incoming, session::user(&incoming).as_deref());
    json_part(
        &service
            .ask(App::Details, raw_id(uri.path()), &headers)
            .await,
    )
}

async fn product_reviews(
    State(service): State<Productpage>,
    OriginalUri(uri): OriginalUri,
    incoming: HeaderMap,
) -> Response {
    let headers = calls::forwarded(&incoming, session::user(&incoming).as_deref());
    json_part(&service.ask_reviews(raw_id(uri.path()), &headers).await)
}

async fn product_ratings(
    State(service): State<Productpage>,
    OriginalUri(uri): OriginalUri,
    incoming: HeaderMap,
) -> Response {
    let headers = calls::forwarded(&incoming, session::user(&incoming).as_deref());
    json_part(
        &service
            .ask(App::Ratings, raw_id(uri.path()), &headers)
            .await,
    )
}

/// The id as the client wrote it, still percent-encoded: it goes into the upstream path as it is.
fn raw_id(path: &str) -> &str {
    path.split('/').nth(4).unwrap_or_default()
}

fn json_part(part: &Part) -> Response {
    spaced_json::response(part.status, &part.body)
}

fn asset(content_type: &'static str, text: &'static str) -> Response {
    (
        [
            (header::CONTENT_TYPE, content_type),
            (header::CACHE_CONTROL, "public, max-age=3600"),
        ],
        text,
    )
        .into_response()
}

/// The longest that one call to another service may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
