//! How chaos is set at start: flags, else the variables of the fake service.

use std::time::Duration;

use super::settings::{ErrorType, Invalid, Pattern, Settings, Variance};
use crate::duration;

/// The flags of chaos. What is not given keeps the service's own default.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Chaos")]
pub struct ChaosArgs {
    /// The share of requests that fail, 0 to 1.
    #[arg(long, env = "ERROR_RATE", value_name = "SHARE")]
    pub error_rate: Option<f64>,
    /// How a failing request fails: `http_error`, delay, reset, hang or crash.
    #[arg(long, env = "ERROR_TYPE", value_name = "TYPE")]
    pub error_type: Option<ErrorType>,
    /// The status of a failing request.
    #[arg(long, env = "ERROR_CODE", value_name = "STATUS")]
    pub error_code: Option<u16>,
    /// How long a failing request of type delay waits first.
    #[arg(long, env = "ERROR_DELAY", value_name = "DURATION", value_parser = duration::parse)]
    pub error_delay: Option<Duration>,
    /// The text of a failing request's answer.
    #[arg(long, env = "ERROR_MESSAGE", value_name = "TEXT")]
    pub error_message: Option<String>,
    /// Which requests fail: random ones, or every n-th (counter).
    #[arg(long, env = "ERROR_PATTERN", value_name = "random|counter")]
    pub error_pattern: Option<Pattern>,
    /// How long 90 % of requests are made to take.
    #[arg(long, env = "TIMING_50_PERCENTILE", value_name = "DURATION", value_parser = duration::parse)]
    pub timing_50_percentile: Option<Duration>,
    /// How long 9 % of requests are made to take.
    #[arg(long, env = "TIMING_90_PERCENTILE", value_name = "DURATION", value_parser = duration::parse)]
    pub timing_90_percentile: Option<Duration>,
    /// How long 1 % of requests are made to take.
    #[arg(long, env = "TIMING_99_PERCENTILE", value_name = "DURATION", value_parser = duration::parse)]
    pub timing_99_percentile: Option<Duration>,
    /// How much of that is added at random: per cent, or a duration.
    #[arg(long, env = "TIMING_VARIANCE", value_name = "VARIANCE")]
    pub timing_variance: Option<Variance>,
    /// Only requests with this method.
    #[arg(long, env = "CHAOS_METHOD", value_name = "METHOD")]
    pub chaos_method: Option<String>,
    /// Only requests to this path; a `*` at the end stands for anything.
    #[arg(long, env = "CHAOS_PATH", value_name = "PATH")]
    pub chaos_path: Option<String>,
    /// How long chaos lasts.
    #[arg(long, env = "CHAOS_TIME_LIMIT", value_name = "DURATION", value_parser = duration::parse)]
    pub chaos_time_limit: Option<Duration>,
    /// Off for this long, then on for as long, and so on.
    #[arg(long, env = "CHAOS_ALTERNATE", value_name = "DURATION", value_parser = duration::parse)]
    pub chaos_alternate: Option<Duration>,
    /// Makes the random sequence the same every time.
    #[arg(long, env = "CHAOS_SEED", value_name = "NUMBER")]
    pub chaos_seed: Option<u64>,
    /// Whether `/chaos` can be used while the service runs.
    #[arg(long, env = "CHAOS_API", value_name = "on|off", default_value = "on")]
    pub chaos_api: Switch,
}

/// On or off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// On.
    #[default]
    On,
    /// Off.
    Off,
}

impl ChaosArgs {
    /// The settings to start with: `own`, changed by what was given.
    ///
    /// # Errors
    /// When they do not make sense.
    pub fn settings(&self, own: Settings) -> Result<Settings, Invalid> {
        let settings = Settings {
            error_rate: self.error_rate.unwrap_or(own.error_rate),
            error_type: self.error_type.unwrap_or(own.error_type),
            error_code: self.error_code.unwrap_or(own.error_code),
            error_delay: self.error_delay.unwrap_or(own.error_delay),
            error_message: self.error_message.clone().or(own.error_message),
            error_pattern: self.error_pattern.unwrap_or(own.error_pattern),
            timing_50_percentile: self
                .timing_50_percentile
                .unwrap_or(own.timing_50_percentile),
            timing_90_percentile: self
                .timing_90_percentile
                .unwrap_or(own.timing_90_percentile),
            timing_99_percentile: self
                .timing_99_percentile
                .unwrap_or(own.timing_99_percentile),
            timing_variance: self.timing_variance.unwrap_or(own.timing_variance),
            method: self.chaos_method.clone().or(own.method),
            path: self.chaos_path.clone().or(own.path),
            time_limit: self.chaos_time_limit.or(own.time_limit),
            alternate: self.chaos_alternate.or(own.alternate),
            seed: self.chaos_seed.or(own.seed),
        };
        settings.validate()?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        chaos: ChaosArgs,
    }

    #[test]
    fn flags_change_the_services_own_settings() {
        let cli = Cli::parse_from(["x", "--error-rate", "0.25", "--timing-variance", "40ms"]);
        let own = Settings {
            error_code: 503,
            error_rate: 1.0,
            ..Settings::default()
        };
        let settings = cli.chaos.settings(own).expect("valid");
        assert_eq!((settings.error_rate, settings.error_code), (0.25, 503));
        assert_eq!(
            settings.timing_variance,
            Variance::UpTo(Duration::from_millis(40))
        );
    }

    #[test]
    fn bad_values_are_refused() {
        for flags in [
            ["--error-rate", "half"],
            ["--error-type", "x"],
            ["--timing-50-percentile", "1"],
            ["--chaos-api", "maybe"],
        ] {
            assert!(
                Cli::try_parse_from(std::iter::once("x").chain(flags)).is_err(),
                "{flags:?}"
            );
        }
        let cli = Cli::parse_from(["x", "--error-rate", "2"]);
        assert!(cli.chaos.settings(Settings::default()).is_err());
    }
}
