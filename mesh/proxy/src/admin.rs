//! The admin interface on port 15000: Envoy's paths, in Envoy's words.

pub(crate) mod clusters;
mod server_info;
pub(crate) mod stats;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use http::{Method, StatusCode};

use crate::{proxy::Proxy, serve::Page};

/// What the outside may ask a proxy to do, and what it tells of its life.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    /// The first complete configuration is in effect.
    pub(crate) configured: AtomicBool,
    pub(crate) draining: AtomicBool,
    /// `/healthcheck/fail` was asked for.
    pub(crate) failing: AtomicBool,
    /// `/quitquitquit` was asked for.
    pub(crate) quit: tokio_util::sync::CancellationToken,
}

impl Lifecycle {
    /// As `/ready` and `/server_info` name it.
    pub(crate) fn state(&self) -> &'static str {
        if self.draining.load(Relaxed) || self.failing.load(Relaxed) {
            "DRAINING"
        } else if self.configured.load(Relaxed) {
            "LIVE"
        } else {
            "INITIALIZING"
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.state() == "LIVE"
    }
}

const HELP: &str = "admin commands are:
  /certs: print certs on machine
  /clusters: upstream cluster status
  /config_dump: dump current Envoy configs (experimental)
  /drain_listeners (POST): drain listeners
  /healthcheck/fail (POST): cause the server to fail health checks
  /healthcheck/ok (POST): cause the server to pass health checks
  /help: print out list of admin commands
  /listeners: print listener info
  /logging (POST): query/change logging levels
  /quitquitquit (POST): exit the server
  /ready: print server state, return 200 if LIVE, otherwise return 503
  /reset_counters (POST): reset all counters to zero
  /server_info: print server version/status information
  /stats: print server stats
  /stats/prometheus: print server stats in prometheus format
";

/// Answers one admin request.
pub(crate) fn answer(
    proxy: &mut Proxy,
    lifecycle: &Arc<Lifecycle>,
    method: &Method,
    path: &str,
    query: &str,
) -> Page {
    let mutates = matches!(
        path,
        "/drain_listeners"
            | "/healthcheck/fail"
            | "/healthcheck/ok"
            | "/logging"
            | "/quitquitquit"
            | "/reset_counters"
    );
    if mutates && method != Method::POST {
        let text = format!("Method {method} not allowed, POST required.");
        return Page::text(text).status(StatusCode::METHOD_NOT_ALLOWED);
    }
    let query = Query(query);
    match path {
        "/ready" => {
            let state = lifecycle.state();
            let status = if lifecycle.is_ready() {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            Page::text(format!("{state}\n")).status(status)
        }
        "/stats" => stats::page(proxy, &query),
        "/stats/prometheus" => Page::text(stats::prometheus(proxy)),
        "/clusters" if query.is("format", "json") => Page::json(&clusters::json(proxy)),
        "/clusters" => Page::text(clusters::text(proxy)),
        "/listeners" => server_info::listeners(proxy, query.is("format", "json")),
        "/config_dump" => server_info::config_dump(proxy, &query),
        "/server_info" => Page::json(&server_info::server_info(proxy, lifecycle.state())),
        "/certs" => Page::json(&serde_json::json!({ "certificates": [] })),
        "/reset_counters" => {
            stats::reset(proxy);
            Page::text("OK\n".into())
        }
        "/healthcheck/fail" | "/healthcheck/ok" => {
            lifecycle.failing.store(path.ends_with("fail"), Relaxed);
            Page::text("OK\n".into())
        }
        "/drain_listeners" => {
            proxy.close_listeners();
            proxy.shared.drain.cancel();
            Page::text("OK\n".into())
        }
        "/quitquitquit" => {
            lifecycle.quit.cancel();
            Page::text("OK\n".into())
        }
        "/logging" if query.0.is_empty() => Page::text("active loggers:\n  proxy: info\n".into()),
        "/logging" => Page::text("levels are set when the proxy starts, with RUST_LOG\n".into())
            .status(StatusCode::NOT_IMPLEMENTED),
        "/" | "/help" => Page::text(HELP.into()),
        _ => Page::text(format!("invalid path. {HELP}")).status(StatusCode::NOT_FOUND),
    }
}

/// The query of an admin request.
pub(crate) struct Query<'a>(&'a str);

impl Query<'_> {
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let value = self.0.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then_some(value)
        })?;
        Some(percent_decode(value))
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.get(name).as_deref() == Some(value)
    }
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let escaped = (bytes[index] == b'%')
            .then(|| u8::from_str_radix(text.get(index + 1..index + 3)?, 16).ok())
            .flatten();
        match escaped {
            Some(byte) => {
                out.push(byte);
                index += 3;
            }
            None => {
                out.push(if bytes[index] == b'+' {
                    b' '
                } else {
                    bytes[index]
                });
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
