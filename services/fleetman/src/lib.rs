//! Fleetman: a fleet of trucks on a map, whose drivers' photos are what canaries are made of.
//!
//! ```text
//! position-simulator -> position-tracker -> vehicle-telemetry
//!                                        -> staff-service      (the driver's speed)
//! browser -> webapp -> api-gateway -> position-tracker
//!                                  -> staff-service            (who drives?)
//! ```
//!
//! Each service is a module with an `Args` (its flags and variables) and a `router` built from
//! typed configuration. Addresses, JSON, error texts and log lines are those of the well-known
//! sample, because labs look for them; routes, photos, page and code are our own.
//!
//! | module | question it answers |
//! | --- | --- |
//! | [`position_simulator`] | where are the trucks now? (drives them along [`routes`]) |
//! | [`position_tracker`] | where were they last seen, and before? |
//! | [`vehicle_telemetry`] | how fast are they? |
//! | [`staff_service`] | who drives, with which photo? (good, placeholder and bad versions) |
//! | [`photo_service`] | where is a driver's photo? (the oldest version's own service) |
//! | [`api_gateway`] | what may a browser ask? |
//! | [`webapp`] | what does a browser see? |

use axum::Router;
use dojo_kit::chaos::settings::Settings;
use dojo_kit::{Identity, Kit, ServeArgs, StartError};

pub mod api_gateway;
mod decimal;
mod drivers;
mod endpoint;
mod geodesy;
pub mod photo_service;
pub mod position_simulator;
pub mod position_tracker;
pub mod propagation;
mod report;
pub mod routes;
pub mod staff_service;
#[cfg(test)]
mod testing;
mod timestamp;
pub mod upstream;
pub mod vehicle_telemetry;
pub mod webapp;

/// The port that the services listen on unless told otherwise.
pub const PORT: u16 = 8080;

/// The services of fleetman, as subcommands. Their `--version` is that of the service, so that of a
/// command line around them must not be theirs too.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Drives five trucks along their routes and reports where they are.
    #[command(alias = "fleetman-position-simulator", disable_version_flag = true)]
    PositionSimulator(position_simulator::Args),
    /// Keeps the trucks' positions.
    #[command(alias = "fleetman-position-tracker", disable_version_flag = true)]
    PositionTracker(position_tracker::Args),
    /// Works out the trucks' speeds.
    #[command(alias = "fleetman-vehicle-telemetry", disable_version_flag = true)]
    VehicleTelemetry(vehicle_telemetry::Args),
    /// Knows the drivers and their photos.
    #[command(alias = "fleetman-staff-service", disable_version_flag = true)]
    StaffService(staff_service::Args),
    /// Knows where photos are, for the oldest staff-service.
    #[command(alias = "fleetman-photo-service", disable_version_flag = true)]
    PhotoService(photo_service::Args),
    /// What the web page may ask.
    #[command(alias = "fleetman-api-gateway", disable_version_flag = true)]
    ApiGateway(api_gateway::Args),
    /// The web page with the map.
    #[command(alias = "fleetman-webapp", disable_version_flag = true)]
    Webapp(webapp::Args),
}

/// Serves a service without chaos of its own until the process is told to stop.
async fn run(
    service: &'static str,
    version: &str,
    serve: &ServeArgs,
    router: impl FnOnce(&Kit) -> Router,
) -> Result<(), StartError> {
    let identity = Identity::new(service, version);
    dojo_kit::run(identity, serve, PORT, Settings::default(), router).await
}

impl Command {
    /// Serves until the process is told to stop.
    ///
    /// # Errors
    /// When the service cannot start.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::PositionSimulator(args) => args.run().await?,
            Self::PositionTracker(args) => args.run().await?,
            Self::VehicleTelemetry(args) => args.run().await?,
            Self::StaffService(args) => args.run().await?,
            Self::PhotoService(args) => args.run().await?,
            Self::ApiGateway(args) => args.run().await?,
            Self::Webapp(args) => args.run().await?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::Command;
    use crate::{staff_service::Variant, webapp::Edition};

    #[derive(Parser)]
    #[command(version, propagate_version = true)]
    struct Cli {
        #[command(subcommand)]
        command: Command,
    }

    fn parse(line: &str) -> Option<Command> {
        let words = std::iter::once("x").chain(line.split(' '));
        Cli::try_parse_from(words).ok().map(|cli| cli.command)
    }

    #[test]
    fn the_commands_fit_into_a_command_line_with_a_version_of_its_own() {
        Cli::command().debug_assert();
        for name in [
            "position-simulator",
            "position-tracker",
            "vehicle-telemetry",
            "staff-service",
            "photo-service",
            "api-gateway",
            "webapp",
        ] {
            assert!(parse(name).is_some(), "{name}");
            assert!(
                parse(&format!("fleetman-{name} --listen-port 8080")).is_some(),
                "{name}"
            );
        }
        let Some(Command::StaffService(staff)) =
            parse("staff-service --version risky --variant bad --bad-rate 0.5 --bad-delay 1s")
        else {
            panic!("not understood");
        };
        assert_eq!(
            (staff.version.as_str(), staff.variant),
            ("risky", Variant::Bad)
        );
        assert!(matches!(
            parse("webapp --version experimental"),
            Some(Command::Webapp(webapp)) if webapp.version == Edition::Experimental
        ));
        for line in [
            "staff-service --bad-rate 2",
            "staff-service --bad-delay soon",
            "staff-service --variant worse",
            "webapp --version v1",
            "api-gateway --staff-service ftp://x",
        ] {
            assert!(parse(line).is_none(), "{line}");
        }
        assert!(matches!(
            parse("api-gateway --no-header-propagation"),
            Some(Command::ApiGateway(gateway)) if gateway.config.propagation.no_header_propagation
        ));
    }
}
