//! position-simulator: drives the trucks along their routes and reports where they are.

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use dojo_kit::{ServeArgs, StartError};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::endpoint::{self, Asked};
use crate::propagation::PropagationArgs;
use crate::report::Report;
use crate::routes::{ROUTES, Track};
use crate::timestamp::Timestamp;
use crate::upstream::Upstream;

/// The time of one round.
const ROUND: Duration = Duration::from_millis(100);
/// The share of rounds in which nothing happens.
const IDLE: f64 = 0.9;
/// The most points that a truck moves on at once.
const LONGEST_STRIDE: usize = 10;

/// The flags of position-simulator.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The version, for information: in logs and metrics.
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    pub version: String,
    /// The address of position-tracker.
    #[arg(
        long,
        env = "POSITION_TRACKER_URL",
        default_value = "http://fleetman-position-tracker:8080"
    )]
    pub position_tracker: Upstream,
    /// Makes the journeys the same every time.
    #[arg(long, env = "SIMULATOR_SEED", value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Taken for the sake of the other services; there is no header to pass on.
    #[command(flatten)]
    pub propagation: PropagationArgs,
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
        let fleet = Fleet::new(self.seed.unwrap_or_else(rand::random));
        crate::run("position-simulator", &self.version, &self.serve, |kit| {
            tracing::info!(position_tracker = %self.position_tracker, "configuration");
            // Ends with the process: there is nothing that it would have to put in order.
            tokio::spawn(drive(fleet, kit.client.clone(), self.position_tracker));
            router()
        })
        .await
    }
}

/// The routes of position-simulator: nobody has anything to ask it.
pub fn router() -> Router {
    Router::new().fallback(answer)
}

async fn answer(request: Request) -> Response {
    match Asked::read(request).await {
        Ok(asked) if asked.segments().as_slice() == ["health"] => endpoint::healthy(),
        Ok(asked) => asked.not_found(),
        Err(refused) => refused,
    }
}

/// Reports for ever.
async fn drive(mut fleet: Fleet, client: reqwest::Client, tracker: Upstream) {
    if let Err(problem) = tell(&client, &tracker, Method::DELETE, None).await {
        tracing::warn!("cannot make the position tracker forget older journeys: {problem}");
    }
    loop {
        tokio::time::sleep(fleet.pause()).await;
        let report = fleet.next();
        let told = match serde_json::to_vec(&report) {
            Ok(body) => tell(&client, &tracker, Method::POST, Some(body)).await,
            Err(error) => Err(error.to_string()),
        };
        match told {
            Ok(()) => tracing::debug!("{} is at {}, {}", report.name, report.lat, report.lng),
            Err(problem) => tracing::warn!("cannot report where {} is: {problem}", report.name),
        }
    }
}

async fn tell(
    client: &reqwest::Client,
    tracker: &Upstream,
    method: Method,
    body: Option<Vec<u8>>,
) -> Result<(), String> {
    tracker
        .call(client, method, &["vehicles", ""], HeaderMap::new(), body)
        .await
        .map_err(|error| error.to_string())?
        .success("the position tracker")
        .map(|_| ())
}

/// The trucks under way.
#[derive(Debug)]
struct Fleet {
    trucks: Vec<Truck>,
    random: StdRng,
}

#[derive(Debug)]
struct Truck {
    track: Track,
    /// The number of the point that the truck is at.
    at: usize,
}

impl Fleet {
    fn new(seed: u64) -> Self {
        Self {
            trucks: ROUTES
                .iter()
                .map(|route| Truck {
                    track: Track::new(route),
                    at: 0,
                })
                .collect(),
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// The time until the next report. Rounds in which nothing happens are not waited for one by
    /// one: their number is drawn at once.
    fn pause(&mut self) -> Duration {
        let random: f64 = self.random.random();
        // The logarithm of 1 - random is finite: random is below 1.
        let idle = ((1.0 - random).ln() / IDLE.ln()).floor();
        ROUND.mul_f64(idle + 1.0)
    }

    /// Moves one truck on.
    fn next(&mut self) -> Report {
        let index = self.random.random_range(0..self.trucks.len());
        let stride = self.random.random_range(1..=LONGEST_STRIDE);
        let truck = &mut self.trucks[index];
        truck.at += stride;
        if truck.at > truck.track.len() {
            tracing::info!(
                "Journey over for {}. Restarting route",
                truck.track.vehicle()
            );
            truck.at = 0;
        }
        let (lat, lng) = truck.track.position(truck.at);
        Report {
            name: truck.track.vehicle().into(),
            lat,
            lng,
            timestamp: Some(Timestamp::now()),
            speed: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{get, upstream};
    use std::collections::BTreeMap;
    use tokio::sync::mpsc;

    #[test]
    fn about_one_report_per_second_for_the_fleet() {
        let mut fleet = Fleet::new(1);
        let pauses: Vec<_> = (0..5000).map(|_| fleet.pause()).collect();
        assert!(pauses.iter().all(|pause| *pause >= ROUND));
        let mean = pauses.iter().sum::<Duration>() / 5000;
        assert!((950..=1050).contains(&mean.as_millis()), "{mean:?}");
    }

    #[test]
    fn every_truck_drives_and_starts_again() {
        let mut fleet = Fleet::new(2);
        let mut reports = BTreeMap::new();
        for _ in 0..10_000 {
            let report = fleet.next();
            assert_eq!(report.speed, None);
            *reports.entry(report.name).or_insert(0) += 1;
        }
        assert_eq!(reports.len(), 5);
        assert!(
            reports.values().all(|count| (1800..=2200).contains(count)),
            "{reports:?}"
        );
        // Two thousand strides of five and a half points are more than any journey has.
        assert!(
            fleet
                .trucks
                .iter()
                .all(|truck| truck.at <= truck.track.len())
        );
    }

    #[test]
    fn the_same_seed_drives_the_same_journeys() {
        let places = |seed| {
            let mut fleet = Fleet::new(seed);
            (0..50)
                .map(|_| fleet.next())
                .map(|report| (report.name, report.lat))
                .collect::<Vec<_>>()
        };
        assert_eq!(places(3), places(3));
        assert_ne!(places(3), places(4));
    }

    #[tokio::test]
    async fn the_tracker_is_told_to_forget_and_then_where_trucks_are() {
        let (sender, mut calls) = mpsc::channel(10);
        let tracker = Router::new().fallback(|request: Request| async move {
            let asked = Asked::read(request).await.expect("a request");
            let _ = sender.send((asked.method, asked.path, asked.body)).await;
        });
        let driving = tokio::spawn(drive(
            Fleet::new(5),
            dojo_kit::client::client(None).expect("a client"),
            upstream(tracker).await,
        ));
        let (method, path, _) = calls.recv().await.expect("a call");
        assert_eq!((method, path.as_str()), (Method::DELETE, "/vehicles/"));
        let (method, path, body) = calls.recv().await.expect("a call");
        assert_eq!((method, path.as_str()), (Method::POST, "/vehicles/"));
        let text = std::str::from_utf8(&body).expect("text");
        assert!(
            text.starts_with(r#"{"name":""#) && text.ends_with(r#","speed":null}"#),
            "{text}"
        );
        Report::parse(&body).expect("a report");
        driving.abort();
    }

    #[tokio::test]
    async fn there_is_nothing_to_ask() {
        get(&router(), "/vehicles/").await.is_error(
            404,
            "Not Found",
            "No message available",
            "/vehicles/",
        );
        assert_eq!(get(&router(), "/health").await.status, 200);
    }
}
