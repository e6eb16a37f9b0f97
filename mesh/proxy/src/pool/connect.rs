//! The making of a connection to a host, for requests and for bytes, and what is counted of it.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt, time::timeout};

use crate::{
    config::{Cluster, Host},
    proxy_protocol,
    shared::Shared,
    tap::{Hop, Wire},
    tls::Upstream,
    upstream_error::UpstreamError,
};

/// Opens a connection, from the pod's own address where there is one, so that the upstream sees who
/// calls, and with TLS where the cluster has it. Where the PROXY protocol is spoken, it is said to be
/// the connection `announced` (source, destination), or what it is.
pub(crate) async fn connect(
    shared: &Shared,
    cluster: &Cluster,
    host: &Host,
    connect_timeout: Duration,
    announced: Option<(SocketAddr, SocketAddr)>,
) -> Result<Upstream, UpstreamError> {
    tracing::debug!(
        "creating a new connection to {} of {}",
        host.address,
        cluster.name
    );
    let started = Instant::now();
    let connecting = async {
        let members = cluster.members.load_full();
        let config = members.as_ref().map(|members| &members.config);
        let own = config.map_or(&[][..], |config| &config.source_addresses);
        let sources = own.iter().copied().chain(shared.source_address);
        let mut stream = crate::socket::connect(host.address, sources).await?;
        let options = config.map(|config| &config.connections);
        if let Some(probes) = options.and_then(|options| options.tcp_keepalive.as_ref())
            && let Err(error) = crate::socket::keep_alive(&stream, probes)
        {
            tracing::warn!(%error, cluster = &*cluster.name, "cannot set TCP keep-alive");
        }
        if let Some(version) = config.and_then(|config| config.proxy_protocol) {
            let itself = (stream.local_addr()?, host.address);
            let (source, destination) = announced.unwrap_or(itself);
            let header = proxy_protocol::header(version, source, destination);
            stream.write_all(&header).await?;
        }
        let stream = Wire::new(stream, Hop::Upstream, &shared.tap);
        match members.as_ref().and_then(|members| members.tls_to(host)) {
            None => Ok(Upstream::Plain(stream)),
            Some(tls) => tls.connect(stream, host.address, &cluster.stats).await,
        }
    };
    match timeout(connect_timeout, connecting).await {
        Ok(Ok(stream)) => {
            let took = started.elapsed().as_millis() as u64;
            cluster.stats.upstream_cx_connect_ms.record(took);
            Ok(stream)
        }
        Ok(Err(error)) => {
            cluster.stats.upstream_cx_connect_fail.add(1);
            host.stats.cx_connect_fail.add(1);
            Err(UpstreamError::Connect(Arc::new(error)))
        }
        Err(_) => {
            cluster.stats.upstream_cx_connect_fail.add(1);
            cluster.stats.upstream_cx_connect_timeout.add(1);
            host.stats.cx_connect_fail.add(1);
            Err(UpstreamError::ConnectTimeout)
        }
    }
}

/// Counts a connection as long as it is open.
pub(crate) struct Open(Arc<Cluster>, Arc<Host>, Instant);

impl Open {
    pub(crate) fn new(cluster: &Arc<Cluster>, host: &Arc<Host>) -> Self {
        cluster.stats.upstream_cx_total.add(1);
        cluster.stats.upstream_cx_active.add(1);
        host.stats.cx_total.add(1);
        host.stats.cx_active.add(1);
        Self(cluster.clone(), host.clone(), Instant::now())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.stats.upstream_cx_active.sub(1);
        self.0.stats.upstream_cx_destroy.add(1);
        self.1.stats.cx_active.sub(1);
        let length = self.2.elapsed().as_millis() as u64;
        self.0.stats.upstream_cx_length_ms.record(length);
    }
}

/// Counts a request, or a TCP connection in its place, as long as the host has it.
pub(crate) struct Active(Arc<Cluster>, Arc<Host>);

impl Active {
    pub(crate) fn new(cluster: &Arc<Cluster>, host: &Arc<Host>) -> Self {
        cluster.stats.upstream_rq_total.add(1);
        cluster.stats.upstream_rq_active.add(1);
        host.stats.rq_total.add(1);
        host.stats.rq_active.add(1);
        Self(cluster.clone(), host.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.stats.upstream_rq_active.sub(1);
        self.1.stats.rq_active.sub(1);
    }
}
