//! Dialing: connections that leave from a given address, and bytes carried between two of them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// Bytes in flight per direction of a forwarded connection.
const BUFFER: usize = 8 << 10;

/// Connects to `to`, from `from` if `to` is on this machine (a loopback address cannot be the
/// source of a connection that leaves it).
///
/// # Errors
/// What the system said, or that it took too long.
pub async fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = match to.ip() {
        IpAddr::V4(ip) => {
            let socket = TcpSocket::new_v4()?;
            if ip.is_loopback() {
                socket.bind(SocketAddr::new(IpAddr::V4(from), 0))?;
            }
            socket
        }
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    let stream = tokio::time::timeout(CONNECT, socket.connect(to))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("connecting to {to}")))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Carries bytes both ways until both sides have ended.
///
/// # Errors
/// What broke the connection.
pub async fn carry(
    one: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    other: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
) -> io::Result<()> {
    tokio::io::copy_bidirectional_with_sizes(one, other, BUFFER, BUFFER)
        .await
        .map(|_| ())
}
