//! A running proxy: the control thread's state, its workers, and how a snapshot takes effect.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use mesh_config::{
    self as model, ProxyId, Snapshot,
    envoy::dump::{Refused, RefusedKind},
};
use tokio::sync::mpsc::{Receiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use crate::{
    accept::{self, Command},
    access_log,
    config::{Cluster, Clusters, Config, Http, Listener, Tcp},
    dns,
    metadata::OwnMetadata,
    shared::Shared,
    socket,
    spans::{self, Span},
    stats::{Registry, istio::Labels},
    tls::Secrets,
    worker::Worker,
};

/// Prefix of the statistics of what is not part of the mesh: requests to the pod's own localhost.
pub(crate) const LOOPBACK: &str = "loopback";

/// Without traffic for so long, a proxy that drains is not needed any more.
const QUIET: Duration = Duration::from_millis(500);

/// What a proxy is started with.
pub(crate) struct Options {
    pub(crate) identity: ProxyId,
    pub(crate) source_address: Option<IpAddr>,
    pub(crate) concurrency: usize,
    /// Downstream connections at one time, over all workers; more are closed at once.
    pub(crate) max_connections: u64,
    pub(crate) log: access_log::Sink,
    pub(crate) registry: Arc<Registry>,
    pub(crate) seed: Option<u64>,
}

/// Owned by the control thread.
pub(crate) struct Proxy {
    pub(crate) shared: Arc<Shared>,
    pub(crate) config: Config,
    /// For whoever exports them.
    pub(crate) spans: Option<Receiver<Span>>,
    names: dns::Names,
    workers: Vec<UnboundedSender<Command>>,
    threads: Vec<JoinHandle<()>>,
    listening: HashMap<String, Listening>,
    /// Cancelled: connections that still go on are dropped.
    deadline: CancellationToken,
}

struct Listening {
    configured: SocketAddr,
    bound: SocketAddr,
    current: Arc<ArcSwap<Listener>>,
    closed: CancellationToken,
}

impl Proxy {
    /// Starts the workers; there is nothing to accept on yet.
    pub(crate) fn start(options: Options) -> io::Result<Self> {
        let (loopback_http, loopback_tcp) = loopback(&options.registry);
        let (told, spans) = spans::queue();
        let secrets = Arc::<Secrets>::default();
        let shared = Arc::new(Shared {
            identity: options.identity,
            started: Instant::now(),
            registry: options.registry,
            labels: Labels::default(),
            log: options.log,
            spans: told,
            max_connections: options.max_connections,
            log_format: ArcSwap::from_pointee(default_format()),
            node: ArcSwap::default(),
            own_metadata: ArcSwapOption::empty(),
            source_address: options.source_address,
            drain: CancellationToken::new(),
            loopback_http,
            loopback_tcp,
            seed: options.seed,
            secrets: secrets.clone(),
            tap: Arc::default(),
        });
        let mut proxy = Self {
            shared,
            config: Config::new(secrets),
            spans: Some(spans),
            names: dns::Names::default(),
            workers: Vec::new(),
            threads: Vec::new(),
            listening: HashMap::new(),
            deadline: CancellationToken::new(),
        };
        for index in 0..options.concurrency.max(1) {
            let (commands, received) = unbounded_channel();
            let (shared, deadline) = (proxy.shared.clone(), proxy.deadline.clone());
            let thread = std::thread::Builder::new()
                .name(format!("wrk:worker_{index}"))
                .spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build_local(Default::default())
                        .expect("the system gives a thread an event queue");
                    let worker = Worker::new(shared);
                    runtime.block_on(accept::run(worker, received, deadline));
                })?;
            proxy.workers.push(commands);
            proxy.threads.push(thread);
        }
        Ok(proxy)
    }

    /// Takes a snapshot into effect. Listeners that keep their address keep their socket and their
    /// connections. What cannot be carried out is returned as messages; the rest is in effect.
    pub(crate) fn apply(&mut self, snapshot: Snapshot) -> Vec<String> {
        self.shared
            .own_metadata
            .store(OwnMetadata::of(&snapshot.node).map(Arc::new));
        let format = snapshot.node.access_log_format.as_ref();
        let format = match format.map(access_log::Format::compile) {
            None => Ok(default_format()),
            Some(compiled) => compiled,
        };
        let bad_format = format.map(|format| self.shared.log_format.store(format.into()));
        self.shared.node.store(snapshot.node.clone());
        let errors = self
            .config
            .apply(snapshot, &self.shared.registry, &self.shared.labels);
        self.names.apply(
            &self.config.snapshot,
            &mut self.config.clusters,
            &self.shared,
        );
        let mut messages: Vec<String> = errors
            .into_iter()
            .map(|(name, error)| format!("route table {name} keeps its last version: {error}"))
            .collect();
        messages.extend(bad_format.err());
        let config = &self.config;
        let gone = |listening: &Listening, name: &str| {
            let now = config.snapshot.listeners.get(name);
            now.is_none_or(|now| now.address != listening.configured)
        };
        self.listening.retain(|name, listening| {
            let gone = gone(listening, name);
            if gone {
                listening.closed.cancel();
            }
            !gone
        });
        let mut unbound = Vec::new();
        for (name, listener) in &self.config.listeners {
            if let Some(listening) = self.listening.get(name) {
                listening.current.store(listener.clone());
                continue;
            }
            // What was told to stop does not begin again.
            if self.shared.drain.is_cancelled() {
                continue;
            }
            match listen(&self.workers, listener) {
                Ok(listening) => {
                    self.listening.insert(name.clone(), listening);
                }
                Err(error) => {
                    let details = format!("cannot bind {}: {error}", listener.address);
                    messages.push(format!("listener {name} {details}"));
                    unbound.push(Refused {
                        kind: RefusedKind::Listener,
                        name: name.clone(),
                        version: config.snapshot.version,
                        details,
                    });
                }
            }
        }
        self.config.refused.extend(unbound);
        self.retain_hosts();
        let server = &self.shared.registry.server;
        server.config_updates.add(1);
        server.config_rejected.add(messages.len() as u64);
        server.listeners.set(self.listening.len() as u64);
        messages
    }

    /// When [`Proxy::settle`] is due, if it is.
    pub(crate) fn settles_at(&self) -> Option<Instant> {
        self.config.settles_at()
    }

    /// Brings into effect what was put off.
    pub(crate) fn settle(&mut self) {
        self.config.settle(&self.shared.labels);
        self.retain_hosts();
    }

    /// Tells the workers which hosts are still in use.
    fn retain_hosts(&self) {
        let mut hosts: Vec<u32> = self
            .config
            .clusters
            .iter()
            .filter_map(|cluster| cluster.members.load_full())
            .flat_map(|members| members.hosts.iter().map(|host| host.id).collect::<Vec<_>>())
            .collect();
        hosts.sort_unstable();
        let hosts: Arc<[u32]> = hosts.into();
        for worker in &self.workers {
            // A worker ends only when this side does.
            let _ = worker.send(Command::RetainHosts(hosts.clone()));
        }
    }

    /// Worker threads.
    pub(crate) fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Where a listener is bound, once it is.
    pub(crate) fn bound(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.listening
            .iter()
            .map(|(name, listening)| (name.as_str(), listening.bound))
    }

    /// Stops accepting.
    pub(crate) fn close_listeners(&mut self, inbound_only: bool) {
        self.listening.retain(|_, listening| {
            let direction = listening.current.load().direction;
            let keep = inbound_only && direction == model::TrafficDirection::Outbound;
            if !keep {
                listening.closed.cancel();
            }
            keep
        });
    }

    /// Asks clients to go elsewhere: answers close their connections, HTTP/2 ones say so. New
    /// connections are still taken, since not all clients know yet. Returns when nobody has come
    /// for a while and nothing is under way, at the latest after `limit`.
    pub(crate) fn drain(&self, limit: Duration) -> impl Future<Output = ()> + use<> {
        self.shared.drain.cancel();
        let registry = self.shared.registry.clone();
        async move {
            let end = tokio::time::Instant::now() + limit;
            let mut before = registry.traffic();
            while tokio::time::Instant::now() < end {
                let pause = tokio::time::Instant::now() + QUIET;
                tokio::time::sleep_until(pause.min(end)).await;
                let now = registry.traffic();
                if now.active == 0 && now.total == before.total {
                    return;
                }
                before = now;
            }
        }
    }

    /// Stops accepting, lets requests finish within `limit`, and ends the workers.
    pub(crate) async fn shut_down(mut self, limit: Duration) {
        self.close_listeners(false);
        self.shared.drain.cancel();
        self.workers.clear();
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                // A worker that panicked has been reported by the panic itself.
                let _ = thread.join();
            }
        });
        let deadline = self.deadline.clone();
        let force = async move {
            tokio::time::sleep(limit).await;
            deadline.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = joined => {}
            () = force => {}
        }
    }
}

fn default_format() -> access_log::Format {
    access_log::Format::compile(&Default::default()).expect("Istio's format is known")
}

fn listen(workers: &[UnboundedSender<Command>], listener: &Arc<Listener>) -> io::Result<Listening> {
    let first = bind(listener.address, workers.len() > 1)?;
    let bound = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..workers.len() {
        sockets.push(socket::listen(bound, true)?);
    }
    let current = Arc::new(ArcSwap::new(listener.clone()));
    let closed = CancellationToken::new();
    for (worker, socket) in workers.iter().zip(sockets) {
        // A worker ends only when this side does.
        let _ = worker.send(Command::Listen {
            socket,
            listener: current.clone(),
            closed: closed.clone(),
        });
    }
    Ok(Listening {
        configured: listener.address,
        bound,
        current,
        closed,
    })
}

/// Binds. A listener that was closed just now holds its address until its worker has noticed.
fn bind(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    const ATTEMPTS: u32 = 10;
    for _ in 1..ATTEMPTS {
        match socket::listen(address, shared) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                std::thread::sleep(Duration::from_millis(10));
            }
            bound => return bound,
        }
    }
    socket::listen(address, shared)
}

/// What carries requests to the pod's own localhost.
fn loopback(registry: &Registry) -> (Http, Tcp) {
    const NAME: &str = LOOPBACK;
    let mut clusters = Clusters::default();
    let config = Arc::new(model::Cluster {
        protocol: model::UpstreamProtocol::UseDownstream,
        ..model::Cluster::new(NAME, model::Discovery::OriginalDst)
    });
    let cluster: Arc<Cluster> = clusters.named(NAME);
    cluster.update(config, &[], &Labels::default());
    let http = Http::plain(NAME, cluster.clone(), registry);
    (http, Tcp::plain(NAME, cluster, registry))
}
