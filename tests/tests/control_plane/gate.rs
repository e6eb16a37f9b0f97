//! The API server as those see it who reach it through here: it can be away.

use std::{net::SocketAddr, path::Path, sync::mpsc};

use anyhow::Context;
use dojo_tests::dojo::Dojo;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use crate::SOON;

pub(crate) struct Gate {
    address: SocketAddr,
    open: watch::Sender<bool>,
    /// It is closed, and every connection is broken.
    closed: mpsc::Receiver<()>,
}

impl Gate {
    /// Before the API server of a cluster, open. On a thread of its own, because what the test does
    /// meanwhile blocks.
    pub(crate) fn before(dojo: &Dojo) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(dojo.kubeconfig())?;
        let (_, server) = text.split_once("https://").context("an address")?;
        let end = server.find(|c: char| !c.is_ascii_digit() && !".:".contains(c));
        let server: SocketAddr = server[..end.unwrap_or(server.len())].parse()?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (open, told) = watch::channel(true);
        let (is_closed, closed) = mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                // It has been made, so that taking it over cannot fail; else nobody is let through.
                if let Ok(listener) = TcpListener::from_std(listener) {
                    pass(listener, server, told, is_closed).await;
                }
            });
        });
        Ok(Self {
            address,
            open,
            closed,
        })
    }

    /// Writes the cluster's kubeconfig with the gate in the place of the API server.
    pub(crate) fn kubeconfig(&self, dojo: &Dojo, file: &Path) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(dojo.kubeconfig())?;
        let (before, server) = text.split_once("https://").context("an address")?;
        let end = server.find(|c: char| !c.is_ascii_digit() && !".:".contains(c));
        let after = &server[end.unwrap_or(server.len())..];
        let text = format!("{before}https://{}{after}", self.address);
        Ok(std::fs::write(file, text)?)
    }

    /// Breaks every connection and takes no other.
    pub(crate) fn close(&self) -> anyhow::Result<()> {
        self.open.send_replace(false);
        self.closed.recv_timeout(SOON).context("the gate is open")
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}

async fn pass(
    listener: TcpListener,
    server: SocketAddr,
    mut open: watch::Receiver<bool>,
    is_closed: mpsc::Sender<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((mut from, _)) = accepted && *open.borrow() {
                connections.spawn(async move {
                    if let Ok(mut to) = TcpStream::connect(server).await {
                        let _ = copy_bidirectional(&mut from, &mut to).await;
                    }
                });
            },
            changed = open.changed() => match changed {
                Ok(()) if *open.borrow_and_update() => {}
                Ok(()) => {
                    connections.shutdown().await;
                    if is_closed.send(()).is_err() {
                        return;
                    }
                }
                Err(_) => return,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}
