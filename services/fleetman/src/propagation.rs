//! Which headers a service passes on to the services it calls.

use axum::http::HeaderMap;
use dojo_kit::propagation::{TRACE_HEADERS, propagated};

/// The flag of the services that call others.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct PropagationArgs {
    /// Pass no header on: traces fall apart, and routing by header ends here.
    #[arg(long, env = "NO_HEADER_PROPAGATION")]
    pub no_header_propagation: bool,
}

impl PropagationArgs {
    /// The headers of the calls that a request with these headers leads to: every header whose
    /// name begins with `x-`, and those of tracing.
    pub(crate) fn passed_on(self, incoming: &HeaderMap) -> HeaderMap {
        if self.no_header_propagation {
            return HeaderMap::new();
        }
        let mut outgoing = HeaderMap::new();
        for (name, value) in incoming {
            if name.as_str().starts_with("x-") {
                outgoing.append(name, value.clone());
            }
        }
        for (name, value) in &propagated(incoming, &[TRACE_HEADERS]) {
            if !name.as_str().starts_with("x-") {
                outgoing.append(name, value.clone());
            }
        }
        outgoing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x_headers_and_traces_are_passed_on_and_nothing_else() {
        let mut incoming = HeaderMap::new();
        for (name, value) in [
            ("x-my-header", "canary"),
            ("x-request-id", "1"),
            ("traceparent", "00-1-2-01"),
            ("accept", "*/*"),
            ("cookie", "a=b"),
            ("x-myval", "1"),
            ("x-myval", "2"),
        ] {
            incoming.append(name, value.parse().expect("a value"));
        }
        let outgoing = PropagationArgs::default().passed_on(&incoming);
        let mut names: Vec<_> = outgoing.keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["traceparent", "x-my-header", "x-myval", "x-request-id"]
        );
        assert_eq!(outgoing.get_all("x-myval").iter().count(), 2);
        assert_eq!(outgoing.get_all("x-request-id").iter().count(), 1);
        let none = PropagationArgs {
            no_header_propagation: true,
        };
        assert!(none.passed_on(&incoming).is_empty());
    }
}
