//! httpbin: answers that say what was asked, and answers on demand.
//!
//! Two well-known programs carry this name and differ in their JSON: in the Python one a header is
//! a text, in the Go one a list of texts. This service has both styles.
//!
//! | module | question it answers |
//! | --- | --- |
//! | [`asked`] | what was asked, in JSON? (`/get`, `/post`, `/anything`, `/headers`, ...) |
//! | [`status`] | any status, or one drawn from a weighted list |
//! | [`timing`] | slow answers: `/delay`, `/drip`, `/sse` |
//! | [`streams`] | bytes and lines, whole or in chunks |
//! | [`redirects`], [`cookies`], [`auth`], [`caching`] | what their names say |
//! | [`content`] | fixed documents and encodings |
//! | [`rules`] | a prefix of paths, hidden headers, allowed redirects |
//! | [`websocket`] | an echo over WebSocket |
//! | [`ext_authz`] | not httpbin: who decides for a mesh whether a request may pass |
//!
//! Every number that a client sends is bounded: no request makes the service hold more than the
//! largest body or wait longer than the longest duration.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use dojo_kit::chaos::settings::Settings;
use dojo_kit::listen::ListenAddress;
use dojo_kit::{Identity, Kit, ServeArgs};
use rules::Rules;

pub mod asked;
pub mod auth;
pub mod caching;
pub mod content;
pub mod cookies;
pub mod ext_authz;
pub mod redirects;
pub mod rules;
pub mod status;
pub mod streams;
#[cfg(test)]
mod testing;
pub mod timing;
pub mod websocket;

/// The ports unless told otherwise.
const GO_PORT: u16 = 8080;
const PYTHON_PORT: u16 = 80;

/// The services of this crate, as subcommands.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Answers that say what was asked, and answers on demand.
    Httpbin(Args),
    /// An outside judge for a mesh's policies: says yes to requests with `x-ext-authz: allow`.
    ExtAuthz(ext_authz::Args),
}

impl Command {
    /// Serves until the process is told to stop.
    ///
    /// # Errors
    /// When the service cannot start.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Httpbin(args) => args.run().await?,
            Self::ExtAuthz(args) => args.run().await?,
        }
        Ok(())
    }
}

/// Which of the two well-known programs the JSON is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Style {
    /// Headers and query values are lists of texts.
    Go,
    /// They are texts, and names are sorted.
    Python,
}

/// The flags of httpbin.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Whose JSON. The Go style listens on 8080, the Python style on 80.
    #[arg(long, env = "HTTPBIN_STYLE", value_enum, default_value = "go")]
    pub style: Style,
    /// The version, shown in metrics.
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    pub version: String,
    /// The largest body that is taken, in bytes.
    #[arg(long, env = "MAX_BODY_SIZE", value_name = "BYTES", default_value_t = 1024 * 1024,
          value_parser = clap::value_parser!(u32).range(1..=16 * 1024 * 1024))]
    pub max_body_size: u32,
    /// The longest that an answer may be asked to take.
    #[arg(long, env = "MAX_DURATION", value_name = "DURATION", default_value = "10s",
          value_parser = dojo_kit::duration::parse)]
    pub max_duration: Duration,
    /// The address to listen on (go-httpbin's name for the first half of --listen).
    #[arg(long, env = "HOST", value_name = "IP", default_value = "")]
    pub host: String,
    /// The port to listen on (its second half).
    #[arg(long = "http-port", env = "PORT", value_name = "PORT")]
    pub http_port: Option<u16>,
    /// A prefix of all paths, such as /bin.
    #[arg(long, env = "PREFIX", value_name = "PATH", default_value = "")]
    pub prefix: String,
    /// Headers of requests that answers do not show, separated by commas; `*` at the end of one for
    /// any text.
    #[arg(
        long,
        env = "EXCLUDE_HEADERS",
        value_name = "NAME,...",
        default_value = ""
    )]
    pub exclude_headers: String,
    /// The hosts that /redirect-to may lead to, separated by commas. Default: all.
    #[arg(
        long,
        env = "ALLOWED_REDIRECT_DOMAINS",
        value_name = "HOST,...",
        default_value = ""
    )]
    pub allowed_redirect_domains: String,
    /// Whether /hostname names the pod.
    #[arg(long, env = "USE_REAL_HOSTNAME", value_name = "true|false", default_value = "true",
          action = clap::ArgAction::Set)]
    pub use_real_hostname: bool,
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
        let rules = Rules::parse(
            &self.prefix,
            &self.exclude_headers,
            &self.allowed_redirect_domains,
        );
        let rules = rules.map_err(anyhow::Error::msg)?;
        let address = self.listen_address()?;
        let identity = Identity::new("httpbin", &self.version);
        let bin = self.bin();
        let pace = pace(self.style);
        dojo_kit::run_assembled(identity, &self.serve, address, pace, |kit| {
            dojo_kit::assemble(kit, rules.around(router(kit, bin)))
        })
        .await?;
        Ok(())
    }

    fn listen_address(&self) -> anyhow::Result<ListenAddress> {
        let port = self.http_port.unwrap_or(match self.style {
            Style::Go => GO_PORT,
            Style::Python => PYTHON_PORT,
        });
        let given = self.serve.listen.is_some() || self.serve.port.is_some();
        if given || self.host.is_empty() {
            return Ok(self.serve.listen_address(port));
        }
        let ip = self.host.parse().with_context(|| {
            format!(
                "HOST: `{}` is not an IP address to listen on, such as 0.0.0.0",
                self.host
            )
        })?;
        Ok(ListenAddress::Address(SocketAddr::new(ip, port)))
    }

    fn bin(&self) -> Bin {
        Bin {
            style: self.style,
            max_body: self.max_body_size as usize,
            max_duration: self.max_duration,
            real_hostname: self.use_real_hostname,
        }
    }
}

/// The Python program takes a few milliseconds per request. The circuit-breaker lab counts on that:
/// two clients at once must overlap.
fn pace(style: Style) -> Settings {
    Settings {
        timing_50_percentile: match style {
            Style::Go => Duration::ZERO,
            Style::Python => Duration::from_millis(3),
        },
        ..Settings::default()
    }
}

/// What the handlers need to know.
#[derive(Clone, Copy, Debug)]
pub struct Bin {
    /// Whose JSON.
    pub style: Style,
    /// The largest body, in bytes.
    pub max_body: usize,
    /// The longest that an answer may be asked to take.
    pub max_duration: Duration,
    /// Whether `/hostname` names the pod.
    pub real_hostname: bool,
}

/// The routes of httpbin.
pub fn router(kit: &Kit, bin: Bin) -> Router {
    Router::new()
        .merge(asked::routes())
        .merge(status::routes())
        .merge(timing::routes())
        .merge(streams::routes())
        .merge(redirects::routes())
        .merge(cookies::routes())
        .merge(auth::routes())
        .merge(caching::routes())
        .merge(content::routes(kit))
        .merge(websocket::routes())
        .fallback(|| async {
            problem(
                StatusCode::NOT_FOUND,
                "there is nothing at this path; see /",
            )
        })
        .method_not_allowed_fallback(|| async {
            problem(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path has other methods",
            )
        })
        .layer(middleware::from_fn(allow_every_origin))
        .with_state(bin)
}

/// Cross-origin requests are always welcome here: nothing is kept, nothing can be changed.
async fn allow_every_origin(request: Request, next: Next) -> Response {
    let any = HeaderValue::from_static("*");
    let origin = request
        .headers()
        .get(header::ORIGIN)
        .cloned()
        .unwrap_or(any);
    let preflight = request.method() == Method::OPTIONS;
    let mut response = if preflight {
        StatusCode::OK.into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
        HeaderValue::from_static("true"),
    );
    if preflight {
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, POST, HEAD, PUT, DELETE, PATCH, OPTIONS"),
        );
        headers.insert(
            header::ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from_static("3600"),
        );
    }
    response
}

/// An error: `status_code`, `error`, `detail`.
fn problem(status: StatusCode, detail: &str) -> Response {
    let document = serde_json::json!({
        "status_code": status.as_u16(),
        "error": status.canonical_reason().unwrap_or("Error"),
        "detail": detail,
    });
    asked::document(status, &document)
}

/// A request that makes no sense: 400.
fn bad(detail: &str) -> Response {
    problem(StatusCode::BAD_REQUEST, detail)
}
