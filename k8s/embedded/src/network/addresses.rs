//! The address plan: which loopback address stands for what.
//!
//! A cluster owns one /16 of 127.0.0.0/8, chosen by its index N:
//!
//! | range                             | what                                                |
//! | --------------------------------- | --------------------------------------------------- |
//! | `127.N.0.1`                       | the node                                            |
//! | `127.N.0.2` to `127.N.63.254`     | pods                                                |
//! | `127.N.128.1` to `127.N.191.254`  | Services (`kubernetes` is the first)                |
//! | `127.N.192.2` to `127.N.255.254`  | pod loopbacks: the pod's address plus 192 in byte 3 |
//!
//! Linux answers for all of 127.0.0.0/8 on `lo`, so nothing has to be configured and no privilege
//! is needed. Last bytes 0 and 255 are never used: they look like networks and broadcasts.
//! Everything here is arithmetic; keeping the index is the caller's business.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;

/// Cluster indices that may be chosen: small ones are left to other users of 127/8 (such as
/// `127.0.0.53` or Debian's `127.0.1.1`).
pub const INDICES: RangeInclusive<u8> = 16..=250;

/// Port of the node's door on every pod address.
pub const DOOR_PORT: u16 = 15099;

/// Usable last bytes: 1 to 254.
const HOSTS: u32 = 254;
/// First third byte of the Services' range.
const SERVICE_BASE: u32 = 128;
/// Distance from a pod's third byte to the one of its loopback.
const LOOPBACK_OFFSET: u8 = 192;
/// Third bytes in each range.
const ROWS: u32 = 64;

/// An index outside of [`INDICES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cluster index {0} is out of range: choose one from 16 to 250")]
pub struct IndexOutOfRange(pub u8);

/// The addresses of one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPlan {
    index: u8,
}

impl AddressPlan {
    /// The plan of the cluster with index `index`.
    ///
    /// # Errors
    /// When the index is not in [`INDICES`].
    pub fn new(index: u8) -> Result<Self, IndexOutOfRange> {
        if INDICES.contains(&index) {
            Ok(Self { index })
        } else {
            Err(IndexOutOfRange(index))
        }
    }

    /// The cluster's index N.
    pub fn index(self) -> u8 {
        self.index
    }

    /// The node's own address (`hostIP`).
    pub fn node(self) -> Ipv4Addr {
        Ipv4Addr::new(127, self.index, 0, 1)
    }

    /// The address of the Service `kubernetes` in `default`.
    pub fn kubernetes_service(self) -> Ipv4Addr {
        Ipv4Addr::new(127, self.index, 128, 1)
    }

    /// How many addresses pods have.
    pub fn pod_count(self) -> u32 {
        ROWS * HOSTS - 1
    }

    /// How many addresses Services have, the one of `kubernetes` included.
    pub fn service_count(self) -> u32 {
        ROWS * HOSTS
    }

    /// The n-th pod address (0-based), `None` past the end.
    pub fn pod(self, n: u32) -> Option<Ipv4Addr> {
        // number 0 would be the node's 0.1
        (n < self.pod_count()).then(|| self.address(0, n + 1))
    }

    /// The n-th Service address (0-based; 0 is `kubernetes`), `None` past the end.
    pub fn service(self, n: u32) -> Option<Ipv4Addr> {
        (n < self.service_count()).then(|| self.address(SERVICE_BASE, n))
    }

    fn address(self, base: u32, n: u32) -> Ipv4Addr {
        // callers keep n in range, so both bytes fit; the mask says so to the reader
        let byte = |n: u32| u8::try_from(n & 0xff).unwrap_or_default();
        Ipv4Addr::new(127, self.index, byte(base + n / HOSTS), byte(n % HOSTS + 1))
    }

    fn host(self, address: Ipv4Addr) -> Option<(u8, u8)> {
        let [a, index, third, fourth] = address.octets();
        (a == 127 && index == self.index && (1..=254).contains(&fourth)).then_some((third, fourth))
    }

    /// Whether `address` is one that a pod of this cluster may have.
    pub fn is_pod(self, address: Ipv4Addr) -> bool {
        matches!(self.host(address), Some((third, _)) if third < 64) && address != self.node()
    }

    /// Whether `address` is one that a Service of this cluster may have.
    pub fn is_service(self, address: Ipv4Addr) -> bool {
        matches!(self.host(address), Some((128..=191, _)))
    }

    /// The loopback of the pod with address `pod`, for a pod whose address is owned by a door
    /// container. `None` when `pod` is not a pod address of this cluster.
    pub fn loopback(self, pod: Ipv4Addr) -> Option<Ipv4Addr> {
        self.is_pod(pod).then(|| {
            let [a, b, c, d] = pod.octets();
            Ipv4Addr::new(a, b, c + LOOPBACK_OFFSET, d)
        })
    }

    /// The pod whose loopback `address` is.
    pub fn pod_of_loopback(self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        let [a, b, c, d] = address.octets();
        let pod = Ipv4Addr::new(a, b, c.checked_sub(LOOPBACK_OFFSET)?, d);
        self.is_pod(pod).then_some(pod)
    }

    /// Where the node's door for the pod with address `pod` listens.
    pub fn door(self, pod: Ipv4Addr) -> SocketAddrV4 {
        SocketAddrV4::new(pod, DOOR_PORT)
    }

    /// The pods' range in CIDR form, for the node's `podCIDR`.
    pub fn pod_cidr(self) -> String {
        format!("127.{}.0.0/18", self.index)
    }

    /// A free pod address: the first after `last` that is not `used`, going round at the end, so
    /// that an address is not given again right after its pod went. `None` when all are used.
    pub fn next_pod(
        self,
        last: Option<Ipv4Addr>,
        used: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<Ipv4Addr> {
        let start = last.map_or(0, |last| {
            let [_, _, row, host] = last.octets().map(u32::from);
            // the successor of `last` in the numbering of `pod`
            (row * HOSTS + host).saturating_sub(1)
        });
        next(self.pod_count(), start, |n| self.pod(n), used)
    }

    /// A free Service address after `kubernetes`, the lowest first. `None` when all are used.
    pub fn next_service(self, used: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        let kubernetes = self.kubernetes_service();
        next(
            self.service_count(),
            1,
            |n| self.service(n),
            |a| a == kubernetes || used(a),
        )
    }
}

fn next(
    count: u32,
    start: u32,
    nth: impl Fn(u32) -> Option<Ipv4Addr>,
    used: impl Fn(Ipv4Addr) -> bool,
) -> Option<Ipv4Addr> {
    (0..count)
        .filter_map(|i| nth((start + i) % count))
        .find(|a| !used(*a))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn plan() -> AddressPlan {
        AddressPlan::new(77).unwrap()
    }

    fn ip(s: &str) -> Ipv4Addr {
        s.parse().unwrap()
    }

    #[test]
    fn index_is_checked() {
        assert!(AddressPlan::new(15).is_err());
        assert!(AddressPlan::new(16).is_ok());
        assert!(AddressPlan::new(250).is_ok());
        assert_eq!(AddressPlan::new(251), Err(IndexOutOfRange(251)));
    }

    #[test]
    fn ranges_are_those_of_the_plan() {
        let p = plan();
        assert_eq!(p.pod(0), Some(ip("127.77.0.2")));
        assert_eq!(p.pod(252), Some(ip("127.77.0.254")));
        assert_eq!(p.pod(253), Some(ip("127.77.1.1")));
        assert_eq!(p.pod(p.pod_count() - 1), Some(ip("127.77.63.254")));
        assert_eq!(p.pod(p.pod_count()), None);
        assert_eq!(p.service(0), Some(p.kubernetes_service()));
        assert_eq!(p.service(p.service_count() - 1), Some(ip("127.77.191.254")));
        assert_eq!(p.service(p.service_count()), None);
    }

    #[test]
    fn no_address_has_two_meanings() {
        let p = plan();
        let mut seen = HashSet::new();
        for n in 0..p.pod_count() {
            let pod = p.pod(n).unwrap();
            assert!(p.is_pod(pod) && !p.is_service(pod));
            assert!(seen.insert(pod));
            let loopback = p.loopback(pod).unwrap();
            assert!(!p.is_pod(loopback) && !p.is_service(loopback));
            assert_eq!(p.pod_of_loopback(loopback), Some(pod));
            assert!(seen.insert(loopback));
        }
        for n in 0..p.service_count() {
            let service = p.service(n).unwrap();
            assert!(p.is_service(service) && !p.is_pod(service));
            assert!(seen.insert(service));
        }
        assert!(!seen.contains(&p.node()));
    }

    #[test]
    fn other_clusters_are_foreign() {
        assert!(!plan().is_pod(ip("127.78.0.2")));
        assert!(!plan().is_pod(ip("127.0.0.1")));
        assert_eq!(plan().loopback(ip("10.77.0.2")), None);
    }

    #[test]
    fn pods_go_round_and_services_fill_from_the_front() {
        let p = plan();
        assert_eq!(p.next_pod(None, |_| false), Some(ip("127.77.0.2")));
        assert_eq!(
            p.next_pod(Some(ip("127.77.0.2")), |_| false),
            Some(ip("127.77.0.3"))
        );
        assert_eq!(
            p.next_pod(Some(ip("127.77.0.254")), |_| false),
            Some(ip("127.77.1.1"))
        );
        assert_eq!(
            p.next_pod(Some(ip("127.77.63.254")), |a| a == ip("127.77.0.2")),
            Some(ip("127.77.0.3"))
        );
        assert_eq!(p.next_pod(None, |_| true), None);
        assert_eq!(
            p.next_service(|a| a == ip("127.77.128.2")),
            Some(ip("127.77.128.3"))
        );
    }
}
