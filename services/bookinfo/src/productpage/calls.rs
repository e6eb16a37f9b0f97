//! What productpage asks other services, and what it makes of their answers.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use dojo_kit::SERVED_BY;
use dojo_kit::client::{self, Answer, CallError};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{CALL_TIMEOUT, Productpage};
use crate::reviews::RATINGS_SERVED_BY;

/// How often reviews is asked before the page does without.
const REVIEWS_ATTEMPTS: u32 = 2;

/// Headers passed on, beside those of tracing. `end-user` is not among them: it comes from the
/// login alone.
const PASSED_ON: &[&str] = &["user-agent", "cookie", "authorization", "jwt"];

/// The services that productpage calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum App {
    Details,
    Reviews,
    Ratings,
}

impl App {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Details => "details",
            Self::Reviews => "reviews",
            Self::Ratings => "ratings",
        }
    }
}

/// One part of the page: what a service answered, or the error that stands in for it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) app: App,
    /// That of the service if it answered at all, else 500.
    pub(super) status: StatusCode,
    /// The service's JSON when the status is 200, else an object with `error`.
    pub(super) body: Value,
    /// The pod that answered, when it said so.
    pub(super) served_by: Option<String>,
    /// The pod of ratings behind reviews, when reviews said so.
    pub(super) ratings_served_by: Option<String>,
    /// All attempts together.
    pub(super) took: Duration,
    pub(super) attempts: u32,
}

/// The headers of the calls that one incoming request leads to.
pub(super) fn forwarded(incoming: &HeaderMap, user: Option<&str>) -> HeaderMap {
    let mut headers = dojo_kit::propagation::propagated(
        incoming,
        &[dojo_kit::propagation::TRACE_HEADERS, PASSED_ON],
    );
    dojo_kit::propagation::expand_b3(&mut headers);
    if let Some(user) = user.and_then(|user| {
        HeaderValue::from_str(user)
            .ok()
            .or_else(|| HeaderValue::from_bytes(user.as_bytes()).ok())
    }) {
        headers.insert("end-user", user);
    }
    headers
}

impl Productpage {
    /// Asks a service once.
    pub(super) async fn ask(&self, app: App, id: &str, headers: &HeaderMap) -> Part {
        let upstream = match app {
            App::Details => &self.config.details,
            App::Reviews => &self.config.reviews,
            App::Ratings => &self.config.ratings,
        };
        let url = format!("{}/{}/{id}", upstream.base(), app.name());
        let started = Instant::now();
        let outcome = client::get(&self.kit.client, &url, headers.clone(), CALL_TIMEOUT).await;
        if let Err(error) = &outcome {
            tracing::warn!("cannot get {url}: {error}");
        }
        let part = part(app, outcome, started.elapsed());
        self.kit.metrics.count(
            "request_result_total",
            "Results of calls to other services.",
            &[
                ("destination_app", app.name()),
                ("response_code", part.status.as_str()),
            ],
        );
        part
    }

    /// Asks reviews, and once more when the first answer is anything but 200. The second attempt
    /// is a flaw that labs rely on: with 3 s each, a slow reviews takes the page 6 s.
    pub(super) async fn ask_reviews(&self, id: &str, headers: &HeaderMap) -> Part {
        let started = Instant::now();
        let mut attempts = 1;
        loop {
            let mut part = self.ask(App::Reviews, id, headers).await;
            if part.status == StatusCode::OK || attempts == REVIEWS_ATTEMPTS {
                part.attempts = attempts;
                part.took = started.elapsed();
                return part;
            }
            attempts += 1;
        }
    }
}

fn part(app: App, outcome: Result<Answer, CallError>, took: Duration) -> Part {
    let unavailable = json!({
        "error": format!("Sorry, product {} are currently unavailable for this book.", app.name()),
    });
    let named = |answer: &Answer, header| {
        let value: Option<&HeaderValue> = answer.headers.get(header);
        value
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let mut part = Part {
        app,
        status: StatusCode::INTERNAL_SERVER_ERROR,
        body: unavailable,
        served_by: None,
        ratings_served_by: None,
        took,
        attempts: 1,
    };
    let Ok(answer) = outcome else { return part };
    part.served_by = named(&answer, SERVED_BY);
    part.ratings_served_by = named(&answer, RATINGS_SERVED_BY);
    if answer.status != StatusCode::OK {
        part.status = answer.status;
    } else if let Ok(body) = serde_json::from_slice(&answer.body) {
        part.status = StatusCode::OK;
        part.body = body;
    } else {
        tracing::warn!("the answer of {} is not JSON", app.name());
    }
    part
}
