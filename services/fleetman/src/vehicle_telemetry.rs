//! vehicle-telemetry: works out how fast a vehicle is from its latest reports.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use dojo_kit::{ServeArgs, StartError};

use crate::decimal::Decimal;
use crate::endpoint::{self, Asked};
use crate::geodesy::{Place, distance};
use crate::report::Report;

/// How many reports of a vehicle count.
const KEPT: usize = 10;
/// The most vehicles that are known at a time.
const MAX_VEHICLES: usize = 64;
/// Above this many miles per hour a report must be wrong.
const FASTEST: f64 = 70.0;
/// One metre per second is this many millionths of a mile per hour.
const MICRO_MPH: u128 = 2_236_936;

/// The flags of vehicle-telemetry.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The version, for information: in logs and metrics.
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    pub version: String,
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
        crate::run("vehicle-telemetry", &self.version, &self.serve, |_| {
            router()
        })
        .await
    }
}

/// The latest reports of each vehicle, oldest first.
type Sightings = Arc<Mutex<BTreeMap<Arc<str>, VecDeque<Sighting>>>>;

#[derive(Clone, Copy, Debug)]
struct Sighting {
    place: Place,
    /// Milliseconds since 1970.
    time: i64,
}

/// The routes of vehicle-telemetry.
pub fn router() -> Router {
    Router::new()
        .fallback(answer)
        .with_state(Sightings::default())
}

async fn answer(State(sightings): State<Sightings>, request: Request) -> Response {
    let asked = match Asked::read(request).await {
        Ok(asked) => asked,
        Err(refused) => return refused,
    };
    match asked.segments().as_slice() {
        ["health"] => endpoint::healthy(),
        ["vehicles"] if asked.method == Method::POST => keep(&sightings, &asked),
        ["vehicles"] => asked.method_not_allowed("POST"),
        ["vehicles", name] if asked.is_get() => {
            let known = sightings.lock().unwrap_or_else(PoisonError::into_inner);
            match known
                .get(*name)
                .and_then(|kept| speed(kept, rand::random()))
            {
                Some(speed) => endpoint::json(&speed),
                None => StatusCode::OK.into_response(),
            }
        }
        ["vehicles", _] => asked.method_not_allowed("GET"),
        _ => asked.not_found(),
    }
}

fn keep(sightings: &Sightings, asked: &Asked) -> Response {
    let report = match Report::parse(&asked.body) {
        Ok(report) => report,
        Err(problem) => return asked.error(StatusCode::BAD_REQUEST, &problem),
    };
    let Some(time) = report.timestamp else {
        return asked.error(StatusCode::BAD_REQUEST, "timestamp: missing");
    };
    let mut known = sightings.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= MAX_VEHICLES && !known.contains_key(&report.name) {
        let problem = "too many vehicles; restart the service to forget them";
        return asked.error(StatusCode::INSUFFICIENT_STORAGE, problem);
    }
    let kept = known.entry(report.name).or_default();
    kept.truncate(KEPT);
    if kept.len() == KEPT {
        kept.pop_front();
    }
    kept.push_back(Sighting {
        place: (report.lat.value(), report.lng.value()),
        time: time.milliseconds(),
    });
    StatusCode::OK.into_response()
}

/// Miles per hour between the oldest and the newest sighting; none with fewer than two. What is too
/// fast to be true is replaced by something from 30 to 110, for which `random` is from 0 to 1.
fn speed(kept: &VecDeque<Sighting>, random: f64) -> Option<Decimal> {
    let (oldest, newest) = (kept.front()?, kept.back()?);
    if kept.len() < 2 {
        return None;
    }
    let milliseconds = newest.time.abs_diff(oldest.time);
    if milliseconds == 0 {
        return "0".parse().ok();
    }
    let metres_per_second = distance(oldest.place, newest.place) * 1000.0 / milliseconds as f64;
    let speed = miles_per_hour(metres_per_second)?;
    if speed.value() > FASTEST {
        return (30.0 + 80.0 * random).to_string().parse().ok();
    }
    Some(speed)
}

/// The exact product of a speed, as it is written in decimal, and the factor: no digit is rounded
/// away, which is why speeds have some twenty places. 0 for what is too small to be written so.
fn miles_per_hour(metres_per_second: f64) -> Option<Decimal> {
    let text = metres_per_second.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, "0"));
    let places = fraction.len() + 6;
    let product = format!("{whole}{fraction}")
        .parse::<u128>()
        .ok()
        .and_then(|digits| digits.checked_mul(MICRO_MPH))
        .map(|product| format!("{product:0>width$}", width = places + 1));
    let exact = product.and_then(|digits| {
        let (whole, fraction) = digits.split_at(digits.len() - places);
        format!("{whole}.{fraction}").parse().ok()
    });
    exact.or_else(|| "0".parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{get, send};

    fn report(lat: f64, second: u32) -> String {
        format!(
            r#"{{"name":"City Truck","lat":{lat},"lng":-1.5,"timestamp":"2023-11-13T05:31:{second:02}.000+0000","speed":null}}"#
        )
    }

    async fn post(router: &Router, body: &str) -> u16 {
        let answer = send(router, Method::POST, "/vehicles/", body, &[]).await;
        assert!(answer.status != 200 || answer.body.is_empty());
        answer.status
    }

    #[tokio::test]
    async fn a_speed_needs_two_reports() {
        let router = router();
        let path = "/vehicles/City%20Truck";
        for round in 0..2 {
            let answer = get(&router, path).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, ""));
            if round == 0 {
                assert_eq!(post(&router, &report(53.0, 0)).await, 200);
            }
        }
        assert_eq!(post(&router, &report(53.001, 10)).await, 200);
        let answer = get(&router, path).await;
        // 111.3 m in 10 s are 24.9 mph.
        assert!(answer.body.starts_with("24.8"), "{}", answer.body);
        assert!(answer.body.len() > 15, "{}", answer.body);
        assert_eq!(answer.content_type, "application/json;charset=UTF-8");
        assert_eq!(get(&router, "/vehicles/Unknown").await.body, "");
    }

    #[tokio::test]
    async fn only_the_last_ten_reports_count() {
        let router = router();
        assert_eq!(post(&router, &report(53.0, 0)).await, 200);
        for second in 1..=10 {
            assert_eq!(post(&router, &report(53.5, second)).await, 200);
        }
        let speed = get(&router, "/vehicles/City%20Truck").await.body;
        assert!(speed.trim_start_matches(['0', '.']).is_empty(), "{speed}");
    }

    #[test]
    fn digits_are_those_of_the_exact_product() {
        let text = |speed| miles_per_hour(speed).expect("a speed").to_string();
        assert_eq!(text(2.5), "5.5923400");
        assert_eq!(text(10.0), "22.3693600");
        assert_eq!(text(0.0), "0.0000000");
        // What the upstream services answered somewhere, some day.
        assert_eq!(text(11.065_015_262_217_9), "24.7517309806046603544");
        assert_eq!(text(2.694_258_478_055_7), "6.0268837828680053352");
        assert_eq!(text(1e-300), "0");
    }

    #[test]
    fn equal_times_and_wrong_reports() {
        let at = |latitude, time| Sighting {
            place: (latitude, 0.0),
            time,
        };
        let of = |sightings: &[Sighting], random| {
            speed(&sightings.iter().copied().collect(), random).map(|speed| speed.to_string())
        };
        assert_eq!(of(&[], 0.5), None);
        assert_eq!(of(&[at(1.0, 5), at(2.0, 5)], 0.5).as_deref(), Some("0"));
        assert_eq!(of(&[at(1.0, 0), at(2.0, 1000)], 0.0).as_deref(), Some("30"));
        assert_eq!(of(&[at(1.0, 0), at(2.0, 1000)], 0.5).as_deref(), Some("70"));
        assert_eq!(
            of(&[at(1.0, 0), at(2.0, 1000)], 1.0).as_deref(),
            Some("110")
        );
        // A clock that was set back.
        assert_eq!(
            of(&[at(1.0, 1000), at(1.0, 0)], 0.5).as_deref(),
            Some("0.0000000")
        );
    }

    #[tokio::test]
    async fn bad_requests_are_told_what_is_wrong() {
        let router = router();
        let answer = send(
            &router,
            Method::POST,
            "/vehicles/",
            r#"{"name":"x","lat":1,"lng":1}"#,
            &[],
        )
        .await;
        answer.is_error(400, "Bad Request", "timestamp: missing", "/vehicles/");
        assert_eq!(post(&router, "{").await, 400);
        get(&router, "/vehicles/").await.is_error(
            405,
            "Method Not Allowed",
            "Request method 'GET' not supported",
            "/vehicles/",
        );
        get(&router, "/else")
            .await
            .is_error(404, "Not Found", "No message available", "/else");
        assert_eq!(get(&router, "/health").await.body, r#"{"status":"UP"}"#);
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let router = router();
        for vehicle in 0..MAX_VEHICLES {
            let body = format!(r#"{{"name":"{vehicle}","lat":1,"lng":1,"timestamp":0}}"#);
            assert_eq!(post(&router, &body).await, 200);
        }
        assert_eq!(post(&router, &report(1.0, 0)).await, 507);
    }
}
