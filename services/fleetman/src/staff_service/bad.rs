//! How the bad variant misbehaves: as chaos, so that it shows in `/chaos` and in metrics and can be
//! changed there, dressed up as what the upstream service answers.

use std::time::Duration;

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use dojo_kit::chaos::Injected;
use dojo_kit::chaos::settings::{ErrorType, Settings, Variance};

/// The share of requests that fail unless told otherwise.
pub const RATE: f64 = 0.7;
/// What a wait is at the least: a variance alone adds to nothing.
const SHORTEST: Duration = Duration::from_millis(1);

/// Every request waits up to `longest`; `rate` (0 to 1) of them fail then.
#[must_use]
pub fn chaos(rate: f64, longest: Duration) -> Settings {
    Settings {
        error_rate: rate,
        error_type: ErrorType::Delay,
        error_code: 502,
        error_delay: SHORTEST,
        timing_50_percentile: SHORTEST,
        timing_variance: Variance::UpTo(longest),
        path: Some("/driver/*".into()),
        ..Settings::default()
    }
}

/// Gives failures their form: an empty 502 for a question, a 500 for a report.
pub(super) async fn dress(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    if response.extensions().get::<Injected>().is_none() {
        return response;
    }
    if method == Method::POST {
        tracing::error!("Service is low on resources: cannot log a speed ({path})");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    response.status().into_response()
}

/// Reads a share.
///
/// # Errors
/// When it is not from 0 to 1.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.0..=1.0).contains(&rate) => Ok(rate),
        _ => Err(format!(
            "`{text}` is not a share; write a number from 0 to 1"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_from_0_to_1() {
        assert_eq!(parse_rate("0.5"), Ok(0.5));
        for text in ["2", "-1", "NaN", "half", ""] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
        assert!(chaos(RATE, Duration::from_secs(5)).validate().is_ok());
    }
}
