//! TCP proxying: bytes both ways between a connection and one host of a cluster.

use std::{rc::Rc, sync::Arc};

use mesh_config::{Discovery, TrafficDirection};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::{
    balance,
    config::{Cluster, Destination, Host, Tcp},
    flags::Flags,
    original, pool,
    request::Downstream,
    stats::istio::{PeerId, Reporter, ServiceId, TcpKey},
};

/// What is remembered of a connection; logged and counted when dropped.
struct Session<'a> {
    connection: &'a Downstream,
    started: std::time::Instant,
    start: jiff::Timestamp,
    cluster: Option<&'a Arc<Cluster>>,
    host: Option<Arc<Host>>,
    upstream_local: Option<std::net::SocketAddr>,
    key: TcpKey,
    details: &'static str,
    received: u64,
    sent: u64,
    observed: bool,
}

/// Carries a connection to its end.
pub(crate) async fn proxy<S>(mut stream: S, tcp: &Tcp, connection: &Rc<Downstream>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    tcp.stats.downstream_cx_total.add(1);
    tcp.stats.downstream_cx_active.add(1);
    let cluster = tcp.cluster(connection.worker.draw());
    let mut session = Session::new(connection, cluster);
    session.observed = !Arc::ptr_eq(&tcp.stats, &connection.worker.shared.loopback_tcp.stats);
    if let Some(cluster) = cluster
        && let Some(upstream) = session.connect(cluster).await
    {
        session.upstream_local = upstream.local_addr().ok();
        session.opened();
        let mut upstream = upstream;
        let mut counted = Counted::new(&mut stream);
        // Either side may close as it likes.
        let _ = tokio::io::copy_bidirectional(&mut counted, &mut upstream).await;
        (session.received, session.sent) = (counted.read, counted.written);
    }
    let _ = stream.shutdown().await;
    tcp.stats.downstream_cx_active.sub(1);
    tcp.stats.downstream_cx_rx_bytes_total.add(session.received);
    tcp.stats.downstream_cx_tx_bytes_total.add(session.sent);
}

/// No filter chain takes the connection: it is closed, and said so.
pub(crate) fn refuse(connection: &Rc<Downstream>) {
    let mut session = Session::new(connection, None);
    session.key.flags.insert(Flags::NO_ROUTE);
    session.details = "filter_chain_not_found";
}

impl<'a> Session<'a> {
    fn new(connection: &'a Downstream, cluster: Option<&'a Arc<Cluster>>) -> Self {
        let worker = &connection.worker;
        worker.active.set(worker.active.get() + 1);
        let inbound = connection.listener.load().direction == TrafficDirection::Inbound;
        Self {
            connection,
            started: std::time::Instant::now(),
            start: jiff::Timestamp::now(),
            cluster,
            host: None,
            upstream_local: None,
            key: TcpKey {
                reporter: if inbound {
                    Reporter::Destination
                } else {
                    Reporter::Source
                },
                peer: PeerId::UNKNOWN,
                service: ServiceId::UNKNOWN,
                flags: Flags::default(),
            },
            details: "-",
            received: 0,
            sent: 0,
            observed: true,
        }
    }

    async fn connect(&mut self, cluster: &Arc<Cluster>) -> Option<tokio::net::TcpStream> {
        let worker = &self.connection.worker;
        let Some(members) = cluster.members.load_full() else {
            self.key.flags.insert(Flags::NO_CLUSTER);
            self.details = "cluster_not_found";
            return None;
        };
        self.key.service = members.service;
        let host = if members.config.discovery == Discovery::OriginalDst {
            let local = Destination::from(self.connection.local);
            let destination = self.connection.destination.as_ref().unwrap_or(&local);
            let direction = self.connection.listener.load().direction;
            match original::address(worker, self.connection, direction, destination).await {
                Ok(address) if address != self.connection.local => {
                    worker.original(cluster, address)
                }
                Ok(_) => return self.unhealthy(Flags::NO_ROUTE),
                Err(_) => return self.unhealthy(Flags::DNS_FAILURE),
            }
        } else {
            match balance::choose(cluster, &members, &[], || worker.draw()) {
                Some(host) => host.clone(),
                None => return self.unhealthy(Flags::NO_HEALTHY_UPSTREAM),
            }
        };
        if self.key.reporter == Reporter::Source {
            self.key.peer = host.peer;
        }
        self.host = Some(host.clone());
        let limit = members.config.connect_timeout;
        match pool::connect(worker, cluster, &host, limit).await {
            Ok(stream) => Some(stream),
            Err(_) => self.unhealthy(Flags::UPSTREAM_CONNECTION_FAILURE),
        }
    }

    fn unhealthy(&mut self, flag: Flags) -> Option<tokio::net::TcpStream> {
        self.key.flags.insert(flag);
        None
    }

    fn opened(&self) {
        if self.observed {
            let labels = &self.connection.worker.shared.labels;
            labels.tcp(self.key).opened.add(1);
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let worker = &self.connection.worker;
        worker.active.set(worker.active.get() - 1);
        if !self.observed {
            return;
        }
        if self.cluster.is_some() {
            let series = worker.shared.labels.tcp(self.key);
            series.closed.add(1);
            series.sent.add(self.sent);
            series.received.add(self.received);
        }
        if !worker.shared.node.load().access_log {
            return;
        }
        let dash = || String::from("-");
        let address = |address: Option<std::net::SocketAddr>| {
            address.map_or_else(dash, |address| address.to_string())
        };
        worker.log.write(&format!(
            "[{}] \"- - -\" 0 {} {} - \"-\" {} {} {} - \"-\" \"-\" \"-\" \"-\" \"{}\" {} {} {} {} - -\n",
            self.start.strftime("%Y-%m-%dT%H:%M:%S.%3fZ"),
            self.key.flags,
            self.details,
            self.received,
            self.sent,
            self.started.elapsed().as_millis(),
            address(self.host.as_ref().map(|host| host.address)),
            self.cluster.map_or("-", |cluster| &*cluster.name),
            address(self.upstream_local),
            self.connection.local,
            self.connection.remote,
        ));
    }
}

/// Counts what passes, also when the connection ends in an error.
struct Counted<'a, S> {
    stream: &'a mut S,
    read: u64,
    written: u64,
}

impl<'a, S> Counted<'a, S> {
    fn new(stream: &'a mut S) -> Self {
        Self {
            stream,
            read: 0,
            written: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<'_, S> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = std::pin::Pin::new(&mut *self.stream).poll_read(cx, buf);
        self.read += (buf.filled().len() - before) as u64;
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<'_, S> {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        let polled = std::pin::Pin::new(&mut *self.stream).poll_write(cx, buf);
        if let std::task::Poll::Ready(Ok(count)) = &polled {
            self.written += *count as u64;
        }
        polled
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}
