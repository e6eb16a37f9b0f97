//! `extensionProviders` of the mesh-wide settings that decide about requests.

use std::time::Duration;

use serde::Deserialize;

/// Who is asked for CUSTOM policies: `envoyExtAuthzHttp`.
#[derive(Clone, Debug, PartialEq)]
pub struct ExtAuthzProvider {
    /// Its name in policies.
    pub name: String,
    /// Host of the service, perhaps after its namespace and a slash.
    pub service: String,
    /// Port of the service.
    pub port: u16,
    /// How long an answer may take; Istio's default is ten minutes.
    pub timeout: Duration,
    /// Comes before the path of the request.
    pub path_prefix: String,
    /// Headers of the request that it sees.
    pub headers: Vec<String>,
    /// Headers of its answer that go on with the request.
    pub headers_to_upstream: Vec<String>,
    /// Headers of its answer that go back with a refusal.
    pub headers_to_downstream: Vec<String>,
    /// Requests pass when it cannot be asked.
    pub fail_open: bool,
    /// Status when it cannot be asked.
    pub status_on_error: u16,
}

/// `envoyExtAuthzHttp`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Http {
    service: String,
    #[serde(deserialize_with = "super::port::number_or_text")]
    port: u16,
    timeout: Option<mesh_api::Duration>,
    path_prefix: String,
    pub(super) status_on_error: String,
    fail_open: bool,
    include_request_headers_in_check: Vec<String>,
    headers_to_upstream_on_allow: Vec<String>,
    headers_to_downstream_on_deny: Vec<String>,
}

impl ExtAuthzProvider {
    /// `None`: `statusOnError` is no status.
    pub(super) fn new(name: &str, http: Http) -> Option<Self> {
        let status = match http.status_on_error.as_str() {
            "" => 403,
            text => text
                .parse()
                .ok()
                .filter(|status| (200..600).contains(status))?,
        };
        Some(Self {
            name: name.to_owned(),
            service: http.service,
            port: http.port,
            timeout: http
                .timeout
                .map_or(Duration::from_secs(600), |timeout| timeout.0),
            path_prefix: http.path_prefix,
            headers: http.include_request_headers_in_check,
            headers_to_upstream: http.headers_to_upstream_on_allow,
            headers_to_downstream: http.headers_to_downstream_on_deny,
            fail_open: http.fail_open,
            status_on_error: status,
        })
    }

    /// Stands in for one that is not configured: it cannot be asked, so requests are refused.
    pub fn unknown(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            service: String::new(),
            port: 0,
            timeout: Duration::from_secs(1),
            path_prefix: String::new(),
            headers: Vec::new(),
            headers_to_upstream: Vec::new(),
            headers_to_downstream: Vec::new(),
            fail_open: false,
            status_on_error: 403,
        }
    }
}
