//! Upstream connections: per worker and host, last used first.

use std::{cell::RefCell, collections::HashMap, io, rc::Rc, sync::Arc, time::Duration};

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
    http1: RefCell<HashMap<u32, Vec<http1::SendRequest<RequestBody>>>>,
    http2: RefCell<HashMap<u32, http2::SendRequest<RequestBody>>>,
}

/// A connection while it carries a request. Dropped, it is closed (HTTP/1.1) or its stream reset;
/// released, it goes back to the pool.
pub(crate) struct Lease {
    worker: Rc<Worker>,
    pub(crate) host: Arc<Host>,
    cluster: Arc<Cluster>,
    sender: Sender,
}

enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    Http2,
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

    fn take_http1(&self, host: u32) -> Option<http1::SendRequest<RequestBody>> {
        let mut idle = self.http1.borrow_mut();
        let idle = idle.get_mut(&host)?;
        while let Some(sender) = idle.pop() {
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    fn put_http1(&self, host: u32, sender: http1::SendRequest<RequestBody>) {
        let mut idle = self.http1.borrow_mut();
        let idle = idle.entry(host).or_default();
        if idle.len() >= IDLE_PER_HOST {
            idle.retain(|sender| !sender.is_closed());
        }
        if idle.len() < IDLE_PER_HOST && !sender.is_closed() {
            idle.push(sender);
        }
    }

    fn shared_http2(&self, host: u32) -> Option<http2::SendRequest<RequestBody>> {
        let shared = self.http2.borrow();
        shared
            .get(&host)
            .filter(|sender| !sender.is_closed())
            .cloned()
    }
}

impl Lease {
    /// The response has ended; the connection may carry another request.
    pub(crate) fn release(self) {
        if let Sender::Http1(sender) = self.sender {
            self.worker.pool.put_http1(self.host.id, sender);
        }
        drop(self.cluster);
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
    let lease = |sender| Lease {
        worker: worker.clone(),
        host: host.clone(),
        cluster: cluster.clone(),
        sender,
    };
    if http2 {
        let mut sender = match worker.pool.shared_http2(host.id) {
            Some(sender) => sender,
            None => connect_http2(worker, cluster, host, connect_timeout).await?,
        };
        let Some(sent) = request.take() else {
            unreachable!("the caller gives a request for each attempt")
        };
        let response = sender.send_request(sent).await;
        return Ok((
            response.map_err(UpstreamError::Request)?,
            lease(Sender::Http2),
        ));
    }
    loop {
        let (mut sender, reused) = match worker.pool.take_http1(host.id) {
            Some(sender) => (sender, true),
            None => (
                connect_http1(worker, cluster, host, connect_timeout).await?,
                false,
            ),
        };
        if sender.ready().await.is_err() && reused {
            continue;
        }
        let Some(sent) = request.take() else {
            unreachable!("the caller gives a request for each attempt")
        };
        match sender.try_send_request(sent).await {
            Ok(response) => return Ok((response, lease(Sender::Http1(sender)))),
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
) -> Result<http1::SendRequest<RequestBody>, UpstreamError> {
    let stream = connect(worker, cluster, host, connect_timeout).await?;
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
    Ok(sender)
}

async fn connect_http2(
    worker: &Rc<Worker>,
    cluster: &Arc<Cluster>,
    host: &Arc<Host>,
    connect_timeout: Duration,
) -> Result<http2::SendRequest<RequestBody>, UpstreamError> {
    let stream = connect(worker, cluster, host, connect_timeout).await?;
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
    let mut shared = worker.pool.http2.borrow_mut();
    shared.insert(host.id, sender.clone());
    Ok(sender)
}

/// Opens a TCP connection, from the pod's own address where there is one, so that the upstream sees
/// who calls.
pub(crate) async fn connect(
    worker: &Worker,
    cluster: &Cluster,
    host: &Host,
    connect_timeout: Duration,
) -> Result<TcpStream, UpstreamError> {
    let connecting = crate::socket::connect(host.address, worker.shared.source_address);
    match timeout(connect_timeout, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
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
pub(crate) struct Open(Arc<Cluster>, Arc<Host>);

impl Open {
    pub(crate) fn new(cluster: &Arc<Cluster>, host: &Arc<Host>) -> Self {
        cluster.stats.upstream_cx_total.add(1);
        cluster.stats.upstream_cx_active.add(1);
        host.stats.cx_total.add(1);
        host.stats.cx_active.add(1);
        Self(cluster.clone(), host.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.stats.upstream_cx_active.sub(1);
        self.0.stats.upstream_cx_destroy.add(1);
        self.1.stats.cx_active.sub(1);
    }
}
