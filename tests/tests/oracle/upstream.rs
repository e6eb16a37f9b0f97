//! The pods that answer as a case says, and remember what they were asked.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    case::{Action, End, Script},
    message::{Message, parse},
};

/// Port of the pods where HTTP/1.1 is spoken, HTTP/2, and bytes are sent back.
pub(crate) const HTTP1: u16 = 8080;
pub(crate) const HTTP2: u16 = 8081;
pub(crate) const TCP: u16 = 9000;

/// Pods and the last part of their addresses.
pub(crate) const PODS: &[(&str, u8)] = &[
    ("v1", 11),
    ("v2", 12),
    ("v3", 13),
    ("not-ready", 14),
    ("refusing", 21),
    ("silent", 22),
];

/// A request as a pod got it.
#[derive(Clone, Debug)]
pub(crate) struct Try {
    pub(crate) pod: String,
    pub(crate) message: Message,
}

#[derive(Default)]
struct State {
    script: Script,
    tries: Vec<Try>,
}

/// All pods of one side.
#[derive(Clone)]
pub(crate) struct Upstream {
    state: Arc<Mutex<State>>,
}

impl Upstream {
    /// Listens on the addresses of the pods under `net` (the first three parts).
    ///
    /// # Errors
    /// When an address is taken.
    pub(crate) async fn start(net: [u8; 3]) -> std::io::Result<Self> {
        let upstream = Self {
            state: Arc::default(),
        };
        let at = |last, port| SocketAddr::from((Ipv4Addr::new(net[0], net[1], net[2], last), port));
        for &(pod, last) in PODS {
            match pod {
                "refusing" => {}
                "silent" => never_accept(at(last, HTTP1))?,
                pod => {
                    upstream.listen(pod, at(last, HTTP1), Speak::Http1).await?;
                    upstream.listen(pod, at(last, HTTP2), Speak::Http2).await?;
                    upstream.listen(pod, at(last, TCP), Speak::Tcp).await?;
                }
            }
        }
        // The workload behind the sidecar itself, on the pod's loopback.
        upstream.listen("app", at(3, HTTP1), Speak::Http1).await?;
        upstream.listen("app", at(3, HTTP2), Speak::Http2).await?;
        upstream.listen("app", at(3, TCP), Speak::Tcp).await?;
        Ok(upstream)
    }

    /// Begins a new act: forgets what was asked.
    pub(crate) fn play(&self, script: &Script) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.script = script.clone();
        state.tries.clear();
    }

    /// What was asked since.
    pub(crate) fn tries(&self) -> Vec<Try> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tries.clone()
    }

    fn asked(&self, pod: &str, message: Message) -> Action {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let number = state.tries.len();
        state.tries.push(Try {
            pod: pod.to_owned(),
            message,
        });
        match &state.script {
            Script::ByAttempt(list) => list.get(number).or(list.last()).cloned(),
            Script::ByPod(map) => map.get(pod).cloned(),
        }
        .unwrap_or_default()
    }

    async fn listen(&self, pod: &'static str, at: SocketAddr, speak: Speak) -> std::io::Result<()> {
        let listener = TcpListener::bind(at).await?;
        let upstream = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let upstream = upstream.clone();
                tokio::spawn(async move {
                    // A connection that breaks is part of the play.
                    let _ = match speak {
                        Speak::Http1 => upstream.http1(pod, stream).await,
                        Speak::Http2 => upstream.http2(pod, stream).await,
                        Speak::Tcp => greet_and_echo(pod, stream).await,
                    };
                });
            }
        });
        Ok(())
    }

    async fn http1(&self, pod: &str, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = Vec::new();
        loop {
            let message = loop {
                if let Some((message, rest)) = parse(&buffer, false) {
                    buffer = rest;
                    break message;
                }
                if message_expects_continue(&buffer) {
                    stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
                }
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            };
            let head = message.start.starts_with("HEAD ");
            let action = self.asked(pod, message);
            if action.after > 0.0 {
                tokio::time::sleep(Duration::from_secs_f64(action.after)).await;
            }
            match action.end {
                End::Close if action.raw.is_none() => return Ok(()),
                End::Reset => {
                    let socket = socket2::SockRef::from(&stream);
                    return socket.set_linger(Some(Duration::ZERO));
                }
                End::Hang => {
                    let mut rest = [0; 64];
                    while stream.read(&mut rest).await? > 0 {}
                    return Ok(());
                }
                _ => {}
            }
            stream.write_all(&answer(pod, &action, head)).await?;
            match action.end {
                End::Close => return Ok(()),
                End::Echo => {
                    let (mut read, mut write) = stream.split();
                    write.write_all(&buffer).await?;
                    tokio::io::copy(&mut read, &mut write).await?;
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    async fn http2(&self, pod: &'static str, stream: TcpStream) -> std::io::Result<()> {
        let upstream = self.clone();
        let service = hyper::service::service_fn(move |request| {
            let upstream = upstream.clone();
            async move { upstream.answer_http2(pod, request).await }
        });
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let served = server.serve_connection(TokioIo::new(stream), service).await;
        served.map_err(std::io::Error::other)
    }

    async fn answer_http2(
        &self,
        pod: &str,
        request: http::Request<hyper::body::Incoming>,
    ) -> Result<http::Response<BoxBody<Bytes, std::io::Error>>, std::io::Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?;
        let action = self.asked(pod, Message::of_request(&parts, &body.to_bytes()));
        if action.after > 0.0 {
            tokio::time::sleep(Duration::from_secs_f64(action.after)).await;
        }
        match action.end {
            End::Close | End::Reset => return Err(std::io::Error::other("reset")),
            End::Hang => return std::future::pending().await,
            End::Keep | End::Echo => {}
        }
        let mut response = http::Response::builder().status(action.status);
        for (name, value) in &action.headers {
            response = response.header(name, value);
        }
        let mut frames = vec![Ok(Frame::data(Bytes::from(body_of(pod, &action))))];
        if !action.trailers.is_empty() {
            let trailers: HashMap<String, String> = action.trailers.into_iter().collect();
            let trailers = http::HeaderMap::try_from(&trailers).map_err(std::io::Error::other)?;
            frames.push(Ok(Frame::trailers(trailers)));
        }
        let body = StreamBody::new(futures_of(frames));
        response
            .body(BodyExt::boxed(body))
            .map_err(std::io::Error::other)
    }
}

#[derive(Clone, Copy)]
enum Speak {
    Http1,
    Http2,
    Tcp,
}

fn futures_of<T: std::marker::Send + Sync>(
    items: Vec<T>,
) -> impl futures::Stream<Item = T> + std::marker::Send + Sync {
    futures::stream::iter(items)
}

fn message_expects_continue(buffer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(buffer).to_ascii_lowercase();
    text.ends_with("\r\n\r\n") && text.contains("expect: 100-continue")
}

fn body_of(pod: &str, action: &Action) -> String {
    action.body.clone().unwrap_or_else(|| pod.to_owned())
}

fn answer(pod: &str, action: &Action, head: bool) -> Vec<u8> {
    if let Some(raw) = &action.raw {
        return raw.clone().into_bytes();
    }
    let mut text = format!("HTTP/1.1 {} Said\r\n", action.status);
    for (name, value) in &action.headers {
        text += &format!("{name}: {value}\r\n");
    }
    let body = body_of(pod, action);
    if action.end == End::Echo || matches!(action.status, 100..=199 | 204 | 304) {
        text += "\r\n";
    } else if !action.trailers.is_empty() {
        text += "transfer-encoding: chunked\r\n\r\n";
        text += &format!("{:x}\r\n{body}\r\n0\r\n", body.len());
        for (name, value) in &action.trailers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
    } else {
        text += &format!("content-length: {}\r\n\r\n", body.len());
        if !head {
            text += &body;
        }
    }
    text.into_bytes()
}

async fn greet_and_echo(pod: &str, mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(format!("{pod}\n").as_bytes()).await?;
    let (mut read, mut write) = stream.split();
    tokio::io::copy(&mut read, &mut write).await?;
    Ok(())
}

/// A listener whose queue is full: the kernel drops what comes.
fn never_accept(at: SocketAddr) -> std::io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&at.into())?;
    socket.listen(0)?;
    let full = (0..3).map(|_| {
        let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        client.set_nonblocking(true)?;
        // In progress, which is all that is wanted.
        let _ = client.connect(&at.into());
        Ok::<_, std::io::Error>(client)
    });
    let clients = full.collect::<Result<Vec<_>, _>>()?;
    // They live as long as the suite.
    std::mem::forget((socket, clients));
    Ok(())
}
