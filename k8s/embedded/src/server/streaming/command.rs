//! A session with a command or container over whichever connection the client has.

use super::{Upgrade, agree, channels, no_protocol, spdy, switch_to_spdy};
use crate::node::{Exit, Session};
use crate::server::ApiError;
use axum::response::Response;
use serde_json::{Value, json};

/// Which streams the client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Streams {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

/// Over WebSockets. Version 5 adds to 4 that the end of input can be told.
const CHANNELS: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// Over SPDY.
const STREAMS: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io"];

pub(super) fn run(
    session: Session,
    streams: Streams,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    match upgrade {
        Upgrade::WebSocket(upgrade, offered) => {
            if agree(CHANNELS, &offered).is_none() {
                return Err(no_protocol(&offered, CHANNELS));
            }
            Ok(upgrade
                .protocols(CHANNELS.iter().copied())
                .on_upgrade(move |socket| channels::serve(socket, session, streams)))
        }
        Upgrade::Spdy(upgrade, offered) => {
            // version 5 is for WebSockets: real servers choose 4 here
            let Some(protocol) = agree(&STREAMS[1..], &offered) else {
                return Err(no_protocol(&offered, &STREAMS[1..]));
            };
            Ok(switch_to_spdy(upgrade, protocol, move |connection| {
                spdy::command::serve(connection, session, streams)
            }))
        }
    }
}

/// What the error stream says at the end.
pub(super) fn outcome(exit: &Exit) -> Value {
    match exit {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!(
                "command terminated with non-zero exit code: command terminated with exit code {code}"
            ),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(why) => {
            let why = format!("error executing command in container: {why}");
            json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("Internal error occurred: {why}"),
                "reason": "InternalError",
                "details": {"causes": [{"message": why}]},
                "code": 500,
            })
        }
    }
}
