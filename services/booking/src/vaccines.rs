//! vaccine: has vaccines in stock, and books from it.

use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::header;
use axum::middleware;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Router, http::StatusCode};
use dojo_kit::chaos::settings::Settings;
use dojo_kit::{Identity, ServeArgs};
use serde_json::{Value, json};
use spring::entity::{self, Field};
use spring::problem::Problem;
use spring::repository::{Repository, Resource, WhenFull};
use spring::rest;

use crate::capacity::{Capacity, CapacityArgs};

/// What a vaccine is.
static VACCINES: Resource = Resource {
    collection: "vaccines",
    item: "vaccine",
    fields: &[
        Field::text("vcName"),
        Field::number("stock").or_zero(),
        Field::number("bookQty").or_zero(),
    ],
    capacity: 1000,
    when_full: WhenFull::Refuse,
};

/// The vaccine that is there from the start, as number 1: its name and its stock.
const FIRST: (&str, i64) = ("FIZER", 1_000_000);

/// The flags of vaccine.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The version, shown in metrics.
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    pub version: String,
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
        let identity = Identity::new("vaccine", &self.version);
        let times = (Duration::from_millis(5), Duration::from_millis(2));
        let capacity = self.capacity.capacity(8, times.0, times.1);
        dojo_kit::run(
            identity,
            &self.serve,
            crate::PORT,
            Settings::default(),
            |_| router(capacity),
        )
        .await?;
        Ok(())
    }
}

#[derive(Clone)]
struct Vaccines {
    repository: Repository,
    capacity: Capacity,
}

/// The routes of vaccine.
pub fn router(capacity: Capacity) -> Router {
    let repository = Repository::new(&VACCINES);
    let mut first = entity::blank(VACCINES.fields);
    first.insert("vcName".into(), json!(FIRST.0));
    first.insert("stock".into(), json!(FIRST.1));
    if let Err(problem) = repository.insert(first) {
        tracing::error!("the first vaccine is missing: {}", problem.message);
    }
    Router::new()
        .route("/vaccines/checkAndBookStock", get(check_and_book))
        .with_state(Vaccines {
            repository: repository.clone(),
            capacity,
        })
        .merge(rest::routes(&repository))
        .route("/actuator/health", get(|| async { spring::health(true) }))
        .layer(middleware::from_fn(spring::problem::dress))
}

async fn check_and_book(
    State(vaccines): State<Vaccines>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    tracing::info!("##### /vaccine/checkAndBookStock  called #####");
    let bad = |message: &str| Problem::new(StatusCode::BAD_REQUEST, message);
    let id: u64 = query
        .iter()
        .find(|(name, _)| name == "vaccineId")
        .ok_or_else(|| bad("Required Long parameter 'vaccineId' is not present"))?
        .1
        .parse()
        .map_err(|_| bad("the parameter 'vaccineId' is not a number"))?;
    vaccines.capacity.work().await;
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    let booked = vaccines.repository.update(id, |vaccine| {
        let booked = number(&vaccine["bookQty"]);
        let available = number(&vaccine["stock"]) - booked > 0;
        if available {
            vaccine["bookQty"] = json!(booked + 1);
        }
        available
    });
    let text = if booked == Some(true) {
        "true"
    } else {
        "false"
    };
    Ok(([(header::CONTENT_TYPE, spring::JSON)], text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ask, instant};

    const CHECK: &str = "/vaccines/checkAndBookStock?vaccineId=";

    #[tokio::test]
    async fn stock_is_booked_until_there_is_none() {
        let router = router(instant());
        let created = ask(
            &router,
            "POST",
            "/vaccines",
            r#"{"vcName":"M","stock":2,"bookQty":0}"#,
        )
        .await;
        assert_eq!((created.status, &created.json()["stock"]), (201, &json!(2)));
        let check = format!("{CHECK}2");
        for expected in ["true", "true", "false", "false"] {
            let answer = ask(&router, "GET", &check, "").await;
            assert_eq!((answer.status, answer.body.as_str()), (200, expected));
            assert_eq!(answer.content_type, "application/json;charset=UTF-8");
        }
        let vaccine = ask(&router, "GET", "/vaccines/2", "").await.json();
        assert_eq!(vaccine["bookQty"], 2);
        ask(&router, "PATCH", "/vaccines/2", r#"{"stock":3}"#).await;
        assert_eq!(ask(&router, "GET", &check, "").await.body, "true");
    }

    #[tokio::test]
    async fn the_first_vaccine_is_there_from_the_start() {
        let router = router(instant());
        assert_eq!(
            ask(&router, "GET", &format!("{CHECK}1"), "").await.body,
            "true"
        );
        let vaccine = ask(&router, "GET", "/vaccines/1", "").await.json();
        assert_eq!(vaccine["vcName"], "FIZER");
        assert_eq!(
            (&vaccine["stock"], &vaccine["bookQty"]),
            (&json!(1_000_000), &json!(1))
        );
        assert_eq!(
            ask(&router, "GET", &format!("{CHECK}99"), "").await.body,
            "false"
        );
        let list = ask(&router, "GET", "/vaccines", "").await.json();
        assert_eq!(list["page"]["totalElements"], 1);
    }

    #[tokio::test]
    async fn missing_numbers_are_zero_and_bad_ones_refused() {
        let router = router(instant());
        let created = ask(&router, "POST", "/vaccines", r#"{"vcName":"M"}"#)
            .await
            .json();
        assert_eq!(
            (&created["stock"], &created["bookQty"]),
            (&json!(0), &json!(0))
        );
        assert_eq!(
            ask(&router, "GET", &format!("{CHECK}2"), "").await.body,
            "false"
        );
        assert_eq!(
            ask(&router, "GET", &format!("{CHECK}x"), "").await.status,
            400
        );
        assert_eq!(
            ask(&router, "GET", "/vaccines/checkAndBookStock", "")
                .await
                .status,
            400
        );
        assert_eq!(ask(&router, "DELETE", "/vaccines/1", "").await.status, 204);
        let health = ask(&router, "GET", "/actuator/health", "").await;
        assert_eq!(
            (health.status, health.body.as_str()),
            (200, r#"{"status":"UP"}"#)
        );
    }
}
