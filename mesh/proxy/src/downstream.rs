//! A connection from a client, and what is known of it.

use std::{cell::OnceCell, net::SocketAddr, rc::Rc, sync::Arc};

use arc_swap::ArcSwap;

use crate::{
    config::{Destination, Listener},
    sni::Hello,
    stats::istio::PrincipalId,
    tls::Peer,
    worker::Worker,
};

/// A downstream connection.
pub(crate) struct Downstream {
    pub(crate) worker: Rc<Worker>,
    pub(crate) listener: Arc<ArcSwap<Listener>>,
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
    /// Where the connection goes, when that is not the listener itself: the target of a `CONNECT`
    /// tunnel or the original destination.
    pub(crate) destination: Option<Destination>,
    /// How the client began, if that was looked at.
    pub(crate) hello: OnceCell<Hello>,
    /// Who the client is, if it proved it.
    pub(crate) peer: Option<Peer>,
    /// The same in metrics.
    pub(crate) principal: PrincipalId,
    /// We ended TLS.
    pub(crate) encrypted: bool,
}
