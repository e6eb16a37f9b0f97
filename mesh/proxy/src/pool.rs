//! Upstream connections: per worker, host and protocol, last used first.
//!
//! As in Envoy, a request that finds no connection is *pending*: it waits in its host's line, and
//! whichever connection is ready first takes it, be it a new one or one that another request gave
//! back. The circuit breakers of the cluster limit the line, the connections and the requests on
//! them; see [`breaker`](crate::breaker).

mod connect;
mod connection;

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
};

use http::{Request, Response};
use hyper::body::Incoming;
use mesh_config as model;
use tokio::sync::oneshot;

use crate::{
    breaker::{self, PendingRequest},
    config::{Cluster, Host},
    request_body::RequestBody,
    shared::Shared,
    upstream_error::UpstreamError,
};
pub(crate) use connect::{Active, Open, connect};
use connection::{Connection, Sender, Usage};

/// Idle connections kept per host and worker; more are closed when their request ends.
const IDLE_PER_HOST: usize = 128;

/// The connections of one worker.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    hosts: RefCell<HashMap<Key, HostPool>>,
}

/// A host, by its id, and what is spoken to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    host: u32,
    http2: bool,
}

/// The connections to one host.
#[derive(Default)]
struct HostPool {
    /// HTTP/1.1: without a request. HTTP/2: all that may take more.
    ready: Vec<Connection>,
    /// Requests that wait for a connection, in their order.
    waiting: VecDeque<oneshot::Sender<Result<Connection, UpstreamError>>>,
    connecting: usize,
    /// Being opened, idle or busy.
    open: usize,
}

/// Where a connection leads, and what holds for it.
#[derive(Clone)]
struct Target {
    pool: Rc<Pool>,
    cluster: Arc<Cluster>,
    host: Arc<Host>,
    config: Arc<model::Cluster>,
    http2: bool,
}

/// A connection while it carries a request. Dropped, it is closed (HTTP/1.1) or its stream reset;
/// released, it goes back to the pool.
pub(crate) struct Lease {
    target: Target,
    /// Taken on release.
    connection: Option<Connection>,
    _active: Active,
}

impl Pool {
    pub(crate) fn new(shared: Arc<Shared>) -> Rc<Self> {
        Rc::new(Self {
            shared,
            hosts: RefCell::default(),
        })
    }

    /// Sends a request to a host over a pooled or a new connection. A pooled connection that turns out
    /// to be closed before anything was written on it is no failure: another is taken. The request is
    /// taken out of its option when it is sent, and put back when nothing of it was.
    pub(crate) async fn send(
        self: &Rc<Self>,
        cluster: &Arc<Cluster>,
        host: &Arc<Host>,
        http2: bool,
        config: &Arc<model::Cluster>,
        request: &mut Option<Request<RequestBody>>,
    ) -> Result<(Response<Incoming>, Lease), UpstreamError> {
        let target = Target {
            pool: self.clone(),
            cluster: cluster.clone(),
            host: host.clone(),
            config: config.clone(),
            http2,
        };
        loop {
            let mut connection = target.connection().await?;
            let reused = connection.usage.is_used();
            if let Sender::Http1(sender) = &mut connection.sender
                && sender.ready().await.is_err()
                && reused
            {
                continue;
            }
            let mut lease = Lease::new(target.clone(), connection)?;
            let (Some(sent), Some(connection)) = (request.take(), &mut lease.connection) else {
                unreachable!("the caller gives a request for each attempt")
            };
            match &mut connection.sender {
                Sender::Http2(sender) => return Ok((sender.send_request(sent).await?, lease)),
                Sender::Http1(sender) => match sender.try_send_request(sent).await {
                    Ok(response) => return Ok((response, lease)),
                    Err(mut error) => {
                        *request = error.take_message();
                        if request.is_none() || !reused {
                            return Err(error.into_error().into());
                        }
                    }
                },
            }
        }
    }

    /// Closes the idle connections of a host that is gone.
    pub(crate) fn forget(&self, host: u32) {
        self.retain(|other| other != host);
    }

    /// Closes what leads to hosts that are not in use any more.
    pub(crate) fn retain(&self, in_use: impl Fn(u32) -> bool) {
        self.hosts.borrow_mut().retain(|key, pool| {
            if !in_use(key.host) {
                pool.ready.clear();
            }
            !pool.is_empty()
        });
    }

    /// A connection that can take a request at once. One that was opened under other rules is left.
    fn take(&self, target: &Target) -> Option<Connection> {
        let mut pools = self.hosts.borrow_mut();
        let ready = &mut pools.get_mut(&target.key())?.ready;
        let good = |connection: &Connection| {
            !connection.is_closed()
                && !connection.is_spent()
                && Arc::ptr_eq(&connection.config, &target.config)
        };
        if target.http2 {
            ready.retain(good);
            let free = ready.iter().find(|connection| connection.room() > 0)?;
            return Some(free.share());
        }
        while let Some(connection) = ready.pop() {
            if good(&connection) {
                return Some(connection);
            }
        }
        None
    }

    /// A connection is free: those that wait take it, else it is kept.
    fn put(&self, target: &Target, mut connection: Connection) {
        if connection.is_closed() {
            return;
        }
        if connection.is_spent() {
            target.cluster.stats.upstream_cx_max_requests.add(1);
            return;
        }
        let mut pools = self.hosts.borrow_mut();
        let pool = pools.entry(target.key()).or_default();
        if target.http2 {
            for _ in 0..connection.room() {
                let Some(next) = pool.waiting.pop_front() else {
                    break;
                };
                // A request that went away does not take its share.
                let _ = next.send(Ok(connection.share()));
            }
        } else {
            while let Some(next) = pool.waiting.pop_front() {
                match next.send(Ok(connection)) {
                    Ok(()) | Err(Err(_)) => return,
                    // The request went away.
                    Err(Ok(back)) => connection = back,
                }
            }
        }
        if pool.ready.len() >= IDLE_PER_HOST {
            pool.ready.retain(|connection| !connection.is_closed());
        }
        if pool.ready.len() < IDLE_PER_HOST {
            connection.usage.rest();
            pool.ready.push(connection);
        }
    }

    /// Takes a connection out, which closes it when it carries nothing.
    fn remove(&self, target: &Target, usage: &Rc<Usage>) {
        if let Some(pool) = self.hosts.borrow_mut().get_mut(&target.key()) {
            pool.ready
                .retain(|connection| !Rc::ptr_eq(&connection.usage, usage));
        }
    }

    /// Puts a request into the line, and opens a connection for it where the limits allow it.
    fn enqueue(&self, target: &Target) -> oneshot::Receiver<Result<Connection, UpstreamError>> {
        let (sender, receiver) = oneshot::channel();
        let mut pools = self.hosts.borrow_mut();
        let pool = pools.entry(target.key()).or_default();
        pool.waiting.push_back(sender);
        pool.grow(target);
        receiver
    }

    /// A new connection is open.
    fn connected(&self, target: &Target, connection: Connection) {
        if let Some(pool) = self.hosts.borrow_mut().get_mut(&target.key()) {
            pool.connecting -= 1;
        }
        self.put(target, connection);
    }

    /// A new connection could not be opened: all that wait are told.
    fn failed(&self, target: &Target, error: &UpstreamError) {
        let mut pools = self.hosts.borrow_mut();
        let Some(pool) = pools.get_mut(&target.key()) else {
            return;
        };
        pool.connecting -= 1;
        for waiting in pool
            .waiting
            .drain(..)
            .filter(|waiting| !waiting.is_closed())
        {
            target
                .cluster
                .stats
                .upstream_rq_pending_failure_eject
                .add(1);
            // A request that went away needs no answer.
            let _ = waiting.send(Err(error.clone()));
        }
        drop(pools);
        self.closed(target);
    }

    /// A connection has ended, which may make room for another.
    fn closed(&self, target: &Target) {
        let mut pools = self.hosts.borrow_mut();
        if let Some(pool) = pools.get_mut(&target.key()) {
            pool.open -= 1;
            pool.grow(target);
            if pool.is_empty() {
                pools.remove(&target.key());
            }
        }
    }
}

impl HostPool {
    fn is_empty(&self) -> bool {
        self.open == 0 && self.waiting.is_empty()
    }

    /// Opens connections for the requests that none is on its way for. A host without any may have
    /// one whatever the limit, or its requests would wait for ever.
    fn grow(&mut self, target: &Target) {
        self.waiting.retain(|waiting| !waiting.is_closed());
        let on_their_way = match target.http2 {
            // One carries them all.
            true if self.connecting > 0 => self.waiting.len(),
            _ => self.connecting,
        };
        for _ in on_their_way..self.waiting.len() {
            if self.open > 0 && !breaker::admits_connection(&target.cluster, &target.config) {
                target.cluster.stats.upstream_cx_overflow.add(1);
                break;
            }
            self.connecting += 1;
            self.open += 1;
            let open = Open::new(&target.cluster, &target.host);
            tokio::task::spawn_local(connection::open(target.clone(), open));
            if target.http2 {
                break;
            }
        }
    }
}

impl Target {
    fn key(&self) -> Key {
        Key {
            host: self.host.id,
            http2: self.http2,
        }
    }

    /// A connection from the pool, or the next one that is ready.
    async fn connection(&self) -> Result<Connection, UpstreamError> {
        if let Some(connection) = self.pool.take(self) {
            return Ok(connection);
        }
        let _pending =
            PendingRequest::admit(&self.cluster, &self.config).ok_or(UpstreamError::Overflow)?;
        let ready = self.pool.enqueue(self);
        // The pool answers everyone that waits.
        ready.await.unwrap_or(Err(UpstreamError::Overflow))
    }
}

impl Lease {
    fn new(target: Target, connection: Connection) -> Result<Self, UpstreamError> {
        if !breaker::admits_request(&target.cluster, &target.config) {
            target.cluster.stats.upstream_rq_active_overflow.add(1);
            target.pool.put(&target, connection);
            return Err(UpstreamError::Overflow);
        }
        connection.usage.begin();
        Ok(Self {
            _active: Active::new(&target.cluster, &target.host),
            target,
            connection: Some(connection),
        })
    }

    /// The response has ended; the connection may carry another request.
    pub(crate) fn release(mut self) {
        if let Some(connection) = self.connection.take() {
            connection.usage.end();
            if !self.target.http2 {
                self.target.pool.put(&self.target, connection);
            }
        }
    }

    /// The proxy's side of the connection.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.connection.as_ref()?.local
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.usage.end();
        }
    }
}
