//! A connection of the proxy's own to a server of the mesh's: the control plane, a collector.

use http::{HeaderValue, Request, Uri, header};
use hyper::{body::Body, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("{0:?} is not an http:// address")]
    Address(String),
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

/// Connects to the server of an address `http://host:port/path`, directly or through an HTTP proxy.
/// With the connection comes a request for the path, in the form that the way there needs.
pub(crate) async fn open<B>(
    address: &str,
    through: Option<&str>,
    body: B,
) -> Result<(http1::SendRequest<B>, Request<B>), ConnectError>
where
    B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>, Data: Send> + Send + 'static,
{
    let bad = |text: &str| ConnectError::Address(text.to_owned());
    let to: Uri = address.parse().map_err(|_| bad(address))?;
    let authority = to.authority().ok_or_else(|| bad(address))?;
    let (host, port) = match through {
        Some(proxy) => {
            let uri: Uri = proxy.parse().map_err(|_| bad(proxy))?;
            host_and_port(&uri).ok_or_else(|| bad(proxy))?
        }
        None => host_and_port(&to).ok_or_else(|| bad(address))?,
    };
    let stream = TcpStream::connect((host.as_str(), port)).await;
    let stream = stream.map_err(|source| ConnectError::Connect {
        address: format!("{host}:{port}"),
        source,
    })?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its error reaches the request.
    tokio::spawn(connection);
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

fn host_and_port(uri: &Uri) -> Option<(String, u16)> {
    if uri.scheme_str() != Some("http") {
        return None;
    }
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), uri.port_u16().unwrap_or(80)))
}
