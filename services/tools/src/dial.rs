//! Opens connections: from the container's own address, straight or through a proxy's tunnel,
//! with TLS where the address asks for it.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use crate::route::Authority;

/// The largest answer to `CONNECT` that is read, in bytes.
const MAX_CONNECT_ANSWER: usize = 8 * 1024;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("no address for {host}: {problem}")]
    Lookup {
        /// The name.
        host: String,
        /// What the resolver said.
        problem: String,
    },
    /// Nobody takes the connection.
    #[error("connection to {address}: {error}")]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// The proxy gives no tunnel.
    #[error("the proxy refuses a tunnel to {to}: {answer}")]
    Tunnel {
        /// Where to.
        to: String,
        /// The first line of its answer, or what went wrong.
        answer: String,
    },
    /// TLS fails.
    #[error("TLS with {host}: {problem}")]
    Tls {
        /// The server's name.
        host: String,
        /// What went wrong.
        problem: String,
    },
}

/// A connection's two directions, plain or within TLS.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Everything that [`open`] needs to know.
#[derive(Clone, Debug)]
pub struct Dial {
    /// Addresses of the server, or of the proxy in front of it, tried in this order.
    pub addresses: Vec<SocketAddr>,
    /// The address that connections leave from.
    pub source: Option<IpAddr>,
    /// Ask the proxy for a tunnel to the server.
    pub tunnel: bool,
    /// TLS with the server.
    pub tls: Option<Arc<ClientConfig>>,
    /// The server.
    pub server: Authority,
}

/// The addresses of a name, IPv4 first, as most programs prefer them.
///
/// # Errors
/// When there are none.
pub async fn resolve(authority: &Authority) -> Result<Vec<SocketAddr>, DialError> {
    let failed = |problem: String| DialError::Lookup {
        host: authority.host.clone(),
        problem,
    };
    let found = lookup_host((authority.host.as_str(), authority.port)).await;
    let mut addresses: Vec<SocketAddr> = found.map_err(|e| failed(e.to_string()))?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    if addresses.is_empty() {
        return Err(failed("the resolver knows none".to_owned()));
    }
    Ok(addresses)
}

/// Opens a connection; tells also whom it is with.
///
/// # Errors
/// When none of the addresses answers, the proxy gives no tunnel or TLS fails.
pub async fn open(dial: &Dial) -> Result<(Pin<Box<dyn Stream>>, SocketAddr), DialError> {
    let (mut stream, peer) = connect(dial).await?;
    if dial.tunnel {
        tunnel(&mut stream, &dial.server).await?;
    }
    let Some(config) = &dial.tls else {
        return Ok((Box::pin(stream), peer));
    };
    let failed = |problem: String| DialError::Tls {
        host: dial.server.host.clone(),
        problem,
    };
    let name = ServerName::try_from(dial.server.host.clone()).map_err(|e| failed(e.to_string()))?;
    let connector = TlsConnector::from(Arc::clone(config));
    let stream = connector.connect(name, stream).await;
    Ok((Box::pin(stream.map_err(|e| failed(e.to_string()))?), peer))
}

async fn connect(dial: &Dial) -> Result<(TcpStream, SocketAddr), DialError> {
    let mut last = None;
    for &address in &dial.addresses {
        match connect_one(address, dial.source).await {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => last = Some(DialError::Connect { address, error }),
        }
    }
    Err(last.unwrap_or_else(|| DialError::Lookup {
        host: dial.server.host.clone(),
        problem: "no address".to_owned(),
    }))
}

async fn connect_one(address: SocketAddr, source: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(source) = source.filter(|source| source.is_ipv4() == address.is_ipv4()) {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Asks the proxy at the other end of `stream` for a tunnel. The answer is read byte by byte: what
/// follows it belongs to the server.
async fn tunnel(stream: &mut TcpStream, to: &Authority) -> Result<(), DialError> {
    let refused = |answer: String| DialError::Tunnel {
        to: to.to_string(),
        answer,
    };
    let request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
    let written = stream.write_all(request.as_bytes()).await;
    written.map_err(|e| refused(e.to_string()))?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == MAX_CONNECT_ANSWER {
            return Err(refused("an endless answer".to_owned()));
        }
        let byte = stream.read_u8().await;
        answer.push(byte.map_err(|e| refused(e.to_string()))?);
    }
    let text = String::from_utf8_lossy(&answer);
    let line = text.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(()),
        _ => Err(refused(line.to_owned())),
    }
}
