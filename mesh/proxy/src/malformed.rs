//! What is not HTTP. The HTTP library refuses most of it, but tells neither the client nor us what
//! it refused; [`Watched`] stands between it and the connection, so that such a request is answered
//! in Envoy's words, logged and counted.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use http::{Method, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    downstream::Downstream,
    exchange::{Entry, Exchange},
    flags::Flags,
    reply,
    stats::HttpStats,
};

/// Details of a request with both lengths: one proxy may go by the first and the next by the other.
pub(crate) const BOTH_LENGTHS: &str = "http1.content_length_and_chunked_not_allowed";
/// Details of any other break of the rules.
pub(crate) const CODEC_ERROR: &str = "http1.codec_error";
const OTHER_CODING_NAMED: &str = "http1.invalid_transfer_encoding";

const LENGTH: u8 = 1;
const CHUNKED: u8 = 2;
const OTHER_CODING: u8 = 4;
const SECOND_LENGTH: u8 = 8;

/// What the bytes of a connection told; the atomics are only because the HTTP library wants to be
/// able to move a connection to another thread.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// What comes next cannot be a head: it may be a body.
    body: AtomicBool,
    /// What the head under way says of its body's length.
    framing: AtomicU8,
    /// Status of an answer that the library gave by itself.
    refused: AtomicU16,
}

impl Watch {
    /// A head was read to its end that the library takes: what is wrong with the length that it
    /// names, as a status and details? `bodiless`: another head comes next. Heads that follow a body
    /// on their connection are not looked at; there the library takes the chunked length and drops
    /// the other.
    pub(crate) fn bad_length(&self, bodiless: bool) -> Option<(StatusCode, &'static str)> {
        let framing = self.framing.swap(0, Relaxed);
        self.body.store(!bodiless, Relaxed);
        let names = |what| framing & what != 0;
        if names(OTHER_CODING) {
            Some((StatusCode::NOT_IMPLEMENTED, OTHER_CODING_NAMED))
        } else if names(LENGTH) && names(CHUNKED) {
            Some((StatusCode::BAD_REQUEST, BOTH_LENGTHS))
        } else {
            names(SECOND_LENGTH).then_some((StatusCode::BAD_REQUEST, CODEC_ERROR))
        }
    }

    /// The status of the library's own answer, after which the connection ends.
    pub(crate) fn refused(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.refused.load(Relaxed)).ok()
    }

    /// Looks for the two length headers.
    fn read(&self, bytes: &[u8]) {
        if self.body.load(Relaxed) {
            return;
        }
        let before = self.framing.load(Relaxed);
        let mut found = before;
        for line in bytes.split(|byte| *byte == b'\n') {
            match line {
                b"\r" => {
                    self.body.store(true, Relaxed);
                    break;
                }
                [b'c' | b'C', ..] if value(line, "content-length").is_some() => {
                    let again = found & LENGTH != 0;
                    found |= if again { SECOND_LENGTH } else { LENGTH };
                }
                [b't' | b'T', ..] => {
                    if let Some(coding) = value(line, "transfer-encoding") {
                        let chunked = coding.trim_ascii().eq_ignore_ascii_case(b"chunked");
                        found |= if chunked { CHUNKED } else { OTHER_CODING };
                    }
                }
                _ => {}
            }
        }
        if found != before {
            self.framing.store(found, Relaxed);
        }
    }

    /// Envoy's answer in place of the library's.
    fn answer(&self, status: StatusCode) -> Vec<u8> {
        let status = if self.framing.load(Relaxed) & OTHER_CODING != 0 {
            StatusCode::NOT_IMPLEMENTED
        } else {
            status
        };
        self.refused.store(status.as_u16(), Relaxed);
        let body = reply::reason(status);
        let date = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT");
        let length = body.len();
        format!(
            "HTTP/1.1 {} {body}\r\ncontent-length: {length}\r\ncontent-type: text/plain\r\n\
             date: {date}\r\nserver: envoy\r\nconnection: close\r\n\r\n{body}",
            status.as_u16()
        )
        .into_bytes()
    }
}

/// The value of a header line with this lower-case name.
fn value<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    let named = start.eq_ignore_ascii_case(name.as_bytes());
    rest.strip_prefix(b":").filter(|_| named)
}

/// The status of an answer that the HTTP library made: no answer of ours begins like this, since
/// ours name their content or server before the connection.
fn own_answer(bytes: &[u8]) -> Option<StatusCode> {
    let rest = bytes.strip_prefix(b"HTTP/1.1 4")?;
    let (code, rest) = rest.split_at_checked(2)?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    if !rest[end + 1..].starts_with(b"connection: close\r\ncontent-length: 0\r\n") {
        return None;
    }
    StatusCode::from_bytes(&[b'4', code[0], code[1]]).ok()
}

/// The client broke the rules of HTTP/2, rather than only leaving.
pub(crate) fn is_http2(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).map(ToString::to_string);
    // The library's error type is not part of its interface; its words are.
    source.is_some_and(|text| text.starts_with("connection error detected"))
}

/// Records a refused request: `- - HTTP/1.1`, DPE.
pub(crate) fn record(connection: &Rc<Downstream>, stats: Arc<HttpStats>, status: StatusCode) {
    stats.downstream_cx_protocol_error.add(1);
    stats.downstream_rq_http1_total.add(1);
    let worker = &connection.worker;
    let mut exchange = Exchange::begin(worker, connection.listener.load().direction, stats);
    exchange.status = status.as_u16();
    exchange.flags.insert(Flags::DOWNSTREAM_PROTOCOL_ERROR);
    exchange.details = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "http1.headers_too_large",
        StatusCode::NOT_IMPLEMENTED => OTHER_CODING_NAMED,
        _ => CODEC_ERROR,
    }
    .into();
    exchange.response_body_bytes = reply::reason(status).len() as u64;
    exchange.complete = true;
    if worker.shared.node.load().access_log {
        let nothing = Method::from_bytes(b"-").expect("a dash is a token");
        exchange.log = Some(Box::new(Entry::new(connection, nothing, "-")));
    }
}

/// A connection whose bytes are looked at as they pass.
pub(crate) struct Watched<S> {
    stream: S,
    watch: Arc<Watch>,
    /// What is being written in place of the library's answer, and how much of it was.
    instead: Option<(Vec<u8>, usize)>,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S, watch: Arc<Watch>) -> Self {
        Self {
            stream,
            watch,
            instead: None,
        }
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    /// Writes the better answer to its end, when these bytes are one of the library's.
    fn poll_instead(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<bool>> {
        if self.instead.is_none() {
            let Some(status) = own_answer(bytes) else {
                return Poll::Ready(Ok(false));
            };
            self.instead = Some((self.watch.answer(status), 0));
        }
        while let Some((answer, sent)) = &mut self.instead {
            *sent += ready!(Pin::new(&mut self.stream).poll_write(cx, &answer[*sent..]))?;
            if *sent >= answer.len() {
                self.instead = None;
            }
        }
        Poll::Ready(Ok(true))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.watch.read(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if ready!(self.poll_instead(cx, bytes))? {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
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
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = slices.first()
            && ready!(self.poll_instead(cx, first))?
        {
            return Poll::Ready(Ok(first.len()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lengths_are_seen_in_any_order_and_spelling_but_not_in_bodies() {
        let details = |text: &str| {
            let watch = Watch::default();
            // In two reads, as it may come.
            let (first, rest) = text.as_bytes().split_at(text.find("\r\n").unwrap() + 2);
            watch.read(first);
            watch.read(rest);
            watch.bad_length(false).map(|(_, details)| details)
        };
        let both = |text| details(text) == Some(BOTH_LENGTHS);
        assert!(both(
            "POST / HTTP/1.1\r\nContent-LENGTH: 3\r\ntransfer-encoding: Chunked\r\n\r\n"
        ));
        assert!(both(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\ncontent-length:3\r\n\r\n"
        ));
        assert!(!both(
            "POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\na\r\ntransfer-encoding: chunked\r\n"
        ));
        assert!(!both(
            "POST / HTTP/1.1\r\nx: content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n"
        ));
        let twice = "POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\n";
        assert_eq!(details(twice), Some(CODEC_ERROR));
        let other = "POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n";
        assert_eq!(details(other), Some(OTHER_CODING_NAMED));
    }

    #[test]
    fn only_the_librarys_answers_are_replaced() {
        let own = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        assert_eq!(
            own_answer(own),
            Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        );
        let ours = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nserver: envoy\r\nconnection: close\r\n\r\n";
        assert_eq!(own_answer(ours), None);
    }
}
