//! `/logging`: what the proxy logs of itself, by the names that Envoy gives its loggers.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Mutex, OnceLock, PoisonError},
};

use http::StatusCode;
use tracing_subscriber::{
    EnvFilter, Registry, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use super::query::Query;
use crate::serve::Page;

/// Envoy's loggers that have something to say here, and the modules that speak for them.
const LOGGERS: &[(&str, &[&str])] = &[
    ("admin", &["mesh_proxy::admin", "mesh_proxy::serve"]),
    (
        "config",
        &[
            "mesh_proxy::config",
            "mesh_proxy::discovery",
            "mesh_proxy::proxy",
        ],
    ),
    ("connection", &["mesh_proxy::accept", "mesh_proxy::codec"]),
    ("filter", &["mesh_proxy::tcp"]),
    ("http", &["mesh_proxy::request", "hyper"]),
    ("http2", &["h2"]),
    ("main", &["mesh_proxy"]),
    ("pool", &["mesh_proxy::pool"]),
    ("rbac", &["mesh_proxy::authorization"]),
    ("router", &["mesh_proxy::forward"]),
    ("tracing", &["mesh_proxy::spans"]),
    ("upstream", &["mesh_proxy::balance"]),
];

const USAGE: &str = "usage: /logging?<name>=<level> (change single level)
usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)
usage: /logging?level=<level> (change all levels)
levels: trace debug info warning error critical off
";

/// The levels in effect.
#[derive(Debug)]
pub(crate) struct Logging {
    levels: Mutex<BTreeMap<&'static str, &'static str>>,
    /// Absent when somebody else set up logging for this process.
    filter: OnceLock<reload::Handle<EnvFilter, Registry>>,
}

impl Default for Logging {
    fn default() -> Self {
        let levels = LOGGERS.iter().map(|(name, _)| (*name, "info"));
        Self {
            levels: Mutex::new(levels.collect()),
            filter: OnceLock::new(),
        }
    }
}

impl Logging {
    /// Starts logging to standard error: at `level`, single loggers as `components` says
    /// (`router:debug,http:info`); the variable `RUST_LOG` stands above both.
    ///
    /// # Errors
    /// When a logger or a level is unknown.
    pub(crate) fn start(
        &self,
        level: Option<&str>,
        components: Option<&str>,
    ) -> anyhow::Result<()> {
        let all = level.map(|level| ("level".to_owned(), level.to_owned()));
        let single = components.map(|paths| ("paths".to_owned(), paths.to_owned()));
        for (name, value) in all.into_iter().chain(single) {
            anyhow::ensure!(
                self.set(&name, &value),
                "{value:?} names no level of logging; levels: trace debug info warning error critical off"
            );
        }
        let filter = match std::env::var("RUST_LOG") {
            Ok(text) if !text.is_empty() => EnvFilter::builder().parse_lossy(text),
            _ => self.directives(),
        };
        let (filter, handle) = reload::Layer::new(filter);
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(std::io::stderr);
        let started = tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .try_init();
        if started.is_ok() {
            // Only done once.
            let _ = self.filter.set(handle);
        }
        Ok(())
    }

    pub(super) fn page(&self, query: &Query<'_>) -> Page {
        for (name, value) in query.pairs() {
            if !self.set(&name, &value) {
                return Page::text(USAGE.into()).status(StatusCode::BAD_REQUEST);
            }
        }
        if let Some(filter) = self.filter.get()
            && let Err(error) = filter.reload(self.directives())
        {
            let text = format!("{error}\n");
            return Page::text(text).status(StatusCode::INTERNAL_SERVER_ERROR);
        }
        let mut out = String::from("active loggers:\n");
        for (name, level) in &*self.lock() {
            // Writing to a String does not fail.
            let _ = writeln!(out, "  {name}: {level}");
        }
        out.push('\n');
        Page::text(out)
    }

    /// Carries out one parameter; `false`: it is not understood.
    fn set(&self, name: &str, value: &str) -> bool {
        if name == "paths" {
            let mut pairs = value.split(',');
            return pairs.all(|pair| {
                let (name, level) = pair.split_once(':').unwrap_or((pair, ""));
                // Envoy has loggers that are silent here.
                self.set(name, level) || directive(level).is_some()
            });
        }
        let Some((level, _)) = directive(value) else {
            return false;
        };
        let mut levels = self.lock();
        let mut known = false;
        for (logger, current) in levels.iter_mut() {
            if name == "level" || *logger == name {
                *current = level;
                known = true;
            }
        }
        known
    }

    fn directives(&self) -> EnvFilter {
        let levels = self.lock();
        let mut out = String::from("warn");
        for (logger, targets) in LOGGERS {
            let (_, level) = directive(levels[logger]).expect("only known levels are set");
            for target in *targets {
                // Writing to a String does not fail.
                let _ = write!(out, ",{target}={level}");
            }
        }
        EnvFilter::builder().parse_lossy(out)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, &'static str>> {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A level in Envoy's word and in ours.
fn directive(level: &str) -> Option<(&'static str, &'static str)> {
    Some(match level {
        "trace" => ("trace", "trace"),
        "debug" => ("debug", "debug"),
        "info" => ("info", "info"),
        "warning" | "warn" => ("warning", "warn"),
        "error" => ("error", "error"),
        "critical" => ("critical", "error"),
        "off" => ("off", "off"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_change_for_one_for_some_and_for_all() {
        let logging = Logging::default();
        let ask = |query: &str| {
            let page = logging.page(&Query::of(query));
            let (status, text) = page.parts();
            (status, text.to_owned())
        };
        assert!(ask("").1.contains("\n  router: info\n"));
        assert!(ask("router=debug").1.contains("\n  router: debug\n"));
        let some = ask("paths=http:trace,pool:warning").1;
        assert!(
            some.contains("http: trace") && some.contains("pool: warning"),
            "{some}"
        );
        let all = ask("level=off").1;
        assert_eq!(all.matches(": off").count(), LOGGERS.len(), "{all}");
        assert!(
            logging
                .directives()
                .to_string()
                .contains("mesh_proxy::forward=off")
        );
        for bad in ["level=loud", "cats=debug", "paths=http:loud"] {
            assert_eq!(ask(bad), (400, USAGE.into()), "{bad}");
        }
    }
}
