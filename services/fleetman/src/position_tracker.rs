//! position-tracker: keeps the positions of the vehicles. For each report it asks for the speed and
//! has the driver's speed written down.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use dojo_kit::{Kit, ServeArgs, StartError};

use crate::decimal::Decimal;
use crate::endpoint::{self, Asked};
use crate::propagation::PropagationArgs;
use crate::report::Report;
use crate::timestamp::Timestamp;
use crate::upstream::Upstream;

/// How many reports of a vehicle are kept: nearly three hours at one every five seconds.
const HISTORY: usize = 2000;
/// The most vehicles that are known at a time.
const MAX_VEHICLES: usize = 64;
/// The call that must not fail, in the words of error messages.
const SPEED_LOG: &str = "RemoteStaffMicroserviceCalls#updateSpeedLog(String,String)";

/// The flags of position-tracker.
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
        crate::run("position-tracker", &self.version, &self.serve, |kit| {
            tracing::info!(
                vehicle_telemetry = %config.vehicle_telemetry,
                staff_service = %config.staff_service,
                no_header_propagation = config.propagation.no_header_propagation,
                "configuration"
            );
            router(kit, config)
        })
        .await
    }
}

/// Whom position-tracker calls, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// The address of vehicle-telemetry.
    #[arg(
        long,
        env = "VEHICLE_TELEMETRY_URL",
        default_value = "http://fleetman-vehicle-telemetry:8080"
    )]
    pub vehicle_telemetry: Upstream,
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

struct Tracker {
    client: reqwest::Client,
    config: Config,
    /// The reports of each vehicle, oldest first; no vehicle is without.
    reports: Mutex<BTreeMap<Arc<str>, VecDeque<Report>>>,
}

/// The routes of position-tracker.
pub fn router(kit: &Kit, config: Config) -> Router {
    Router::new().fallback(answer).with_state(Arc::new(Tracker {
        client: kit.client.clone(),
        config,
        reports: Mutex::default(),
    }))
}

async fn answer(State(tracker): State<Arc<Tracker>>, request: Request) -> Response {
    let asked = match Asked::read(request).await {
        Ok(asked) => asked,
        Err(refused) => return refused,
    };
    match asked.segments().as_slice() {
        ["health"] => endpoint::healthy(),
        ["vehicles"] if asked.is_get() => {
            log_headers(&asked.headers);
            let reports = tracker.reports();
            endpoint::json(
                &reports
                    .values()
                    .filter_map(VecDeque::back)
                    .collect::<Vec<_>>(),
            )
        }
        ["vehicles"] if asked.method == Method::POST => tracker.take(&asked).await,
        ["vehicles"] if asked.method == Method::DELETE => {
            tracker.reports().clear();
            StatusCode::OK.into_response()
        }
        ["vehicles"] => asked.method_not_allowed("GET, POST, DELETE"),
        ["vehicles", name] if asked.is_get() => {
            match tracker.reports().get(*name).and_then(VecDeque::back) {
                Some(report) => endpoint::json(report),
                None => asked.error(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    &format!("no report of a vehicle called {name}"),
                ),
            }
        }
        ["history", name] if asked.is_get() => {
            let reports = tracker.reports();
            let history = reports.get(*name).into_iter().flatten().rev();
            endpoint::json(&history.collect::<Vec<_>>())
        }
        ["vehicles" | "history", _] => asked.method_not_allowed("GET"),
        _ => asked.not_found(),
    }
}

/// Labs on tracing read these lines.
fn log_headers(headers: &HeaderMap) {
    tracing::info!("Position tracker called - here's all the headers....");
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        tracing::info!("Header '{name}' = {value}");
    }
}

impl Tracker {
    fn reports(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, VecDeque<Report>>> {
        // Every change is complete before anything can panic.
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A report comes in: ask for the speed, keep it, tell telemetry, tell staff. In this order, as
    /// in the upstream service: traces show it.
    async fn take(&self, asked: &Asked) -> Response {
        let report = match Report::parse(&asked.body) {
            Ok(report) => report,
            Err(problem) => return asked.error(StatusCode::BAD_REQUEST, &problem),
        };
        let headers = self.config.propagation.passed_on(&asked.headers);
        let speed = self.speed(&report.name, headers.clone()).await;
        if let Err(problem) = self.keep(Report {
            timestamp: Some(Timestamp::now()),
            speed: speed.clone(),
            ..report.clone()
        }) {
            return asked.error(StatusCode::INSUFFICIENT_STORAGE, problem);
        }
        self.tell_telemetry(&report, headers.clone()).await;
        match self.tell_staff(&report.name, speed.as_ref(), headers).await {
            Ok(()) => StatusCode::OK.into_response(),
            Err(problem) => asked.error(StatusCode::INTERNAL_SERVER_ERROR, &problem),
        }
    }

    async fn speed(&self, name: &str, headers: HeaderMap) -> Option<Decimal> {
        let answer = self
            .config
            .vehicle_telemetry
            .call(
                &self.client,
                Method::GET,
                &["vehicles", name],
                headers,
                None,
            )
            .await
            .map_err(|error| error.to_string())
            .and_then(|answer| answer.success("GET"))
            .and_then(|body| match std::str::from_utf8(&body).map(str::trim) {
                Ok("") => Ok(None),
                Ok(text) => text
                    .parse()
                    .map(Some)
                    .map_err(|error: crate::decimal::NotDecimal| error.to_string()),
                Err(error) => Err(error.to_string()),
            });
        answer.unwrap_or_else(|problem| {
            tracing::warn!(
                "Telemetry service unavailable. Cannot get speed for vehicle {name}: {problem}"
            );
            None
        })
    }

    fn keep(&self, report: Report) -> Result<(), &'static str> {
        let mut reports = self.reports();
        if reports.len() >= MAX_VEHICLES && !reports.contains_key(&report.name) {
            return Err("too many vehicles; DELETE /vehicles/ forgets them");
        }
        let history = reports.entry(report.name.clone()).or_default();
        if history.len() == HISTORY {
            history.pop_front();
        }
        history.push_back(report);
        Ok(())
    }

    async fn tell_telemetry(&self, report: &Report, headers: HeaderMap) {
        let told = match serde_json::to_vec(report) {
            Ok(body) => self
                .config
                .vehicle_telemetry
                .call(
                    &self.client,
                    Method::POST,
                    &["vehicles", ""],
                    headers,
                    Some(body),
                )
                .await
                .map_err(|error| error.to_string())
                .and_then(|answer| answer.success("POST")),
            Err(error) => Err(error.to_string()),
        };
        if let Err(problem) = told {
            tracing::warn!(
                "Telemetry service unavailable. Unable to update data for {}: {problem}",
                report.name
            );
        }
    }

    async fn tell_staff(
        &self,
        name: &str,
        speed: Option<&Decimal>,
        headers: HeaderMap,
    ) -> Result<(), String> {
        let speed = speed.map_or("0", Decimal::as_str);
        self.config
            .staff_service
            .call(
                &self.client,
                Method::POST,
                &["driver", name, speed],
                headers,
                None,
            )
            .await
            .map_err(|error| error.to_string())?
            .success(SPEED_LOG)
            .map(|_| ())
    }
}

#[cfg(test)]
mod tests;
