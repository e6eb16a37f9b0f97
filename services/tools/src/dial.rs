//! Opens connections: from the container's own address, straight or through a proxy's tunnel,
//! with TLS where the address asks for it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use dojo_kit::tunnel;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use crate::route::Authority;

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
    // RFC 6761: as curl and browsers do by themselves; not every resolver knows it.
    if authority.host.ends_with(".localhost") {
        return Ok(vec![SocketAddr::from((
            Ipv4Addr::LOCALHOST,
            authority.port,
        ))]);
    }
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
        let to = dial.server.to_string();
        tunnel::ask(&mut stream, &to)
            .await
            .map_err(|answer| DialError::Tunnel { to, answer })?;
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
        match tunnel::connect_from(address, dial.source).await {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => last = Some(DialError::Connect { address, error }),
        }
    }
    Err(last.unwrap_or_else(|| DialError::Lookup {
        host: dial.server.host.clone(),
        problem: "no address".to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use rustls::ServerConfig;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::tls::{self, Trust};

    #[tokio::test]
    async fn names_below_localhost_are_this_machine() {
        let authority = Authority {
            host: "kim.localhost".to_owned(),
            port: 80,
        };
        let found = resolve(&authority).await.expect("an address");
        assert_eq!(found, [SocketAddr::from(([127, 0, 0, 1], 80))]);
    }

    /// A server for `localhost` behind TLS that says hello, and the file of its certificate.
    async fn tls_server() -> (SocketAddr, tempfile::NamedTempFile) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let made = made.expect("a certificate");
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(made.cert.pem().as_bytes()).expect("written");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::from(key))
            .expect("a configuration");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    stream.write_all(b"hello").await.expect("sent");
                    stream.shutdown().await.expect("closed");
                }
            }
        });
        (address, file)
    }

    /// A proxy that gives a tunnel to `to`, or refuses everybody.
    async fn proxy(to: Option<SocketAddr>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.expect("a connection");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(client.read_u8().await.expect("a request"));
            }
            assert!(request.starts_with(b"CONNECT localhost:443 HTTP/1.1\r\n"));
            let Some(to) = to else {
                let answer = b"HTTP/1.1 403 Forbidden\r\n\r\n";
                return client.write_all(answer).await.expect("sent");
            };
            let mut server = TcpStream::connect(to).await.expect("connected");
            let answer = b"HTTP/1.1 200 OK\r\n\r\n";
            client.write_all(answer).await.expect("sent");
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        });
        address
    }

    fn dial(to: SocketAddr, tunnel: bool, trust: &Trust) -> Dial {
        Dial {
            addresses: vec![to],
            source: None,
            tunnel,
            tls: Some(tls::client(trust).expect("trust")),
            server: Authority {
                host: "localhost".to_owned(),
                port: 443,
            },
        }
    }

    async fn greeting(dial: &Dial) -> Result<String, DialError> {
        let (mut stream, _) = open(dial).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("a text");
        Ok(text)
    }

    #[tokio::test]
    async fn servers_behind_tls_are_trusted_as_told() {
        let (server, file) = tls_server().await;
        let own = Trust::File(file.path().to_owned());
        for trust in [own, Trust::Anything] {
            assert_eq!(
                greeting(&dial(server, false, &trust)).await.expect("hello"),
                "hello"
            );
        }
        let (_, other) = tls_server().await;
        let other = Trust::File(other.path().to_owned());
        let error = greeting(&dial(server, false, &other))
            .await
            .expect_err("unknown");
        assert!(
            error
                .to_string()
                .starts_with("TLS with localhost: invalid peer certificate"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn tls_goes_through_a_proxy_s_tunnel() {
        let (server, file) = tls_server().await;
        let trust = Trust::File(file.path().to_owned());
        let proxy_ = proxy(Some(server)).await;
        assert_eq!(
            greeting(&dial(proxy_, true, &trust)).await.expect("hello"),
            "hello"
        );
        let refusing = proxy(None).await;
        let error = greeting(&dial(refusing, true, &trust))
            .await
            .expect_err("refused");
        assert_eq!(
            error.to_string(),
            "the proxy refuses a tunnel to localhost:443: HTTP/1.1 403 Forbidden"
        );
    }
}
