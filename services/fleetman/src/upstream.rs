//! Calls from one fleetman service to another.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use dojo_kit::client::{self, Call};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::Url;

/// How long an answer may take, to its end.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The address of a service that is called, for example `http://fleetman-staff-service:8080`.
#[derive(Clone, PartialEq, Eq)]
pub struct Upstream(Url);

impl fmt::Debug for Upstream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Upstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = if text.contains("://") {
            Url::parse(text)
        } else {
            Url::parse(&format!("http://{text}"))
        };
        match url {
            Ok(url) if url.scheme() == "http" && url.has_host() => Ok(Self(url)),
            _ => Err(format!(
                "`{text}` is not an address; write for example http://fleetman-staff-service:8080"
            )),
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl Upstream {
    /// The host without the port.
    pub(crate) fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// The address of these segments, which are encoded as they need to be.
    pub(crate) fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.0.clone();
        // An http address always has a path that can be extended.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// Calls the service and reads its whole answer, whatever its status.
    pub(crate) async fn call(
        &self,
        client: &reqwest::Client,
        method: Method,
        segments: &[&str],
        mut headers: HeaderMap,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, CallError> {
        let url = self.url(segments);
        if body.is_some() {
            let json = HeaderValue::from_static("application/json;charset=UTF-8");
            headers.insert(CONTENT_TYPE, json);
        }
        let call = Call {
            method: method.clone(),
            url: url.as_str(),
            headers,
            body: body.map(Bytes::from),
            limit: TIMEOUT,
        };
        match client::call(client, call).await {
            Ok(client::Answer { status, body, .. }) => Ok(Answer { status, body }),
            Err(error) => Err(CallError {
                kind: Kind::of(&error),
                cause: match &error {
                    client::CallError::Failed(error) => cause(error),
                    error => error.to_string(),
                },
                call: format!("{method} {url}"),
            }),
        }
    }
}

/// What a service answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body, when the status is one of success.
    ///
    /// # Errors
    /// The status and the name of the call, in the words that labs look for.
    pub(crate) fn success(self, name: &str) -> Result<Bytes, String> {
        if self.status.is_success() {
            Ok(self.body)
        } else {
            Err(format!("status {} reading {name}", self.status.as_u16()))
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct CallError {
    kind: Kind,
    cause: String,
    call: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// No connection came about.
    Unreachable,
    TimedOut,
    Broken,
}

impl Kind {
    fn of(error: &client::CallError) -> Self {
        match error {
            client::CallError::Timeout(_) => Self::TimedOut,
            client::CallError::Failed(error) if error.is_connect() => Self::Unreachable,
            client::CallError::Failed(_) | client::CallError::TooLarge => Self::Broken,
        }
    }
}

impl CallError {
    /// Whether no connection came about.
    pub(crate) fn unreachable(&self) -> bool {
        self.kind == Kind::Unreachable
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, cause, call } = self;
        match kind {
            Kind::TimedOut => write!(formatter, "Read timed out executing {call}"),
            Kind::Unreachable if cause.contains("refused") => {
                write!(formatter, "Connection refused executing {call}")
            }
            _ => write!(formatter, "{cause} executing {call}"),
        }
    }
}

/// The last cause of an error: the ones before it only say that sending failed.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::silence;

    fn client() -> reqwest::Client {
        dojo_kit::client::client(None).expect("a client")
    }

    async fn fail(upstream: &Upstream) -> CallError {
        upstream
            .call(
                &client(),
                Method::GET,
                &["driver", "City Truck"],
                HeaderMap::new(),
                None,
            )
            .await
            .expect_err("no answer")
    }

    #[test]
    fn an_address_may_leave_the_scheme_out() {
        let upstream: Upstream = "fleetman-staff-service:8080".parse().expect("an address");
        assert_eq!(upstream.to_string(), "http://fleetman-staff-service:8080");
        assert_eq!(upstream.host(), "fleetman-staff-service");
        let url = upstream.url(&["driver", "City Truck", "a/b"]);
        assert_eq!(
            url.as_str(),
            "http://fleetman-staff-service:8080/driver/City%20Truck/a%2Fb"
        );
        assert_eq!(upstream.url(&["vehicles", ""]).path(), "/vehicles/");
        for text in ["", "ftp://x", "http://", "x y"] {
            let error = text.parse::<Upstream>().expect_err(text);
            assert!(error.contains("write for example"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_refused_connection_is_told_from_a_broken_one() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let error = fail(&address.to_string().parse().expect("an address")).await;
        assert!(error.unreachable());
        assert_eq!(
            error.to_string(),
            format!("Connection refused executing GET http://{address}/driver/City%20Truck")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_not_answered_ends() {
        let upstream: Upstream = format!("127.0.0.1:{}", silence().await)
            .parse()
            .expect("an address");
        let error = fail(&upstream).await;
        assert!(
            error
                .to_string()
                .starts_with("Read timed out executing GET"),
            "{error}"
        );
        assert!(!error.unreachable());
    }
}
