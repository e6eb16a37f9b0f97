//! One upstream connection from its opening to its end.

use std::{cell::Cell, net::SocketAddr, pin::pin, rc::Rc, sync::Arc};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use mesh_config as model;
use tokio::time::{Instant, sleep_until};

use super::{Open, Target, connect};
use crate::{
    executor::LocalExecutor,
    limits::{HEADER_BYTES, IDLE_TIMEOUT},
    request_body::RequestBody,
    upstream_error::UpstreamError,
};

/// The way to send requests over a connection.
pub(super) struct Connection {
    pub(super) sender: Sender,
    pub(super) local: Option<SocketAddr>,
    /// What held when it was opened.
    pub(super) config: Arc<model::Cluster>,
    pub(super) usage: Rc<Usage>,
}

pub(super) enum Sender {
    /// One request at a time.
    Http1(http1::SendRequest<RequestBody>),
    /// Many, over clones of this.
    Http2(http2::SendRequest<RequestBody>),
}

/// What a connection has done so far.
pub(super) struct Usage {
    requests: Cell<u32>,
    active: Cell<u32>,
    /// It carries nothing since then.
    idle_since: Cell<Instant>,
    /// It takes no more requests.
    expired: Cell<bool>,
}

impl Usage {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            requests: Cell::new(0),
            active: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            expired: Cell::new(false),
        })
    }

    pub(super) fn begin(&self) {
        self.requests.set(self.requests.get().saturating_add(1));
        self.active.set(self.active.get() + 1);
    }

    pub(super) fn end(&self) {
        self.active.set(self.active.get() - 1);
        self.rest();
    }

    pub(super) fn rest(&self) {
        self.idle_since.set(Instant::now());
    }

    /// It has carried a request before.
    pub(super) fn is_used(&self) -> bool {
        self.requests.get() > 0
    }
}

impl Connection {
    pub(super) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// How many more requests it may take now.
    pub(super) fn room(&self) -> u32 {
        if self.usage.expired.get() {
            return 0;
        }
        let limits = &self.config.connections;
        let requests = limits.max_requests_per_connection.unwrap_or(u32::MAX);
        let streams = limits.max_concurrent_streams.unwrap_or(u32::MAX);
        let left = requests.saturating_sub(self.usage.requests.get());
        left.min(streams.saturating_sub(self.usage.active.get()))
    }

    /// It will take no more requests.
    pub(super) fn is_spent(&self) -> bool {
        let limit = self.config.connections.max_requests_per_connection;
        self.usage.expired.get() || limit.is_some_and(|limit| self.usage.requests.get() >= limit)
    }

    /// The same connection for one more stream. HTTP/1.1 has only one.
    pub(super) fn share(&self) -> Self {
        let Sender::Http2(sender) = &self.sender else {
            unreachable!("only HTTP/2 connections are shared")
        };
        Self {
            sender: Sender::Http2(sender.clone()),
            local: self.local,
            config: self.config.clone(),
            usage: self.usage.clone(),
        }
    }
}

/// Opens a connection and hands it to the pool.
pub(super) async fn open(target: Target, open: Open) {
    match establish(&target, open).await {
        Ok(connection) => target.pool.connected(&target, connection),
        Err(error) => target.pool.failed(&target, &error),
    }
}

async fn establish(target: &Target, open: Open) -> Result<Connection, UpstreamError> {
    let Target {
        pool,
        cluster,
        host,
        config,
        ..
    } = target;
    let stream = connect(&pool.shared, cluster, host, config.connect_timeout, None).await?;
    let local = stream.local_addr().ok();
    let usage = Usage::new();
    let io = TokioIo::new(stream);
    let sender = if target.http2 {
        cluster.stats.upstream_cx_http2_total.add(1);
        let mut builder = http2::Builder::new(LocalExecutor);
        builder.timer(TokioTimer::new());
        if let Some(keepalive) = &config.connections.http2_keepalive {
            builder
                .keep_alive_interval(keepalive.interval)
                .keep_alive_timeout(keepalive.timeout);
        }
        let (sender, connection) = builder.handshake(io).await?;
        tokio::task::spawn_local(drive(connection, target.clone(), usage.clone(), open));
        Sender::Http2(sender)
    } else {
        cluster.stats.upstream_cx_http1_total.add(1);
        let mut builder = http1::Builder::new();
        builder.max_header_size(HEADER_BYTES);
        let (sender, connection) = builder.handshake(io).await?;
        let connection = connection.with_upgrades();
        tokio::task::spawn_local(drive(connection, target.clone(), usage.clone(), open));
        Sender::Http1(sender)
    };
    Ok(Connection {
        sender,
        local,
        config: config.clone(),
        usage,
    })
}

/// Carries a connection to its end, which comes at the latest when nothing refers to it any more:
/// so much is made sure of when it has been idle, or has lived, for too long. One timer that is set
/// again only when it has run out.
async fn drive<E>(
    connection: impl Future<Output = Result<(), E>>,
    target: Target,
    usage: Rc<Usage>,
    open: Open,
) {
    let limits = &target.config.connections;
    let idle = limits
        .idle_timeout
        .filter(|limit| !limit.is_zero())
        .unwrap_or(IDLE_TIMEOUT);
    let end = limits
        .max_connection_duration
        .map(|limit| Instant::now() + limit);
    let mut connection = pin!(connection);
    let mut look_again = Instant::now() + idle;
    loop {
        let look_at = end.map_or(look_again, |end| end.min(look_again));
        tokio::select! {
            // A connection's error reaches the request on it; here only its end matters.
            _ = &mut connection => break,
            () = sleep_until(look_at), if !usage.expired.get() => {
                let now = Instant::now();
                let is_idle = usage.active.get() == 0 && now >= usage.idle_since.get() + idle;
                let stats = &target.cluster.stats;
                if end.is_some_and(|end| now >= end) {
                    stats.upstream_cx_max_duration_reached.add(1);
                } else if is_idle {
                    stats.upstream_cx_idle_timeout.add(1);
                } else {
                    let since = if usage.active.get() == 0 { usage.idle_since.get() } else { now };
                    look_again = since + idle;
                    continue;
                }
                usage.expired.set(true);
                target.pool.remove(&target, &usage);
            }
        }
    }
    drop(open);
    target.pool.closed(&target);
}
