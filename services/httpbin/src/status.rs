//! Any status, or one drawn from a weighted list.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use serde_json::json;

use crate::asked::{Asked, document};
use crate::{Bin, bad};

/// The most entries of a list.
const MAX_CHOICES: usize = 100;

/// The routes about statuses.
pub(crate) fn routes() -> Router<Bin> {
    Router::new()
        .route("/status/{codes}", any(status))
        .route("/unstable", get(unstable))
}

async fn status(Path(codes): Path<String>) -> Response {
    match choices(&codes) {
        Ok(choices) => respond(draw(&choices, rand::random())),
        Err(detail) => bad(&detail),
    }
}

/// A list of statuses with weights: `200:3,503:1`, or `200,503` (equal weights).
fn choices(text: &str) -> Result<Vec<(StatusCode, f64)>, String> {
    let choices = text
        .split(',')
        .map(|entry| {
            let (code, weight) = entry.split_once(':').unwrap_or((entry, "1"));
            let code = code
                .trim()
                .parse()
                .ok()
                .filter(|code| (200..=599).contains(code))
                .and_then(|code| StatusCode::from_u16(code).ok())
                .ok_or_else(|| format!("`{code}` is not a status from 200 to 599"))?;
            let weight = weight
                .trim()
                .parse()
                .ok()
                .filter(|weight: &f64| weight.is_finite() && *weight >= 0.0)
                .ok_or_else(|| {
                    format!("`{weight}` is not a weight; write for example 200:3,503:1")
                })?;
            Ok((code, weight))
        })
        .collect::<Result<Vec<_>, String>>()?;
    if choices.len() > MAX_CHOICES {
        return Err(format!("more than {MAX_CHOICES} statuses"));
    }
    if choices.iter().all(|(_, weight)| *weight == 0.0) {
        return Err("all weights are 0".to_owned());
    }
    Ok(choices)
}

/// One of the choices, given a random number from 0 to 1.
fn draw(choices: &[(StatusCode, f64)], random: f64) -> StatusCode {
    let total: f64 = choices.iter().map(|(_, weight)| weight).sum();
    let mut rest = random * total;
    for (code, weight) in choices {
        if rest < *weight {
            return *code;
        }
        rest -= weight;
    }
    // Only rounding leads here.
    choices[choices.len() - 1].0
}

fn respond(status: StatusCode) -> Response {
    let with = |name, value| (status, [(name, HeaderValue::from_static(value))]).into_response();
    match status.as_u16() {
        301..=303 | 305 | 307 | 308 => with(header::LOCATION, "/redirect/1"),
        401 => with(header::WWW_AUTHENTICATE, r#"Basic realm="Fake Realm""#),
        402 => (status, "Payment required").into_response(),
        406 => document(
            status,
            &json!({
                "message": "Client did not request a supported media type.",
                "accept": ["image/svg+xml", "image/png", "image/*"],
            }),
        ),
        407 => with(header::PROXY_AUTHENTICATE, r#"Basic realm="Fake Realm""#),
        418 => (status, "I'm a teapot!").into_response(),
        _ => status.into_response(),
    }
}

async fn unstable(asked: Asked) -> Response {
    let rate = match asked
        .parameter("failure_rate")
        .map(|text| text.parse::<f64>())
    {
        None => 0.5,
        Some(Ok(rate)) if (0.0..=1.0).contains(&rate) => rate,
        Some(_) => return bad("failure_rate must be a number from 0 to 1"),
    };
    let random = match asked.parameter("seed").map(|text| text.parse::<u64>()) {
        None => rand::random(),
        Some(Ok(seed)) => {
            use rand::{RngExt as _, SeedableRng as _};
            rand::rngs::SmallRng::seed_from_u64(seed).random::<f64>()
        }
        Some(Err(_)) => return bad("seed must be a whole number"),
    };
    if random < rate {
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    } else {
        StatusCode::OK.into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{get, go, send};

    #[tokio::test]
    async fn a_status_is_answered_to_every_method() {
        for code in [200, 204, 302, 404, 429, 500, 503, 599] {
            for method in ["GET", "POST", "DELETE"] {
                let answer = send(&go(), method, &format!("/status/{code}"), &[], "").await;
                assert_eq!(answer.status, code);
            }
        }
        assert_eq!(get("/status/308").await.header("location"), "/redirect/1");
        assert_eq!(
            get("/status/401").await.header("www-authenticate"),
            r#"Basic realm="Fake Realm""#
        );
        assert_eq!(get("/status/418").await.body, "I'm a teapot!");
    }

    #[tokio::test]
    async fn nonsense_is_a_400_with_its_reason() {
        for path in [
            "abc", "99", "600", "100", "200:x", "200:-1", "200:0", "200,,500",
        ] {
            let answer = get(&format!("/status/{path}")).await;
            assert_eq!(answer.status, 400, "{path}");
            let json = answer.json();
            assert_eq!(
                (&json["status_code"], &json["error"]),
                (&json!(400), &json!("Bad Request"))
            );
            assert!(json["detail"].is_string());
        }
    }

    #[test]
    fn weights_are_shares() {
        let choices = choices("200:3,503:1").expect("a list");
        let failed = (0..1000)
            .filter(|n| draw(&choices, f64::from(*n) / 1000.0) == 503)
            .count();
        assert_eq!(failed, 250);
        assert_eq!(draw(&choices, 1.0), 503);
    }

    #[tokio::test]
    async fn unstable_fails_at_its_rate() {
        assert_eq!(get("/unstable?failure_rate=0").await.status, 200);
        assert_eq!(get("/unstable?failure_rate=1").await.status, 500);
        assert_eq!(get("/unstable?failure_rate=2").await.status, 400);
        assert_eq!(get("/unstable?seed=x").await.status, 400);
        assert_eq!(
            get("/unstable?seed=3").await.status,
            get("/unstable?seed=3").await.status
        );
    }
}
