//! Names of headers that proxies of Envoy's kind tell each other and their workloads things by.

use http::HeaderName;

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
pub(crate) const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
pub(crate) const EXPECTED_TIMEOUT: HeaderName =
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
pub(crate) const DECORATOR: HeaderName = HeaderName::from_static("x-envoy-decorator-operation");
pub(crate) const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
pub(crate) const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
pub(crate) const SERVICE_TIME: HeaderName =
    HeaderName::from_static("x-envoy-upstream-service-time");
