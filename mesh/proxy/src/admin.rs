//! The admin interface on port 15000: Envoy's paths, in Envoy's words.

mod certs;
pub(crate) mod clusters;
pub(crate) mod collect;
mod explain;
mod inclusion;
mod logging;
mod memory;
pub(crate) mod prometheus;
mod query;
mod server_info;
mod stats;
mod stranger;
mod tap;
mod user;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use http::{Method, StatusCode};

use crate::{proxy::Proxy, serve::Page};

pub(crate) use logging::Logging;
use query::Query;
pub(crate) use stranger::is_stranger;
pub(crate) use user::is_another;

/// What the outside may ask a proxy to do, and what it tells of its life.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    /// The first complete configuration is in effect.
    pub(crate) configured: AtomicBool,
    /// The control plane has not signed for this proxy yet.
    pub(crate) awaits_certificate: AtomicBool,
    pub(crate) draining: AtomicBool,
    /// `/healthcheck/fail` was asked for.
    pub(crate) failing: AtomicBool,
    /// `/quitquitquit` was asked for.
    pub(crate) quit: tokio_util::sync::CancellationToken,
    /// What the proxy logs of itself.
    pub(crate) logging: Logging,
}

impl Lifecycle {
    /// As `/ready` and `/server_info` name it.
    pub(crate) fn state(&self) -> &'static str {
        if self.draining.load(Relaxed) || self.failing.load(Relaxed) {
            "DRAINING"
        } else if self.configured.load(Relaxed) && !self.awaits_certificate.load(Relaxed) {
            "LIVE"
        } else {
            "INITIALIZING"
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.state() == "LIVE"
    }
}

/// Every page: its path, whether it changes something (so it must be asked with POST), and what
/// `/help` says of it.
const PAGES: &[(&str, bool, &str)] = &[
    ("/certs", false, "print certs on machine"),
    ("/clusters", false, "upstream cluster status"),
    (
        "/config_dump",
        false,
        "dump current Envoy configs (experimental)",
    ),
    ("/drain_listeners", true, "drain listeners"),
    (
        "/explain",
        false,
        "how a request would be routed: ?method=GET&url=http://reviews:9080/&header=name:value",
    ),
    (
        "/healthcheck/fail",
        true,
        "cause the server to fail health checks",
    ),
    (
        "/healthcheck/ok",
        true,
        "cause the server to pass health checks",
    ),
    ("/help", false, "print out list of admin commands"),
    (
        "/hot_restart_version",
        false,
        "print the hot restart compatibility version",
    ),
    (
        "/init_dump",
        false,
        "dump current Envoy init manager information (experimental)",
    ),
    ("/listeners", false, "print listener info"),
    ("/logging", true, "query/change logging levels"),
    ("/memory", false, "print current allocation/heap usage"),
    ("/quitquitquit", true, "exit the server"),
    (
        "/ready",
        false,
        "print server state, return 200 if LIVE, otherwise return 503",
    ),
    ("/reset_counters", true, "reset all counters to zero"),
    ("/runtime", false, "print runtime values"),
    (
        "/server_info",
        false,
        "print server version/status information",
    ),
    ("/stats", false, "print server stats"),
    (
        "/stats/prometheus",
        false,
        "print server stats in prometheus format",
    ),
    (
        "/tap",
        false,
        "stream requests and connections as they end; ?raw: bytes too",
    ),
];

/// Answers one admin request.
pub(crate) fn answer(
    proxy: &mut Proxy,
    lifecycle: &Arc<Lifecycle>,
    method: &Method,
    path: &str,
    query: &str,
) -> Page {
    let mutates = PAGES.iter().any(|(page, post, _)| *post && *page == path);
    if mutates && method != Method::POST {
        let text = format!("Method {method} not allowed, POST required.");
        return Page::text(text).status(StatusCode::METHOD_NOT_ALLOWED);
    }
    let query = Query::of(query);
    let done = || Page::text("OK\n".into());
    match path {
        "/ready" => {
            let status = if lifecycle.is_ready() {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            Page::text(format!("{}\n", lifecycle.state())).status(status)
        }
        "/stats" => stats::page(proxy, &query, query.get("format").as_deref()),
        "/stats/prometheus" => stats::page(proxy, &query, Some("prometheus")),
        "/clusters" if query.is("format", "json") => Page::json(&clusters::json(proxy)),
        "/clusters" => Page::text(clusters::text(proxy)),
        "/listeners" => server_info::listeners(proxy, query.is("format", "json")),
        "/config_dump" => server_info::config_dump(proxy, &query),
        "/explain" => explain::page(&proxy.config, &query),
        "/server_info" => Page::json(&server_info::server_info(proxy, lifecycle.state())),
        "/certs" => Page::json(&certs::page(&proxy.shared.secrets)),
        "/tap" => tap::page(&proxy.shared.tap, &query),
        "/memory" => Page::json(&memory::page()),
        // There is no runtime layer to look up values in, no hot restart, and nothing that is waited
        // for once there is a configuration.
        "/runtime" => Page::json(&serde_json::json!({ "layers": [], "entries": {} })),
        "/hot_restart_version" => Page::text("disabled\n".into()),
        "/init_dump" => Page::json(&server_info::init_dump(lifecycle.state())),
        "/reset_counters" => {
            collect::reset(proxy);
            done()
        }
        "/healthcheck/fail" | "/healthcheck/ok" => {
            lifecycle.failing.store(path.ends_with("fail"), Relaxed);
            done()
        }
        "/drain_listeners" => {
            if !query.has("graceful") {
                proxy.close_listeners(query.has("inboundonly"));
            }
            proxy.shared.drain.cancel();
            done()
        }
        "/quitquitquit" => {
            lifecycle.quit.cancel();
            done()
        }
        "/logging" => lifecycle.logging.page(&query),
        "/" => Page::html(home()),
        "/help" => Page::text(help()),
        _ => {
            let text = format!("invalid path. {}", help());
            Page::text(text).status(StatusCode::NOT_FOUND)
        }
    }
}

fn help() -> String {
    let lines = PAGES.iter().map(|(path, post, help)| {
        let post = if *post { " (POST)" } else { "" };
        format!("  {path}{post}: {help}\n")
    });
    "admin commands are:\n  /: Admin home page\n".to_owned() + &lines.collect::<String>()
}

/// Links to the pages, and buttons for those that change something.
fn home() -> String {
    let rows = PAGES.iter().map(|(path, post, help)| {
        let link = if *post {
            format!("<form action=\"{path}\" method=\"post\"><button>{path}</button></form>")
        } else {
            format!("<a href=\"{path}\">{path}</a>")
        };
        format!("<tr><td>{link}</td><td>{help}</td></tr>\n")
    });
    format!(
        "<!doctype html><meta charset=\"utf-8\"><title>Envoy Admin</title>\n\
         <table>\n{}</table>\n",
        rows.collect::<String>()
    )
}
