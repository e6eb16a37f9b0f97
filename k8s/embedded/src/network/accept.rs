//! Accepting connections, bounded in number, until the end.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Hands each connection to `handle`, at most `most` at a time, until `end`, which ends those that
/// are open too. `who` listens, for the log.
pub(super) async fn accept<F>(
    listener: TcpListener,
    most: usize,
    who: impl Display,
    end: CancellationToken,
    handle: impl Fn(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(most));
    // never closed: a place always comes
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let accepted = tokio::select! {
            () = end.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                let (handled, end) = (handle(stream, from), end.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = end.cancelled() => {}
                        () = handled => {}
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%who, %error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
