//! The service: its routes, and the layer around them that writes answers down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, Version, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::any;
use dojo_kit::Kit;
use dojo_kit::chaos::Injected;
use dojo_kit::chaos::args::Switch;
use serde_json::Value;
use tokio::time::Instant;
use tower::ServiceExt as _;

use crate::call_tree::{self, CallTree};
use crate::cors::Cors;
use crate::go_text;
use crate::grpc;
use crate::load::Load;
use crate::rate_limit::RateLimit;
use crate::upstream::{Form, Upstreams};

const PAGE: &str = include_str!("ui.html");
/// The largest body of an injected error, in bytes: it is the kit's own, and small.
const MAX_INJECTED: usize = 64 * 1024;

/// What the service needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name in answers.
    pub name: String,
    /// The body of answers: a text or an object.
    pub message: Value,
    /// The addresses of the pod, in answers.
    pub ip_addresses: Vec<String>,
    /// Whose form answers have.
    pub form: Form,
    /// Which services are called.
    pub upstreams: Upstreams,
    /// Requests per second; 0: no limit.
    pub rate_limit: f64,
    /// The status of a request above that.
    pub rate_limit_code: StatusCode,
    /// The status of `/health`.
    pub health_code: StatusCode,
    /// When and how the service says that it is ready.
    pub ready: Ready,
    /// What requests cost.
    pub load: Load,
    /// Which pages of other sites may read answers.
    pub cors: Cors,
    /// The path of the web page, with a slash at both ends.
    pub ui_path: String,
    /// Whether a connection ends with its first answer.
    pub close_connections: bool,
}

/// When and how the service says that it is ready.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The status when ready.
    pub success: StatusCode,
    /// The status before.
    pub failure: StatusCode,
    /// How long after the start.
    pub delay: Duration,
    /// Whether other paths answer so, too.
    pub everywhere: bool,
}

struct Shared {
    config: Config,
    kit: Kit,
    rate_limit: RateLimit,
    health_code: AtomicU16,
    started: Instant,
    requests: AtomicU64,
}

type Simple = Arc<Shared>;

/// The whole service, with what surrounds every service. The web page and `/config` stand outside
/// of chaos, so that a broken service can be seen and repaired.
pub fn service(kit: &Kit, config: Config) -> Router {
    let simple = Arc::new(Shared {
        rate_limit: RateLimit::new(config.rate_limit),
        health_code: AtomicU16::new(config.health_code.as_u16()),
        started: Instant::now(),
        requests: AtomicU64::new(0),
        kit: kit.clone(),
        config,
    });
    let routes = Router::new()
        .route("/health", any(health))
        .route("/ready", any(ready))
        .fallback(handle)
        .with_state(simple.clone());
    let inner = dojo_kit::assemble(kit, routes)
        .layer(middleware::from_fn_with_state(simple.clone(), write_down));
    let ui = simple.config.ui_path.clone();
    let bare = ui.trim_end_matches('/').to_owned();
    let mut outer = Router::new()
        .route(&ui, any(|| async { Html(PAGE) }))
        .route(
            &bare,
            any(move || std::future::ready(Redirect::permanent(&ui))),
        );
    if kit.chaos_api == Switch::On {
        outer = outer
            .route("/config/error_rate/{rate}", any(set_error_rate))
            .route(
                "/config/health_check_response_code/{code}",
                any(set_health_code),
            );
    }
    let calls = grpc::routes(inner.clone());
    let either = move |request: Request| {
        let router = if grpc::is_call(request.headers()) {
            calls.clone()
        } else {
            inner.clone()
        };
        router.oneshot(request)
    };
    outer
        .with_state(simple)
        .fallback_service(tower::service_fn(either))
}

async fn health(State(simple): State<Simple>) -> Response {
    (code(simple.health_code.load(Ordering::Relaxed)), "OK").into_response()
}

/// A status that was checked when it was set.
fn code(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

async fn ready(State(simple): State<Simple>) -> Response {
    let ready = simple.config.ready;
    if simple.started.elapsed() < ready.delay {
        (ready.failure, "Starting Process").into_response()
    } else {
        (ready.success, "OK").into_response()
    }
}

/// Calls the upstreams; leaves the answer to be written down by [`write_down`].
async fn handle(State(simple): State<Simple>, uri: Uri, headers: HeaderMap) -> Response {
    let config = &simple.config;
    let path = clean(uri.path());
    let mut tree = new_tree(config, &uri);
    if config.form == Form::V018 {
        tree.set("path", path.clone());
    }
    tree.set("body", config.message.clone());
    let (calls, well) = config
        .upstreams
        .call(&simple.kit.client, &path, &headers)
        .await;
    tree.set(
        "upstream_calls",
        call_tree::calls(calls, config.form == Form::V018),
    );
    let status = if well {
        StatusCode::OK
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    };
    let mut response = status.into_response();
    response.extensions_mut().insert(tree);
    response
}

fn new_tree(config: &Config, uri: &Uri) -> CallTree {
    let asked = match uri.query() {
        Some(query) => format!("{}?{query}", clean(uri.path())),
        None => clean(uri.path()),
    };
    CallTree::new(&config.name, &asked, &config.ip_addresses)
}

/// A path without double slashes: an upstream call of this very service makes `//`.
fn clean(path: &str) -> String {
    let mut path = path.to_owned();
    while path.contains("//") {
        path = path.replace("//", "/");
    }
    path
}

/// The outermost layer: the rate limit, and answers as JSON.
async fn write_down(State(simple): State<Simple>, request: Request, next: Next) -> Response {
    let uri = request.uri().clone();
    if matches!(uri.path(), "/health" | "/ready" | "/metrics" | "/chaos") {
        return next.run(request).await;
    }
    let config = &simple.config;
    if config.ready.everywhere && simple.started.elapsed() < config.ready.delay {
        return ready(State(simple.clone())).await;
    }
    let method = request.method().clone();
    let keep = !config.close_connections || request.version() >= Version::HTTP_2;
    let preflight = Cors::is_preflight(&method, request.headers());
    let cors = config.cors.answer(request.headers(), preflight);
    if preflight {
        return (StatusCode::OK, cors).into_response();
    }
    tracing::info!("Handle inbound request: request={method} {uri}");
    let count = simple.requests.fetch_add(1, Ordering::Relaxed) + 1;
    let (start, started) = (go_text::now(), Instant::now());
    let mut response = if simple.rate_limit.admits() {
        config.load.during(next.run(request)).await
    } else {
        tracing::info!("Rate limiting service");
        let mut tree = new_tree(config, &uri);
        tree.set("error", "Service exceeded rate limit");
        tree.into_response(config.rate_limit_code)
    };
    let status = response.status();
    if let Some(Injected(kind)) = response.extensions().get::<Injected>().copied() {
        let rate = simple.kit.chaos.status().settings.error_rate;
        tracing::info!(
            "error_injector: Injecting error: request_count={count} error_percentage={rate} error_type={}",
            kind.name()
        );
        let mut tree = new_tree(config, &uri);
        tree.set("error", injected_text(response).await);
        response = tree.into_response(status);
    } else if let Some(mut tree) = response.extensions_mut().remove::<CallTree>() {
        let took = started.elapsed();
        tree.set_times(start, took);
        tracing::info!(
            "Finished handling request: duration={}",
            go_text::duration(took)
        );
        // The headers that inner layers set stay; only the body and its type are new.
        let written = tree.into_response(status);
        let (mut parts, _) = response.into_parts();
        let (new_parts, body) = written.into_parts();
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.extend(new_parts.headers);
        response = Response::from_parts(parts, body);
    }
    let headers = response.headers_mut();
    if !keep {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    headers.extend(cors);
    response
}

/// What the kit says about an error that it injected.
async fn injected_text(response: Response) -> String {
    let body = to_bytes(response.into_body(), MAX_INJECTED)
        .await
        .unwrap_or_default();
    serde_json::from_slice::<Value>(&body)
        .ok()
        .and_then(|body| body["error"].as_str().map(str::to_owned))
        .unwrap_or_else(|| "Service error automatically injected".to_owned())
}

async fn set_error_rate(
    State(simple): State<Simple>,
    Path(rate): Path<String>,
    headers: HeaderMap,
) -> Response {
    if !same_site(&headers) {
        return foreign();
    }
    let Ok(error_rate) = rate.parse() else {
        return (
            StatusCode::BAD_REQUEST,
            format!("`{rate}` is not a number\n"),
        )
            .into_response();
    };
    let mut settings = simple.kit.chaos.status().settings;
    settings.error_rate = error_rate;
    if let Err(invalid) = settings.validate() {
        return (StatusCode::BAD_REQUEST, format!("{invalid}\n")).into_response();
    }
    simple.kit.chaos.set(settings);
    "OK".into_response()
}

async fn set_health_code(
    State(simple): State<Simple>,
    Path(code): Path<String>,
    headers: HeaderMap,
) -> Response {
    if !same_site(&headers) {
        return foreign();
    }
    match code.parse() {
        Ok(code @ 200..=599) => {
            simple.health_code.store(code, Ordering::Relaxed);
            "OK".into_response()
        }
        _ => (
            StatusCode::BAD_REQUEST,
            format!("`{code}` is not a status from 200 to 599\n"),
        )
            .into_response(),
    }
}

/// Whether a request is not one that a browser sends from a page of another site. The addresses of
/// `/config` change the service, and even an image can ask for them.
fn same_site(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let from_here =
        text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    let origin_is_host = text("origin").is_none_or(|origin| {
        origin.split_once("://").map(|(_, authority)| authority) == text("host")
    });
    from_here && origin_is_host
}

fn foreign() -> Response {
    (
        StatusCode::FORBIDDEN,
        "a page of another site may not change this service; use curl\n",
    )
        .into_response()
}
