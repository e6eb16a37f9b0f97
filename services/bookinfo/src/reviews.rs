//! reviews: two opinions on the book; versions v2 and v3 add stars that they ask ratings for.

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use dojo_kit::chaos::settings::Settings;
use dojo_kit::client;
use dojo_kit::{Identity, Kit, SERVED_BY, ServeArgs, StartError};
use serde_json::{Value, json};

use crate::upstream::Upstream;

/// The response header that names the pod of ratings that gave the stars.
pub const RATINGS_SERVED_BY: HeaderName = HeaderName::from_static("x-ratings-served-by");

/// Headers passed on to ratings, beside those of tracing.
pub(crate) const PASSED_ON: &[&str] = &["end-user", "user-agent", "cookie", "authorization", "jwt"];

const TEXTS: [(&str, &str); 2] = [
    (
        "Reviewer1",
        "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!",
    ),
    (
        "Reviewer2",
        "Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare.",
    ),
];

/// The flags of reviews.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The version: v1 shows no stars, v2 black ones, v3 red ones.
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    pub version: String,
    /// Whether to ask ratings for stars. Default: by version.
    #[arg(long, env = "ENABLE_RATINGS", value_name = "true|false")]
    pub enable_ratings: Option<String>,
    /// The colour of the stars. Black waits 10 s for ratings, any other colour 2.5 s. Default: by
    /// version.
    #[arg(long, env = "STAR_COLOR", value_name = "COLOR")]
    pub star_color: Option<String>,
    /// The host name of ratings.
    #[arg(long, env = "RATINGS_HOSTNAME", default_value = "ratings")]
    pub ratings_hostname: String,
    /// The port of ratings.
    #[arg(long, env = "RATINGS_SERVICE_PORT", default_value_t = crate::PORT)]
    pub ratings_port: u16,
    /// Appended to the host name of ratings, after a dot.
    #[arg(long, env = "SERVICES_DOMAIN")]
    pub services_domain: Option<String>,
    /// The name of the cluster, shown on the page.
    #[arg(long, env = "CLUSTER_NAME")]
    pub cluster_name: Option<String>,
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
        let identity = Identity::new("reviews", &self.version);
        let config = self.config();
        dojo_kit::run(
            identity,
            &self.serve,
            crate::PORT,
            Settings::default(),
            |kit: &Kit| router(kit, config),
        )
        .await
    }

    /// What the flags say, with what the version brings.
    #[must_use]
    pub fn config(&self) -> Config {
        let stars_by_version = match self.version.as_str() {
            "v2" => Some("black"),
            "v3" => Some("red"),
            _ => None,
        };
        let enabled = match &self.enable_ratings {
            Some(text) => text.eq_ignore_ascii_case("true"),
            None => stars_by_version.is_some(),
        };
        let color = self
            .star_color
            .as_deref()
            .or(stars_by_version)
            .unwrap_or("black");
        let ratings = Upstream::new(
            &self.ratings_hostname,
            self.ratings_port,
            self.services_domain.as_deref(),
        );
        Config {
            stars: enabled.then(|| Stars {
                color: color.to_owned(),
                ratings,
            }),
            cluster_name: self.cluster_name.clone(),
        }
    }
}

/// What reviews needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    stars: Option<Stars>,
    cluster_name: Option<String>,
}

#[derive(Clone, Debug)]
struct Stars {
    color: String,
    ratings: Upstream,
}

impl Stars {
    /// How long to wait for ratings: the upstream service decides by colour, not by version.
    fn timeout(&self) -> Duration {
        if self.color == "black" {
            Duration::from_secs(10)
        } else {
            Duration::from_millis(2500)
        }
    }
}

#[derive(Clone)]
struct Reviews {
    kit: Kit,
    config: Config,
}

/// The routes of reviews.
pub fn router(kit: &Kit, config: Config) -> Router {
    Router::new()
        .route(
            "/health",
            get(|| async {
                crate::json_text(StatusCode::OK, r#"{"status": "Reviews is healthy"}"#)
            }),
        )
        .route("/reviews/{id}", get(reviews))
        .with_state(Reviews {
            kit: kit.clone(),
            config,
        })
}

async fn reviews(
    State(service): State<Reviews>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let Ok(id) = id.parse::<i32>() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Some(stars) = &service.config.stars else {
        return axum::Json(document(&service, id, |_| None)).into_response();
    };
    let ratings = ask_ratings(&service.kit, stars, id, &headers).await;
    let body = document(&service, id, |reviewer| {
        Some(
            match ratings.stars.as_ref().and_then(|stars| stars.get(reviewer)) {
                Some(count) => json!({"stars": count, "color": stars.color}),
                None => json!({"error": "Ratings service is currently unavailable"}),
            },
        )
    });
    let mut response = axum::Json(body).into_response();
    if let Some(pod) = ratings.served_by {
        response.headers_mut().insert(RATINGS_SERVED_BY, pod);
    }
    response
}

fn document(service: &Reviews, id: i32, rating: impl Fn(&str) -> Option<Value>) -> Value {
    let reviews: Vec<Value> = TEXTS
        .iter()
        .map(|(reviewer, text)| {
            let mut review = json!({"reviewer": reviewer, "text": text});
            if let Some(rating) = rating(reviewer) {
                review["rating"] = rating;
            }
            review
        })
        .collect();
    json!({
        "id": id.to_string(),
        "podname": service.kit.identity.pod.as_deref().unwrap_or("null"),
        "clustername": service.config.cluster_name.as_deref().unwrap_or("null"),
        "reviews": reviews,
    })
}

/// What ratings said: the object of stars by reviewer, if it gave one, and the pod that answered.
#[derive(Default)]
struct Ratings {
    stars: Option<Value>,
    served_by: Option<HeaderValue>,
}

async fn ask_ratings(kit: &Kit, stars: &Stars, id: i32, incoming: &HeaderMap) -> Ratings {
    let address = format!("{}/ratings", stars.ratings.base());
    let mut headers = dojo_kit::propagation::propagated(
        incoming,
        &[dojo_kit::propagation::TRACE_HEADERS, PASSED_ON],
    );
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let url = format!("{address}/{id}");
    let answer = match client::get(&kit.client, &url, headers, stars.timeout()).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::error!("Error: unable to contact {address} got exception {error}");
            return Ratings::default();
        }
    };
    let served_by = answer.headers.get(SERVED_BY).cloned();
    if answer.status != StatusCode::OK {
        tracing::warn!(
            "Error: unable to contact {address} got status of {}",
            answer.status.as_u16()
        );
        return Ratings {
            stars: None,
            served_by,
        };
    }
    match serde_json::from_slice::<Value>(&answer.body) {
        Ok(mut body) => Ratings {
            stars: body.get_mut("ratings").map(Value::take),
            served_by,
        },
        Err(error) => {
            tracing::error!("Error: unable to contact {address} got exception {error}");
            Ratings {
                stars: None,
                served_by,
            }
        }
    }
}

#[cfg(test)]
#[path = "reviews/tests.rs"]
mod tests;
