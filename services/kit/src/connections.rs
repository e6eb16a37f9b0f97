//! Accepting connections, as many at a time as there are slots; more wait in the kernel's queue.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Hands each connection to `handle`, for ever, while there is a slot for it. An error ends its
/// connection and nothing else. Listeners may share their slots.
pub async fn serve<F>(listener: TcpListener, slots: Arc<Semaphore>, handle: impl Fn(TcpStream) -> F)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    loop {
        if let Some((stream, slot)) = accept(&listener, &slots).await {
            let handled = handle(stream);
            tokio::spawn(async move {
                if let Err(error) = handled.await {
                    tracing::debug!(%error, "connection ended");
                }
                drop(slot);
            });
        }
    }
}

/// The next connection and its slot; nothing if it could not be accepted.
pub(crate) async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    // The semaphore is never closed, so a slot always comes.
    let slot = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(error) => {
            // Out of file descriptors, most likely: wait until some connection has ended.
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}
