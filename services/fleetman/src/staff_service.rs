//! staff-service: who drives a vehicle, with a photo. Its versions are what canaries and circuit
//! breakers are shown with.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse as _, Response};
use dojo_kit::chaos::settings::Settings;
use dojo_kit::{Identity, Kit, ServeArgs, StartError};
use serde::Serialize;

use crate::drivers::{self, Driver, PHOTOS, PLACEHOLDER};
use crate::endpoint::{self, Asked};
use crate::propagation::PropagationArgs;
use crate::upstream::Upstream;

pub mod bad;

/// The flags of staff-service.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The version, for information: in logs and metrics.
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    pub version: String,
    /// What the service is like: `photos` shows the drivers' photos, `placeholder` the same one for
    /// all, `bad` is slow and fails, `legacy` asks photo-service and reports to a monitoring system.
    #[arg(long, env = "STAFF_VARIANT", value_enum, default_value_t = Variant::Photos)]
    pub variant: Variant,
    /// The share of requests that fail in the bad variant, 0 to 1.
    #[arg(long, env = "BAD_RATE", default_value_t = bad::RATE, value_parser = bad::parse_rate)]
    pub bad_rate: f64,
    /// The longest that the bad variant keeps a request waiting.
    #[arg(long, env = "BAD_DELAY", value_name = "DURATION", default_value = "5s", value_parser = dojo_kit::duration::parse)]
    pub bad_delay: Duration,
    /// The address of photo-service, for the legacy variant.
    #[arg(
        long,
        env = "PHOTO_SERVICE_URL",
        default_value = "http://fleetman-photo-service:8080"
    )]
    pub photo_service: Upstream,
    /// The address of the driver monitoring system, for the legacy variant; a mesh may know it.
    #[arg(
        long,
        env = "DRIVER_MONITORING_URL",
        default_value = "http://fleetman-driver-monitoring:8080"
    )]
    pub driver_monitoring: Upstream,
    /// Which headers are passed on.
    #[command(flatten)]
    pub propagation: PropagationArgs,
    /// What every service takes.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// What the service is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Variant {
    /// The drivers' photos.
    Photos,
    /// The same photo for all.
    Placeholder,
    /// Slow and failing, with the same photo for all.
    Bad,
    /// Photos from photo-service, speeds to a monitoring system.
    Legacy,
}

impl Args {
    /// Serves until the process is told to stop.
    ///
    /// # Errors
    /// When the service cannot start.
    pub async fn run(self) -> Result<(), StartError> {
        let identity = Identity::new("staff-service", &self.version);
        let config = self.config();
        let address = self.serve.listen_address(crate::PORT);
        dojo_kit::run_assembled(identity, &self.serve, address, self.chaos(), |kit| {
            tracing::info!(?config, "configuration");
            service(kit, config)
        })
        .await
    }

    fn chaos(&self) -> Settings {
        match self.variant {
            Variant::Bad => bad::chaos(self.bad_rate, self.bad_delay),
            _ => Settings::default(),
        }
    }

    fn config(&self) -> Config {
        match self.variant {
            Variant::Photos => Config::Photos,
            Variant::Placeholder | Variant::Bad => Config::Placeholder,
            Variant::Legacy => Config::Legacy {
                photo_service: self.photo_service.clone(),
                driver_monitoring: self.driver_monitoring.clone(),
                propagation: self.propagation,
            },
        }
    }
}

/// What staff-service needs to know.
#[derive(Debug)]
pub enum Config {
    /// The drivers' photos.
    Photos,
    /// The same photo for all.
    Placeholder,
    /// Photos and speeds are the business of others.
    Legacy {
        /// Who knows where photos are.
        photo_service: Upstream,
        /// Who is told speeds.
        driver_monitoring: Upstream,
        /// Which headers are passed on.
        propagation: PropagationArgs,
    },
}

struct Staff {
    client: reqwest::Client,
    config: Config,
}

/// The whole service, with what surrounds every service and the form of injected errors.
pub fn service(kit: &Kit, config: Config) -> Router {
    dojo_kit::assemble(kit, router(kit, config)).layer(middleware::from_fn(bad::dress))
}

/// The routes of staff-service.
pub fn router(kit: &Kit, config: Config) -> Router {
    Router::new().fallback(answer).with_state(Arc::new(Staff {
        client: kit.client.clone(),
        config,
    }))
}

async fn answer(State(staff): State<Arc<Staff>>, request: Request) -> Response {
    let asked = match Asked::read(request).await {
        Ok(asked) => asked,
        Err(refused) => return refused,
    };
    match asked.segments().as_slice() {
        ["health"] => endpoint::healthy(),
        ["driver", vehicle] if asked.is_get() => {
            let driver = drivers::of(vehicle);
            endpoint::json(&Answer {
                name: driver.map(|driver| driver.name),
                photo: match driver {
                    Some(driver) => staff.photo(driver, &asked.headers).await,
                    None => None,
                },
            })
        }
        ["driver", vehicle, speed] if asked.method == Method::POST => {
            staff.log_speed(vehicle, speed, &asked.headers).await;
            StatusCode::OK.into_response()
        }
        ["driver", _] => asked.method_not_allowed("GET"),
        ["driver", _, _] => asked.method_not_allowed("POST"),
        _ => asked.not_found(),
    }
}

/// A driver; everything is null for a vehicle that nobody drives.
#[derive(Serialize)]
struct Answer {
    name: Option<&'static str>,
    photo: Option<String>,
}

impl Staff {
    /// The address of a driver's photo.
    async fn photo(&self, driver: &Driver, incoming: &HeaderMap) -> Option<String> {
        let file = match &self.config {
            Config::Photos => driver.photo,
            Config::Placeholder => PLACEHOLDER,
            Config::Legacy {
                photo_service,
                propagation,
                ..
            } => {
                let headers = propagation.passed_on(incoming);
                let path = ["photo", driver.name];
                let answer = photo_service
                    .call(&self.client, Method::GET, &path, headers, None)
                    .await
                    .map_err(|error| error.to_string())
                    .and_then(|answer| answer.success("RemotePhotoService#getPhoto(String)"));
                match answer {
                    Ok(body) => {
                        let text = String::from_utf8_lossy(&body);
                        return Some(text.trim().trim_matches('"').to_owned());
                    }
                    Err(problem) => {
                        tracing::warn!("Photo service unavailable: {problem}");
                        PLACEHOLDER
                    }
                }
            }
        };
        Some(format!("{PHOTOS}{file}"))
    }

    /// Speeds go nowhere but to the legacy monitoring system, whose absence does no harm.
    async fn log_speed(&self, vehicle: &str, speed: &str, incoming: &HeaderMap) {
        let Config::Legacy {
            driver_monitoring,
            propagation,
            ..
        } = &self.config
        else {
            return;
        };
        let headers = propagation.passed_on(incoming);
        let path = ["driver", vehicle, speed];
        let told = driver_monitoring
            .call(&self.client, Method::POST, &path, headers, None)
            .await
            .map_err(|error| error.to_string())
            .and_then(|answer| answer.success("the driver monitoring system"));
        if let Err(problem) = told {
            tracing::warn!("Legacy driver monitoring system unavailable: {problem}");
        }
    }
}

#[cfg(test)]
mod tests;
