//! `v5.channel.k8s.io`: several streams in the messages of one WebSocket.
//!
//! The first byte of a message is the channel: 0 input, 1 output, 2 errors, 3 the outcome, 4 the size of
//! the terminal; 255 says that the channel in the next byte has ended.

use super::command::{Streams, outcome};
use crate::node::{Input, Output, Session, TerminalSize};
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, Stream, StreamExt};
use std::time::Duration;
use tokio::sync::mpsc;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const OUTCOME: u8 = 3;
const RESIZE: u8 = 4;
const END: u8 = 255;

/// How long the client has to close its side.
const FAREWELL: Duration = Duration::from_secs(2);

fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut message = BytesMut::with_capacity(bytes.len() + 1);
    message.put_u8(channel);
    message.put_slice(bytes);
    Message::Binary(message.freeze())
}

/// What a client's message means.
pub(super) fn input(message: Bytes) -> Option<Input> {
    match *message.first()? {
        STDIN => Some(Input::Stdin(message.slice(1..))),
        RESIZE => size(&message[1..]).map(Input::Resize),
        END if message.get(1) == Some(&STDIN) => Some(Input::End),
        _ => None,
    }
}

/// `{"Width":100,"Height":30}`.
pub(super) fn size(json: &[u8]) -> Option<TerminalSize> {
    let size: serde_json::Value = serde_json::from_slice(json).ok()?;
    let side = |name: &str| u16::try_from(size[name].as_u64()?).ok();
    Some(TerminalSize {
        width: side("Width")?,
        height: side("Height")?,
    })
}

/// Serves a session until the command ends or the client goes away.
pub(super) async fn serve(socket: WebSocket, session: Session, streams: Streams) {
    let Session {
        input,
        mut output,
        exit,
    } = session;
    let (mut sender, mut receiver) = socket.split();
    let speaking = async {
        sender.send(message(STDOUT, &[])).await?;
        while let Some((stream, bytes)) = output.recv().await {
            let channel = match stream {
                Output::Stdout if streams.stdout => STDOUT,
                Output::Stderr if streams.stderr => STDERR,
                _ => continue,
            };
            sender.send(message(channel, &bytes)).await?;
        }
        let exit = exit.await;
        // the session's task has failed: the command is gone with it
        let exit = exit.unwrap_or_else(|_| Err("the command was lost".into()));
        let outcome = outcome(&exit).to_string();
        sender.send(message(OUTCOME, outcome.as_bytes())).await?;
        let farewell = CloseFrame {
            code: axum::extract::ws::close_code::NORMAL,
            reason: "".into(),
        };
        sender.send(Message::Close(Some(farewell))).await
    };
    tokio::select! {
        _ = speaking => {}
        // the session is dropped, and with it the command
        () = listen(&mut receiver, input) => return,
    }
    let closed = async { while receiver.next().await.is_some_and(|m| m.is_ok()) {} };
    // who does not answer is left
    let _ = tokio::time::timeout(FAREWELL, closed).await;
}

/// Passes input on until the client is gone.
async fn listen(
    receiver: &mut (impl Stream<Item = Result<Message, axum::Error>> + Unpin),
    to: mpsc::Sender<Input>,
) {
    while let Some(Ok(message)) = receiver.next().await {
        let message = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::from(text),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        if let Some(input) = input(message) {
            // nothing reads it: dropped, as a closed pipe would
            let _ = to.send(input).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_by_their_channel() {
        let input = |bytes: &'static [u8]| input(Bytes::from_static(bytes));
        assert_eq!(input(b"\x00ls\r"), Some(Input::Stdin("ls\r".into())));
        assert_eq!(input(b"\xff\x00"), Some(Input::End));
        assert_eq!(
            input(b"\x04{\"Width\":100,\"Height\":30}\n"),
            Some(Input::Resize(TerminalSize {
                width: 100,
                height: 30
            }))
        );
        for nonsense in [&b""[..], b"\x04{", b"\xff", b"\x09x"] {
            assert_eq!(input(nonsense), None);
        }
    }
}
