//! HTTP on a connection: tells the version, then serves requests until it ends or drains.

use std::{cell::OnceCell, convert::Infallible, io, pin::pin, rc::Rc, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::{
    body::{Body, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    config::{Destination, Filter},
    door,
    downstream::Downstream,
    executor::LocalExecutor,
    limits::{HEADER_BYTES, IDLE_TIMEOUT},
    malformed::{self, Watch, Watched},
    request,
    response_body::ResponseBody,
    sniff::{self, Protocol, Rewind},
    stats::{HttpStats, istio::PrincipalId},
    tcp,
};

/// Bytes read ahead on a connection.
const READ_BUFFER: usize = 64 * 1024;

/// Carries a connection to its end: picks the filter by its destination and first bytes.
pub(crate) async fn serve<S>(stream: S, connection: Rc<Downstream>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    serve_sniffed(Rewind::new(stream), connection).await;
}

/// The same for a connection whose first bytes have been looked at.
pub(crate) async fn serve_sniffed<S>(stream: Rewind<S>, connection: Rc<Downstream>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // The client may be gone before it has said anything.
    let _ = choose(stream, connection).await;
}

async fn choose<S>(mut stream: Rewind<S>, connection: Rc<Downstream>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let listener = connection.listener.load_full();
    if connection.destination.is_none() && listener.accept == mesh_config::Accept::HttpProxy {
        // A door's requests choose their filters one by one.
        let protocol = sniff::sniff(&mut stream, true).await?;
        http(protocol, stream, connection).await;
        return Ok(());
    }
    if connection
        .destination
        .as_ref()
        .is_some_and(door::is_loopback)
    {
        let tcp = connection.worker.shared.loopback_tcp.clone();
        tcp::proxy(stream, &tcp, &connection).await;
        return Ok(());
    }
    let destination = connection.destination.as_ref();
    if connection.hello.get().is_none() && listener.asks_hello(destination) {
        let hello = sniff::hello(&mut stream).await?;
        // Nobody has set it before.
        let _ = connection.hello.set(hello);
    }
    match listener.chain_of(destination, connection.hello.get()) {
        None => tcp::refuse(&connection),
        Some(Filter::Tcp(tcp)) => tcp::proxy(stream, tcp, &connection).await,
        Some(Filter::Http(_)) => {
            let protocol = sniff::sniff(&mut stream, true).await?;
            http(protocol, stream, connection).await;
        }
        Some(Filter::Sniff(_, tcp)) => match sniff::sniff(&mut stream, false).await? {
            Protocol::Other => tcp::proxy(stream, tcp, &connection).await,
            protocol => http(protocol, stream, connection).await,
        },
    }
    Ok(())
}

async fn http<S>(protocol: Protocol, stream: Rewind<S>, connection: Rc<Downstream>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let drain = connection.worker.shared.drain.clone();
    let open = Open::new(protocol, &connection);
    match protocol {
        Protocol::Nothing => {}
        Protocol::Http2 => {
            let io = TokioIo::new(stream);
            let service = {
                let connection = connection.clone();
                service_fn(move |request| handle(connection.clone(), request, None))
            };
            let serving = http2::Builder::new(LocalExecutor)
                .timer(TokioTimer::new())
                .max_header_list_size(HEADER_BYTES as u32)
                .serve_connection(io, service);
            let mut serving = pin!(serving);
            let ended = tokio::select! {
                biased;
                ended = serving.as_mut() => Some(ended),
                () = drain.cancelled() => None,
            };
            let ended = match ended {
                Some(ended) => ended,
                None => {
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            };
            if ended.is_err_and(|error| malformed::is_http2(&error)) {
                open.stats(&connection).downstream_cx_protocol_error.add(1);
            }
        }
        Protocol::Http1 | Protocol::Other => {
            let watch = Arc::new(Watch::default());
            let io = TokioIo::new(Watched::new(stream, watch.clone()));
            let service = {
                let (connection, watch) = (connection.clone(), watch.clone());
                service_fn(move |request: Request<Incoming>| {
                    let bad = watch.bad_length(request.body().is_end_stream());
                    let (connection, drain) = (connection.clone(), drain.clone());
                    async move {
                        let mut response = handle(connection, request, bad).await;
                        if let Ok(response) = &mut response
                            && drain.is_cancelled()
                            && response.status() != StatusCode::SWITCHING_PROTOCOLS
                        {
                            let close = HeaderValue::from_static("close");
                            response.headers_mut().insert(header::CONNECTION, close);
                        }
                        response
                    }
                })
            };
            let serving = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(IDLE_TIMEOUT)
                .max_header_size(HEADER_BYTES)
                .max_buf_size(READ_BUFFER)
                .serve_connection(io, service)
                .with_upgrades();
            // Its error was recorded by the exchange that it ended, if there was one. A connection
            // that drains is closed by its next answer, not under a request that is on its way.
            let _ = serving.await;
            if let Some(status) = watch.refused() {
                malformed::record(&connection, open.stats(&connection), status);
            }
        }
    }
}

/// Answers a request, or opens the tunnel that a `CONNECT` through the door asks for.
async fn handle(
    connection: Rc<Downstream>,
    mut request: Request<Incoming>,
    malformed: Option<(StatusCode, &'static str)>,
) -> Result<Response<ResponseBody>, Infallible> {
    match door::tunnel(&connection, &request) {
        Some(destination) => Ok(tunnel(&connection, destination, &mut request)),
        None => request::handle(connection, request, malformed).await,
    }
}

/// Answers `CONNECT` and treats what follows as a connection to the destination.
fn tunnel(
    connection: &Downstream,
    destination: Destination,
    request: &mut Request<Incoming>,
) -> Response<ResponseBody> {
    let upgrade = hyper::upgrade::on(request);
    let inner = Rc::new(Downstream {
        worker: connection.worker.clone(),
        listener: connection.listener.clone(),
        remote: connection.remote,
        local: connection.local,
        destination: Some(destination),
        hello: OnceCell::new(),
        peer: None,
        principal: PrincipalId::NONE,
        encrypted: false,
    });
    tokio::task::spawn_local(async move {
        if let Ok(upgraded) = upgrade.await {
            serve(TokioIo::new(upgraded), inner).await;
        }
    });
    Response::new(ResponseBody::detached(Bytes::new()))
}

/// Counts an HTTP connection as long as it is open. A door's connections belong to no one filter.
struct Open(Option<Arc<HttpStats>>, Instant);

impl Open {
    fn new(protocol: Protocol, connection: &Downstream) -> Self {
        let listener = connection.listener.load();
        let filter = listener.chain_of(connection.destination.as_ref(), connection.hello.get());
        let stats = filter.map(|filter| filter.http().stats.clone());
        if let Some(stats) = &stats {
            stats.downstream_cx_total.add(1);
            stats.downstream_cx_active.add(1);
            match protocol {
                Protocol::Http2 => stats.downstream_cx_http2_total.add(1),
                _ => stats.downstream_cx_http1_total.add(1),
            }
        }
        Self(stats, Instant::now())
    }

    /// Where what concerns the whole connection is counted.
    fn stats(&self, connection: &Downstream) -> Arc<HttpStats> {
        let unmatched = || connection.worker.shared.registry.http("unmatched");
        self.0.clone().unwrap_or_else(unmatched)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(stats) = &self.0 {
            stats.downstream_cx_active.sub(1);
            stats.downstream_cx_destroy.add(1);
            let length = self.1.elapsed().as_millis() as u64;
            stats.downstream_cx_length_ms.record(length);
        }
    }
}
