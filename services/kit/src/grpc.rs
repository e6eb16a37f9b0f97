//! gRPC in little: calls with one message after the other each way, served by an axum handler and
//! made over one HTTP/2 connection.
//!
//! gRPC is HTTP/2, which [`crate::server`] speaks anyway, with messages in frames of five bytes
//! more and a status in the trailers. That little is here rather than in a framework, because the
//! samples need no more of it: no TLS of their own, no compression, no generated code.
//!
//! [`standard`] holds what every gRPC service is expected to have: health and reflection.

use std::future::Future;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures::stream;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use prost::Message;
use tokio::net::TcpStream;

pub mod standard;

/// The largest message that is taken, in bytes.
const MAX_MESSAGE: usize = 1024 * 1024;
/// Before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// The header of the outcome, a number.
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The header of what went wrong, in words.
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// What gRPC writes as `%XX` in a message, beside what is not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// The codes of gRPC that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
#[allow(missing_docs)] // The names are the standard's.
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// A call's bad outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("gRPC status {code}: {message}")]
pub struct Status {
    /// Its code, not 0.
    pub code: i32,
    /// What went wrong.
    pub message: String,
}

impl Status {
    /// A status with this code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code: code as i32,
            message: message.into(),
        }
    }

    fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        trailers.insert(STATUS, HeaderValue::from(self.code));
        let message = utf8_percent_encode(&self.message, ENCODED).to_string();
        if let Ok(message) = HeaderValue::from_str(&message) {
            trailers.insert(MESSAGE, message);
        }
        trailers
    }
}

/// Answers a call: each message as it comes with the one that `answer` makes of it, until the
/// client has no more or a message fails. A call with one message each way is the shortest of
/// these.
///
/// # Errors
/// None; what goes wrong is in the answer's status.
pub fn serve<Asked, Answered, Answering>(
    request: Request,
    answer: impl Fn(Asked) -> Answering + Send + 'static,
) -> Response
where
    Asked: Message + Default,
    Answered: Message,
    Answering: Future<Output = Result<Answered, Status>> + Send,
{
    let messages = Messages::new(request.into_body());
    let frames = stream::unfold(Some((messages, answer)), |state| async {
        let (mut messages, answer) = state?;
        let answered = match messages.next::<Asked>().await {
            Ok(Some(asked)) => answer(asked).await,
            Ok(None) => return Some((Ok(ok()), None)),
            Err(status) => Err(status),
        };
        Some(match answered {
            Ok(answered) => (Ok(Frame::data(framed(&answered))), Some((messages, answer))),
            Err(status) => (Ok(Frame::trailers(status.trailers())), None),
        })
    });
    let frames = futures::StreamExt::boxed(frames);
    response(Body::new(StreamBody::new(
        frames as stream::BoxStream<'static, Result<Frame<Bytes>, std::io::Error>>,
    )))
}

/// An answer that is only a status.
pub fn refuse(status: &Status) -> Response {
    let mut response = response(Body::empty());
    response.headers_mut().extend(status.trailers());
    response
}

fn response(body: Body) -> Response {
    let mut response = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, grpc);
    response
}

fn ok() -> Frame<Bytes> {
    let zero = HeaderValue::from(Code::Ok as i32);
    Frame::trailers(HeaderMap::from_iter([(STATUS, zero)]))
}

fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + length);
    frame.put_u8(0);
    // A message is some kilobytes at the most.
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // There is room for it.
    let _ = message.encode(&mut frame);
    frame.freeze()
}

/// The messages of a body, one after the other.
struct Messages {
    body: Body,
    read: BytesMut,
}

impl Messages {
    fn new(body: Body) -> Self {
        let read = BytesMut::new();
        Self { body, read }
    }

    /// The next message, `None` at the end.
    async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Status> {
        loop {
            if let Some(bytes) = self.whole()? {
                let read = M::decode(bytes).map(Some);
                return read.map_err(|error| Status::new(Code::Internal, error.to_string()));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(Status::new(Code::Cancelled, error.to_string())),
                None if self.read.is_empty() => return Ok(None),
                None => return Err(Status::new(Code::Internal, "the last message is cut off")),
            }
        }
    }

    fn whole(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(mut prefix) = self.read.get(..PREFIX) else {
            return Ok(None);
        };
        let compressed = prefix.get_u8() != 0;
        let length = prefix.get_u32() as usize;
        if compressed {
            let text = "compressed messages are not supported";
            return Err(Status::new(Code::Unimplemented, text));
        }
        if length > MAX_MESSAGE {
            let text = format!("a message of {length} bytes; at most {MAX_MESSAGE} are taken");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        if self.read.len() < PREFIX + length {
            return Ok(None);
        }
        self.read.advance(PREFIX);
        Ok(Some(self.read.split_to(length).freeze()))
    }
}

/// Makes a call with one message each way on a connection of its own. Tells the answer with the
/// headers that came before it.
///
/// # Errors
/// The status of the call; what the connection does wrong is `Unavailable`, too long
/// `DeadlineExceeded`, and a bad status of HTTP what the standard makes of it.
pub async fn call<Answered: Message + Default>(
    connection: TcpStream,
    authority: &str,
    path: &str,
    headers: HeaderMap,
    message: &impl Message,
    limit: Duration,
) -> Result<(Answered, HeaderMap), Status> {
    let calling = exchange(connection, authority, path, headers, framed(message));
    tokio::time::timeout(limit, calling)
        .await
        .unwrap_or_else(|_| {
            let text = format!("no answer within {} s", limit.as_secs_f64());
            Err(Status::new(Code::DeadlineExceeded, text))
        })
}

async fn exchange<Answered: Message + Default>(
    connection: TcpStream,
    authority: &str,
    path: &str,
    headers: HeaderMap,
    message: Bytes,
) -> Result<(Answered, HeaderMap), Status> {
    let unavailable = |error: hyper::Error| Status::new(Code::Unavailable, error.to_string());
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let handshake = builder.handshake(TokioIo::new(connection)).await;
    let (mut sender, driver) = handshake.map_err(unavailable)?;
    let driver = tokio::spawn(driver);
    let request = http::Request::builder()
        .method(Method::POST)
        .uri(format!("http://{authority}{path}"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(http::header::TE, "trailers");
    let mut request = request
        .body(Full::new(message))
        .map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
    for (name, value) in &headers {
        request.headers_mut().append(name, value.clone());
    }
    let answer = sender.send_request(request).await.map_err(unavailable)?;
    let (head, body) = answer.into_parts();
    outcome(&head.headers)?;
    if head.status != http::StatusCode::OK {
        return Err(of_http(head.status));
    }
    let body = http_body_util::Limited::new(body, MAX_MESSAGE + PREFIX);
    let collected = body.collect().await;
    let collected = collected.map_err(|e| Status::new(Code::Unavailable, e.to_string()))?;
    driver.abort();
    match collected.trailers() {
        Some(trailers) => outcome(trailers)?,
        None => {
            return Err(Status::new(
                Code::Unknown,
                "the answer ends without a status",
            ));
        }
    }
    let mut messages = Messages::new(Body::from(collected.to_bytes()));
    match messages.next().await? {
        Some(answered) => Ok((answered, head.headers)),
        None => Err(Status::new(Code::Internal, "the answer has no message")),
    }
}

/// The status that headers or trailers name, if they name one.
fn outcome(headers: &HeaderMap) -> Result<(), Status> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match text(STATUS) {
        None | Some("0") => Ok(()),
        Some(code) => Err(Status {
            code: code.parse().unwrap_or(Code::Unknown as i32),
            message: percent_decode_str(text(MESSAGE).unwrap_or_default())
                .decode_utf8_lossy()
                .into_owned(),
        }),
    }
}

/// What the standard makes of an answer that is none of gRPC: a proxy's, mostly.
fn of_http(status: http::StatusCode) -> Status {
    let code = match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    Status::new(code, format!("unexpected HTTP status {}", status.as_u16()))
}

#[cfg(test)]
mod tests;
