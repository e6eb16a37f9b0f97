//! Where a service listens.
//!
//! A service is told a port, or an address and a port. In a pod of the embedded cluster the
//! variable `DOJO_LISTEN_IP` says which address is the container's own; there a bare port, and
//! "every interface", mean that address, so that many pods can use the same port on one machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// The variable that names the address a container must listen on instead of every interface.
pub const LISTEN_IP_VARIABLE: &str = "DOJO_LISTEN_IP";

/// The variable that names the lowest port that a container may listen on.
const LOWEST_PORT_VARIABLE: &str = "DOJO_LOWEST_PORT";

/// Where to listen, as written by the user: `9080`, `:9080` or `127.0.0.1:9080`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// Only a port: the container's own address, or loopback outside a pod.
    Port(u16),
    /// An address and a port. `0.0.0.0` and `[::]` are replaced by the container's own address.
    Address(SocketAddr),
}

impl ListenAddress {
    /// The socket address to bind. `container` is the value of `DOJO_LISTEN_IP`. In a container, a
    /// port below the lowest that may be had is mapped to the one that the cluster expects instead.
    ///
    /// A bare port without `container` is on loopback: nothing listens further out unless told to.
    #[must_use]
    pub fn resolve(self, container: Option<IpAddr>) -> SocketAddr {
        let mut address = self.asked(container);
        if container.is_some() {
            address.set_port(mapped(address.port(), lowest_port()));
        }
        address
    }

    fn asked(self, container: Option<IpAddr>) -> SocketAddr {
        match (self, container) {
            (Self::Port(port), Some(ip)) => SocketAddr::new(ip, port),
            (Self::Port(port), None) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
            (Self::Address(address), Some(ip)) if address.ip().is_unspecified() => {
                SocketAddr::new(ip, address.port())
            }
            (Self::Address(address), _) => address,
        }
    }
}

impl FromStr for ListenAddress {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bare = text.strip_prefix(':').unwrap_or(text);
        if let Ok(port) = bare.parse() {
            return Ok(Self::Port(port));
        }
        text.parse()
            .map(Self::Address)
            .map_err(|_| ListenError::Address(text.to_owned()))
    }
}

/// The lowest port that this container may listen on, as the cluster tells; 0 when it may any.
fn lowest_port() -> u16 {
    let told = std::env::var(LOWEST_PORT_VARIABLE).ok();
    told.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The rule of the embedded cluster: a port below the lowest is 10000 higher.
fn mapped(port: u16, lowest: u16) -> u16 {
    if port > 0 && port < lowest {
        port.saturating_add(10_000)
    } else {
        port
    }
}

/// Why an address to listen on cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Neither a port nor an address with a port.
    #[error(
        "`{0}` is not an address to listen on; write a port (9080) or an IP address and a port (127.0.0.1:9080)"
    )]
    Address(String),
    /// `DOJO_LISTEN_IP` holds something that is not an IP address.
    #[error("the variable {LISTEN_IP_VARIABLE} holds `{0}`, which is not an IP address")]
    Variable(String),
}

/// The container's own address, from `DOJO_LISTEN_IP`.
///
/// # Errors
/// When the variable is set to something that is not an IP address.
pub fn container_address() -> Result<Option<IpAddr>, ListenError> {
    match std::env::var(LISTEN_IP_VARIABLE) {
        Ok(text) if !text.is_empty() => text
            .parse()
            .map(Some)
            .map_err(|_| ListenError::Variable(text)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str, container: Option<&str>) -> String {
        let address: ListenAddress = text.parse().expect("a listen address");
        address
            .resolve(container.map(|ip| ip.parse().expect("an IP address")))
            .to_string()
    }

    #[test]
    fn a_bare_port_is_the_containers_own_address_or_loopback() {
        assert_eq!(resolved("9080", None), "127.0.0.1:9080");
        assert_eq!(resolved(":9080", None), "127.0.0.1:9080");
        assert_eq!(resolved("9080", Some("127.20.0.2")), "127.20.0.2:9080");
    }

    #[test]
    fn every_interface_is_the_containers_own_address_in_a_pod() {
        assert_eq!(resolved("0.0.0.0:80", Some("127.20.0.2")), "127.20.0.2:80");
        assert_eq!(resolved("[::]:80", Some("127.20.0.2")), "127.20.0.2:80");
        assert_eq!(resolved("0.0.0.0:80", None), "0.0.0.0:80");
    }

    #[test]
    fn a_definite_address_is_kept() {
        assert_eq!(
            resolved("127.0.0.1:9080", Some("127.20.0.2")),
            "127.0.0.1:9080"
        );
    }

    #[test]
    fn ports_that_may_not_be_had_are_mapped() {
        assert_eq!(
            [80, 1024, 0].map(|port| mapped(port, 1024)),
            [10_080, 1024, 0]
        );
        assert_eq!(mapped(80, 0), 80);
    }

    #[test]
    fn nonsense_is_refused_with_the_remedy() {
        let error = "localhost".parse::<ListenAddress>().unwrap_err();
        assert!(error.to_string().contains("127.0.0.1:9080"), "{error}");
        assert!("70000".parse::<ListenAddress>().is_err());
    }
}
