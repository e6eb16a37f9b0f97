//! The server's side of SPDY/3.1, as far as Kubernetes clients use it: streams that the client opens, data
//! in both directions, pings. Windows are not kept: the Go library of the clients does not know them.
//!
//! Header blocks are one zlib stream per direction, with a dictionary that the protocol fixes. Ours hold
//! no headers, so they are sent without compressing anything.

pub(super) mod command;

use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};
use std::io;
use std::sync::LazyLock;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;

/// Largest frame that is taken, in bytes.
const LARGEST: usize = 4 << 20;
/// Largest header block, unpacked, in bytes.
const HEADERS: usize = 64 << 10;
/// Frames that may wait to be written.
const QUEUE: usize = 16;

/// What a client has sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A new stream.
    Open {
        id: u32,
        headers: Vec<(String, String)>,
    },
    /// Bytes of a stream; `last`: the client will send no more on it.
    Data { id: u32, bytes: Bytes, last: bool },
    /// The client gives a stream up.
    Reset { id: u32 },
    /// To be sent back.
    Ping { id: u32 },
    /// The client is about to close.
    GoAway,
    /// Something that changes nothing here.
    Other,
}

impl Frame {
    /// A header of an opened stream.
    pub(super) fn header<'a>(headers: &'a [(String, String)], name: &str) -> &'a str {
        let mut found = headers.iter().filter(|(key, _)| key == name);
        found.next().map_or("", |(_, value)| value.as_str())
    }
}

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FIN: u8 = 1;

/// Reads frames.
pub(super) struct Reader<R> {
    from: BufReader<R>,
    unpack: Decompress,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(from: R) -> Self {
        Reader {
            from: BufReader::new(from),
            unpack: Decompress::new(true),
        }
    }

    /// The next frame; `None` at the end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Frame>> {
        let mut head = [0; 8];
        match self.from.read_exact(&mut head).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let word = |bytes: &[u8]| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let length = (word(&head[4..]) & 0x00ff_ffff) as usize;
        if length > LARGEST {
            return Err(io::Error::other(format!("a frame of {length} bytes")));
        }
        let flags = head[4];
        let mut body = BytesMut::zeroed(length);
        self.from.read_exact(&mut body).await?;
        let body = body.freeze();
        let first = word(&head);
        if first & 0x8000_0000 == 0 {
            return Ok(Some(Frame::Data {
                id: first,
                bytes: body,
                last: flags & FIN != 0,
            }));
        }
        let id = body.get(..4).map(word).map(|id| id & 0x7fff_ffff);
        let frame = match ((first & 0xffff) as u16, id) {
            (SYN_STREAM, Some(id)) if body.len() >= 10 => {
                let headers = self.headers(&body[10..])?;
                Frame::Open { id, headers }
            }
            (SYN_STREAM, _) => return Err(io::Error::other("a stream without id")),
            (RST_STREAM, Some(id)) => Frame::Reset { id },
            (PING, Some(id)) => Frame::Ping { id },
            (GOAWAY, _) => Frame::GoAway,
            _ => Frame::Other,
        };
        Ok(Some(frame))
    }

    fn headers(&mut self, block: &[u8]) -> io::Result<Vec<(String, String)>> {
        let block = self.unpack(block)?;
        let broken = || io::Error::other("a header block is cut short");
        let mut rest = block.as_slice();
        let number = |rest: &mut &[u8]| -> io::Result<usize> {
            let (head, tail) = rest.split_first_chunk::<4>().ok_or_else(broken)?;
            *rest = tail;
            Ok(u32::from_be_bytes(*head) as usize)
        };
        let count = number(&mut rest)?;
        let mut headers = Vec::new();
        for _ in 0..count {
            let mut text = || -> io::Result<String> {
                let length = number(&mut rest)?;
                let (text, tail) = rest.split_at_checked(length).ok_or_else(broken)?;
                rest = tail;
                Ok(String::from_utf8_lossy(text).into_owned())
            };
            headers.push((text()?.to_lowercase(), text()?));
        }
        Ok(headers)
    }

    fn unpack(&mut self, mut block: &[u8]) -> io::Result<Vec<u8>> {
        let mut unpacked = Vec::with_capacity(1024);
        loop {
            if unpacked.len() == unpacked.capacity() {
                if unpacked.len() >= HEADERS {
                    return Err(io::Error::other("a header block is too long"));
                }
                unpacked.reserve(unpacked.len());
            }
            let (before_in, before_out) = (self.unpack.total_in(), unpacked.len());
            let status = self
                .unpack
                .decompress_vec(block, &mut unpacked, FlushDecompress::Sync);
            let used = usize::try_from(self.unpack.total_in() - before_in).unwrap_or(usize::MAX);
            block = block.get(used..).unwrap_or_default();
            match status {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.unpack
                        .set_dictionary(&DICTIONARY)
                        .map_err(io::Error::other)?;
                }
                Err(error) => return Err(io::Error::other(error)),
                Ok(Status::StreamEnd) => return Ok(unpacked),
                Ok(_) => {
                    let stuck = used == 0 && unpacked.len() == before_out;
                    if block.is_empty() && unpacked.len() < unpacked.capacity() || stuck {
                        return Ok(unpacked);
                    }
                }
            }
        }
    }
}

/// Frames of ours. Clones write to the same connection.
#[derive(Clone)]
pub(super) struct Writer(mpsc::Sender<Bytes>);

impl Writer {
    /// A writer, and the work of writing, which ends with the last clone or the connection.
    pub(super) fn new(
        mut to: impl AsyncWrite + Unpin,
    ) -> (Self, impl Future<Output = io::Result<()>>) {
        let (sender, mut frames) = mpsc::channel::<Bytes>(QUEUE);
        let work = async move {
            while let Some(frame) = frames.recv().await {
                to.write_all(&frame).await?;
                if frames.is_empty() {
                    to.flush().await?;
                }
            }
            to.shutdown().await
        };
        (Writer(sender), work)
    }

    async fn send(&self, frame: BytesMut) {
        // the connection is gone: its reader says so too
        let _ = self.0.send(frame.freeze()).await;
    }

    async fn control(&self, kind: u16, payload: &[u8]) {
        let mut frame = BytesMut::with_capacity(payload.len() + 8);
        frame.put_u32(0x8003_0000 | u32::from(kind));
        // frames of ours are a few bytes long
        frame.put_u32(u32::try_from(payload.len()).unwrap_or_default());
        frame.put_slice(payload);
        self.send(frame).await;
    }

    /// Accepts a stream. `first` is true for the first on the connection, whose headers begin the
    /// compressed stream.
    pub(super) async fn accept(&self, id: u32, first: bool) {
        let mut payload = BytesMut::new();
        payload.put_u32(id);
        if first {
            // a zlib header that names the dictionary
            payload.put_slice(&[0x78, 0xf9]);
            payload.put_u32(DICTIONARY_SUM);
        }
        // a stored block of 4 bytes, which count no headers; an empty one, at which readers hand over
        payload.put_slice(&[0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0]);
        payload.put_slice(&[0, 0, 0, 0xff, 0xff]);
        self.control(SYN_REPLY, &payload).await;
    }

    /// Refuses a stream.
    pub(super) async fn refuse(&self, id: u32) {
        const REFUSED_STREAM: u32 = 3;
        let mut payload = BytesMut::new();
        payload.put_u32(id);
        payload.put_u32(REFUSED_STREAM);
        self.control(RST_STREAM, &payload).await;
    }

    /// Answers a ping.
    pub(super) async fn pong(&self, id: u32) {
        self.control(PING, &id.to_be_bytes()).await;
    }

    /// Writes to a stream; `last` closes our side of it.
    pub(super) async fn data(&self, id: u32, bytes: &[u8], last: bool) {
        let mut frame = BytesMut::with_capacity(bytes.len() + 8);
        frame.put_u32(id);
        let flags = u32::from(if last { FIN } else { 0 });
        // callers send chunks far below the limit of 16 MiB
        let length = u32::try_from(bytes.len()).unwrap_or_default();
        frame.put_u32(flags << 24 | length);
        frame.put_slice(bytes);
        self.send(frame).await;
    }
}

/// Checksum of [`DICTIONARY`], by which a compressed stream names it.
const DICTIONARY_SUM: u32 = 0xe3c6_a7c2;

/// The dictionary of SPDY/3: words with their lengths, then phrases.
static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let words = "options head post put delete trace accept accept-charset accept-encoding \
        accept-language accept-ranges age allow authorization cache-control connection content-base \
        content-encoding content-language content-length content-location content-md5 content-range \
        content-type date etag expect expires from host if-match if-modified-since if-none-match \
        if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate \
        proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
        user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url \
        public set-cookie keep-alive origin";
    let phrases = "100101201202205206300302303304305306307402405406407408409410411412413414415416417\
        502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request\
        401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented\
        503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, \
        Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
        application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch\
        charset=utf-8charset=iso-8859-1,utf-,*,enq=0.";
    let mut dictionary = Vec::with_capacity(1423);
    for word in words.split_ascii_whitespace() {
        // the words are short
        dictionary.extend(u32::try_from(word.len()).unwrap_or_default().to_be_bytes());
        dictionary.extend(word.replace('_', " ").as_bytes());
    }
    dictionary.extend(phrases.as_bytes());
    dictionary
});

#[cfg(test)]
mod tests;
