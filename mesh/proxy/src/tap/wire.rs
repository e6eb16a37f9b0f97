//! A socket whose bytes can be watched: what the wire itself shows, before TLS is taken off and
//! after it is put on.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    Event, MOST_BYTES, Raw, Tap,
    event::{self, Piece},
};

/// Which side of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hop {
    Downstream,
    Upstream,
}

/// A connection of the proxy's.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    tap: Arc<Tap>,
    hop: Hop,
    /// Whether the last bytes were read.
    read_last: Option<bool>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, hop: Hop, tap: &Arc<Tap>) -> Self {
        Self {
            stream,
            tap: tap.clone(),
            hop,
            read_last: None,
        }
    }

    /// The socket itself.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Some bytes passed, and someone watches.
    #[cold]
    fn passed(&mut self, read: bool, slices: &[IoSlice<'_>], count: usize) {
        if count == 0 || self.read_last == Some(read) {
            return;
        }
        self.read_last = Some(read);
        let all = slices.iter().flat_map(|slice| slice.iter().copied());
        let bytes: Vec<u8> = all.take(count.min(MOST_BYTES)).collect();
        let (Ok(local), Ok(peer)) = (self.stream.local_addr(), self.stream.peer_addr()) else {
            return;
        };
        let (from, to) = if read { (peer, local) } else { (local, peer) };
        self.tap
            .each(|raw| Some(piece(self.hop, from, to, &bytes, count, raw?).line()));
    }
}

fn piece(
    hop: Hop,
    from: SocketAddr,
    to: SocketAddr,
    bytes: &[u8],
    count: usize,
    raw: Raw,
) -> Event<'static> {
    let (kind, telling) = classify(bytes);
    let shown = match raw {
        Raw::Kind => telling,
        Raw::First(wanted) => wanted.min(bytes.len()),
    };
    Event::Bytes(Piece {
        time: event::time(jiff::Timestamp::now()),
        hop: match hop {
            Hop::Downstream => "downstream",
            Hop::Upstream => "upstream",
        },
        from,
        to,
        kind,
        bytes: STANDARD.encode(&bytes[..shown]),
        hidden: count - shown,
    })
}

/// Enough of a TLS record to see that it is one.
const RECORD: usize = 32;

/// What bytes are, and how many of the first of them may be shown to anyone: of HTTP the first line,
/// of TLS what is encrypted anyway, of all else nothing.
fn classify(bytes: &[u8]) -> (&'static str, usize) {
    if let [kind @ 20..=23, 3, 0..=4, _, _, rest @ ..] = bytes {
        let kind = match (kind, rest.first()) {
            (20, _) => "TLS change cipher spec record",
            (21, _) => "TLS alert record",
            (22, Some(1)) => "TLS handshake record: client hello",
            (22, Some(2)) => "TLS handshake record: server hello",
            (22, _) => "TLS handshake record",
            _ => "TLS application data record",
        };
        return (kind, bytes.len().min(RECORD));
    }
    let line = bytes.iter().position(|byte| *byte == b'\r');
    let line = line.unwrap_or(bytes.len());
    if bytes.starts_with(b"PRI * HTTP/2.0") {
        return ("HTTP/2 in the clear", line);
    }
    if bytes.starts_with(b"HTTP/1.") {
        return ("HTTP response in the clear", line);
    }
    let mut words = bytes[..line].split(|byte| *byte == b' ');
    let method = words.next().unwrap_or_default();
    let target = words.next().unwrap_or_default();
    // Of a request that came in pieces the line may not be over.
    let over = line < bytes.len();
    if method.len() >= 3
        && method.iter().all(u8::is_ascii_uppercase)
        && (target.starts_with(b"/") || target.starts_with(b"http://"))
        && (!over
            || words
                .next()
                .is_some_and(|last| last.starts_with(b"HTTP/1.")))
    {
        return ("HTTP request in the clear", line);
    }
    ("bytes in the clear", 0)
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if self.tap.wants_bytes() {
            let read = &buf.filled()[before..];
            self.passed(true, &[IoSlice::new(read)], read.len());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        if self.tap.wants_bytes() {
            self.passed(false, &[IoSlice::new(buf)], count);
        }
        Poll::Ready(Ok(count))
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
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        if self.tap.wants_bytes() {
            self.passed(false, bufs, count);
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_apart_and_secrets_stay_hidden() {
        for (bytes, kind, shown) in [
            (
                &b"\x16\x03\x01\x00\x05\x01secret"[..],
                "TLS handshake record: client hello",
                12,
            ),
            (
                b"\x16\x03\x03\x00\x05\x02",
                "TLS handshake record: server hello",
                6,
            ),
            (b"\x17\x03\x03\x00\x05", "TLS application data record", 5),
            (
                b"GET /vehicles/ HTTP/1.1\r\nauthorization: Bearer x\r\n",
                "HTTP request in the clear",
                23,
            ),
            (
                b"HTTP/1.1 200 OK\r\nset-cookie: a\r\n",
                "HTTP response in the clear",
                15,
            ),
            (b"PRI * HTTP/2.0\r\n\r\nSM", "HTTP/2 in the clear", 14),
            (b"GET http://fleetman-vehi", "HTTP request in the clear", 24),
            (b"AUTH secret\r\n", "bytes in the clear", 0),
            (b"", "bytes in the clear", 0),
        ] {
            assert_eq!(classify(bytes), (kind, shown), "{bytes:?}");
        }
    }
}
