//! Upstream connections: per worker and host, last used first.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpStream, time::timeout};

use crate::{
    body::RequestBody,
    config::{Cluster, Host},
    executor::LocalExecutor,
    worker::Worker,
};

/// Idle connections kept per host and worker; more are closed when their request ends.
const IDLE_PER_HOST: usize = 128;

/// Idle HTTP/1.1 connections and shared HTTP/2 connections.
#[derive(Default)]
pub(crate) struct Pool {
    http1: RefCell<HashMap<u32, Vec<Http1>>>,
    http2: RefCell<HashMap<u32, Http2>>,
}

/// A connection that carries one request at a time.
struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    local: Option<SocketAddr>,
}

/// A connection that carries many.
#[derive(Clone)]
struct Http2 {
    sender: http2::SendRequest<RequestBody>,
    local: Option<SocketAddr>,
}

/// A connection while it carries a request. Dropped, it is closed (HTTP/1.1) or its stream reset;
/// released, it goes back to the pool.
pub(crate) struct Lease {
    worker: Rc<Worker>,
    host: u32,
    /// `None`: the connection is shared, and stays in the pool.
    http1: Option<Http1>,
    local: Option<SocketAddr>,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("connecting took too long")]
    ConnectTimeout,
    #[error("the request failed: {0}")]
    Request(#[source] hyper::Error),
    #[error("the attempt took too long")]
    PerTryTimeout,
}

impl Pool {
    /// Closes the idle connections of a host that is gone.
    pub(crate) fn forget(&self, host: u32) {
        self.http1.borrow_mut().remove(&host);
        self.http2.borrow_mut().remove(&host);
    }

    /// Closes what leads to hosts that are not in use any more.
    pub(crate) fn retain(&self, in_use: impl Fn(u32) -> bool) {
        self.http1.borrow_mut().retain(|host, _| in_use(*host));
        self.http2.borrow_mut().retain(|host, _| in_use(*host));
    }

    fn take_http1(&self, host: u32) -> Option<Http1> {
        let mut idle = self.http1.borrow_mut();
        let idle = idle.get_mut(&host)?;
        while let Some(connection) = idle.pop() {
            if !connection.sender.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    fn put_http1(&self, host: u32, connection: Http1) {
        let mut idle = self.http1.borrow_mut();
        let idle = idle.entry(host).or_default();
        if idle.len() >= IDLE_PER_HOST {
            idle.retain(|connection| !connection.sender.is_closed());
        }
        if idle.len() < IDLE_PER_HOST && !connection.sender.is_closed() {
            idle.push(connection);
        }
    }

    fn shared_http2(&self, host: u32) -> Option<Http2> {
        let shared = self.http2.borrow();
        shared
            .get(&host)
            .filter(|connection| !connection.sender.is_closed())
            .cloned()
    }
}

impl Lease {
    /// The response has ended; the connection may carry another request.
    pub(crate) fn release(self) {
        if let Some(connection) = self.http1 {
            self.worker.pool.put_http1(self.host, connection);
        }
    }

    /// The proxy's side of the connection.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.local
    }
}

/// Sends a request to a host over a pooled or a new connection. A pooled connection that turns out
/// to be closed before anything was written on it is no failure: another is taken. The request is
/// taken out of its option when it is sent, and put back when nothing of it was.
pub(crate) async fn send(
    worker: &Rc<Worker>,
    cluster: &Arc<Cluster>,
    host: &Arc<Host>,
    http2: bool,
    connect_timeout: Duration,
    request: &mut Option<Request<RequestBody>>,
) -> Result<(Response<Incoming>, Lease), UpstreamError> {
    let lease = |http1, local| Lease {
        worker: worker.clone(),
        host: host.id,
        http1,
        local,
    };
    if http2 {
        let Http2 { mut sender, local } = match worker.pool.shared_http2(host.id) {
            Some(connection) => connection,
            None => connect_http2(worker, cluster, host, connect_timeout).await?,
        };
        let Some(sent) = request.take() else {
            unreachable!("the caller gives a request for each attempt")
        };
        let response = sender.send_request(sent).await;
        return Ok((
            response.map_err(UpstreamError::Request)?,
            lease(None, local),
        ));
    }
    loop {
        let (mut connection, reused) = match worker.pool.take_http1(host.id) {
            Some(connection) => (connection, true),
            None => (
                connect_http1(worker, cluster, host, connect_timeout).await?,
                false,
            ),
        };
        if connection.sender.ready().await.is_err() && reused {
            continue;
        }
        let Some(sent) = request.take() else {
            unreachable!("the caller gives a request for each attempt")
        };
        match connection.sender.try_send_request(sent).await {
            Ok(response) => {
                let local = connection.local;
                return Ok((response, lease(Some(connection), local)));
            }
            Err(mut error) => {
                *request = error.take_message();
                if request.is_none() || !reused {
                    return Err(UpstreamError::Request(error.into_error()));
                }
            }
        }
    }
}

async fn connect_http1(
    worker: &Rc<Worker>,
    cluster: &Arc<Cluster>,
    host: &Arc<Host>,
    connect_timeout: Duration,
) -> Result<Http1, UpstreamError> {
    let stream = connect(worker, cluster, host, connect_timeout).await?;
    let local = stream.local_addr().ok();
    cluster.stats.upstream_cx_http1_total.add(1);
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(UpstreamError::Request)?;
    let open = Open::new(cluster, host);
    tokio::task::spawn_local(async move {
        // A connection's error reaches the request on it; here only its end matters.
        let _ = connection.with_upgrades().await;
        drop(open);
    });
    Ok(Http1 { sender, local })
}

async fn connect_http2(
    worker: &Rc<Worker>,
    cluster: &Arc<Cluster>,
    host: &Arc<Host>,
    connect_timeout: Duration,
) -> Result<Http2, UpstreamError> {
    let stream = connect(worker, cluster, host, connect_timeout).await?;
    let local = stream.local_addr().ok();
    cluster.stats.upstream_cx_http2_total.add(1);
    let (sender, connection) = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .handshake(TokioIo::new(stream))
        .await
        .map_err(UpstreamError::Request)?;
    let open = Open::new(cluster, host);
    tokio::task::spawn_local(async move {
        let _ = connection.await;
        drop(open);
    });
    let connection = Http2 { sender, local };
    let mut shared = worker.pool.http2.borrow_mut();
    shared.insert(host.id, connection.clone());
    Ok(connection)
}

/// Opens a TCP connection, from the pod's own address where there is one, so that the upstream sees
/// who calls.
pub(crate) async fn connect(
    worker: &Worker,
    cluster: &Cluster,
    host: &Host,
    connect_timeout: Duration,
) -> Result<TcpStream, UpstreamError> {
    cluster.stats.upstream_rq_pending_total.add(1);
    tracing::debug!(
        "creating a new connection to {} of {}",
        host.address,
        cluster.name
    );
    let started = Instant::now();
    let connecting = crate::socket::connect(host.address, worker.shared.source_address);
    match timeout(connect_timeout, connecting).await {
        Ok(Ok(stream)) => {
            let took = started.elapsed().as_millis() as u64;
            cluster.stats.upstream_cx_connect_ms.record(took);
            Ok(stream)
        }
        Ok(Err(error)) => {
            cluster.stats.upstream_cx_connect_fail.add(1);
            host.stats.cx_connect_fail.add(1);
            Err(UpstreamError::Connect(error))
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
