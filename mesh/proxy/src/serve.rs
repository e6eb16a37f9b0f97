//! A small HTTP server for the proxy's own pages: admin, agent, statistics.

use std::{convert::Infallible, io, net::SocketAddr, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::{socket, tap::Lines};

/// Connections at one time, on all pages of one port.
const CONNECTIONS: usize = 64;
/// A client sends its request within this.
const PATIENCE: Duration = Duration::from_secs(10);

/// One answer.
#[derive(Debug)]
pub(crate) struct Page {
    status: StatusCode,
    content_type: &'static str,
    body: Content,
}

#[derive(Debug)]
enum Content {
    Whole(Bytes),
    /// They go on for as long as the client wants them.
    Lines(Lines),
}

impl Page {
    pub(crate) fn text(body: String) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: "text/plain; charset=UTF-8",
            body: Content::Whole(body.into()),
        }
    }

    /// JSON lines.
    pub(crate) fn lines(lines: Lines) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: "application/x-ndjson",
            body: Content::Lines(lines),
        }
    }

    pub(crate) fn json(value: &serde_json::Value) -> Self {
        let body = serde_json::to_string_pretty(value).expect("a JSON value prints");
        Self {
            content_type: "application/json",
            ..Self::text(body)
        }
    }

    pub(crate) fn html(body: String) -> Self {
        Self {
            content_type: "text/html; charset=UTF-8",
            ..Self::text(body)
        }
    }

    pub(crate) fn status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    #[cfg(test)]
    pub(crate) fn parts(&self) -> (u16, &str) {
        let text = match &self.body {
            Content::Whole(body) => std::str::from_utf8(body).expect("pages are UTF-8"),
            Content::Lines(_) => "",
        };
        (self.status.as_u16(), text)
    }
}

/// Binds a port of the proxy's own.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    socket::listen(address, false)
        .and_then(TcpListener::from_std)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot bind {address}: {error}")))
}

/// The addresses of a connection: an extension of its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
}

/// Serves pages until dropped. Must run on a local set.
pub(crate) async fn serve<H, F>(listener: TcpListener, handler: H)
where
    H: Fn(Request<Incoming>) -> F + 'static,
    F: Future<Output = Page> + 'static,
{
    let handler = Rc::new(handler);
    let places = Rc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(()) = places.acquire().await.map(|place| place.forget()) else {
            return;
        };
        let accepted = listener.accept().await;
        let ends = |(stream, peer): (TcpStream, _)| {
            let local = stream.local_addr()?;
            Ok((stream, Ends { peer, local }))
        };
        let (stream, ends) = match accepted.and_then(ends) {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                places.add_permits(1);
                continue;
            }
        };
        let (handler, places) = (handler.clone(), places.clone());
        tokio::task::spawn_local(async move {
            let service = service_fn(move |mut request: Request<Incoming>| {
                let handler = handler.clone();
                request.extensions_mut().insert(ends);
                async move { Ok::<_, Infallible>(respond(handler(request).await)) }
            });
            // A client that breaks off is its own affair.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            places.add_permits(1);
        });
    }
}

fn respond(page: Page) -> Response<Either<Full<Bytes>, Lines>> {
    let mut response = Response::new(match page.body {
        Content::Whole(body) => Either::Left(Full::new(body)),
        Content::Lines(lines) => Either::Right(lines),
    });
    *response.status_mut() = page.status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(page.content_type),
    );
    let cache = HeaderValue::from_static("no-cache, max-age=0");
    headers.insert(header::CACHE_CONTROL, cache);
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    headers.insert(header::SERVER, HeaderValue::from_static("envoy"));
    response
}
