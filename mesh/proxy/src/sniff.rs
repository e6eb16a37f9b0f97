//! The first bytes of a connection: which protocol does the client speak?

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::timeout,
};

/// What HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Methods are looked for in this many bytes.
const LONGEST_METHOD: usize = 16;
/// A client that says nothing this long waits for the server to speak first, so it is not HTTP.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
    /// None that is known.
    Other,
    /// The client closed before it said anything.
    Nothing,
}

/// Reads until the protocol is clear. `http_only`: it is HTTP of some version, so one byte tells.
pub(crate) async fn sniff<S: AsyncRead + Unpin>(
    mut stream: S,
    http_only: bool,
) -> io::Result<(Protocol, Rewind<S>)> {
    let mut first = [0; 24];
    let mut length = 0;
    let protocol = loop {
        let read = stream.read(&mut first[length..]);
        let count = if http_only {
            read.await?
        } else {
            match timeout(PATIENCE, read).await {
                Ok(count) => count?,
                Err(_) => break Protocol::Other,
            }
        };
        if count == 0 && length == 0 {
            break Protocol::Nothing;
        }
        length += count;
        match classify(&first[..length], http_only) {
            Some(protocol) => break protocol,
            None if count == 0 => break Protocol::Other,
            None => {}
        }
    };
    let rewind = Rewind {
        first,
        start: 0,
        end: length,
        stream,
    };
    Ok((protocol, rewind))
}

/// The protocol of a connection that begins with these bytes; `None`: more are needed.
fn classify(bytes: &[u8], http_only: bool) -> Option<Protocol> {
    let seen = bytes.len().min(PREFACE.len());
    if bytes[..seen] == PREFACE[..seen] {
        return (seen == PREFACE.len()).then_some(Protocol::Http2);
    }
    if http_only {
        return Some(Protocol::Http1);
    }
    // A method of capitals, a space, and a target.
    let method = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_uppercase())
        .count();
    match bytes.get(method) {
        None if method <= LONGEST_METHOD => None,
        Some(b' ') if method >= 3 => match bytes.get(method + 1) {
            None => None,
            Some(b'/' | b'*' | b'h' | b'H') => Some(Protocol::Http1),
            Some(_) if bytes.starts_with(b"CONNECT ") => Some(Protocol::Http1),
            Some(_) => Some(Protocol::Other),
        },
        _ => Some(Protocol::Other),
    }
}

/// A stream whose first bytes were looked at and come again.
pub(crate) struct Rewind<S> {
    first: [u8; 24],
    start: usize,
    end: usize,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewind<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.start < self.end {
            let end = self.end.min(self.start + buf.remaining());
            buf.put_slice(&self.first[self.start..end]);
            self.start = end;
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewind<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_protocols_apart() {
        use Protocol::*;
        for (bytes, protocol) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some(Http1)),
            (b"POST http://a/ HTTP/1.1", Some(Http1)),
            (b"CONNECT a:1 HTTP/1.1", Some(Http1)),
            (PREFACE, Some(Http2)),
            (b"PRI * H", None),
            (b"GE", None),
            (b"GET", None),
            (b"\x16\x03\x01", Some(Other)),
            (b"hello", Some(Other)),
            (b"PING\r\n", Some(Other)),
            (b"ABCDEFGHIJKLMNOPQRST", Some(Other)),
        ] {
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(classify(bytes, false), protocol, "{text}");
        }
        assert_eq!(classify(b"\x16\x03", true), Some(Http1));
    }
}
