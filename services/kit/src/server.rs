//! Serving a router over HTTP/1.1 and HTTP/2 until told to stop.
//!
//! One accept loop; one task per connection; everything bounded. The loop is our own, rather than
//! `axum::serve`, because a fault may have to tear a connection down (see [`Connection`]).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::connections;

/// The most connections that one service holds at a time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;
/// How long a connection may take to send the head of its next request.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(300);
/// How long requests in flight may go on after the order to stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// The connection that a request came on; found in the request's extensions.
#[derive(Clone, Default)]
pub struct Connection {
    peer: Option<SocketAddr>,
    shared: Arc<ConnectionShared>,
}

#[derive(Default)]
struct ConnectionShared {
    reset: AtomicBool,
    woken: Notify,
}

impl Connection {
    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Ends the connection at once with a TCP reset, whatever is in flight on it.
    pub fn reset(&self) {
        self.shared.reset.store(true, Ordering::Relaxed);
        self.shared.woken.notify_one();
    }

    /// Whether [`Connection::reset`] was called.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        self.shared.reset.load(Ordering::Relaxed)
    }
}

/// Binds a listener, with an error that names the address and says what to do.
///
/// # Errors
/// When the address cannot be bound.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Bind { address, source })
}

/// Why a service cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}{}", remedy(.source))]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            " (another program has it: stop that, or choose another port with --listen)"
        }
        io::ErrorKind::PermissionDenied => " (choose a port of 1024 or above with --listen)",
        io::ErrorKind::AddrNotAvailable => " (this machine has no such address: see --listen)",
        _ => "",
    }
}

/// Serves `router` until `stop` is ready, then lets requests in flight finish, for at most ten
/// seconds. Never fails: a connection's errors end that connection.
pub async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let stopping = CancellationToken::new();
    let open = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = connections::accept(&listener, &slots) => accepted,
        };
        let Some((stream, slot)) = accepted else {
            continue;
        };
        let (router, stopping) = (router.clone(), stopping.clone());
        open.spawn(async move {
            serve_connection(stream, router, stopping).await;
            drop(slot);
        });
    }
    drop(listener);
    stopping.cancel();
    open.close();
    if tokio::time::timeout(SHUTDOWN_GRACE, open.wait())
        .await
        .is_err()
    {
        tracing::warn!(open = open.len(), "stopping with requests still in flight");
    }
}

async fn serve_connection(stream: TcpStream, router: Router, stopping: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot switch off Nagle's algorithm");
    }
    let connection = Connection {
        peer: stream.peer_addr().ok(),
        ..Connection::default()
    };
    let stream = ResettableStream {
        stream,
        connection: connection.clone(),
    };
    let reset = connection.clone();
    let service =
        hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(connection.clone());
            router.clone().oneshot(request)
        });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT);
    builder.http2().timer(TokioTimer::new());
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let mut told = false;
    loop {
        tokio::select! {
            ended = &mut serving => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            () = reset.shared.woken.notified() => return,
            () = stopping.cancelled(), if !told => {
                told = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}

/// A TCP stream whose drop sends a reset instead of a close once [`Connection::reset`] was called.
struct ResettableStream {
    stream: TcpStream,
    connection: Connection,
}

impl Drop for ResettableStream {
    fn drop(&mut self) {
        if self.connection.is_reset()
            && let Err(error) = self.stream.set_zero_linger()
        {
            tracing::debug!(%error, "cannot reset the connection; it is closed instead");
        }
    }
}

impl AsyncRead for ResettableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for ResettableStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// How long a service goes on after SIGTERM. Kubernetes sends it at the moment when it takes the pod out
/// of its Services' endpoints; callers and their proxies learn of that a little later.
const FAREWELL: Duration = Duration::from_secs(1);

/// Ready when the process is to stop: a moment after SIGTERM; at once after SIGINT (Ctrl+C) and when it is
/// told a second time.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM received"),
            _ = interrupt.recv() => return tracing::info!("SIGINT received"),
        }
        tokio::select! {
            () = tokio::time::sleep(FAREWELL) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::oneshot;

    async fn started(
        router: Router,
    ) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
        let listener = bind("127.0.0.1:0".parse().expect("an address"))
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve(listener, router, async move {
            let _ = stopped.await;
        }));
        (address, stop, serving)
    }

    async fn ask(address: SocketAddr, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_request_in_flight_finishes_after_the_order_to_stop() {
        let (entered, mut has_entered) = tokio::sync::mpsc::channel(1);
        let release = Arc::new(Notify::new());
        let gate = release.clone();
        let router = Router::new().route(
            "/slow",
            get(move || async move {
                let _ = entered.send(()).await;
                gate.notified().await;
                "done"
            }),
        );
        let (address, stop, serving) = started(router).await;
        let asking = tokio::spawn(async move { ask(address, "/slow").await });
        has_entered.recv().await.expect("the handler runs");
        stop.send(()).expect("the server runs");
        release.notify_one();
        let answer = asking.await.expect("no panic").expect("an answer");
        assert!(answer.ends_with("done"), "{answer}");
        serving.await.expect("no panic");
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_reset_reaches_the_client_as_a_reset() {
        let router = Router::new().route(
            "/",
            get(|connection: axum::Extension<Connection>| async move {
                connection.reset();
                std::future::pending::<()>().await;
            }),
        );
        let (address, _stop, _serving) = started(router).await;
        let error = ask(address, "/").await.expect_err("a reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_the_remedy() {
        let first = bind("127.0.0.1:0".parse().expect("an address"))
            .await
            .expect("a free port");
        let address = first.local_addr().expect("an address");
        let error = bind(address).await.expect_err("taken").to_string();
        assert!(error.contains(&address.to_string()), "{error}");
        assert!(error.contains("--listen"), "{error}");
    }
}
