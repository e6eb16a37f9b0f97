//! delivery: a resource of a mall's microservices, whose copies can be put down one by one.
//!
//! The circuit-breaker lab sees which copy answers (`/actuator/echo`), puts one down
//! (`PUT /actuator/down`) and watches the mesh eject it because its health now fails. A copy that
//! is down still echoes: only its health says so.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, put};
use dojo_kit::chaos::settings::Settings;
use dojo_kit::{Identity, Kit, ServeArgs, StartError};
use spring::entity::Field;
use spring::repository::{Repository, Resource, WhenFull};

#[cfg(test)]
mod tests;

/// The port unless told otherwise.
const PORT: u16 = 8080;

/// What a delivery is.
static DELIVERIES: Resource = Resource {
    collection: "deliveries",
    item: "delivery",
    fields: &[
        Field::number("orderId"),
        Field::number("qty"),
        Field::number("productId"),
        Field::text("status"),
        Field::text("customerId"),
    ],
    capacity: 10_000,
    when_full: WhenFull::ForgetOldest,
};

/// The services of this crate, as subcommands.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Deliveries, and an actuator that puts a copy down.
    Delivery(Args),
}

impl Command {
    /// Serves until the process is told to stop.
    ///
    /// # Errors
    /// When the service cannot start.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Delivery(args) => args.run().await?,
        }
        Ok(())
    }
}

/// The flags of delivery.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The version, shown in metrics.
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    pub version: String,
    /// The address that the echo shows. Default: the pod's own.
    #[arg(long, env = "DOJO_POD_IP", value_name = "IP")]
    pub pod_ip: Option<IpAddr>,
    /// What every service takes.
    #[command(flatten)]
    pub serve: ServeArgs,
}

impl Args {
    /// Serves until the process is told to stop.
    ///
    /// # Errors
    /// When the service cannot start.
    pub async fn run(self) -> Result<(), StartError> {
        let identity = Identity::new("delivery", &self.version);
        let address = self.pod_ip.unwrap_or_else(own_address);
        dojo_kit::run(identity, &self.serve, PORT, Settings::default(), |kit| {
            router(kit, address)
        })
        .await
    }
}

/// The address from which this machine reaches others. Nothing is sent to find it out: connecting a
/// UDP socket only chooses a route.
fn own_address() -> IpAddr {
    // Of the range for documentation: a destination that needs the default route.
    let elsewhere = (Ipv4Addr::new(192, 0, 2, 1), 9);
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| {
            socket.connect(elsewhere)?;
            socket.local_addr()
        })
        .map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}

#[derive(Clone)]
struct Actuator {
    up: Arc<AtomicBool>,
    who: Arc<str>,
}

/// The routes of delivery in a pod with this address.
pub fn router(kit: &Kit, pod_address: IpAddr) -> Router {
    let host = kit.identity.pod.as_deref().unwrap_or("localhost");
    let actuator = Actuator {
        up: Arc::new(AtomicBool::new(true)),
        who: format!("{host}/{pod_address}").into(),
    };
    Router::new()
        .route("/actuator/echo", get(echo))
        .route("/actuator/health", get(health))
        .route("/actuator/down", put(down))
        .route("/actuator/up", put(up))
        .with_state(actuator)
        .merge(spring::rest::routes(&Repository::new(&DELIVERIES)))
        .layer(middleware::from_fn(spring::problem::dress))
}

async fn echo(State(actuator): State<Actuator>) -> Response {
    (
        [(header::CONTENT_TYPE, "text/plain;charset=UTF-8")],
        actuator.who.to_string(),
    )
        .into_response()
}

async fn health(State(actuator): State<Actuator>) -> Response {
    spring::health(actuator.up.load(Ordering::Relaxed))
}

async fn down(State(actuator): State<Actuator>) -> Response {
    actuator.up.store(false, Ordering::Relaxed);
    tracing::warn!("put down: health fails until PUT /actuator/up or a restart");
    spring::json_text(StatusCode::OK, r#"{"status":"DOWN"}"#)
}

async fn up(State(actuator): State<Actuator>) -> Response {
    actuator.up.store(true, Ordering::Relaxed);
    tracing::info!("put up again");
    spring::json_text(StatusCode::OK, r#"{"status":"UP"}"#)
}
