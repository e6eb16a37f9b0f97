//! The listeners.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// Connections per listener; more wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 4096;
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// How a port is spoken with.
#[derive(Clone)]
pub(crate) enum Transport {
    /// In the clear: nothing secret is said.
    Plain,
    /// In the clear, which callers on this machine may: secrets do not travel over a network.
    PlainHere,
    /// Encrypted, a new connection with what is current.
    Tls(watch::Receiver<Arc<rustls::ServerConfig>>),
}

/// Listens on `address` and serves `router` there until the task is dropped.
pub(crate) async fn listen(
    tasks: &mut JoinSet<()>,
    what: &str,
    address: SocketAddr,
    router: Router,
    transport: Transport,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address} for {what}: is another control plane running there?")
    })?;
    let local = listener.local_addr()?;
    tasks.spawn(accept(listener, router, transport));
    tracing::info!("{what} on {local}");
    Ok(local)
}

async fn accept(listener: TcpListener, router: Router, transport: Transport) {
    let free = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // Never closed, so this cannot fail; a failure would only mean that we stop.
        let Ok(permit) = free.clone().acquire_owned().await else {
            return;
        };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to be closed.
                tracing::warn!("accepting a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let router = match &transport {
            Transport::PlainHere if !peer.ip().to_canonical().is_loopback() => stranger(),
            _ => router.clone(),
        };
        let tls = match &transport {
            Transport::Tls(config) => Some(TlsAcceptor::from(config.borrow().clone())),
            Transport::Plain | Transport::PlainHere => None,
        };
        connections.spawn(async move {
            if let Err(error) = serve(stream, router, tls).await {
                tracing::debug!("connection: {error}");
            }
            drop(permit);
        });
    }
}

/// What a caller from elsewhere gets, whatever it asks.
fn stranger() -> Router {
    Router::new().fallback(|| async {
        let text = "tokens, keys and configuration travel over TLS alone: use port 15012\n";
        (http::StatusCode::FORBIDDEN, text)
    })
}

async fn serve(stream: TcpStream, router: Router, tls: Option<TlsAcceptor>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let service = TowerToHyperService::new(router);
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(HANDSHAKE_WITHIN);
    let done = match tls {
        Some(tls) => {
            let stream = tokio::time::timeout(HANDSHAKE_WITHIN, tls.accept(stream)).await??;
            server.serve_connection(TokioIo::new(stream), service).await
        }
        None => server.serve_connection(TokioIo::new(stream), service).await,
    };
    done.map_err(|error| anyhow::anyhow!(error))
}
