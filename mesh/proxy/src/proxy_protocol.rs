//! The PROXY protocol towards an upstream: a header that says whose connection follows.

use std::net::{IpAddr, SocketAddr};

use mesh_config::ProxyProtocol;

/// What every header of version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const VERSION_2_PROXY: u8 = 0x21;
/// Address family and transport: TCP over IPv4, over IPv6.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The header of a connection from `source` to `destination`. Of two families, IPv4 is written as
/// IPv6, which holds both.
pub(crate) fn header(
    version: ProxyProtocol,
    source: SocketAddr,
    destination: SocketAddr,
) -> Vec<u8> {
    let (from, to) = match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V6(to)) => (from.to_ipv6_mapped().into(), to.into()),
        (IpAddr::V6(from), IpAddr::V4(to)) => (from.into(), to.to_ipv6_mapped().into()),
        same => same,
    };
    let (source_port, destination_port) = (source.port(), destination.port());
    if version == ProxyProtocol::V1 {
        let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
        let line = format!("PROXY {family} {from} {to} {source_port} {destination_port}\r\n");
        return line.into_bytes();
    }
    let mut header = SIGNATURE.to_vec();
    header.push(VERSION_2_PROXY);
    header.push(if from.is_ipv4() { TCP4 } else { TCP6 });
    let mut addresses = Vec::new();
    for ip in [from, to] {
        match ip {
            IpAddr::V4(ip) => addresses.extend(ip.octets()),
            IpAddr::V6(ip) => addresses.extend(ip.octets()),
        }
    }
    for port in [source_port, destination_port] {
        addresses.extend(port.to_be_bytes());
    }
    header.extend((addresses.len() as u16).to_be_bytes());
    header.extend(addresses);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_the_specification() {
        let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let text = |source: &str, destination: &str| {
            let header = header(ProxyProtocol::V1, at(source), at(destination));
            String::from_utf8(header).unwrap()
        };
        assert_eq!(
            text("10.0.0.1:4711", "10.0.0.2:80"),
            "PROXY TCP4 10.0.0.1 10.0.0.2 4711 80\r\n"
        );
        assert_eq!(
            text("[::1]:4711", "[fd00::2]:80"),
            "PROXY TCP6 ::1 fd00::2 4711 80\r\n"
        );
        assert_eq!(
            text("[fd00::1]:1", "10.0.0.2:2"),
            "PROXY TCP6 fd00::1 ::ffff:10.0.0.2 1 2\r\n"
        );
        let binary = header(ProxyProtocol::V2, at("10.0.0.1:258"), at("10.0.0.2:80"));
        let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        expected.extend([10, 0, 0, 1, 10, 0, 0, 2, 1, 2, 0, 80]);
        assert_eq!(binary, expected);
        let six = header(ProxyProtocol::V2, at("[::1]:1"), at("[::1]:2"));
        assert_eq!((six[13], six.len()), (0x21, 16 + 36));
    }
}
