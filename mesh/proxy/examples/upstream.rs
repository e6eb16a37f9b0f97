//! The fastest upstream that a benchmark needs: `upstream 127.0.0.1:9081`.
//!
//! HTTP/1.1: each request line block is answered with a fixed response, without parsing; `/1m` with
//! 1 MB. HTTP/2 with prior knowledge: the same, and gRPC calls with a message and their status.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\ncontent-type: text/plain\r\n\r\nHello, World!";
const MEGABYTE: usize = 1_000_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9081".into());
    let listener = TcpListener::bind(&address).await?;
    let large = format!("HTTP/1.1 200 OK\r\ncontent-length: {MEGABYTE}\r\n\r\n");
    let large = Bytes::from([large.as_bytes(), &vec![b'x'; MEGABYTE]].concat());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let large = large.clone();
        tokio::spawn(async move {
            let mut first = [0; 3];
            // Connections that break are the load's business.
            let _ = match stream.peek(&mut first).await {
                Ok(3..) if &first == b"PRI" => {
                    let service = service_fn(answer_http2);
                    let server = http2::Builder::new(TokioExecutor::new());
                    server
                        .serve_connection(TokioIo::new(stream), service)
                        .await
                        .map_err(std::io::Error::other)
                }
                _ => answer_http1(stream, &large).await,
            };
        });
    }
}

async fn answer_http1(mut stream: TcpStream, large: &[u8]) -> std::io::Result<()> {
    let mut buffer = Vec::with_capacity(4096);
    while stream.read_buf(&mut buffer).await? > 0 {
        // Good enough for GET without a body.
        if buffer.ends_with(b"\r\n\r\n") {
            let ends = buffer.windows(4).filter(|end| end == b"\r\n\r\n").count();
            let answer = match buffer.starts_with(b"GET /1m ") {
                true => large,
                false => &ANSWER.repeat(ends),
            };
            stream.write_all(answer).await?;
            buffer.clear();
        }
    }
    Ok(())
}

type Body = http_body_util::Either<
    Full<Bytes>,
    http_body_util::combinators::WithTrailers<
        Full<Bytes>,
        std::future::Ready<Option<Result<HeaderMap, Infallible>>>,
    >,
>;

async fn answer_http2(request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    let kind = request.headers().get(header::CONTENT_TYPE).cloned();
    let _ = request.into_body().collect().await?;
    let response = match kind {
        Some(grpc) if grpc.as_bytes().starts_with(b"application/grpc") => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", 0.into());
            let message = Full::new(Bytes::from_static(b"\0\0\0\0\x05hello"));
            let body = message.with_trailers(std::future::ready(Some(Ok(trailers))));
            let mut response = Response::new(Body::Right(body));
            response.headers_mut().insert(header::CONTENT_TYPE, grpc);
            response
        }
        _ => Response::new(Body::Left(Full::new(Bytes::from_static(b"Hello, World!")))),
    };
    Ok(response)
}
