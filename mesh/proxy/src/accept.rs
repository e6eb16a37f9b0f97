//! Accepting connections: the workers' side of listeners.

mod tls;

use std::{cell::OnceCell, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use mesh_config::Accept;
use tokio::{net::TcpListener, sync::mpsc::UnboundedReceiver};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Destination, Listener},
    downstream::Downstream,
    socket,
    stats::istio::PrincipalId,
    tap::{Hop, Wire},
    worker::Worker,
};

/// Pause after an accept that failed for want of resources (file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the control thread asks of a worker.
pub(crate) enum Command {
    /// Accept on a socket until the token is cancelled.
    Listen {
        socket: std::net::TcpListener,
        listener: Arc<ArcSwap<Listener>>,
        closed: CancellationToken,
    },
    /// Close idle connections to hosts other than these (sorted by id).
    RetainHosts(Arc<[u32]>),
}

/// A worker's life: carries out commands until there can be no more, then waits for what is under
/// way until `deadline` is cancelled.
pub(crate) async fn run(
    worker: Rc<Worker>,
    mut commands: UnboundedReceiver<Command>,
    deadline: CancellationToken,
) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::Listen {
                socket,
                listener,
                closed,
            } => match TcpListener::from_std(socket) {
                Ok(socket) => {
                    let worker = worker.clone();
                    tokio::task::spawn_local(async move {
                        accept(worker, socket, listener, closed).await;
                    });
                }
                Err(error) => tracing::error!(%error, "cannot accept on a listener"),
            },
            Command::RetainHosts(hosts) => worker
                .pool
                .retain(|host| hosts.binary_search(&host).is_ok()),
        }
    }
    let mut finished = tokio::time::interval(Duration::from_millis(10));
    while worker.active.get() > 0 && !deadline.is_cancelled() {
        finished.tick().await;
    }
    worker.log.flush();
}

async fn accept(
    worker: Rc<Worker>,
    socket: TcpListener,
    listener: Arc<ArcSwap<Listener>>,
    closed: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = closed.cancelled() => return,
        };
        match accepted {
            Ok((stream, remote)) => {
                let server = &worker.shared.registry.server;
                if server.total_connections.get() >= worker.shared.max_connections {
                    server.downstream_cx_overflow.add(1);
                    continue;
                }
                // Without it answers wait for acknowledgements; failing to set it harms nothing.
                let _ = stream.set_nodelay(true);
                let local = stream.local_addr().unwrap_or(SocketAddr::from(([0; 4], 0)));
                let (remote, local) = (socket::unmapped(remote), socket::unmapped(local));
                let redirected = listener.load().accept == Accept::Redirected;
                let original = redirected.then(|| socket::original_destination(&stream));
                let connection = Downstream {
                    worker: worker.clone(),
                    listener: listener.clone(),
                    remote,
                    local,
                    destination: original.flatten().map(Destination::from),
                    hello: OnceCell::new(),
                    peer: None,
                    principal: PrincipalId::NONE,
                    encrypted: false,
                };
                let stream = Wire::new(stream, Hop::Downstream, &worker.shared.tap);
                let open = Open::new(&worker);
                tokio::task::spawn_local(async move {
                    tls::serve(stream, connection).await;
                    drop(open);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Counts a downstream connection as long as it is open.
struct Open(Rc<Worker>);

impl Open {
    fn new(worker: &Rc<Worker>) -> Self {
        worker.shared.registry.server.total_connections.add(1);
        Self(worker.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.shared.registry.server.total_connections.sub(1);
    }
}
