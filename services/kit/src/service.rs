//! What surrounds the router of every service, and the way from the command line to a service
//! that serves.

use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::header::{CONTENT_TYPE, HeaderName};
use tracing::{Instrument as _, Span};

use crate::chaos::args::{ChaosArgs, Switch};
use crate::chaos::layer::ChaosLayer;
use crate::chaos::settings::{Invalid, Settings};
use crate::chaos::{self, Chaos};
use crate::identity::Identity;
use crate::listen::{self, ListenAddress, ListenError};
use crate::metrics::Metrics;
use crate::server::{self, ServeError};
use crate::telemetry::{self, TelemetryArgs};

/// The target of what is logged at the start: it stays where a service has log lines of its own and
/// none of the kit's about requests.
const START: &str = "dojo_kit::start";

/// The response header that names the pod that answered.
pub const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");

/// The flags that every service has.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    /// The port to listen on (the form that the upstream images take).
    #[arg(value_name = "PORT", conflicts_with = "listen")]
    pub port: Option<u16>,
    /// Where to listen: a port, or an IP address and a port.
    ///
    /// A bare port is on loopback, or in a pod on the address of the container.
    #[arg(long, alias = "listen-port", value_name = "[IP:]PORT")]
    pub listen: Option<ListenAddress>,
    /// Errors and delays on purpose.
    #[command(flatten)]
    pub chaos: ChaosArgs,
    /// Logs and traces.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

impl ServeArgs {
    /// Where to listen, before the container's own address is considered.
    #[must_use]
    pub fn listen_address(&self, default_port: u16) -> ListenAddress {
        self.listen
            .unwrap_or(ListenAddress::Port(self.port.unwrap_or(default_port)))
    }
}

/// What a service is built with.
#[derive(Clone)]
pub struct Kit {
    /// Who the service is.
    pub identity: Identity,
    /// For calls to other services.
    pub client: reqwest::Client,
    /// Where it counts what it does.
    pub metrics: Metrics,
    /// What happens to its requests on purpose.
    pub chaos: Chaos,
    /// Whether chaos can be changed while it runs.
    pub chaos_api: Switch,
}

impl Kit {
    /// A kit with fresh metrics and no chaos. Calls leave from `source` when it is given.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(identity: Identity, source: Option<std::net::IpAddr>) -> reqwest::Result<Self> {
        let metrics = Metrics::default();
        Ok(Self {
            chaos: Chaos::new(identity.service, Settings::default(), metrics.clone()),
            chaos_api: Switch::On,
            identity,
            client: crate::client::client(source)?,
            metrics,
        })
    }

    /// The same with this chaos, which must be valid.
    #[must_use]
    pub fn with_chaos(mut self, settings: Settings) -> Self {
        self.chaos = Chaos::new(self.identity.service, settings, self.metrics.clone());
        self
    }
}

/// Why a service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address to listen on makes no sense.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The chaos asked for makes no sense.
    #[error("chaos cannot be as asked for")]
    Chaos(#[from] Invalid),
    /// The address cannot be bound.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The HTTP client cannot be set up.
    #[error("cannot set up the HTTP client (see the variable http_proxy)")]
    Client(#[from] reqwest::Error),
    /// Spans cannot be sent as the `OTEL_...` variables ask for.
    #[error("cannot send spans (see the variables OTEL_EXPORTER_OTLP_...)")]
    Spans(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The handlers for SIGTERM and SIGINT cannot be installed.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
}

/// Starts a service: logs, client, listener, router; serves until SIGTERM or SIGINT.
///
/// `own_chaos` is the chaos that belongs to the service's version; flags and variables change it.
///
/// # Errors
/// When something that it needs from its environment is missing or wrong.
pub async fn run(
    identity: Identity,
    args: &ServeArgs,
    default_port: u16,
    own_chaos: Settings,
    router: impl FnOnce(&Kit) -> Router,
) -> Result<(), StartError> {
    let address = args.listen_address(default_port);
    run_assembled(identity, args, address, own_chaos, |kit| {
        assemble(kit, router(kit))
    })
    .await
}

/// Starts a service as [`run`] does, but one that calls [`assemble`] itself, because it has a
/// layer of its own around the whole, and that says itself where it listens.
///
/// # Errors
/// Those of [`run`].
pub async fn run_assembled(
    identity: Identity,
    args: &ServeArgs,
    address: ListenAddress,
    own_chaos: Settings,
    service: impl FnOnce(&Kit) -> Router,
) -> Result<(), StartError> {
    let own_address = listen::container_address()?;
    let chaos = args.chaos.settings(own_chaos)?;
    let mut kit = Kit::new(identity, own_address)?;
    let telemetry = telemetry::init(&args.telemetry, &kit.identity, &kit.client)?;
    kit = kit.with_chaos(chaos);
    kit.chaos_api = args.chaos.chaos_api;
    let listener = server::bind(address.resolve(own_address)).await?;
    tracing::info!(
        target: START,
        version = kit.identity.version,
        pod = kit.identity.pod,
        "{} starts",
        kit.identity.service
    );
    let stop = server::stop_signal().map_err(StartError::Signals)?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(target: START, "Server listening on: http://{address}");
    }
    server::serve(listener, service(&kit), stop).await;
    telemetry.finish().await;
    Ok(())
}

/// Surrounds a service's own routes with what every service has: chaos, `/chaos`, `/metrics`, the
/// access log, metrics of requests, and the header that names the pod.
pub fn assemble(kit: &Kit, router: Router) -> Router {
    let router = match kit.chaos_api {
        Switch::On => router.merge(chaos::api::router(kit.chaos.clone())),
        Switch::Off => router,
    };
    router
        .route("/metrics", get(render_metrics).with_state(kit.clone()))
        .layer(ChaosLayer::new(kit.chaos.clone()))
        .layer(middleware::from_fn_with_state(kit.clone(), record))
}

async fn render_metrics(State(kit): State<Kit>) -> Response {
    kit.chaos.refresh_metrics();
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        kit.metrics.render(),
    )
        .into_response()
}

async fn record(State(kit): State<Kit>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let uri = request.uri().clone();
    // Probes and scrapes would drown what users do.
    let quiet = chaos::EXEMPT_PATHS.contains(&uri.path()) && uri.path() != "/chaos";
    let span = if quiet {
        Span::none()
    } else {
        telemetry::server_span(method.as_str(), uri.path(), request.headers())
    };
    let mut response = next.run(request).instrument(span.clone()).await;
    let elapsed = started.elapsed();
    let status = response.status();
    telemetry::record_status(&span, status);
    if let Some(pod) = kit.identity.pod.as_deref().and_then(|pod| pod.parse().ok()) {
        response.headers_mut().insert(SERVED_BY, pod);
    }
    if quiet {
        tracing::debug!(status = status.as_u16(), "{method} {uri}");
        return response;
    }
    let milliseconds = elapsed.as_secs_f64() * 1000.0;
    tracing::info!(
        status = status.as_u16(),
        ms = format_args!("{milliseconds:.1}"),
        "{method} {}",
        uri.path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str)
    );
    let labels = &[
        ("service", kit.identity.service),
        ("version", kit.identity.version.as_str()),
        ("method", known_method(&method)),
        ("code", status.as_str()),
    ];
    kit.metrics
        .count("http_requests_total", "Requests served.", labels);
    kit.metrics.observe(
        "http_request_duration_seconds",
        "Time from the head of a request to the head of its response.",
        &labels[..2],
        elapsed,
    );
    response
}

/// A method as a label: one of few, whatever clients send.
fn known_method(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
