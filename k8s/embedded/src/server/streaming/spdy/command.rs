//! `v4.channel.k8s.io` over SPDY: each stream of a command is one of the connection's.

use super::{Frame, Reader, Writer};
use crate::node::{Input, Output, Session};
use crate::server::streaming::channels::size;
use crate::server::streaming::command::{Streams, outcome};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// How long the client may take to open its streams, and to close the connection at the end.
const PATIENCE: Duration = Duration::from_secs(30);

/// The connection's streams by what they are for.
#[derive(Default)]
struct Ids {
    error: Option<u32>,
    stdin: Option<u32>,
    stdout: Option<u32>,
    stderr: Option<u32>,
    resize: Option<u32>,
    opened: usize,
}

impl Ids {
    /// Accepts the stream if it is one of those that are known.
    async fn open(&mut self, id: u32, kind: &str, writer: &Writer) {
        let place = match kind {
            "error" => &mut self.error,
            "stdin" => &mut self.stdin,
            "stdout" => &mut self.stdout,
            "stderr" => &mut self.stderr,
            "resize" => &mut self.resize,
            _ => return writer.refuse(id).await,
        };
        if place.replace(id).is_some() {
            return writer.refuse(id).await;
        }
        writer.accept(id, self.opened == 0).await;
        self.opened += 1;
    }
}

/// Serves a session until the command ends or the client goes away.
pub(in crate::server::streaming) async fn serve(
    connection: impl AsyncRead + AsyncWrite + Send,
    session: Session,
    streams: Streams,
) {
    let (from, to) = tokio::io::split(connection);
    let (from, to) = (Box::pin(from), Box::pin(to));
    let mut reader = Reader::new(from);
    let (writer, writing) = Writer::new(to);
    let serving = async move {
        let mut ids = Ids::default();
        // the outcome's stream, and those that were asked for
        let wanted = 1
            + usize::from(streams.stdin)
            + usize::from(streams.stdout)
            + usize::from(streams.stderr && !streams.tty)
            + usize::from(streams.tty);
        let opening = async {
            while ids.opened < wanted {
                match reader.next().await {
                    Ok(Some(Frame::Open { id, headers })) => {
                        let kind = Frame::header(&headers, "streamtype");
                        ids.open(id, kind, &writer).await;
                    }
                    Ok(Some(Frame::Ping { id })) => writer.pong(id).await,
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return false,
                }
            }
            true
        };
        if !tokio::time::timeout(PATIENCE, opening)
            .await
            .unwrap_or(false)
        {
            return;
        }
        converse(session, &ids, &mut reader, &writer).await;
    };
    // writing ends when all that was sent is written, or the connection is gone
    tokio::join!(serving, async {
        if let Err(error) = writing.await {
            tracing::debug!(%error, "a connection has ended");
        }
    });
}

async fn converse<R: AsyncRead + Unpin>(
    session: Session,
    ids: &Ids,
    reader: &mut Reader<R>,
    writer: &Writer,
) {
    let Session {
        input,
        mut output,
        exit,
    } = session;
    let speaking = async {
        while let Some((stream, bytes)) = output.recv().await {
            let id = match stream {
                Output::Stdout => ids.stdout,
                Output::Stderr => ids.stderr,
            };
            if let Some(id) = id {
                writer.data(id, &bytes, false).await;
            }
        }
        // the session's task has failed: the command is gone with it
        let exit = exit
            .await
            .unwrap_or_else(|_| Err("the command was lost".into()));
        if let Some(id) = ids.error {
            let outcome = outcome(&exit).to_string();
            writer.data(id, outcome.as_bytes(), true).await;
        }
        for id in [ids.stdout, ids.stderr].into_iter().flatten() {
            writer.data(id, &[], true).await;
        }
    };
    let listening = async {
        while let Ok(Some(frame)) = reader.next().await {
            let heard = match frame {
                Frame::Data { id, bytes, last } if Some(id) == ids.stdin => {
                    if !bytes.is_empty() {
                        // nothing reads it: dropped, as a closed pipe would
                        let _ = input.send(Input::Stdin(bytes)).await;
                    }
                    last.then_some(Input::End)
                }
                Frame::Data { id, bytes, .. } if Some(id) == ids.resize => {
                    size(&bytes).map(Input::Resize)
                }
                Frame::Ping { id } => {
                    writer.pong(id).await;
                    None
                }
                Frame::Open { id, .. } => {
                    writer.refuse(id).await;
                    None
                }
                _ => None,
            };
            if let Some(input_) = heard {
                // as above
                let _ = input.send(input_).await;
            }
        }
    };
    let mut listening = std::pin::pin!(listening);
    tokio::select! {
        () = speaking => {}
        // the session is dropped, and with it the command
        () = &mut listening => return,
    }
    // who does not close is left
    let _ = tokio::time::timeout(PATIENCE, listening).await;
}
