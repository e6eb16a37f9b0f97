//! Streams to and from a container's own process: `kubectl attach`, and `run -i` which uses it.

use super::containers::Running;
use crate::node::{Exit, Input, Output, Session};
use bytes::Bytes;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Messages that may wait for the client.
const QUEUE: usize = 16;

/// A session with a container that runs: what it writes from now on, until it ends.
pub(super) fn to(container: &Running, stdin: bool) -> Session {
    // input for a container that takes none goes nowhere
    let input = container.input.clone().filter(|_| stdin);
    let input = input.unwrap_or_else(|| mpsc::channel::<Input>(1).0);
    let (outgoing, output) = mpsc::channel(QUEUE);
    let (result, exit) = oneshot::channel::<Exit>();
    let written = container.output.subscribe();
    let end = container.end.clone();
    tokio::spawn(async move {
        if pass_on(written, end, outgoing).await.is_some() {
            // the client has left: nobody to tell
            let _ = result.send(Ok(0));
        }
    });
    Session {
        input,
        output,
        exit,
    }
}

/// Passes on what is written until the end; nothing if the client leaves before.
async fn pass_on(
    mut written: broadcast::Receiver<(Output, Bytes)>,
    end: CancellationToken,
    to: mpsc::Sender<(Output, Bytes)>,
) -> Option<()> {
    loop {
        let piece = tokio::select! {
            piece = written.recv() => piece,
            () = to.closed() => return None,
            () = end.cancelled() => break,
        };
        match piece {
            Ok(piece) => to.send(piece).await.ok()?,
            // a client that reads too slowly misses something, as in Kubernetes
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return Some(()),
        }
    }
    // the last words are written before the end is told, and may both have come at once
    loop {
        match written.try_recv() {
            Ok(piece) => to.send(piece).await.ok()?,
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return Some(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn last_words_that_come_with_the_end_are_passed_on() {
        // which of two things that are ready is seen first is a matter of chance: often enough
        for _ in 0..64 {
            let (write, written) = broadcast::channel(4);
            let end = CancellationToken::new();
            let (to, mut passed) = mpsc::channel(4);
            let passing = tokio::spawn(pass_on(written, end.clone(), to));
            tokio::task::yield_now().await;
            write.send((Output::Stdout, "2\n".into())).unwrap();
            end.cancel();
            assert_eq!(passing.await.unwrap(), Some(()));
            assert_eq!(passed.recv().await, Some((Output::Stdout, "2\n".into())));
        }
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_it() {
        let (_write, written) = broadcast::channel(4);
        let (to, passed) = mpsc::channel(4);
        drop(passed);
        assert_eq!(pass_on(written, CancellationToken::new(), to).await, None);
    }
}
