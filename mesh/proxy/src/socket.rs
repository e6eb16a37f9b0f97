//! Sockets: listening on a shared port, connecting from a given address.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::LazyLock,
};

use mesh_config::TcpKeepalive;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// What is listened on where `address` is meant. On the embedded cluster an ordinary user's
/// processes may not have ports below the one that this variable names; they have those 10000 higher.
pub(crate) fn served(mut address: SocketAddr) -> SocketAddr {
    static LOWEST: LazyLock<u16> = LazyLock::new(|| {
        let told = std::env::var("DOJO_LOWEST_PORT").ok();
        told.and_then(|text| text.parse().ok()).unwrap_or(0)
    });
    let port = address.port();
    if port > 0 && port < *LOWEST && address.ip().is_loopback() {
        address.set_port(port.saturating_add(10_000));
    }
    address
}

/// Listens; on the wildcard of IPv4 also for IPv6 where the system has it, as pods of two families
/// need. `shared`: with `SO_REUSEPORT`, so that each worker has a socket of its own on one port;
/// without it, a port that another process has is an error.
pub(crate) fn listen(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    if address.ip() == Ipv4Addr::UNSPECIFIED {
        let both = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port());
        match listen_on(both, shared) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {}
            listening => return listening,
        }
    }
    listen_on(address, shared)
}

fn listen_on(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != Ipv6Addr::UNSPECIFIED)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&served(address).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connects, from the first of `sources` that is of the same address family.
pub(crate) async fn connect(
    to: SocketAddr,
    mut sources: impl Iterator<Item = IpAddr>,
) -> io::Result<TcpStream> {
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(source) = sources.find(|source| source.is_ipv4() == to.is_ipv4()) {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(served(to)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Has the kernel probe a connection that is silent.
pub(crate) fn keep_alive(stream: &TcpStream, probes: &TcpKeepalive) -> io::Result<()> {
    let mut keepalive = socket2::TcpKeepalive::new();
    if let Some(time) = probes.time {
        keepalive = keepalive.with_time(time);
    }
    if let Some(interval) = probes.interval {
        keepalive = keepalive.with_interval(interval);
    }
    if let Some(count) = probes.probes {
        keepalive = keepalive.with_retries(count);
    }
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// An IPv4 address as such, also when a socket of both families took the connection.
pub(crate) fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Where a connection was going before the kernel redirected it here.
#[cfg(target_os = "linux")]
pub(crate) fn original_destination(stream: &TcpStream) -> Option<SocketAddr> {
    let socket = socket2::SockRef::from(stream);
    let address = match unmapped(stream.local_addr().ok()?) {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    address.ok()?.as_socket()
}

/// Only Linux redirects connections.
#[cfg(not(target_os = "linux"))]
pub(crate) fn original_destination(_: &TcpStream) -> Option<SocketAddr> {
    None
}
