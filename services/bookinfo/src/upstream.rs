//! Calls from one bookinfo service to another.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

/// The largest answer that a service reads from another one.
const MAX_ANSWER: usize = 1024 * 1024;

/// The address of a service that is called, for example `http://ratings:9080`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upstream {
    base: String,
}

impl Upstream {
    /// `domain` (the variable `SERVICES_DOMAIN`) is appended to the host name when it is not empty.
    pub(crate) fn new(host: &str, port: u16, domain: Option<&str>) -> Self {
        let base = match domain {
            Some(domain) if !domain.is_empty() => format!("http://{host}.{domain}:{port}"),
            _ => format!("http://{host}:{port}"),
        };
        Self { base }
    }

    /// The address without a path.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }
}

/// What a service answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("no answer within {}", seconds(*.0))]
    Timeout(Duration),
    #[error("{}", causes(.0))]
    Failed(reqwest::Error),
    #[error("the answer is larger than {MAX_ANSWER} bytes")]
    TooLarge,
}

/// GETs `url` on a new connection. `limit` is for the whole call, to the end of the answer's body.
pub(crate) async fn get(
    client: &reqwest::Client,
    url: &str,
    headers: HeaderMap,
    limit: Duration,
) -> Result<Answer, CallError> {
    let failed = |error: reqwest::Error| {
        if error.is_timeout() {
            CallError::Timeout(limit)
        } else {
            CallError::Failed(error)
        }
    };
    let mut response = client
        .get(url)
        .headers(headers)
        .timeout(limit)
        .send()
        .await
        .map_err(failed)?;
    let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(CallError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer {
        status,
        headers,
        body: body.into(),
    })
}

fn seconds(limit: Duration) -> String {
    format!("{} s", limit.as_secs_f64())
}

/// An error and its causes on one line: the client's own text says only that sending failed.
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_domain_is_appended_to_the_host() {
        assert_eq!(
            Upstream::new("ratings", 9080, None).base(),
            "http://ratings:9080"
        );
        assert_eq!(
            Upstream::new("ratings", 9080, Some("")).base(),
            "http://ratings:9080"
        );
        assert_eq!(
            Upstream::new("ratings", 80, Some("default.svc.cluster.local")).base(),
            "http://ratings.default.svc.cluster.local:80"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_not_answered_ends_at_its_limit() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("http://{}/", silent.local_addr().expect("an address"));
        let client = dojo_kit::client::client(None).expect("a client");
        let started = tokio::time::Instant::now();
        let error = get(&client, &url, HeaderMap::new(), Duration::from_millis(2500))
            .await
            .expect_err("no answer");
        assert_eq!(error.to_string(), "no answer within 2.5 s");
        assert_eq!(started.elapsed().as_millis(), 2500);
    }

    #[tokio::test]
    async fn a_huge_answer_is_not_read_to_its_end() {
        let router = axum::Router::new().route(
            "/",
            axum::routing::get(|| async { vec![b'x'; MAX_ANSWER + 1] }),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        tokio::spawn(dojo_kit::server::serve(
            listener,
            router,
            std::future::pending(),
        ));
        let client = dojo_kit::client::client(None).expect("a client");
        let error = get(&client, &url, HeaderMap::new(), Duration::from_secs(30))
            .await
            .expect_err("too large");
        assert!(matches!(error, CallError::TooLarge), "{error}");
    }
}
