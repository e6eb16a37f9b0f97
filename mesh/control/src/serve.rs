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
    sync::Semaphore,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// Connections per listener; more wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 4096;
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Listens on `address` and serves `router` there, with TLS when given, until the task is dropped.
pub(crate) async fn listen(
    tasks: &mut JoinSet<()>,
    what: &str,
    address: SocketAddr,
    router: Router,
    tls: Option<Arc<rustls::ServerConfig>>,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address} for {what}: is another control plane running there?")
    })?;
    let local = listener.local_addr()?;
    tasks.spawn(accept(listener, router, tls.map(TlsAcceptor::from)));
    tracing::info!("{what} on {local}");
    Ok(local)
}

async fn accept(listener: TcpListener, router: Router, tls: Option<TlsAcceptor>) {
    let free = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // Never closed, so this cannot fail; a failure would only mean that we stop.
        let Ok(permit) = free.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to be closed.
                tracing::warn!("accepting a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (router, tls) = (router.clone(), tls.clone());
        connections.spawn(async move {
            if let Err(error) = serve(stream, router, tls).await {
                tracing::debug!("connection: {error}");
            }
            drop(permit);
        });
    }
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
