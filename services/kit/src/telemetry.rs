//! Logs of a service, on standard output.

use std::str::FromStr;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

/// The flags that say what a service tells about itself.
#[derive(Clone, Debug, clap::Args)]
pub struct TelemetryArgs {
    /// The form of log lines.
    #[arg(
        long,
        env = "LOG_FORMAT",
        value_name = "plain|json",
        default_value = "plain"
    )]
    pub log_format: LogFormat,
    /// What is logged: a level, or levels by target (`info,hyper=debug`).
    #[arg(long, env = "LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: Targets,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Plain,
    /// One JSON object per line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "plain" | "text" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{text}` is not a log format; write plain or json")),
        }
    }
}

/// Starts logging. A second call in one process changes nothing (the first one stands).
pub fn init(args: &TelemetryArgs) {
    let logs = match args.log_format {
        LogFormat::Plain => fmt::layer().with_ansi(false).with_target(false).boxed(),
        LogFormat::Json => fmt::layer().json().flatten_event(true).boxed(),
    };
    let logs = logs.with_filter(args.log_level.clone());
    if tracing_subscriber::registry()
        .with(logs)
        .try_init()
        .is_err()
    {
        tracing::debug!("logging was started before");
    }
}
