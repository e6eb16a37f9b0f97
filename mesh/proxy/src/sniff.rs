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

use crate::{
    limits::IDLE_TIMEOUT,
    sni::{self, Greeting, Hello},
};

/// What HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Methods are looked for in this many bytes.
const LONGEST_METHOD: usize = 16;
/// A client that says nothing this long waits for the server to speak first, so it is not HTTP.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes looked at in one step.
const READ_AHEAD: usize = 2 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
    /// None that is known.
    Other,
    /// The client closed before it said anything.
    Nothing,
}

/// Reads until the protocol is clear. `http_only`: it is HTTP of some version, so one byte tells, and
/// the client may take as long as on an idle connection.
pub(crate) async fn sniff<S: AsyncRead + Unpin>(
    stream: &mut Rewind<S>,
    http_only: bool,
) -> io::Result<Protocol> {
    loop {
        if let Some(protocol) = classify(&stream.first, http_only) {
            return Ok(protocol);
        }
        let patience = if http_only { IDLE_TIMEOUT } else { PATIENCE };
        match timeout(patience, stream.read_ahead(PREFACE.len())).await {
            Ok(count) if count.as_ref().is_ok_and(|count| *count > 0) => {}
            Err(_) if !http_only => return Ok(Protocol::Other),
            _ if stream.first.is_empty() => return Ok(Protocol::Nothing),
            _ => return Ok(Protocol::Other),
        }
    }
}

/// Reads a TLS greeting; the default: the client speaks something else.
pub(crate) async fn hello<S: AsyncRead + Unpin>(stream: &mut Rewind<S>) -> io::Result<Hello> {
    loop {
        match sni::read(&stream.first) {
            Greeting::Tls(hello) => return Ok(hello),
            Greeting::NotTls => return Ok(Hello::default()),
            Greeting::Unfinished => {}
        }
        match timeout(PATIENCE, stream.read_ahead(sni::GREETING_BYTES)).await {
            Ok(count) if count.as_ref().is_ok_and(|count| *count > 0) => {}
            _ => return Ok(Hello::default()),
        }
    }
}

/// The protocol of a connection that begins with these bytes; `None`: more are needed.
fn classify(bytes: &[u8], http_only: bool) -> Option<Protocol> {
    if bytes.is_empty() {
        return None;
    }
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
    first: Vec<u8>,
    /// How much of `first` has come again.
    start: usize,
    stream: S,
}

impl<S> Rewind<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            first: Vec::new(),
            start: 0,
            stream,
        }
    }

    /// The stream itself.
    pub(crate) fn inner(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> Rewind<S> {
    /// Looks at more of what comes, up to `limit` bytes from the start; 0: there is no more.
    async fn read_ahead(&mut self, limit: usize) -> io::Result<usize> {
        let room = limit.saturating_sub(self.first.len()).min(READ_AHEAD);
        let seen = self.first.len();
        self.first.resize(seen + room, 0);
        let count = self.stream.read(&mut self.first[seen..]).await;
        self.first.truncate(seen + *count.as_ref().unwrap_or(&0));
        count
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewind<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.start < self.first.len() {
            let end = self.first.len().min(self.start + buf.remaining());
            buf.put_slice(&self.first[self.start..end]);
            self.start = end;
            if end == self.first.len() {
                (self.first, self.start) = (Vec::new(), 0);
            }
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
