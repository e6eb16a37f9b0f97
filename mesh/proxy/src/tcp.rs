//! TCP proxying: bytes both ways between a connection and one host of a cluster.

use std::{
    borrow::Cow,
    cell::Cell,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_config::TrafficDirection;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::{
    access_log::Record,
    authorization, balance, breaker,
    config::{Cluster, Destination, Host, Tcp},
    downstream::Downstream,
    flags::Flags,
    hash_policy, original, pool,
    rbac::Verdict,
    stats::{
        Counter,
        istio::{PeerId, Reporter, ServiceId, TcpKey, TcpSeries},
    },
    tap::{self, Ends, Event},
    tls::Upstream,
};

/// What is remembered of a connection; logged and counted when dropped.
struct Session<'a> {
    connection: &'a Downstream,
    started: Instant,
    start: jiff::Timestamp,
    cluster: Option<&'a Arc<Cluster>>,
    host: Option<Arc<Host>>,
    upstream_local: Option<std::net::SocketAddr>,
    key: TcpKey,
    details: Cow<'static, str>,
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
    let refused = match tcp
        .rbac
        .decide(&authorization::of_connection(connection), None)
    {
        Verdict::Allowed => None,
        Verdict::Denied(policy) => Some(authorization::details(policy)),
    };
    if let Some(details) = refused {
        session.details = details.into();
    } else if let Some(cluster) = cluster
        && let Some((mut upstream, _counted)) = session.connect(cluster, tcp.hash_source_ip).await
    {
        session.upstream_local = upstream.local_addr().ok();
        let series = session.opened();
        let last = Cell::new(Instant::now());
        let mut counted = Counted {
            stream: &mut stream,
            last: &last,
            read: 0,
            written: 0,
            counters: [
                (
                    series.as_ref().map(|series| &series.received),
                    &tcp.stats.downstream_cx_rx_bytes_total,
                    &cluster.stats.upstream_cx_tx_bytes_total,
                ),
                (
                    series.as_ref().map(|series| &series.sent),
                    &tcp.stats.downstream_cx_tx_bytes_total,
                    &cluster.stats.upstream_cx_rx_bytes_total,
                ),
            ],
        };
        tokio::select! {
            // Either side may close as it likes; the end of one direction is passed on.
            _ = tokio::io::copy_bidirectional(&mut counted, &mut upstream) => {}
            () = idle_for(tcp.idle_timeout, &last) => tcp.stats.idle_timeout.add(1),
            () = lasted(tcp.max_duration) => {
                session.key.flags.insert(Flags::DURATION_TIMEOUT);
                tcp.stats.max_downstream_connection_duration.add(1);
            }
        }
        (session.received, session.sent) = (counted.read, counted.written);
    }
    let _ = stream.shutdown().await;
    tcp.stats.downstream_cx_active.sub(1);
}

/// Ends when nothing has passed for `limit`. It wakes seldom: once per limit on a busy connection.
async fn idle_for(limit: Duration, last: &Cell<Instant>) {
    loop {
        let until = last.get() + limit;
        if until <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(until.into()).await;
    }
}

async fn lasted(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// No filter chain takes the connection: it is closed, and said so.
pub(crate) fn refuse(connection: &Rc<Downstream>) {
    let mut session = Session::new(connection, None);
    session.key.flags.insert(Flags::NO_ROUTE);
    session.details = "filter_chain_not_found".into();
}

impl<'a> Session<'a> {
    fn new(connection: &'a Downstream, cluster: Option<&'a Arc<Cluster>>) -> Self {
        let worker = &connection.worker;
        worker.active.set(worker.active.get() + 1);
        let inbound = connection.listener.load().direction == TrafficDirection::Inbound;
        Self {
            connection,
            started: Instant::now(),
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
                principal: connection.principal,
                service: ServiceId::UNKNOWN,
                flags: Flags::default(),
            },
            details: Cow::Borrowed(""),
            received: 0,
            sent: 0,
            observed: true,
        }
    }

    /// A connection to a host of the cluster, with what counts it as long as it is used.
    async fn connect(
        &mut self,
        cluster: &Arc<Cluster>,
        hash_source_ip: bool,
    ) -> Option<(Upstream, (pool::Open, pool::Active))> {
        let worker = &self.connection.worker;
        let Some(members) = cluster.members.load_full() else {
            self.key.flags.insert(Flags::NO_CLUSTER);
            self.details = "cluster_not_found".into();
            return None;
        };
        self.key.service = members.service;
        let named = self.connection.destination.as_ref();
        let host = if original::is_asked(&members, named) {
            let local = Destination::from(self.connection.local);
            let destination = named.unwrap_or(&local);
            let direction = self.connection.listener.load().direction;
            match original::address(worker, self.connection, direction, destination).await {
                Ok(address) if address != self.connection.local => {
                    worker.original(cluster, address)
                }
                Ok(_) => return self.unhealthy(Flags::NO_ROUTE),
                Err(_) => return self.unhealthy(Flags::DNS_FAILURE),
            }
        } else {
            let client = self.connection.remote.ip();
            let ask = balance::Ask {
                hash: hash_source_ip.then(|| hash_policy::of_address(client)),
                ..balance::Ask::default()
            };
            match balance::choose(cluster, &members, ask, || worker.draw()) {
                Some(host) => host.clone(),
                None => {
                    cluster.stats.upstream_cx_none_healthy.add(1);
                    return self.unhealthy(Flags::NO_HEALTHY_UPSTREAM);
                }
            }
        };
        if self.key.reporter == Reporter::Source {
            self.key.peer = host.peer;
            if members.tls_to(&host).is_some() {
                self.key.principal = host.principal;
            }
        }
        if !breaker::admits_connection(cluster, &members.config) {
            cluster.stats.upstream_cx_overflow.add(1);
            return self.unhealthy(Flags::UPSTREAM_OVERFLOW);
        }
        self.host = Some(host.clone());
        let limit = members.config.connect_timeout;
        let open = pool::Open::new(cluster, &host);
        cluster.stats.upstream_rq_pending_total.add(1);
        let client = (self.connection.remote, self.destination());
        match pool::connect(&worker.shared, cluster, &host, limit, Some(client)).await {
            Ok(stream) => Some((stream, (open, pool::Active::new(cluster, &host)))),
            // There is one attempt, as Istio has it.
            Err(_) => {
                cluster.stats.upstream_rq_pending_failure_eject.add(1);
                cluster.stats.upstream_cx_connect_attempts_exceeded.add(1);
                self.unhealthy(Flags::UPSTREAM_CONNECTION_FAILURE | Flags::RETRIES_EXHAUSTED)
            }
        }
    }

    /// Where the client was going, as far as that is an address.
    fn destination(&self) -> SocketAddr {
        let local = self.connection.local;
        let named = self.connection.destination.as_ref();
        let address = named.and_then(|named| Some((named.host.parse().ok()?, named.port)));
        address.map_or(local, |(ip, port)| SocketAddr::new(ip, port))
    }

    fn unhealthy<T>(&mut self, flag: Flags) -> Option<T> {
        self.key.flags.insert(flag);
        None
    }

    /// The metrics of the connection, which grow while it lasts.
    fn opened(&self) -> Option<Arc<TcpSeries>> {
        let labels = &self.connection.worker.shared.labels;
        let series = self.observed.then(|| labels.tcp(self.key));
        if let Some(series) = &series {
            series.opened.add(1);
        }
        series
    }
}

impl Session<'_> {
    /// Tells those who watch.
    fn tell(&self) {
        let shared = &self.connection.worker.shared;
        let other = shared.labels.identity(self.key.principal);
        let inbound = self.key.reporter == Reporter::Destination;
        let ends = Ends {
            downstream_remote_address: self.connection.remote,
            upstream_cluster: self.cluster.map(|cluster| &*cluster.name),
            upstream_host: self.host.as_ref().map(|host| host.address),
            source_principal: None,
            destination_principal: None,
        };
        shared.tap.tell(&Event::Connection(tap::Connection {
            time: tap::time(self.start),
            direction: tap::direction(self.connection.listener.load().direction),
            response_flags: self.key.flags.to_string(),
            details: &self.details,
            duration_ms: self.started.elapsed().as_millis() as u64,
            bytes_received: self.received,
            bytes_sent: self.sent,
            ends: ends.principals(inbound, &other, &shared.node.load().workload.identity),
        }));
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
            worker.shared.labels.tcp(self.key).closed.add(1);
        }
        if worker.shared.tap.is_watched() {
            self.tell();
        }
        if !worker.shared.node.load().access_log {
            return;
        }
        let mut line = String::with_capacity(256);
        let record = Record {
            start: self.start,
            flags: self.key.flags,
            details: &self.details,
            received: self.received,
            sent: self.sent,
            duration_ms: self.started.elapsed().as_millis() as u64,
            upstream_host: self.host.as_ref().map(|host| host.address),
            cluster: self.cluster.map(|cluster| &*cluster.name),
            upstream_local: self.upstream_local,
            downstream_local: Some(self.connection.local),
            downstream_remote: Some(self.connection.remote),
            server_name: self.connection.hello.get().map(|hello| &*hello.server_name),
            ..Record::default()
        };
        worker.shared.log_format.load().write(&record, &mut line);
        worker.log.write(&line);
    }
}

/// Counts what passes while it passes.
struct Counted<'a, S> {
    stream: &'a mut S,
    last: &'a Cell<Instant>,
    read: u64,
    written: u64,
    /// Of what is read and of what is written: Istio's metric, the listener's and the cluster's.
    counters: [(Option<&'a Counter>, &'a Counter, &'a Counter); 2],
}

impl<S> Counted<'_, S> {
    fn passed(&self, direction: usize, bytes: u64) {
        let (metric, listener, cluster) = self.counters[direction];
        for counter in metric.into_iter().chain([listener, cluster]) {
            counter.add(bytes);
        }
        self.last.set(Instant::now());
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
        let count = (buf.filled().len() - before) as u64;
        if count > 0 {
            self.read += count;
            self.passed(0, count);
        }
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
            self.passed(1, *count as u64);
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
