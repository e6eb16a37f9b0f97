//! Forwarders: a TCP listener that leads to a ready endpoint of a Service's port.

use super::accept::accept;
use super::addresses::AddressPlan;
use super::dial::{carry, connect};
use super::endpoints::Endpoints;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Connections that one forwarder may have open.
const CONNECTIONS: usize = 1024;

/// Where a forwarder leads.
#[derive(Clone)]
pub struct Forwarder {
    /// The Service's namespace.
    pub namespace: Arc<str>,
    /// The Service's name.
    pub service: Arc<str>,
    /// The Service's port.
    pub port: u16,
    /// The cluster's addresses.
    pub plan: AddressPlan,
    /// Where Services lead.
    pub endpoints: Endpoints,
}

impl Forwarder {
    /// Forwards until `shutdown`.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let who = format!("the forwarder of {}", self.service);
        accept(listener, CONNECTIONS, who, shutdown, |stream, from| {
            let forwarder = self.clone();
            async move { forwarder.forward(stream, from).await }
        })
        .await;
    }

    /// The source of the forwarded connection: the calling pod's own address if a pod calls, as
    /// kube-proxy leaves it; the node's otherwise.
    fn source(&self, from: SocketAddr) -> Ipv4Addr {
        match from.ip() {
            IpAddr::V4(ip) if self.plan.is_pod(ip) => ip,
            _ => self.plan.node(),
        }
    }

    async fn forward(&self, mut client: TcpStream, from: SocketAddr) {
        // tried again on the next endpoint: one that died a moment ago may still be listed
        for _ in 0..3 {
            let endpoint = match self
                .endpoints
                .next(&self.namespace, &self.service, self.port)
            {
                Ok(endpoint) => endpoint,
                Err(error) => {
                    // the closed connection is all that TCP can say
                    tracing::debug!(%error, "connection refused");
                    return;
                }
            };
            match connect(self.source(from), endpoint).await {
                Ok(mut upstream) => {
                    // a matter of speed alone
                    let _ = client.set_nodelay(true);
                    if let Err(error) = carry(&mut client, &mut upstream).await {
                        tracing::debug!(%endpoint, %error, "connection broken");
                    }
                    return;
                }
                Err(error) => tracing::debug!(%endpoint, %error, "endpoint not reached"),
            }
        }
    }
}
