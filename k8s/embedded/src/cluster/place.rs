//! A cluster's place on the machine: its addresses and its port, chosen once.

use crate::network::addresses::{AddressPlan, INDICES};
use anyhow::{Context, anyhow, bail};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use tokio::net::{TcpListener, TcpSocket};

/// Port on the node's address that a running cluster holds, so that no other takes its addresses.
const GUARD_PORT: u16 = 10250;

/// The API's port is one of these: below those that the system gives to outgoing connections, which
/// could hold it when the cluster comes back.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

const FILE: &str = "cluster.json";

/// What the file keeps.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Kept {
    /// N of the addresses 127.N.0.0/16.
    index: u8,
    /// The API's port on 127.0.0.1.
    port: u16,
}

/// Addresses and port that this process holds.
pub(super) struct Place {
    pub(super) addresses: AddressPlan,
    listener: Option<TcpListener>,
    _guard: TcpListener,
}

impl Place {
    /// The place kept in `folder`; at the first start, one that is free.
    pub(super) async fn take(folder: &Path) -> anyhow::Result<Self> {
        let file = folder.join(FILE);
        match read(&file)? {
            Some(kept) => Self::again(kept, &file),
            None => Self::first(&file),
        }
    }

    fn again(kept: Kept, file: &Path) -> anyhow::Result<Self> {
        let addresses = AddressPlan::new(kept.index)
            .with_context(|| format!("{}: field index", file.display()))?;
        let guard = listen(addresses.node(), GUARD_PORT).map_err(|error| {
            anyhow!(
                "{}:{GUARD_PORT} cannot be taken ({error}): another cluster runs on the same addresses; stop it first",
                addresses.node()
            )
        })?;
        let listener = listen(Ipv4Addr::LOCALHOST, kept.port).map_err(|error| {
            anyhow!(
                "127.0.0.1:{} cannot be taken ({error}): stop what listens there, or change the port in {} and fetch the kubeconfig again",
                kept.port,
                file.display()
            )
        })?;
        Ok(Place {
            addresses,
            listener: Some(listener),
            _guard: guard,
        })
    }

    fn first(file: &Path) -> anyhow::Result<Self> {
        // anywhere, so that clusters which do not run now are seldom hit
        let count = u16::from(*INDICES.end() - *INDICES.start()) + 1;
        let start = rand::rng().random_range(0..count);
        for step in 0..count {
            let offset = u8::try_from((start + step) % count).unwrap_or_default();
            let addresses = AddressPlan::new(INDICES.start() + offset)?;
            let guard = match listen(addresses.node(), GUARD_PORT) {
                Ok(guard) => guard,
                Err(error) if error.kind() == ErrorKind::AddrInUse => continue,
                Err(error) => {
                    return Err(anyhow!(
                        "{} cannot be listened on ({error}): the system needs the loopback addresses 127.0.0.0/8",
                        addresses.node()
                    ));
                }
            };
            let listener = listen_anywhere().context("taking a port on 127.0.0.1")?;
            let kept = Kept {
                index: addresses.index(),
                port: listener.local_addr()?.port(),
            };
            crate::auth::write_private(file, &serde_json::to_string(&kept)?)
                .with_context(|| format!("writing {}", file.display()))?;
            return Ok(Place {
                addresses,
                listener: Some(listener),
                _guard: guard,
            });
        }
        bail!("all {count} address ranges are in use by running clusters; stop some")
    }

    /// The API's listener; once.
    pub(super) fn listener(&mut self) -> anyhow::Result<TcpListener> {
        self.listener
            .take()
            .ok_or_else(|| anyhow!("the API's listener is in use already"))
    }
}

fn read(file: &Path) -> anyhow::Result<Option<Kept>> {
    match std::fs::read_to_string(file) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .with_context(|| format!("{}: remove it to choose a new place", file.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", file.display())),
    }
}

/// Listens on a free port of [`PORTS`].
fn listen_anywhere() -> std::io::Result<TcpListener> {
    const TRIES: usize = 100;
    let mut tried = 0;
    loop {
        tried += 1;
        match listen(Ipv4Addr::LOCALHOST, rand::rng().random_range(PORTS)) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && tried < TRIES => {}
            done => return done,
        }
    }
}

/// Listens on an address that a killed cluster may have held a moment ago.
fn listen(address: Ipv4Addr, port: u16) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddrV4::new(address, port).into())?;
    socket.listen(256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_kept_and_not_shared() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = Place::take(folder.path()).await.unwrap();
        let port = first.listener().unwrap().local_addr().unwrap().port();
        let index = first.addresses.index();
        // a second process with the same state is refused
        let error = Place::take(folder.path()).await.err().unwrap();
        assert!(error.to_string().contains("another cluster"), "{error}");
        drop(first);
        let mut again = Place::take(folder.path()).await.unwrap();
        assert_eq!(again.addresses.index(), index);
        assert_eq!(again.listener().unwrap().local_addr().unwrap().port(), port);
        let other = tempfile::tempdir().unwrap();
        let other = Place::take(other.path()).await.unwrap();
        assert_ne!(other.addresses.index(), index);
    }
}
