//! grpc-echo: says over gRPC what it was told, and which copy of it answers.
//!
//! ```text
//! package echo.v1;
//! service Echo { rpc Say(Told) returns (Said); }
//! message Told { string message = 1; }
//! message Said { string message = 1; string version = 2; string pod = 3; }
//! ```

use axum::Router;
use axum::routing::post;
use dojo_kit::chaos::settings::Settings;
use dojo_kit::grpc::standard::{self, Described};
use dojo_kit::grpc::{self, Status};
use dojo_kit::{Identity, Kit, ServeArgs, StartError};
use prost::Message;
use prost_types::field_descriptor_proto::Type;

/// The port unless told otherwise.
const PORT: u16 = 7070;

/// The service in the words of reflection.
pub const ECHO: Described = Described {
    file: "echo.proto",
    package: "echo.v1",
    service: "Echo",
    method: "Say",
    asked: ("Told", &[("message", Type::String)]),
    answered: (
        "Said",
        &[
            ("message", Type::String),
            ("version", Type::String),
            ("pod", Type::String),
        ],
    ),
};

/// The flags of grpc-echo.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The version, shown in answers.
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    pub version: String,
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
        let identity = Identity::new("grpc-echo", &self.version);
        dojo_kit::run(identity, &self.serve, PORT, Settings::default(), router).await
    }
}

/// What is said to the service.
#[derive(Clone, PartialEq, Message)]
pub struct Told {
    /// Any text.
    #[prost(string, tag = "1")]
    pub message: String,
}

/// What it says.
#[derive(Clone, PartialEq, Message)]
pub struct Said {
    /// The text that it was told.
    #[prost(string, tag = "1")]
    pub message: String,
    /// Its version.
    #[prost(string, tag = "2")]
    pub version: String,
    /// The pod that answers, empty outside of one.
    #[prost(string, tag = "3")]
    pub pod: String,
}

/// The routes of grpc-echo. `/health` is for probes over plain HTTP.
pub fn router(kit: &Kit) -> Router {
    let identity = kit.identity.clone();
    let say = move |request| {
        let identity = identity.clone();
        let answer = move |told: Told| {
            let said = Said {
                message: told.message,
                version: identity.version.clone(),
                pod: identity.pod.clone().unwrap_or_default(),
            };
            std::future::ready(Ok::<_, Status>(said))
        };
        std::future::ready(grpc::serve(request, answer))
    };
    standard::routes(ECHO)
        .route(&ECHO.path(), post(say))
        .route("/health", axum::routing::get(|| async { "OK" }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn what_is_told_is_said_with_the_version_and_the_pod() {
        let identity = Identity {
            service: "grpc-echo",
            version: "v2".into(),
            pod: Some("grpc-echo-7".into()),
        };
        let kit = Kit::new(identity, None).expect("a client");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let whole = dojo_kit::assemble(&kit, router(&kit));
        tokio::spawn(dojo_kit::server::serve(
            listener,
            whole,
            std::future::pending(),
        ));
        let stream = dojo_kit::tunnel::connect(&address, None, None)
            .await
            .expect("connected");
        let told = Told {
            message: "hello".into(),
        };
        let limit = Duration::from_secs(20);
        let none = axum::http::HeaderMap::new();
        let (said, _) = grpc::call::<Said>(stream, "echo:7070", &ECHO.path(), none, &told, limit)
            .await
            .expect("an answer");
        assert_eq!(
            (said.message.as_str(), said.version.as_str()),
            ("hello", "v2")
        );
        assert_eq!(said.pod, "grpc-echo-7");
    }
}
