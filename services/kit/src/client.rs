//! How a service calls other services.
//!
//! The client honours `http_proxy`, as HTTP clients do: in a pod that variable names the pod's
//! outbound door, which is how a service reaches names without knowing of any mesh.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use tracing::Instrument as _;

use crate::telemetry;

/// The longest that establishing a connection may take where the caller sets no shorter limit.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that a service reads from another one, in bytes: a vehicle's long history fits.
const MAX_ANSWER: usize = 2 * 1024 * 1024;

/// A client that opens a new connection for every call, so that how calls are spread over the
/// copies of a service is plain to see. Calls leave from `source` when it is given: behind a door
/// the container's own address is what tells the door who calls.
///
/// # Errors
/// When the proxy named in the environment cannot be used.
pub fn client(source: Option<IpAddr>) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .pool_max_idle_per_host(0)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .local_address(source)
        .build()
}

/// What a service answered.
#[derive(Debug)]
pub struct Answer {
    /// Its status, whatever that is.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its whole body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It did not come in time.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// It did not come, or broke off.
    #[error("{}", causes(.0))]
    Failed(reqwest::Error),
    /// It is larger than two megabytes.
    #[error("the answer is larger than {MAX_ANSWER} bytes")]
    TooLarge,
}

/// A call to another service.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// Its method.
    pub method: Method,
    /// The whole address.
    pub url: &'a str,
    /// Its headers; those of the trace are added when spans are recorded.
    pub headers: HeaderMap,
    /// Its body, if it has one.
    pub body: Option<Bytes>,
    /// How long it may take, to the end of the answer's body.
    pub limit: Duration,
}

/// GETs `url`. `limit` is for the whole call, to the end of the answer's body.
///
/// # Errors
/// When no whole answer came in time. An answer of any status is an answer.
pub async fn get(
    client: &reqwest::Client,
    url: &str,
    headers: HeaderMap,
    limit: Duration,
) -> Result<Answer, CallError> {
    let method = Method::GET;
    let call = Call {
        method,
        url,
        headers,
        body: None,
        limit,
    };
    self::call(client, call).await
}

/// Makes a call and reads its whole answer.
///
/// # Errors
/// When no whole answer came in time. An answer of any status is an answer.
pub async fn call(client: &reqwest::Client, mut call: Call<'_>) -> Result<Answer, CallError> {
    let span = telemetry::client_span(call.method.as_str(), call.url);
    telemetry::inject(&span, &mut call.headers);
    let outcome = answer(client, call).instrument(span.clone()).await;
    match &outcome {
        Ok(answer) => telemetry::record_status(&span, answer.status),
        Err(_) => {
            span.record("otel.status_code", "ERROR");
        }
    }
    outcome
}

async fn answer(client: &reqwest::Client, call: Call<'_>) -> Result<Answer, CallError> {
    let failed = |error: reqwest::Error| {
        if error.is_timeout() {
            CallError::Timeout(call.limit)
        } else {
            CallError::Failed(error)
        }
    };
    let mut request = client
        .request(call.method, call.url)
        .headers(call.headers)
        .timeout(call.limit);
    if let Some(body) = call.body {
        request = request.body(body);
    }
    let mut response = request.send().await.map_err(failed)?;
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
    use axum::Router;
    use axum::routing::get as route;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_not_answered_ends_at_its_limit() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("http://{}/", silent.local_addr().expect("an address"));
        let client = client(None).expect("a client");
        let started = tokio::time::Instant::now();
        let error = get(&client, &url, HeaderMap::new(), Duration::from_millis(2500))
            .await
            .expect_err("no answer");
        assert_eq!(error.to_string(), "no answer within 2.5 s");
        assert_eq!(started.elapsed().as_millis(), 2500);
    }

    #[tokio::test]
    async fn a_huge_answer_is_not_read_to_its_end_and_a_refusal_tells_why() {
        let router = Router::new().route("/", route(|| async { vec![b'x'; MAX_ANSWER + 1] }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let serving = tokio::spawn(crate::server::serve(
            listener,
            router,
            std::future::pending(),
        ));
        let client = client(None).expect("a client");
        let limit = Duration::from_secs(30);
        let error = get(&client, &url, HeaderMap::new(), limit)
            .await
            .expect_err("too large");
        assert!(matches!(error, CallError::TooLarge), "{error}");
        serving.abort();
        assert!(serving.await.expect_err("aborted").is_cancelled());
        let error = get(&client, &url, HeaderMap::new(), limit)
            .await
            .expect_err("refused");
        assert!(error.to_string().contains("Connection refused"), "{error}");
    }

    #[tokio::test]
    async fn calls_leave_from_the_given_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let (told, mut callers) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let (stream, caller) = listener.accept().await.expect("a connection");
            told.send((stream, caller)).await.expect("the test waits");
        });
        let client = client(Some("127.0.0.77".parse().expect("an address"))).expect("a client");
        let calling = tokio::spawn(async move {
            get(&client, &url, HeaderMap::new(), Duration::from_secs(5)).await
        });
        let (stream, caller) = callers.recv().await.expect("a connection");
        assert_eq!(caller.ip().to_string(), "127.0.0.77");
        drop(stream);
        assert!(calling.await.expect("no panic").is_err());
    }
}
