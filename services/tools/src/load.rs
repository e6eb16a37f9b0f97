//! `load`: requests at a rate or as fast as connections allow, and what became of them, in plain words.
//!
//! With a rate, times are counted from when a request was due, so that an answer that holds others up
//! shows in theirs too.

mod progress;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::connection::{Target, TargetError};
use crate::engine::{self, End, Plan};
use crate::request::{self, RequestError, Wanted};
use crate::schedule::{Budget, Rhythm};
use crate::shell::Shell;
use crate::tls::Trust;

use progress::Progress;
use report::{Kept, Report};

/// Sends requests to an address and reports rates, times and statuses.
#[derive(Clone, Debug, Args)]
pub struct LoadArgs {
    /// Address to send requests to; http:// may be left out
    pub url: String,
    /// Requests per second, all connections together [default: as many as the connections carry]
    #[arg(short, long, value_parser = rate)]
    pub rate: Option<f64>,
    /// How long, for example 10s or 1m30s [default: 10s, without end when --requests is given]
    #[arg(short, long, value_parser = positive)]
    pub duration: Option<Duration>,
    /// How many requests
    #[arg(short = 'n', long, value_parser = clap::value_parser!(u64).range(1..))]
    pub requests: Option<u64>,
    /// Connections, each of which carries one request at a time
    #[arg(short, long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub concurrency: u16,
    /// Threads [default: one per core, or one alone for a moderate rate]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Percentiles to report, comma-separated, each above 0 up to 100
    #[arg(short, long, value_delimiter = ',', default_value = "50,75,90,99,99.9", value_parser = percentile)]
    pub percentiles: Vec<f64>,
    /// Time limit of each request
    #[arg(long, default_value = "10s", value_parser = positive)]
    pub timeout: Duration,
    /// Method [default: GET, or POST with a body]
    #[arg(short = 'X', long)]
    pub method: Option<String>,
    /// Header, `Name: value`; may be repeated
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    pub headers: Vec<String>,
    /// Body to send
    #[arg(short = 'b', long)]
    pub body: Option<String>,
    /// The body's type [default: application/json]
    #[arg(long)]
    pub content_type: Option<String>,
    /// Open a new connection for every request
    #[arg(long)]
    pub no_keep_alive: bool,
    /// Trust any certificate
    #[arg(short = 'k', long, conflicts_with = "ca_certificate")]
    pub insecure: bool,
    /// PEM file of authorities to trust
    #[arg(long)]
    pub ca_certificate: Option<PathBuf>,
    /// How to write the report on standard output
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
    /// When to show a progress line on standard error
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: When,
}

/// How the report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// One JSON object
    Json,
}

/// When the progress line is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// When standard error is a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Run(#[from] engine::RunError),
    #[error("no request could be sent: {0}")]
    Nothing(String),
}

impl LoadArgs {
    /// Sends the requests and reports. 0 when there was any answer, else 1.
    pub async fn run(self, shell: &Shell) -> ExitCode {
        match self.report(shell).await {
            Ok(report) => {
                match self.output {
                    Output::Text => shell.out.text(&report.text()),
                    Output::Json => shell.out.line(&report.json()),
                }
                ExitCode::SUCCESS
            }
            Err(error) => {
                shell.err.line(&format!("error: {error}"));
                ExitCode::FAILURE
            }
        }
    }

    async fn report(&self, shell: &Shell) -> Result<Report, LoadError> {
        let target = self.target(shell).await?;
        shell.stop_on_interrupt();
        let plan = self.plan(shell);
        let (connections, end) = (plan.connections, plan.end.after);
        let progress = Arc::new(Progress::default());
        let corrected = self.rate.is_some();
        let recorder = || Kept::new(Arc::clone(&progress), corrected);
        let show = match self.progress {
            When::Auto => shell.err.terminal,
            When::Always => true,
            When::Never => false,
        };
        let running = engine::run(target, plan, recorder, |_| true);
        let finished = if show {
            progress
                .during(running, &shell.err, end, self.requests)
                .await?
        } else {
            running.await?
        };
        let mut kept = Kept::new(Arc::clone(&progress), corrected);
        for part in &finished.recorders {
            kept.merge(part);
        }
        if let (0, Some(error)) = (kept.answers(), kept.first_error()) {
            return Err(LoadError::Nothing(error.to_owned()));
        }
        let sockets = finished.connections.iter().map(|used| used.sockets).sum();
        Ok(Report::new(
            self,
            &kept,
            finished.elapsed,
            connections,
            sockets,
        ))
    }

    fn plan(&self, shell: &Shell) -> Plan {
        let connections = usize::from(self.concurrency);
        let usual = self.requests.is_none().then_some(Duration::from_secs(10));
        let threads = match self.threads {
            Some(threads) => usize::from(threads).min(connections),
            None => engine::threads(connections, self.rate),
        };
        Plan {
            connections,
            threads,
            budgets: vec![if self.rate.is_some() || self.requests.is_some() {
                Budget::Shared {
                    taken: Arc::default(),
                    total: self.requests,
                }
            } else {
                Budget::Own(None)
            }],
            rhythm: match self.rate {
                None => Rhythm::FlatOut,
                Some(rate) => Rhythm::Every {
                    interval: Duration::from_secs_f64(1.0 / rate),
                    jitter: 0.0,
                },
            },
            timeout: self.timeout,
            warm_up: false,
            close_after_error: false,
            end: End {
                after: self.duration.or(usual),
                abrupt: false,
                stop: shell.stop.clone(),
            },
            seed: shell.seed,
        }
    }

    async fn target(&self, shell: &Shell) -> Result<Arc<Target>, LoadError> {
        let body = self.body.clone().unwrap_or_default();
        let json = (!body.is_empty()).then_some("application/json");
        let request = request::build(&Wanted {
            url: &self.url,
            method: self.method.as_deref(),
            headers: &self.headers,
            agent: concat!("meshdojo-load/", env!("CARGO_PKG_VERSION")),
            content_type: self.content_type.as_deref().or(json),
            user: None,
            body: body.into(),
        })?;
        let trust = match &self.ca_certificate {
            _ if self.insecure => Trust::Anything,
            Some(file) => Trust::File(file.clone()),
            None => Trust::System,
        };
        let mut target = Target::new(request, &trust, &shell.environment).await?;
        target.close = self.no_keep_alive;
        Ok(Arc::new(target))
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok();
    value
        .filter(|rate| (0.001..=1_000_000.0).contains(rate))
        .ok_or_else(|| "a rate is a number of requests per second from 0.001 to 1000000".to_owned())
}

fn positive(text: &str) -> Result<Duration, String> {
    let duration = dojo_kit::duration::parse(text)?;
    if duration.is_zero() {
        return Err("must be longer than 0; write for example 10s".to_owned());
    }
    Ok(duration)
}

fn percentile(text: &str) -> Result<f64, String> {
    let value = text.trim().parse::<f64>().ok();
    value
        .filter(|percent| *percent > 0.0 && *percent <= 100.0)
        .ok_or_else(|| "a percentile is a number above 0 up to 100".to_owned())
}
