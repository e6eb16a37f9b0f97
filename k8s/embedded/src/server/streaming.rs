//! `exec`, `attach` and `portforward`: a request that becomes a stream in both directions.
//!
//! Clients ask for it in one of two ways: a WebSocket ([`channels`], or [`spdy`] inside of one), or, before
//! kubectl 1.30, an upgrade to SPDY ([`spdy`] on the connection itself). What the streams mean is the
//! same: [`command`] and [`port_forward`].

mod channels;
mod command;
mod port_forward;
mod spdy;
mod tunnel;

use super::subresources::container;
use super::{ApiError, Inner, Target};
use crate::node::{ExecOptions, Node, NodeError, Session};
use axum::extract::{FromRequestParts, Query, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::sync::Arc;

/// Largest message of a WebSocket, in bytes.
const MESSAGE: usize = 4 << 20;

/// Whether a subresource of a pod is a stream.
pub(super) fn is_stream(target: &Target) -> bool {
    target.resource.gvk.kind == "Pod"
        && matches!(
            target.subresource.as_deref(),
            Some("exec" | "attach" | "portforward")
        )
}

/// Answers the request with an upgrade, after which the stream goes on by itself.
pub(super) async fn run(
    api: &Arc<Inner>,
    target: &Target,
    parts: &mut Parts,
) -> Result<Response, ApiError> {
    if parts.method != Method::GET && parts.method != Method::POST {
        return Err(ApiError::method_not_allowed());
    }
    let stored = api
        .store
        .get(&target.resource.storage, target.namespace(), target.name());
    let pod = stored.ok_or_else(|| ApiError::not_found(&target.resource, target.name()))?;
    let pod = pod.value();
    let Some(node) = api.node.get().cloned() else {
        return Err(ApiError::internal("this cluster has no node"));
    };
    let Query(query) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let pod_name = (target.namespace().to_owned(), target.name().to_owned());
    let upgrade = Upgrade::of(parts).await?;
    if target.subresource.as_deref() == Some("portforward") {
        return port_forward::run(node, pod_name, &query, upgrade);
    }
    let one = |name: &str| {
        let mut found = query.iter().filter(|(key, _)| key == name);
        found.next().map(|(_, value)| value.as_str())
    };
    let flag = |name| one(name).is_some_and(|value| matches!(value, "true" | "1"));
    let container = container::choose(&pod, one("container").filter(|name| !name.is_empty()))?;
    let streams = command::Streams {
        stdin: flag("stdin"),
        stdout: flag("stdout"),
        stderr: flag("stderr"),
        tty: flag("tty"),
    };
    if !(streams.stdin || streams.stdout || streams.stderr) {
        return Err(ApiError::bad_request(
            "you must specify at least 1 of stdin, stdout, stderr",
        ));
    }
    let session = match target.subresource.as_deref() {
        Some("attach") => attach(node.as_ref(), &pod_name, &container, streams.stdin).await,
        _ => {
            let command = query.iter().filter(|(key, _)| key == "command");
            let options = ExecOptions {
                command: command.map(|(_, value)| value.clone()).collect(),
                stdin: streams.stdin,
                tty: streams.tty,
            };
            if options.command.is_empty() {
                return Err(ApiError::bad_request("you must specify a command"));
            }
            node.exec(&pod_name.0, &pod_name.1, &container, options)
                .await
        }
    };
    match session {
        Ok(session) => command::run(session, streams, upgrade),
        Err(error) => refuse(error),
    }
}

async fn attach(
    node: &dyn Node,
    (namespace, pod): &(String, String),
    container: &str,
    stdin: bool,
) -> Result<Session, NodeError> {
    node.attach(namespace, pod, container, stdin).await
}

/// A kubelet's refusal is passed on as it is.
fn refuse(error: NodeError) -> Result<Response, ApiError> {
    match error {
        NodeError::NotRunning(_) => Ok(super::answer::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            error.to_string(),
        )),
        other => Err(super::subresources::of_node(other)),
    }
}

/// What the client wants the connection to become.
enum Upgrade {
    WebSocket(WebSocketUpgrade, Vec<String>),
    Spdy(OnUpgrade, Vec<String>),
}

impl Upgrade {
    async fn of(parts: &mut Parts) -> Result<Self, ApiError> {
        let listed = |name: &str| -> Vec<String> {
            let values = parts.headers.get_all(name).iter();
            values
                .filter_map(|value| value.to_str().ok())
                .flat_map(|value| value.split(','))
                .map(|value| value.trim().to_owned())
                .collect()
        };
        let wanted = parts.headers.get(header::UPGRADE);
        let wanted = wanted
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if wanted.eq_ignore_ascii_case("SPDY/3.1") {
            let protocols = listed("x-stream-protocol-version");
            return match parts.extensions.remove::<OnUpgrade>() {
                Some(upgrade) => Ok(Upgrade::Spdy(upgrade, protocols)),
                None => Err(ApiError::bad_request(
                    "this connection cannot be upgraded: use HTTP/1.1",
                )),
            };
        }
        if !wanted.eq_ignore_ascii_case("websocket") {
            return Err(ApiError::bad_request("Upgrade request required"));
        }
        let protocols = listed("sec-websocket-protocol");
        WebSocketUpgrade::from_request_parts(parts, &())
            .await
            .map(|upgrade| Upgrade::WebSocket(upgrade.max_message_size(MESSAGE), protocols))
            .map_err(|rejection| ApiError::bad_request(rejection.to_string()))
    }
}

/// The first of `ours` that the client offers.
fn agree(ours: &[&'static str], offered: &[String]) -> Option<&'static str> {
    ours.iter()
        .find(|protocol| offered.iter().any(|o| o == *protocol))
        .copied()
}

fn no_protocol(offered: &[String], ours: &[&str]) -> ApiError {
    ApiError::bad_request(format!(
        "unable to upgrade: no protocol of {offered:?} is known here, only {ours:?}"
    ))
}

/// Switches to SPDY and lets `serve` have the connection.
fn switch_to_spdy<F: Future<Output = ()> + Send + 'static>(
    upgrade: OnUpgrade,
    protocol: &'static str,
    serve: impl FnOnce(TokioIo<hyper::upgrade::Upgraded>) -> F + Send + 'static,
) -> Response {
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => serve(TokioIo::new(connection)).await,
            Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
        }
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    headers.insert(
        "x-stream-protocol-version",
        HeaderValue::from_static(protocol),
    );
    response
}
