//! The original destination: where passed through traffic goes.

use std::net::{IpAddr, SocketAddr};

use http::StatusCode;
use mesh_config::{Discovery, Interception, TrafficDirection};

use crate::{
    config::{Destination, Members},
    context::RequestContext,
    door::is_loopback,
    downstream::Downstream,
    flags::Flags,
    reply::LocalReply,
    worker::Worker,
};

/// A connection to this cluster goes where the client was going, and not to a host of the cluster:
/// those stand for names.
pub(crate) fn is_asked(members: &Members, destination: Option<&Destination>) -> bool {
    let is_address = |to: &Destination| to.host.parse::<IpAddr>().is_ok();
    members.config.discovery == Discovery::OriginalDst
        && (members.hosts.is_empty() || destination.is_none_or(is_address))
}

/// The address that a request's client named.
pub(crate) async fn resolve(
    worker: &Worker,
    context: &RequestContext<'_>,
) -> Result<SocketAddr, LocalReply> {
    let connection = context.connection;
    let fallback = Destination::from(connection.local);
    let destination = context.destination.as_ref().unwrap_or(&fallback);
    let failure = |_| {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        LocalReply::new(
            status,
            "no healthy upstream",
            Flags::DNS_FAILURE,
            "dns_resolution_failed",
        )
    };
    let address = address(worker, connection, context.direction, destination).await;
    let address = address.map_err(failure)?;
    if address == connection.local {
        // It would come straight back.
        return Err(LocalReply::no_route());
    }
    Ok(address)
}

/// The address of a destination; names are asked of the system's resolver.
pub(crate) async fn address(
    worker: &Worker,
    connection: &Downstream,
    direction: TrafficDirection,
    destination: &Destination,
) -> std::io::Result<SocketAddr> {
    let port = destination.port;
    if let Interception::Door { loopback } = worker.shared.identity.interception {
        let own = direction == TrafficDirection::Inbound
            && destination.host.parse() == Ok(connection.local.ip());
        if own || is_loopback(destination) {
            return Ok(SocketAddr::new(loopback, port));
        }
    }
    if let Ok(ip) = destination.host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let found = tokio::net::lookup_host((&*destination.host, port))
        .await?
        .next();
    found.ok_or_else(|| std::io::Error::other("the name has no address"))
}
