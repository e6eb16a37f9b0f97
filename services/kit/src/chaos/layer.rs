//! The tower layer that does to requests what was decided.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Json;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service};

use super::plan::{Fault, Plan};
use super::settings::ErrorType;
use super::{Chaos, EXEMPT_PATHS, Injected};
use crate::server::Connection;

/// The longest that a request of type hang is kept; then its connection is reset.
const LONGEST_HANG: Duration = Duration::from_secs(600);

/// Surrounds a service with [`Chaos`].
#[derive(Clone)]
pub struct ChaosLayer {
    chaos: Chaos,
}

impl ChaosLayer {
    /// A layer of this chaos.
    #[must_use]
    pub fn new(chaos: Chaos) -> Self {
        Self { chaos }
    }
}

impl<S> Layer<S> for ChaosLayer {
    type Service = ChaosService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ChaosService {
            chaos: self.chaos.clone(),
            inner,
        }
    }
}

/// A service with chaos around it.
#[derive(Clone)]
pub struct ChaosService<S> {
    chaos: Chaos,
    inner: S,
}

impl<S> Service<Request> for ChaosService<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // The service that was polled ready is the one to call; its clone takes its place.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let path = request.uri().path();
        let plan = if EXEMPT_PATHS.contains(&path) {
            Plan::default()
        } else {
            self.chaos.plan(request.method(), path)
        };
        Box::pin(async move {
            if let Some(fault) = &plan.fault {
                let connection = request.extensions().get::<Connection>().cloned();
                let what = format!("{} {}", request.method(), request.uri().path());
                if let Some(response) = fail(fault, connection, &what).await {
                    return Ok(response);
                }
            }
            let started = Instant::now();
            let response = inner.call(request).await?;
            // Time already spent counts, and a failure is not made slower: as in the fake service.
            if !response.status().is_server_error() {
                sleep(plan.takes.saturating_sub(started.elapsed())).await;
            }
            Ok(response)
        })
    }
}

/// Makes a request fail. None: it is to be served after all.
async fn fail(fault: &Fault, connection: Option<Connection>, what: &str) -> Option<Response> {
    tracing::info!(
        code = fault.code,
        "chaos: {} injected into {what}",
        fault.kind.name()
    );
    sleep(fault.delay).await;
    match fault.kind {
        ErrorType::HttpError | ErrorType::Delay => {
            (fault.code != StatusCode::OK).then(|| answer(fault))
        }
        ErrorType::Reset => Some(reset(connection).await),
        ErrorType::Hang => {
            sleep(LONGEST_HANG).await;
            Some(reset(connection).await)
        }
        ErrorType::Crash => {
            tracing::error!("chaos: crashing on {what}");
            std::process::exit(1)
        }
    }
}

fn answer(fault: &Fault) -> Response {
    // Validation lets only codes from 400 to 599 come here.
    let status = StatusCode::from_u16(fault.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::json!({"error": fault.message});
    let mut response = (status, Json(body)).into_response();
    response.extensions_mut().insert(Injected(fault.kind));
    response
}

/// Resets the connection; nothing is answered any more. Only where there is no connection (a router
/// asked directly) is there a response to return.
async fn reset(connection: Option<Connection>) -> Response {
    if let Some(connection) = connection {
        connection.reset();
        std::future::pending::<()>().await;
    }
    let mut response = StatusCode::BAD_GATEWAY.into_response();
    response.extensions_mut().insert(Injected(ErrorType::Reset));
    response
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
