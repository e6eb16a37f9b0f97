//! One keep-alive HTTP/1.1 connection that sends one request at a time.
//!
//! hyper speaks the protocol. Its connection is driven by the very task that waits for the answer,
//! so a call costs no wake-up of another task: that is what makes the load engine fast.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::ext::ReasonPhrase;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep};

use crate::dial::{self, Dial, DialError};
use crate::route::{self, Environment, Route, RouteError};
use crate::tls::{self, Trust, TrustError};

/// What is sent, again and again, and where.
#[derive(Clone, Debug)]
pub struct Target {
    /// The whole address.
    pub uri: Uri,
    /// The request's method.
    pub method: Method,
    /// Its headers, `host` among them.
    pub headers: HeaderMap,
    /// Its body; empty for none.
    pub body: Bytes,
    /// Open a new connection for every request.
    pub close: bool,
    /// The address for the request line.
    line: Uri,
    dial: Dial,
}

/// Why a target cannot be called at all.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Its address, or the proxy's.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// Its name has no address.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The authorities to trust.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// `DOJO_LISTEN_IP` is no address.
    #[error("DOJO_LISTEN_IP={0:?} is not an IP address")]
    Source(String),
    /// The host cannot stand in a header.
    #[error("host {0:?} cannot be sent in a header")]
    Host(String),
}

impl Target {
    /// Prepares requests to an address that [`route::address`] read: decides the way, looks names up.
    ///
    /// # Errors
    /// When the environment or the name rules every call out.
    pub async fn new(
        request: Request<Bytes>,
        trust: &Trust,
        environment: &Environment,
    ) -> Result<Self, TargetError> {
        let (parts, body) = request.into_parts();
        let (uri, mut headers) = (parts.uri, parts.headers);
        let way = route::route(&uri, environment)?;
        let server = route::authority(&uri);
        let source = match &environment.source {
            Some(text) => Some(
                text.parse::<IpAddr>()
                    .map_err(|_| TargetError::Source(text.clone()))?,
            ),
            None => None,
        };
        let addresses = match &way {
            Route::Direct => dial::resolve(&server).await?,
            Route::Forward(proxy) | Route::Tunnel(proxy) => dial::resolve(proxy).await?,
        };
        if !headers.contains_key(HOST) {
            let text = uri.authority().map_or("", |authority| authority.as_str());
            let host = text.rsplit('@').next().unwrap_or_default();
            let value = HeaderValue::from_str(host);
            let value = value.map_err(|_| TargetError::Host(host.to_owned()))?;
            headers.insert(HOST, value);
        }
        let tls = if route::is_tls(&uri) {
            Some(tls::client(trust)?)
        } else {
            None
        };
        let line = if matches!(way, Route::Forward(_)) {
            uri.clone()
        } else {
            let path = uri.path_and_query().cloned();
            path.map_or_else(|| Uri::from_static("/"), Uri::from)
        };
        let tunnel = matches!(way, Route::Tunnel(_));
        Ok(Self {
            dial: Dial {
                addresses,
                source,
                tunnel,
                tls,
                server,
            },
            method: parts.method,
            close: false,
            headers,
            body,
            line,
            uri,
        })
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.line.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection broke, or the answer is no HTTP.
    #[error("{0}")]
    Http(String),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Timeout(Duration),
}

impl From<hyper::Error> for CallError {
    fn from(error: hyper::Error) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::Http(text)
    }
}

/// A whole answer, of which only the measures are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its version of HTTP.
    pub version: Version,
    /// Bytes of its status line and headers.
    pub header_bytes: u64,
    /// Bytes of its body.
    pub body_bytes: u64,
}

struct Open {
    sender: SendRequest<Full<Bytes>>,
    /// hyper's side that reads and writes; none once it has ended.
    driver: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
}

/// A connection to a [`Target`], opened when first needed and again whenever it is gone.
pub struct Connection {
    target: Arc<Target>,
    open: Option<Open>,
    patience: Patience,
    /// How long a call may take.
    limit: Duration,
    /// How long each opening took.
    pub openings: Vec<Duration>,
    /// How many sockets were used.
    pub sockets: u64,
    /// Whom the last socket was connected to.
    pub peer: Option<SocketAddr>,
}

/// The number of [`Connection::openings`] that are kept.
const MAX_OPENINGS: usize = 1000;

impl Connection {
    /// A connection that is not open yet.
    #[must_use]
    pub fn new(target: Arc<Target>, limit: Duration) -> Self {
        Self {
            target,
            open: None,
            patience: Patience::default(),
            limit,
            openings: Vec::new(),
            sockets: 0,
            peer: None,
        }
    }

    /// Closes the socket; the next call opens another.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// Sends the request and reads the whole answer.
    ///
    /// # Errors
    /// When there is no whole answer within the limit; the connection is closed then.
    pub async fn call(&mut self) -> Result<Reply, CallError> {
        let limit = self.limit;
        let deadline = Instant::now() + limit;
        let mut patience = std::mem::take(&mut self.patience);
        let outcome = {
            let mut attempt = pin!(self.whole());
            std::future::poll_fn(|cx| {
                if let Poll::Ready(outcome) = attempt.as_mut().poll(cx) {
                    return Poll::Ready(outcome);
                }
                patience
                    .poll_until(deadline, cx)
                    .map(|()| Err(CallError::Timeout(limit)))
            })
            .await
        };
        self.patience = patience;
        if outcome.is_err() || self.target.close {
            self.close();
        }
        outcome
    }

    async fn whole(&mut self) -> Result<Reply, CallError> {
        let response = self.begin().await?;
        let (parts, mut body) = response.into_parts();
        let mut body_bytes = 0;
        while let Some(chunk) = self.chunk(&mut body).await? {
            body_bytes += chunk.len() as u64;
        }
        Ok(Reply {
            status: parts.status,
            version: parts.version,
            header_bytes: header_bytes(parts.status, &parts.headers),
            body_bytes,
        })
    }

    /// Sends the request and reads the answer up to its body. No limit of time.
    ///
    /// # Errors
    /// When no connection can be opened, or it breaks.
    pub async fn begin(&mut self) -> Result<Response<Incoming>, CallError> {
        let used = self.open.is_some();
        match self.send().await {
            // The server had closed the idle connection: the request was never sent.
            Err(SendError::NotSent) if used => {
                self.close();
                self.send().await.map_err(SendError::into_call_error)
            }
            outcome => outcome.map_err(SendError::into_call_error),
        }
    }

    /// The next piece of the answer's body.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn chunk(&mut self, body: &mut Incoming) -> Result<Option<Bytes>, CallError> {
        loop {
            let mut frame = pin!(body.frame());
            let frame = match &mut self.open {
                Some(open) => drive(&mut open.driver, frame.as_mut()).await,
                None => frame.await,
            };
            match frame.transpose()? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    async fn send(&mut self) -> Result<Response<Incoming>, SendError> {
        if self.open.is_none() {
            self.open = Some(self.connect().await.map_err(SendError::Failed)?);
        }
        let Some(open) = &mut self.open else {
            return Err(SendError::NotSent);
        };
        if drive(&mut open.driver, open.sender.ready()).await.is_err() {
            return Err(SendError::NotSent);
        }
        let sending = open.sender.send_request(self.target.request());
        drive(&mut open.driver, sending).await.map_err(|error| {
            if error.is_canceled() {
                SendError::NotSent
            } else {
                SendError::Failed(error.into())
            }
        })
    }

    async fn connect(&mut self) -> Result<Open, CallError> {
        let started = Instant::now();
        self.sockets += 1;
        let (stream, peer) = dial::open(&self.target.dial).await?;
        self.peer = Some(peer);
        if self.openings.len() < MAX_OPENINGS {
            self.openings.push(started.elapsed());
        }
        let mut builder = http1::Builder::new();
        builder.title_case_headers(true);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        Ok(Open {
            sender,
            driver: Some(Box::pin(connection)),
        })
    }
}

/// Why a request brought no answer: told apart because only what was not sent may be sent again.
enum SendError {
    NotSent,
    Failed(CallError),
}

impl SendError {
    fn into_call_error(self) -> CallError {
        match self {
            Self::NotSent => CallError::Http("the connection was closed".to_owned()),
            Self::Failed(error) => error,
        }
    }
}

/// Waits for `future` and reads and writes meanwhile.
async fn drive<F: Future>(
    driver: &mut Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    future: F,
) -> F::Output {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(output);
        }
        // How the connection ended is told by `future` too.
        if let Some(running) = driver
            && running.as_mut().poll(cx).is_ready()
        {
            *driver = None;
        }
        future.as_mut().poll(cx)
    })
    .await
}

/// A time limit for many calls one after the other. Its timer is set again only when it rings,
/// not for every call.
#[derive(Default)]
struct Patience(Option<Pin<Box<Sleep>>>);

impl Patience {
    fn poll_until(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self
            .0
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        loop {
            std::task::ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

/// The size of a status line and headers as they came over the wire.
fn header_bytes(status: StatusCode, headers: &HeaderMap) -> u64 {
    let line = "HTTP/1.1 200 \r\n".len() + status.canonical_reason().map_or(0, str::len);
    let fields = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    (line + fields.sum::<usize>() + "\r\n".len()) as u64
}

/// Status line and headers of an answer as text.
#[must_use]
pub fn head(response: &Response<Incoming>) -> String {
    let reason = response.extensions().get::<ReasonPhrase>();
    let reason = match reason {
        Some(reason) => String::from_utf8_lossy(reason.as_bytes()).into_owned(),
        None => response
            .status()
            .canonical_reason()
            .unwrap_or("")
            .to_owned(),
    };
    let mut text = format!(
        "{:?} {} {reason}\r\n",
        response.version(),
        response.status().as_u16()
    );
    for (name, value) in response.headers() {
        let value = String::from_utf8_lossy(value.as_bytes());
        text.push_str(&format!("{}: {value}\r\n", title_case(name.as_str())));
    }
    text
}

/// `content-type` as `Content-Type`: how headers are usually written for people.
#[must_use]
pub fn title_case(name: &str) -> String {
    let mut start = true;
    name.chars()
        .map(|c| {
            let shown = if start { c.to_ascii_uppercase() } else { c };
            start = c == '-';
            shown
        })
        .collect()
}

#[cfg(test)]
mod tests;
