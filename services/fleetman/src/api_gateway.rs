//! api-gateway: what the web page may ask. Everything is passed on to other services; their errors
//! become one error of ours, which names the status they came with.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use bytes::Bytes;
use dojo_kit::{Kit, ServeArgs, StartError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::decimal::Decimal;
use crate::endpoint::{self, Asked};
use crate::propagation::PropagationArgs;
use crate::report::Report;
use crate::timestamp::Timestamp;
use crate::upstream::{CallError, Upstream};

// The calls, in the words of error messages.
const ALL_POSITIONS: &str = "RemotePositionMicroserviceCalls#getAllLatestPositions()";
const HISTORY: &str = "RemotePositionMicroserviceCalls#getHistoryFor(String)";
const LAST_REPORT: &str = "RemotePositionMicroserviceCalls#getLastReportFor(String)";
const DRIVER: &str = "RemoteStaffMicroserviceCalls#getDriverFor(String)";

/// The flags of api-gateway.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The version, for information: in logs and metrics.
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    pub version: String,
    /// Whom it calls.
    #[command(flatten)]
    pub config: Config,
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
        let config = self.config;
        crate::run("api-gateway", &self.version, &self.serve, |kit| {
            tracing::info!(
                position_tracker = %config.position_tracker,
                staff_service = %config.staff_service,
                no_header_propagation = config.propagation.no_header_propagation,
                "configuration"
            );
            router(kit, config)
        })
        .await
    }
}

/// Whom api-gateway calls, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// The address of position-tracker.
    #[arg(
        long,
        env = "POSITION_TRACKER_URL",
        default_value = "http://fleetman-position-tracker:8080"
    )]
    pub position_tracker: Upstream,
    /// The address of staff-service.
    #[arg(
        long,
        env = "STAFF_SERVICE_URL",
        default_value = "http://fleetman-staff-service:8080"
    )]
    pub staff_service: Upstream,
    /// Which headers are passed on.
    #[command(flatten)]
    pub propagation: PropagationArgs,
}

struct Gateway {
    client: reqwest::Client,
    config: Config,
}

/// The routes of api-gateway.
pub fn router(kit: &Kit, config: Config) -> Router {
    Router::new().fallback(answer).with_state(Arc::new(Gateway {
        client: kit.client.clone(),
        config,
    }))
}

async fn answer(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let asked = match Asked::read(request).await {
        Ok(asked) => asked,
        Err(refused) => return refused,
    };
    let segments = asked.segments();
    if !asked.is_get() {
        return match segments.as_slice() {
            [] | ["vehicles" | "history", ..] => asked.method_not_allowed("GET"),
            _ => asked.not_found(),
        };
    }
    let headers = gateway.config.propagation.passed_on(&asked.headers);
    let outcome = match segments.as_slice() {
        [] => return landing(),
        ["health"] => return endpoint::healthy(),
        ["vehicles"] => gateway.all_positions(headers).await,
        ["vehicles", "driver", name] => gateway.driver(name, headers).await,
        ["vehicles", name] => gateway.last_report(name, headers).await,
        ["history", name] => gateway.history(name, headers).await,
        _ => return asked.not_found(),
    };
    let mut response =
        outcome.unwrap_or_else(|problem| asked.error(StatusCode::INTERNAL_SERVER_ERROR, &problem));
    response.headers_mut().insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    response
}

fn landing() -> Response {
    let now = Timestamp::now().spelt_out();
    Html(format!("<p>Fleetman API Gateway at {now}</p>")).into_response()
}

/// A place that a vehicle was at.
#[derive(Serialize)]
struct Position {
    lat: Decimal,
    lng: Decimal,
}

/// An answer, or the message of the error that stands in for it.
type Outcome = Result<Response, String>;

impl Gateway {
    async fn all_positions(&self, headers: HeaderMap) -> Outcome {
        match self
            .tracker(ALL_POSITIONS, &["vehicles", ""], headers)
            .await
        {
            Ok(body) => Ok(endpoint::json(&read::<Vec<Report>>(&body, ALL_POSITIONS)?)),
            Err(Failed::Call(error)) if error.unreachable() => {
                tracing::warn!("Unable to contact the position tracker. {error}");
                Ok(endpoint::json_text("[]"))
            }
            Err(failed) => Err(failed.message()),
        }
    }

    async fn last_report(&self, name: &str, headers: HeaderMap) -> Outcome {
        let body = self
            .tracker(LAST_REPORT, &["vehicles", name], headers)
            .await
            .map_err(Failed::message)?;
        Ok(endpoint::json(&read::<Report>(&body, LAST_REPORT)?))
    }

    /// The tracker's history is newest first, the gateway's oldest first: a line to draw.
    async fn history(&self, name: &str, headers: HeaderMap) -> Outcome {
        let body = self
            .tracker(HISTORY, &["history", name], headers)
            .await
            .map_err(Failed::message)?;
        // The tracker may say null, or nothing, of a vehicle it does not know.
        let reports = if body.is_empty() {
            None
        } else {
            read::<Option<Vec<Report>>>(&body, HISTORY)?
        };
        let positions: Vec<_> = reports
            .unwrap_or_default()
            .into_iter()
            .rev()
            .map(|Report { lat, lng, .. }| Position { lat, lng })
            .collect();
        Ok(endpoint::json(&positions))
    }

    async fn driver(&self, name: &str, headers: HeaderMap) -> Outcome {
        let answer = self
            .config
            .staff_service
            .call(&self.client, Method::GET, &["driver", name], headers, None)
            .await
            .map_err(|error| Failed::Call(error).message())?;
        Ok(endpoint::json_text(answer.success(DRIVER)?))
    }

    async fn tracker(
        &self,
        name: &str,
        path: &[&str],
        headers: HeaderMap,
    ) -> Result<Bytes, Failed> {
        self.config
            .position_tracker
            .call(&self.client, Method::GET, path, headers, None)
            .await
            .map_err(Failed::Call)?
            .success(name)
            .map_err(Failed::Status)
    }
}

/// Why the tracker gave nothing to pass on.
enum Failed {
    Call(CallError),
    Status(String),
}

impl Failed {
    fn message(self) -> String {
        match self {
            Self::Call(error) => error.to_string(),
            Self::Status(message) => message,
        }
    }
}

fn read<T: DeserializeOwned>(body: &[u8], name: &str) -> Result<T, String> {
    serde_json::from_slice(body)
        .map_err(|error| format!("the answer of {name} makes no sense: {error}"))
}

#[cfg(test)]
mod tests;
