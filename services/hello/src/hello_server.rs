//! hello: says hello, fails at random when told to, and logs each answer in one line.

use std::io::Write as _;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use dojo_kit::chaos::Injected;
use dojo_kit::chaos::settings::Settings;
use dojo_kit::telemetry::TelemetryArgs;
use dojo_kit::{Identity, Kit, ServeArgs, StartError};

/// The port unless told otherwise.
const PORT: u16 = 8080;

/// The flags of hello.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The version, shown in answers and log lines.
    #[arg(long, env = "VERSION", default_value = "")]
    pub version: String,
    /// 1: a log line for each request.
    #[arg(long, env = "LOG", value_name = "1|0", default_value = "0", value_parser = on_or_off,
          num_args = 0..=1, default_missing_value = "1", action = clap::ArgAction::Set)]
    pub log: bool,
    /// 1: another log line, with the address asked for (what older images do).
    #[arg(long, env = "LOG_REQUEST_URI", value_name = "1|0", default_value = "0", value_parser = on_or_off,
          num_args = 0..=1, default_missing_value = "1", action = clap::ArgAction::Set)]
    pub log_request_uri: bool,
    /// The share of requests that are answered 503, each by the throw of a die: 0 to 1.
    #[arg(long, env = "RANDOM_ERROR", value_name = "SHARE", default_value = "0", value_parser = share)]
    pub random_error: f64,
    /// What every service takes.
    #[command(flatten)]
    pub serve: ServeArgs,
}

fn on_or_off(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "on" => Ok(true),
        "" | "0" | "false" | "off" => Ok(false),
        _ => Err(format!("`{text}` is neither; write 1 or 0")),
    }
}

fn share(text: &str) -> Result<f64, String> {
    let number = if text.is_empty() { "0" } else { text };
    match number.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("`{text}` is not a number between 0 and 1")),
    }
}

impl Args {
    /// Serves until the process is told to stop.
    ///
    /// # Errors
    /// When the service cannot start.
    pub async fn run(self) -> Result<(), StartError> {
        let identity = Identity::new("hello", &self.version);
        let args = ServeArgs {
            telemetry: self.telemetry(),
            ..self.serve.clone()
        };
        let chaos = chaos_of(self.random_error);
        let address = args.listen_address(PORT);
        dojo_kit::run_assembled(identity, &args, address, chaos, |kit| {
            service(kit, self.log_lines())
        })
        .await
    }

    /// Hello has log lines of its own, which labs count: the kit's lines about requests and injected
    /// errors would be a second one for the same request. Another `LOG_LEVEL` than the default brings it back.
    fn telemetry(&self) -> TelemetryArgs {
        let mut telemetry = self.serve.telemetry.clone();
        if telemetry.log_level.to_string() == "info" {
            telemetry.log_level = telemetry
                .log_level
                .with_target("dojo_kit::service", tracing::Level::WARN)
                .with_target("dojo_kit::chaos", tracing::Level::WARN);
        }
        telemetry
    }

    fn log_lines(&self) -> LogLines {
        LogLines {
            result: self.log,
            request_uri: self.log_request_uri,
        }
    }
}

/// Random errors, as chaos: so they show in `/chaos` and in the metrics, and can be changed there.
fn chaos_of(random_error: f64) -> Settings {
    Settings {
        error_rate: random_error,
        error_code: 503,
        ..Settings::default()
    }
}

/// Which lines are logged for each request.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogLines {
    /// `Hello server - v1 - 200`
    pub result: bool,
    /// `Hello server - v1 (requestUri=/)`
    pub request_uri: bool,
}

/// The whole service, with what surrounds every service.
///
/// The layer that writes answers and log lines is outermost: an injected error has to become the
/// service's own text.
pub fn service(kit: &Kit, log: LogLines) -> Router {
    let version = kit.identity.version.clone();
    dojo_kit::assemble(kit, router(&version)).layer(middleware::from_fn(
        move |request: Request, next: Next| {
            let version = version.clone();
            async move {
                let uri = request.uri().clone();
                let own = !matches!(uri.path(), "/health" | "/metrics" | "/chaos");
                let response = next.run(request).await;
                if !own {
                    return response;
                }
                let (response, lines) = finish(response, &version, uri.path(), log);
                print(&lines);
                response
            }
        },
    ))
}

/// The routes of hello: every path says hello, but `/error` always fails.
fn router(version: &str) -> Router {
    let hello = format!("Hello server - {version}\n");
    let error = format!("Hello server - {version} (uri=/error)\n");
    Router::new()
        .route("/health", get(|| async { "OK" }))
        .route(
            "/error",
            get(move || std::future::ready((StatusCode::SERVICE_UNAVAILABLE, error.clone()))),
        )
        .fallback(get(move || std::future::ready(hello.clone())))
}

/// Gives an injected error the service's own text; says what is to be logged.
fn finish(response: Response, version: &str, path: &str, log: LogLines) -> (Response, String) {
    let status = response.status();
    let code = status.as_u16();
    let mut result = format!("Hello server - {version} - {code}");
    let response = if response.extensions().get::<Injected>().is_some() {
        result.push_str(" (random)");
        (status, format!("{result}\n")).into_response()
    } else {
        response
    };
    let mut lines = String::new();
    if log.request_uri {
        lines = format!("Hello server - {version} (requestUri={path})\n");
    }
    if log.result {
        lines.push_str(&result);
        lines.push('\n');
    }
    (response, lines)
}

/// Straight to standard output: the lines are exact, without a time or a level before them.
fn print(lines: &str) {
    if let Err(error) = std::io::stdout().write_all(lines.as_bytes()) {
        tracing::debug!(%error, "cannot log");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ask, kit};
    use clap::Parser;

    fn failing(version: &str, share: f64) -> Router {
        let kit = kit("hello", version, None).with_chaos(Settings {
            seed: Some(1),
            ..chaos_of(share)
        });
        service(&kit, LogLines::default())
    }

    #[tokio::test]
    async fn hello_names_its_version() {
        let (status, kind, body) = ask(&failing("v1", 0.0), "GET", "/").await;
        assert_eq!((status, body.as_str()), (200, "Hello server - v1\n"));
        assert_eq!(kind, "text/plain; charset=utf-8");
        assert_eq!(ask(&failing("v1", 0.0), "GET", "/any").await.0, 200);
        assert_eq!(ask(&failing("v1", 0.0), "POST", "/").await.0, 405);
        let (status, _, body) = ask(&failing("v2", 0.0), "GET", "/error").await;
        assert_eq!(
            (status, body.as_str()),
            (503, "Hello server - v2 (uri=/error)\n")
        );
    }

    #[tokio::test]
    async fn random_errors_are_503_with_their_own_text() {
        let router = failing("v2", 0.5);
        let mut failed = 0;
        for _ in 0..200 {
            let (status, _, body) = ask(&router, "GET", "/").await;
            if status == 503 {
                assert_eq!(body, "Hello server - v2 - 503 (random)\n");
                failed += 1;
            } else {
                assert_eq!((status, body.as_str()), (200, "Hello server - v2\n"));
            }
        }
        assert!((65..=135).contains(&failed), "{failed}");
        assert_eq!(ask(&failing("v2", 1.0), "GET", "/health").await.0, 200);
        assert_eq!(ask(&failing("v2", 1.0), "GET", "/chaos").await.0, 200);
    }

    #[test]
    fn log_lines_are_those_that_labs_count() {
        let all = LogLines {
            result: true,
            request_uri: true,
        };
        let only = LogLines {
            result: true,
            request_uri: false,
        };
        let served = || "x".into_response();
        assert_eq!(
            finish(served(), "v1", "/", only).1,
            "Hello server - v1 - 200\n"
        );
        assert_eq!(finish(served(), "v1", "/", LogLines::default()).1, "");
        assert_eq!(
            finish(served(), "v1", "/a", all).1,
            "Hello server - v1 (requestUri=/a)\nHello server - v1 - 200\n"
        );
        let mut injected = StatusCode::SERVICE_UNAVAILABLE.into_response();
        injected
            .extensions_mut()
            .insert(Injected(dojo_kit::chaos::settings::ErrorType::HttpError));
        assert_eq!(
            finish(injected, "v2", "/", only).1,
            "Hello server - v2 - 503 (random)\n"
        );
    }

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn variables_of_the_image_are_checked() {
        for (flags, reason) in [
            (
                ["--random-error", "2"],
                "`2` is not a number between 0 and 1",
            ),
            (
                ["--random-error", "-0.1"],
                "`-0.1` is not a number between 0 and 1",
            ),
            (["--random-error", "half"], "`half` is not a number"),
            (["--random-error", "NaN"], "`NaN` is not a number"),
            (["--log", "yes"], "write 1 or 0"),
        ] {
            let flag = format!("{}={}", flags[0], flags[1]);
            let error = Cli::try_parse_from(["hello", &flag])
                .err()
                .expect("refused");
            assert!(error.to_string().contains(reason), "{error}");
        }
        let cli = Cli::parse_from(["hello", "--version", "v1", "--log=1", "--random-error=0.5"]);
        assert!(cli.args.log && !cli.args.log_request_uri);
        assert!((cli.args.random_error - 0.5).abs() < f64::EPSILON);
        assert!(!Cli::parse_from(["hello", "--log="]).args.log);
    }

    #[test]
    fn the_access_log_does_not_double_the_services_own_lines() {
        let level = |flags: &[&str]| {
            let cli = Cli::parse_from(std::iter::once(&"hello").chain(flags));
            cli.args.telemetry().log_level
        };
        let info = tracing::Level::INFO;
        assert!(!level(&[]).would_enable("dojo_kit::service", &info));
        assert!(!level(&[]).would_enable("dojo_kit::chaos::layer", &info));
        assert!(level(&[]).would_enable("hello", &info));
        assert!(level(&["--log-level", "debug"]).would_enable("dojo_kit::service", &info));
    }
}
