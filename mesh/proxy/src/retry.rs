//! Whether a failed attempt is made again, and after how long: pure.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use crate::{
    config::{Retry, RetryOn},
    upstream_error::{UpstreamError, is_refused_stream, is_stream_reset},
};

/// First bound of the back-off; the bound doubles up to ten times this.
const BASE: Duration = Duration::from_millis(25);

/// An answer of this status asks for another attempt.
pub(crate) fn retries_answer(retry: &Retry, status: StatusCode, headers: &HeaderMap) -> bool {
    let on = retry.on;
    let code = status.as_u16();
    (status.is_server_error() && on.any_of(RetryOn::SERVER_ERROR))
        || (matches!(code, 502..=504) && on.any_of(RetryOn::GATEWAY_ERROR))
        || (code == 409 && on.any_of(RetryOn::RETRIABLE_4XX))
        || (on.any_of(RetryOn::RETRIABLE_STATUS_CODES) && retry.status_codes.contains(&code))
        || (on.has_grpc()
            && grpc_status(headers)
                .is_some_and(|status| on.any_of(RetryOn::for_grpc_status(status))))
}

/// A gRPC status in the headers of an answer that has no body.
fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// The lack of an answer asks for another attempt.
pub(crate) fn retries_failure(retry: &Retry, error: &UpstreamError) -> bool {
    let no_answer = RetryOn::SERVER_ERROR | RetryOn::GATEWAY_ERROR | RetryOn::RESET;
    let conditions = match error {
        UpstreamError::Connect(_) | UpstreamError::ConnectTimeout => {
            no_answer | RetryOn::CONNECT_FAILURE | RetryOn::RESET_BEFORE_REQUEST
        }
        UpstreamError::PerTryTimeout => {
            let listed = retry.on.any_of(RetryOn::RETRIABLE_STATUS_CODES)
                && retry.status_codes.contains(&504);
            return listed || retry.on.any_of(no_answer);
        }
        UpstreamError::Request(error) if is_refused_stream(error) => {
            no_answer | RetryOn::REFUSED_STREAM | RetryOn::RESET_BEFORE_REQUEST
        }
        UpstreamError::Request(error) if error.is_canceled() && !is_stream_reset(error) => {
            no_answer | RetryOn::RESET_BEFORE_REQUEST
        }
        UpstreamError::Request(_) => no_answer,
        UpstreamError::Overflow => return false,
    };
    retry.on.any_of(conditions)
}

/// The request may be needed after it was sent, so a copy must be kept. Not so for failures that
/// happen before anything is sent.
pub(crate) fn needs_copy(retry: &Retry, grpc: bool, http2: bool) -> bool {
    let after_sending =
        RetryOn::SERVER_ERROR | RetryOn::GATEWAY_ERROR | RetryOn::RESET | RetryOn::RETRIABLE_4XX;
    let codes = retry.on.any_of(RetryOn::RETRIABLE_STATUS_CODES) && !retry.status_codes.is_empty();
    retry.attempts > 0
        && (retry.hedge
            || retry.on.any_of(after_sending)
            || codes
            || (grpc && retry.on.has_grpc())
            || (http2 && retry.on.any_of(RetryOn::REFUSED_STREAM)))
}

/// The wait before retry `n` (from 1): uniform below a bound that doubles, for a draw over all of
/// `u32`.
pub(crate) fn back_off(retry: &Retry, n: u32, draw: u32) -> Duration {
    let base = retry.base_interval.unwrap_or(BASE);
    let max = retry.max_interval.unwrap_or(base.saturating_mul(10));
    let doubled = base.saturating_mul(2_u32.saturating_pow(n.saturating_sub(1).min(16)));
    doubled
        .min(max)
        .mul_f64(f64::from(draw) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_up_to_ten_times_its_base() {
        let bounds = |retry: &Retry| -> Vec<u128> {
            let bound = |n| back_off(retry, n, u32::MAX).as_millis();
            (1..=6).map(bound).collect()
        };
        let retry = Retry::default();
        assert_eq!(bounds(&retry), [25, 50, 100, 200, 250, 250]);
        assert_eq!(back_off(&retry, 3, 0), Duration::ZERO);
        assert_eq!(back_off(&retry, u32::MAX, u32::MAX).as_millis(), 250);
        let slower = Retry {
            base_interval: Some(Duration::from_millis(50)),
            ..Retry::default()
        };
        assert_eq!(bounds(&slower), [50, 100, 200, 400, 500, 500]);
        let capped = Retry {
            max_interval: Some(Duration::from_millis(60)),
            ..slower
        };
        assert_eq!(bounds(&capped), [50, 60, 60, 60, 60, 60]);
    }

    #[test]
    fn a_grpc_status_in_headers_is_a_condition() {
        let (on, status_codes) = RetryOn::parse(&["unavailable".into(), "503".into()]);
        let retry = Retry {
            on,
            status_codes,
            attempts: 1,
            ..Retry::default()
        };
        let mut headers = HeaderMap::new();
        assert!(!retries_answer(&retry, StatusCode::OK, &headers));
        headers.insert("grpc-status", 14.into());
        assert!(retries_answer(&retry, StatusCode::OK, &headers));
        headers.insert("grpc-status", 2.into());
        assert!(!retries_answer(&retry, StatusCode::OK, &headers));
        assert!(retries_answer(
            &retry,
            StatusCode::SERVICE_UNAVAILABLE,
            &headers
        ));
    }
}
