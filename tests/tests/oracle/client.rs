//! Asks, and takes down what comes back.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    case::Send,
    message::{Message, parse, parse_at_end},
};

/// Longer than anything that a case waits for.
const PATIENCE: Duration = Duration::from_secs(10);
/// So long nothing comes: raw bytes have been answered.
const QUIET: Duration = Duration::from_millis(150);

/// What came back for one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    /// One, or as many as raw bytes brought.
    pub(crate) messages: Vec<Message>,
    /// Bytes that are no HTTP.
    pub(crate) other: String,
    /// The connection was closed by the proxy.
    pub(crate) closed: bool,
    pub(crate) took: Duration,
}

impl Answer {
    /// Status and body of the first message, as cases expect them.
    pub(crate) fn short(&self) -> String {
        match self.messages.first() {
            Some(message) => format!("{} {}", message.status(), message.body)
                .trim_end()
                .to_owned(),
            None if self.other.is_empty() => "nothing".into(),
            None => self.other.trim_end().to_owned(),
        }
    }
}

/// Asks once. What fails becomes an answer without a message.
pub(crate) async fn ask(to: SocketAddr, host: &str, agent: &str, send: &Send) -> Answer {
    let begun = Instant::now();
    let asked = async {
        if send.http2 {
            http2(to, host, agent, send).await
        } else if send.raw.is_empty() {
            http1(to, host, agent, send).await
        } else {
            raw(to, &send.raw).await
        }
    };
    let limit = send.leave_after.map_or(PATIENCE, Duration::from_secs_f64);
    let mut answer = match timeout(limit, asked).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => Answer {
            other: format!("error: {error}"),
            ..Answer::default()
        },
        Err(_) => Answer {
            other: format!("nothing within {limit:?}"),
            ..Answer::default()
        },
    };
    answer.took = begun.elapsed();
    answer
}

fn headers(host: &str, agent: &str, send: &Send) -> Vec<(String, String)> {
    let mut headers = send.headers.clone();
    if !send.http2 {
        headers.insert(0, ("host".into(), host.into()));
    }
    if headers.iter().all(|(name, _)| name != "user-agent") {
        headers.push(("user-agent".into(), agent.into()));
    }
    headers
}

async fn http1(to: SocketAddr, host: &str, agent: &str, send: &Send) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect(to).await?;
    let text = Message::request(&send.ask, &headers(host, agent, send), send.body.as_deref());
    stream.write_all(text.as_bytes()).await?;
    let bodiless = send.ask.starts_with("HEAD ");
    let mut answer = Answer::default();
    let mut buffer = Vec::new();
    loop {
        if let Some((message, rest)) = parse(&buffer, bodiless) {
            let more = message.status() == 100;
            answer.messages.push(message);
            if !more {
                answer.other = String::from_utf8_lossy(&rest).into();
                return Ok(answer);
            }
            buffer = rest;
            continue;
        }
        // A reset after an answer leaves what has come, as the end of the connection does.
        if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
            answer.closed = true;
            match parse_at_end(&buffer) {
                Some(message) => answer.messages.push(message),
                None => answer.other = String::from_utf8_lossy(&buffer).into(),
            }
            return Ok(answer);
        }
    }
}

async fn raw(to: SocketAddr, parts: &[String]) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect(to).await?;
    let mut answer = Answer::default();
    let mut buffer = Vec::new();
    for part in parts {
        if stream.write_all(part.as_bytes()).await.is_err() {
            answer.closed = true;
            break;
        }
        let before = buffer.len();
        // The first byte may take as long as the case lets it, the rest comes soon after.
        loop {
            let limit = if buffer.len() > before {
                QUIET
            } else {
                10 * QUIET
            };
            match timeout(limit, stream.read_buf(&mut buffer)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) => {
                    answer.closed = true;
                    break;
                }
                Err(_) => break,
            }
        }
    }
    while let Some((message, rest)) = parse(&buffer, false) {
        answer.messages.push(message);
        buffer = rest;
    }
    if buffer.starts_with(b"HTTP/1.") && answer.closed {
        answer.messages.extend(parse_at_end(&buffer));
    } else {
        answer.other = String::from_utf8_lossy(&buffer).into();
    }
    Ok(answer)
}

async fn http2(to: SocketAddr, host: &str, agent: &str, send: &Send) -> anyhow::Result<Answer> {
    let stream = TcpStream::connect(to).await?;
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await?;
    let connection = tokio::spawn(connection);
    let (method, path) = send.ask.split_once(' ').unwrap_or((&send.ask, "/"));
    let mut request = http::Request::builder()
        .method(method)
        .uri(format!("http://{host}{path}"));
    for (name, value) in headers(host, agent, send) {
        request = request.header(name, value);
    }
    let body = Full::new(Bytes::from(send.body.clone().unwrap_or_default()));
    let (parts, body) = sender.send_request(request.body(body)?).await?.into_parts();
    let body = body.collect().await;
    let cut = body.is_err();
    let body = body.unwrap_or_default();
    let trailers = body.trailers().cloned();
    let mut message = Message::of_response(&parts, &body.to_bytes(), trailers.as_ref());
    message.cut = cut;
    connection.abort();
    Ok(Answer {
        messages: vec![message],
        ..Answer::default()
    })
}

/// `GET` of a page of the admin interface; status and body.
///
/// # Errors
/// When nobody answers.
pub(crate) async fn admin(
    to: SocketAddr,
    method: &str,
    page: &str,
) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(to).await?;
    let request =
        format!("{method} {page} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut buffer)).await??;
    let message = parse(&buffer, false).map(|(message, _)| message);
    let message = message.or_else(|| parse_at_end(&buffer));
    let message = message.ok_or_else(|| anyhow::anyhow!("{page}: not an answer"))?;
    Ok((message.status(), message.body))
}
