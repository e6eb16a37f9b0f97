//! Limits that hold where the configuration names none: Envoy's defaults.

use std::time::Duration;

/// Longest block of headers; more in a request is answered 431, in an answer 502.
pub(crate) const HEADER_BYTES: usize = 60 * 1024;

/// A connection on which nothing comes for this long is closed.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
