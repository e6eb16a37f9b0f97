//! A connection of the proxy's own to a server of the mesh's: the control plane, a collector.

use std::path::Path;

use http::{HeaderValue, Request, Uri, header};
use hyper::{body::Body, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::tls::control_plane;

/// How a server may be spoken with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Confidence<'a> {
    /// In the clear: nothing secret is said.
    Open,
    /// Credentials are sent: over `https://`, to a server whose certificate comes from the authorities
    /// of this file, or in the clear to an address of this machine.
    Secret(&'a Path),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error(
        "{0:?} is not an address that can be connected to: http://HOST:PORT, or https:// for the control plane"
    )]
    Address(String),
    #[error(
        "{0} is not on this machine, so credentials are not sent there in the clear: give the control plane's https:// address (--discovery-address)"
    )]
    InTheClear(String),
    #[error("cannot connect to {address}")]
    Connect {
        address: String,
        source: std::io::Error,
    },
    #[error("the connection broke")]
    Http(#[from] hyper::Error),
}

/// The HTTP proxy that the environment names, for which names of the mesh mean something.
pub(crate) fn through() -> Option<String> {
    ["http_proxy", "HTTP_PROXY"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

/// Connects to the server of an address `http://host:port/path`, directly or through an HTTP proxy;
/// of an address `https://...` directly. With the connection comes a request for the path, in the
/// form that the way there needs.
pub(crate) async fn open<B>(
    address: &str,
    through: Option<&str>,
    confidence: Confidence<'_>,
    body: B,
) -> Result<(http1::SendRequest<B>, Request<B>), ConnectError>
where
    B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>, Data: Send> + Send + 'static,
{
    let bad = |text: &str| ConnectError::Address(text.to_owned());
    let to: Uri = address.parse().map_err(|_| bad(address))?;
    let authority = to.authority().ok_or_else(|| bad(address))?;
    let secure = to.scheme_str() == Some("https");
    let through = through.filter(|_| !secure);
    let (host, port) = match through {
        Some(proxy) => {
            let uri: Uri = proxy.parse().map_err(|_| bad(proxy))?;
            host_and_port(&uri).ok_or_else(|| bad(proxy))?
        }
        None => host_and_port(&to).ok_or_else(|| bad(address))?,
    };
    let failed = |source| ConnectError::Connect {
        address: format!("{host}:{port}"),
        source,
    };
    let stream = TcpStream::connect((host.as_str(), port)).await;
    let stream = stream.map_err(failed)?;
    let sender = match (secure, confidence) {
        (true, Confidence::Open) => return Err(bad(address)),
        (true, Confidence::Secret(roots)) => {
            let stream = control_plane::connect(stream, &host, roots).await;
            speak(stream.map_err(failed)?).await?
        }
        (false, Confidence::Secret(_)) if !is_here(&stream) => {
            return Err(ConnectError::InTheClear(format!("{host}:{port}")));
        }
        (false, _) => speak(stream).await?,
    };
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| bad(address))?;
    let path = to.path_and_query().map_or("/", |path| path.as_str());
    let target = match through {
        Some(_) => to.clone(),
        None => path.parse().map_err(|_| bad(address))?,
    };
    let mut request = Request::new(body);
    *request.uri_mut() = target;
    request.headers_mut().insert(header::HOST, host);
    Ok((sender, request))
}

/// Begins HTTP on a connection.
async fn speak<S, B>(stream: S) -> Result<http1::SendRequest<B>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>, Data: Send> + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its error reaches the request.
    tokio::spawn(connection);
    Ok(sender)
}

/// What is said does not leave this machine.
fn is_here(stream: &TcpStream) -> bool {
    let peer = stream.peer_addr();
    peer.is_ok_and(|peer| peer.ip().to_canonical().is_loopback())
}

fn host_and_port(uri: &Uri) -> Option<(String, u16)> {
    let default = match uri.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return None,
    };
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), uri.port_u16().unwrap_or(default)))
}
