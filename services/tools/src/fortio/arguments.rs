//! fortio's flags: one or two dashes, the value after a blank or `=`, switches with or without `=true`.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};

/// What `fortio load` and `fortio curl` are told.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "fortio",
    about = "Send requests and report what became of them",
    long_about = None,
    override_usage = "fortio load|curl [flags] URL",
    disable_help_flag = true,
    no_binary_name = true,
    args_override_self = true
)]
pub struct Flags {
    /// Connections; each sends one request at a time
    #[arg(long = "c", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// Requests per second, all connections together; 0 or less: as fast as possible
    #[arg(long, default_value_t = 8.0, allow_negative_numbers = true)]
    pub qps: f64,
    /// Exact number of calls, shared among the connections; overrides -t
    #[arg(long = "n", default_value_t = 0)]
    pub calls: u64,
    /// How long: for example 30s or 1m30s
    #[arg(long = "t", default_value = "5s", value_parser = dojo_kit::duration::parse)]
    pub time: Duration,
    /// Log errors only, and leave the detailed parts of the report out
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub quiet: bool,
    /// What to log
    #[arg(long, value_enum, ignore_case = true, default_value = "info")]
    pub loglevel: Level,
    /// Lengthen or shorten each pause by up to 10 %
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub jitter: bool,
    /// Go on when the warm-up fails
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub allow_initial_errors: bool,
    /// A header, `Name: value`; may be repeated
    #[arg(long = "H", value_name = "HEADER")]
    pub headers: Vec<String>,
    /// The method; by default GET, or POST with a payload
    #[arg(long = "X", value_name = "METHOD")]
    pub method: Option<String>,
    /// The body to send
    #[arg(long)]
    pub payload: Option<String>,
    /// The body's type
    #[arg(long)]
    pub content_type: Option<String>,
    /// user:password for basic authentication
    #[arg(long)]
    pub user: Option<String>,
    /// Time limit of each call
    #[arg(long, default_value = "3s", value_parser = dojo_kit::duration::parse)]
    pub timeout: Duration,
    /// Percentiles of the report, comma-separated, each above 0 up to 100
    #[arg(long = "p", default_value = "50,75,90,99,99.9", value_delimiter = ',', value_parser = percentile)]
    pub percentiles: Vec<f64>,
    /// The histogram's resolution in seconds
    #[arg(long = "r", default_value = "0.001", value_parser = resolution)]
    pub resolution: f64,
    /// Keep connections for the next call
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = clap::ArgAction::Set)]
    pub keepalive: bool,
    /// Trust any certificate
    #[arg(long = "k", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub insecure: bool,
    /// PEM file of authorities to trust
    #[arg(long)]
    pub cacert: Option<PathBuf>,
    /// Threads; by default one per core, or one alone for a moderate rate
    #[arg(long = "gomaxprocs", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=256))]
    pub threads: u16,
    /// Show what the flags mean
    #[arg(long = "help", alias = "h", action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// The address to call
    #[arg(required = true)]
    pub url: String,
}

/// From which severity on lines are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[allow(missing_docs)] // The names say it.
pub enum Level {
    Debug,
    Verbose,
    Info,
    Warning,
    Error,
    Critical,
    Fatal,
}

impl Flags {
    /// Whether the report has all its parts: as long as warnings are logged.
    #[must_use]
    pub fn detailed(&self) -> bool {
        !self.quiet && self.loglevel <= Level::Warning
    }
}

/// Why the flags cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// What to print.
    pub message: String,
    /// With which exit status; 0 when help was asked for.
    pub status: u8,
}

/// Reads what stands after `fortio load` or `fortio curl`.
///
/// # Errors
/// When a flag is unknown or its value is wrong; the message is as fortio's users know it.
pub fn parse(arguments: &[String]) -> Result<Flags, Refused> {
    let parsed = Flags::command()
        .try_get_matches_from(arguments.iter().map(|argument| two_dashes(argument)))
        .and_then(|matches| Flags::from_arg_matches(&matches));
    parsed.map_err(|error| {
        let context = |kind| error.get(kind).map(ToString::to_string);
        match error.kind() {
            ErrorKind::DisplayHelp => Refused {
                message: error.to_string().replace(" --", " -"),
                status: 0,
            },
            ErrorKind::UnknownArgument => {
                let flag = context(clap::error::ContextKind::InvalidArg).unwrap_or_default();
                let message = if flag.starts_with('-') {
                    format!(
                        "flag provided but not defined: -{}\n",
                        flag.trim_start_matches('-')
                    )
                } else {
                    format!("Error: one address only; {flag:?} is too much\n")
                };
                Refused { message, status: 2 }
            }
            ErrorKind::MissingRequiredArgument => Refused {
                message: "Error: need a url as parameter, for example http://httpbin:8000/get\n"
                    .to_owned(),
                status: 1,
            },
            _ => Refused {
                message: error.to_string(),
                status: 2,
            },
        }
    })
}

/// `-qps` as `--qps`; numbers below zero and a single dash stay what they are.
fn two_dashes(argument: &str) -> String {
    let mut characters = argument.chars();
    match (characters.next(), characters.next()) {
        (Some('-'), Some(letter)) if letter.is_ascii_alphabetic() => format!("-{argument}"),
        _ => argument.to_owned(),
    }
}

fn percentile(text: &str) -> Result<f64, String> {
    let value = text.trim().parse().ok();
    value
        .filter(|percent| *percent > 0.0 && *percent <= 100.0)
        .ok_or_else(|| "a percentile is a number above 0 up to 100".to_owned())
}

fn resolution(text: &str) -> Result<f64, String> {
    let value = text.parse().ok();
    value
        .filter(|seconds: &f64| *seconds >= 1e-6 && *seconds <= 1000.0)
        .ok_or_else(|| "a resolution is a number of seconds from 0.000001 to 1000".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> Result<Flags, Refused> {
        parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_labs_command_lines_are_understood() {
        let flags_ =
            flags("-c 1 -qps 0 -n 10 -loglevel Warning http://httpbin:8000/get").expect("flags");
        assert_eq!((flags_.connections, flags_.qps, flags_.calls), (1, 0.0, 10));
        assert_eq!(flags_.loglevel, Level::Warning);
        assert!(flags_.detailed());
        assert_eq!(flags_.url, "http://httpbin:8000/get");
        let flags_ =
            flags("-quiet -jitter -t 30s -c 2 -qps 2 --allow-initial-errors http://web:30000")
                .expect("flags");
        assert!(flags_.quiet && flags_.jitter && flags_.allow_initial_errors && !flags_.detailed());
        assert_eq!(flags_.time, Duration::from_secs(30));
        let flags_ =
            flags("-keepalive=false -k -qps=-1 -p 50,99.9 -H a:b -H c:d x").expect("flags");
        assert!(!flags_.keepalive && flags_.insecure);
        assert_eq!((flags_.qps, flags_.percentiles), (-1.0, vec![50.0, 99.9]));
        assert_eq!(flags_.headers, ["a:b", "c:d"]);
        assert_eq!(flags("-qps -1 x").expect("flags").qps, -1.0);
    }

    #[test]
    fn defaults_are_fortios() {
        let flags = flags("x").expect("flags");
        assert_eq!((flags.connections, flags.qps, flags.calls), (4, 8.0, 0));
        assert_eq!(
            (flags.time, flags.timeout),
            (Duration::from_secs(5), Duration::from_secs(3))
        );
        assert_eq!(flags.percentiles, [50.0, 75.0, 90.0, 99.0, 99.9]);
    }

    #[test]
    fn wrong_flags_are_named() {
        for (line, message, status) in [
            ("-nope x", "flag provided but not defined: -nope", 2),
            ("-c 2", "Error: need a url", 1),
            ("-c none x", "invalid value 'none'", 2),
            ("-c 0 x", "1..=10000", 2),
            ("-t soon x", "150ms, 2.5s or 1m30s", 2),
            ("-p 101 x", "a number above 0 up to 100", 2),
            ("x y", "Error: one address only; \"y\"", 2),
        ] {
            let refused = flags(line).expect_err(line);
            assert!(
                refused.message.contains(message),
                "{line}: {}",
                refused.message
            );
            assert_eq!(refused.status, status, "{line}");
        }
        let help = flags("-h").expect_err("help");
        assert_eq!(help.status, 0);
        assert!(help.message.contains(" -qps <QPS>"), "{}", help.message);
    }
}
