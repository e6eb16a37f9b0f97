//! Chaos: errors and delays on purpose, the same for all services.
//!
//! The vocabulary is that of the well-known fake service: a rate, a code and a type of errors, and
//! percentiles of response times. It is set by flags and variables at start, and changed while the
//! service runs through `/chaos`.
//!
//! | module | question it answers |
//! | --- | --- |
//! | [`settings`] | what can be set, and what makes sense? |
//! | [`args`] | how is it set at start? |
//! | [`plan`] | what happens to this request? (pure, seeded) |
//! | [`layer`] | how is it done to the request? |
//! | [`api`] | how is it changed while the service runs? |
//!
//! Health, metrics and `/chaos` itself are never touched, so that a broken service can be seen and
//! repaired.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use crate::metrics::Metrics;
use plan::{Plan, Randomness};
use settings::{ErrorType, Settings};

pub mod api;
pub mod args;
pub mod layer;
pub mod plan;
pub mod settings;

/// The paths that chaos never touches.
pub const EXEMPT_PATHS: [&str; 6] = [
    "/health",
    "/healthz",
    "/ready",
    "/actuator/health",
    "/metrics",
    "/chaos",
];

/// The chaos of one service; clones share it.
#[derive(Clone)]
pub struct Chaos {
    state: Arc<Mutex<State>>,
    metrics: Metrics,
    service: &'static str,
}

struct State {
    settings: Settings,
    since: Instant,
    randomness: Randomness,
    injected: BTreeMap<&'static str, u64>,
}

/// What `/chaos` shows.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Status {
    /// Whether requests are being disturbed at this moment.
    pub in_force: bool,
    /// What is set.
    pub settings: Settings,
    /// Until the time limit ends it, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining: Option<String>,
    /// How many requests were disturbed since the settings were made, by type.
    pub injected: BTreeMap<&'static str, u64>,
}

impl Chaos {
    /// Chaos as set, which must be valid ([`Settings::validate`]).
    #[must_use]
    pub fn new(service: &'static str, settings: Settings, metrics: Metrics) -> Self {
        let state = State {
            randomness: Randomness::new(settings.seed),
            settings: Settings::default(),
            since: Instant::now(),
            injected: BTreeMap::new(),
        };
        let chaos = Self {
            state: Arc::new(Mutex::new(state)),
            metrics,
            service,
        };
        if settings != Settings::default() {
            chaos.set(settings);
        }
        chaos
    }

    /// Replaces the settings. Counting, the clock of the time limit and the random sequence start
    /// anew.
    pub fn set(&self, settings: Settings) {
        {
            let mut state = self.lock();
            state.randomness = Randomness::new(settings.seed);
            state.since = Instant::now();
            state.injected.clear();
            state.settings = settings.clone();
        }
        if settings.is_quiet() {
            tracing::info!("chaos: off");
        } else {
            let settings = serde_json::to_string(&settings).unwrap_or_default();
            tracing::warn!("chaos: in force: {settings}");
        }
    }

    /// What is set and what it has done.
    #[must_use]
    pub fn status(&self) -> Status {
        let state = self.lock();
        let elapsed = state.since.elapsed();
        Status {
            in_force: state.settings.in_force(elapsed),
            remaining: state.settings.time_limit.map(|limit| {
                crate::duration::text(Duration::from_secs(limit.saturating_sub(elapsed).as_secs()))
            }),
            settings: state.settings.clone(),
            injected: state.injected.clone(),
        }
    }

    /// Whether requests are being disturbed at this moment.
    #[must_use]
    pub fn in_force(&self) -> bool {
        let state = self.lock();
        state.settings.in_force(state.since.elapsed())
    }

    /// Decides what happens to a request, and counts it.
    fn plan(&self, method: &Method, path: &str) -> Plan {
        let mut state = self.lock();
        let elapsed = state.since.elapsed();
        let State {
            settings,
            randomness,
            injected,
            ..
        } = &mut *state;
        if !settings.in_force(elapsed) || !settings.matches(method, path) {
            return Plan::default();
        }
        let plan = randomness.plan(settings);
        if let Some(fault) = &plan.fault {
            let kind = fault.kind.name();
            *injected.entry(kind).or_default() += 1;
            self.metrics.count(
                "chaos_injected_total",
                "Requests disturbed on purpose.",
                &[("service", self.service), ("type", kind)],
            );
        }
        plan
    }

    /// Brings the gauges up to date; called before metrics are shown, since chaos may end by itself.
    pub fn refresh_metrics(&self) {
        let status = self.status();
        let service = ("service", self.service);
        self.metrics.set(
            "chaos_in_force",
            "1 while requests are disturbed on purpose.",
            &[service],
            if status.in_force { 1.0 } else { 0.0 },
        );
        for name in ["chaos_error_rate", "chaos_timing_seconds"] {
            self.metrics.clear(name);
        }
        if !status.in_force {
            return;
        }
        let settings = &status.settings;
        if settings.error_rate > 0.0 {
            let code = settings.error_code.to_string();
            let code = if settings.error_type.has_code() {
                code.as_str()
            } else {
                ""
            };
            self.metrics.set(
                "chaos_error_rate",
                "The share of requests that are disturbed.",
                &[
                    service,
                    ("type", settings.error_type.name()),
                    ("code", code),
                ],
                settings.error_rate,
            );
        }
        for (percentile, duration) in settings.percentiles() {
            self.metrics.set(
                "chaos_timing_seconds",
                "How long requests are made to take.",
                &[service, ("percentile", percentile)],
                duration.as_secs_f64(),
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change to the state is complete before anything in it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In the extensions of a response: this is no answer of the service but an injected error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injected(pub ErrorType);
