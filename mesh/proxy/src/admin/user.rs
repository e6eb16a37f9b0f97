//! Whose connection is it? Where pods share the machine's loopback interface, its other users reach a
//! pod's admin port, too. Linux tells in `/proc/net/tcp` which user a socket belongs to.

use std::{
    fs,
    net::{SocketAddr, SocketAddrV4},
    os::unix::fs::MetadataExt,
};

const TABLE: &str = "/proc/net/tcp";
/// A row can be missed while others come and go.
const LOOKS: usize = 3;

/// Whether the other end of a connection is a process of another user; root is not another. Systems
/// without the table have nobody else.
pub(crate) fn is_another(peer: SocketAddr, local: SocketAddr) -> bool {
    let (SocketAddr::V4(peer), SocketAddr::V4(local)) = (peer, local) else {
        return false;
    };
    let Ok(own) = fs::metadata("/proc/self").map(|it| it.uid()) else {
        return false;
    };
    let owner = (0..LOOKS).find_map(|_| owner(&fs::read_to_string(TABLE).ok()?, peer, local));
    !owner.is_some_and(|owner| owner == own || owner == 0)
}

/// The user of the socket that is bound to one address and connected to another. A socket that its
/// process has closed is nobody's, though the table shows 0.
fn owner(table: &str, bound: SocketAddrV4, connected: SocketAddrV4) -> Option<u32> {
    let written = |address: SocketAddrV4| {
        let ip = u32::from_ne_bytes(address.ip().octets());
        format!("{ip:08X}:{:04X}", address.port())
    };
    let (bound, connected) = (written(bound), written(connected));
    table.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let same = words.next()? == bound && words.next()? == connected;
        let (user, inode) = (words.nth(4)?, words.nth(1)?);
        (same && inode != "0").then(|| user.parse().ok())?
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_of_this_process_is_not_anothers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, peer) = listener.accept().unwrap();
        let local = stream.local_addr().unwrap();
        assert!(!is_another(peer, local));
        drop(client);
        assert!(is_another(peer, local), "closed: nobody's");
    }

    #[test]
    fn the_row_of_a_connection_names_its_user() {
        let row = |user: &str, inode: &str| {
            let ip = |octets| format!("{:08X}", u32::from_ne_bytes(octets));
            format!(
                "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                 0: {}:3A98 {}:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 7 1 0 20 4 30 10 -1\n   \
                 1: {}:9C40 {}:3A98 01 00000000:00000000 00:00000000 00000000 {user}        0 {inode} 1 0 20 4 30 10 -1\n",
                ip([127, 0, 192, 3]),
                ip([127, 0, 0, 1]),
                ip([127, 0, 0, 1]),
                ip([127, 0, 192, 3]),
            )
        };
        let (client, server) = ("127.0.0.1:40000", "127.0.192.3:15000");
        for (user, inode, found) in [
            ("65534", "4711", Some(65534)),
            ("0", "4711", Some(0)),
            ("0", "0", None),
        ] {
            let (client, server) = (client.parse().unwrap(), server.parse().unwrap());
            assert_eq!(owner(&row(user, inode), client, server), found);
        }
    }
}
