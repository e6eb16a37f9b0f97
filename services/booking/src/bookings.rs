//! booking: keeps bookings, for which it asks vaccine.

use std::time::Duration;

use anyhow::bail;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware;
use axum::response::Response;
use axum::routing::{get, post};
use dojo_kit::chaos::settings::Settings;
use dojo_kit::{Identity, Kit, ServeArgs, client, propagation};
use serde_json::json;
use spring::entity::Field;
use spring::problem::{MAX_BODY, Problem};
use spring::repository::{Repository, Resource, WhenFull};
use spring::rest;

use crate::capacity::{Capacity, CapacityArgs};

/// What a booking is. Load generators make many: the oldest are forgotten.
static BOOKINGS: Resource = Resource {
    collection: "bookings",
    item: "booking",
    fields: &[
        Field::number("vaccineId"),
        Field::text("vcName"),
        Field::number("userId"),
        Field::text("status"),
    ],
    capacity: 10_000,
    when_full: WhenFull::ForgetOldest,
};

/// How long vaccine may take: what the original's client allows.
const LIMIT: Duration = Duration::from_secs(60);

/// The flags of booking.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The version, shown in metrics.
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    pub version: String,
    /// Where vaccine is: a host, a host and a port, or an address.
    #[arg(
        long,
        env = "vaccine-url",
        value_name = "URL",
        default_value = "http://vaccine:8080"
    )]
    pub vaccine_url: String,
    /// What a copy can do.
    #[command(flatten)]
    pub capacity: CapacityArgs,
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
        let identity = Identity::new("booking", &self.version);
        let vaccine = base(&self.vaccine_url)?;
        // About 55 requests per second and copy: of a hundred users at once, about one in five then
        // waits longer than three seconds, the time limit of the autoscaling lab.
        let times = (Duration::from_millis(18), Duration::from_millis(3));
        let capacity = self.capacity.capacity(1, times.0, times.1);
        dojo_kit::run(
            identity,
            &self.serve,
            crate::PORT,
            Settings::default(),
            |kit| router(kit, vaccine, capacity),
        )
        .await?;
        Ok(())
    }
}

/// The address of vaccine, without a slash at the end.
fn base(text: &str) -> anyhow::Result<String> {
    let text = text.trim().trim_end_matches('/');
    let address = if text.contains("://") {
        text.to_owned()
    } else if text.contains(':') {
        format!("http://{text}")
    } else {
        format!("http://{text}:{}", crate::PORT)
    };
    match reqwest::Url::parse(&address) {
        Ok(url) if url.scheme() == "http" && url.host_str().is_some() => Ok(address),
        _ => bail!("vaccine-url: `{text}` is not an address like http://vaccine:8080"),
    }
}

#[derive(Clone)]
struct Bookings {
    repository: Repository,
    kit: Kit,
    vaccine: String,
    capacity: Capacity,
}

/// The routes of booking, which asks vaccine at this address.
pub fn router(kit: &Kit, vaccine: String, capacity: Capacity) -> Router {
    let repository = Repository::new(&BOOKINGS);
    let bookings = Bookings {
        repository: repository.clone(),
        kit: kit.clone(),
        vaccine,
        capacity,
    };
    let booked = post(book)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(bookings);
    Router::new()
        .route(
            &rest::collection_path(&repository),
            rest::collection(&repository).merge(booked),
        )
        .route(
            &rest::item_path(&repository),
            rest::item(&repository).layer(middleware::from_fn_with_state(repository, cancelled)),
        )
        .route("/actuator/health", get(|| async { spring::health(true) }))
        .layer(middleware::from_fn(spring::problem::dress))
}

async fn book(
    State(bookings): State<Bookings>,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Result<Response, Problem> {
    let repository = &bookings.repository;
    let mut booking = rest::read_new(repository, &headers, &body)?;
    bookings.capacity.work().await;
    // Whatever the client calls it: a booking that is taken is BOOKED.
    booking.insert("status".into(), json!("BOOKED"));
    let failed = |message: String| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, message);
    let in_stock = bookings
        .ask_vaccine(&booking["vaccineId"].to_string(), &headers)
        .await
        .map_err(|error| {
            tracing::error!("vaccine: {error}");
            failed(format!(
                "Could not commit JPA transaction; vaccine: {error}"
            ))
        })?;
    if !in_stock {
        return Err(failed(
            "Could not commit JPA transaction; Out of Stock Exception Raised.".to_owned(),
        ));
    }
    let id = repository.insert(booking.clone())?;
    Ok(rest::created(repository, &headers, &uri, id, booking))
}

impl Bookings {
    /// Whether vaccine has one, and has booked it.
    async fn ask_vaccine(&self, id: &str, incoming: &HeaderMap) -> Result<bool, String> {
        let url = format!("{}/vaccines/checkAndBookStock?vaccineId={id}", self.vaccine);
        let headers = propagation::propagated(incoming, &[propagation::TRACE_HEADERS]);
        let answer = client::get(&self.kit.client, &url, headers, LIMIT)
            .await
            .map_err(|error| error.to_string())?;
        if !answer.status.is_success() {
            return Err(format!("status {}", answer.status.as_u16()));
        }
        serde_json::from_slice(&answer.body)
            .map_err(|_| "an answer that is neither true nor false".into())
    }
}

/// Logs the event that a cancellation is. Kafka, to which the original sends it, is not needed.
async fn cancelled(
    State(repository): State<Repository>,
    path: Path<String>,
    request: axum::extract::Request,
    next: middleware::Next,
) -> Response {
    let amends = request.method() == axum::http::Method::PATCH;
    let response = next.run(request).await;
    let booking = path.parse().ok().and_then(|id| repository.get(id));
    if amends && booking.is_some_and(|booking| booking["status"] == "BOOKING_CANCELLED") {
        tracing::info!("event BookingCancelled: booking {}", path.as_str());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Answer, ask, instant};

    const BOOKING: &str = r#"{"vaccineId":1,"vcName":"FIZER","userId":5,"status":"BOOCKED"}"#;

    async fn booking(vaccine: Router) -> Router {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let vaccine_url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(dojo_kit::server::serve(
            listener,
            vaccine,
            std::future::pending(),
        ));
        at(vaccine_url)
    }

    fn at(vaccine_url: String) -> Router {
        let identity = Identity {
            service: "booking",
            version: "v1".into(),
            pod: None,
        };
        let kit = Kit::new(identity, None).expect("a client");
        router(&kit, vaccine_url, instant())
    }

    async fn kept(router: &Router) -> i64 {
        let list = ask(router, "GET", "/bookings", "").await.json();
        list["page"]["totalElements"].as_i64().expect("a number")
    }

    #[tokio::test]
    async fn a_booking_is_kept_when_vaccine_has_one() {
        let router = booking(crate::vaccines::router(instant())).await;
        let answer = ask(&router, "POST", "/bookings", BOOKING).await;
        assert_eq!(answer.status, 201);
        assert_eq!(answer.headers["location"], "http://booking:8080/bookings/1");
        assert_eq!(answer.content_type, "application/hal+json;charset=UTF-8");
        assert!((200..=320).contains(&answer.body.len()), "{}", answer.body);
        let json = answer.json();
        assert_eq!(json["status"], "BOOKED");
        assert_eq!(
            (&json["vaccineId"], &json["userId"]),
            (&json!(1), &json!(5))
        );
        assert_eq!(kept(&router).await, 1);
        let cancel = r#"{"status":"BOOKING_CANCELLED"}"#;
        let answer = ask(&router, "PATCH", "/bookings/1", cancel).await;
        assert_eq!(
            (answer.status, &answer.json()["status"]),
            (200, &json!("BOOKING_CANCELLED"))
        );
        assert_eq!(ask(&router, "DELETE", "/bookings/1", "").await.status, 204);
        assert_eq!(
            ask(&router, "GET", "/actuator/health", "").await.body,
            r#"{"status":"UP"}"#
        );
    }

    async fn refused(vaccine: Router) -> Answer {
        let router = booking(vaccine).await;
        let answer = ask(&router, "POST", "/bookings", BOOKING).await;
        assert_eq!(answer.status, 500);
        assert_eq!(kept(&router).await, 0);
        answer
    }

    #[tokio::test]
    async fn nothing_is_kept_when_vaccine_has_none_or_fails() {
        let answer = refused(Router::new().fallback(|| async { "false" })).await;
        let message = answer.json()["message"].as_str().expect("text").to_owned();
        assert!(
            message.contains("Out of Stock Exception Raised."),
            "{message}"
        );
        assert_eq!(answer.json()["path"], "/bookings");
        let fails = Router::new().fallback(|| async { StatusCode::GATEWAY_TIMEOUT });
        assert!(refused(fails).await.body.contains("status 504"));
        let garbage = Router::new().fallback(|| async { "<html>" });
        assert!(
            refused(garbage)
                .await
                .body
                .contains("neither true nor false")
        );
        let huge = Router::new().fallback(|| async { "x".repeat(3 << 20) });
        assert!(refused(huge).await.body.contains("larger than"));
    }

    #[tokio::test]
    async fn bad_bookings_do_not_reach_vaccine() {
        let router = at("http://127.0.0.1:1".into());
        assert_eq!(ask(&router, "POST", "/bookings", "{").await.status, 400);
        let large = "x".repeat(MAX_BODY + 1);
        assert_eq!(ask(&router, "POST", "/bookings", &large).await.status, 413);
        assert_eq!(ask(&router, "POST", "/bookings", BOOKING).await.status, 500);
    }

    #[tokio::test(start_paused = true)]
    async fn a_vaccine_that_hangs_is_given_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let router = at(format!(
            "http://{}",
            listener.local_addr().expect("an address")
        ));
        let started = tokio::time::Instant::now();
        assert_eq!(ask(&router, "POST", "/bookings", BOOKING).await.status, 500);
        assert_eq!(started.elapsed().as_secs(), 60);
    }

    #[test]
    fn the_address_of_vaccine_is_completed_and_checked() {
        for (text, address) in [
            ("vaccine", "http://vaccine:8080"),
            ("vaccine:80", "http://vaccine:80"),
            ("http://vaccine:8080/", "http://vaccine:8080"),
        ] {
            assert_eq!(base(text).expect("valid"), address);
        }
        assert!(base("https://vaccine").is_err());
        assert!(base("").is_err());
    }
}
