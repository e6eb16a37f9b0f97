//! What all threads of a proxy share.

use std::{net::IpAddr, sync::Arc, time::Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use mesh_config::{Node, ProxyId};
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

use crate::{
    access_log,
    config::{Http, Tcp},
    metadata::OwnMetadata,
    spans::Span,
    stats::{Registry, istio::Labels},
    tap::Tap,
    tls::Secrets,
};

/// See the [module](self).
pub(crate) struct Shared {
    pub(crate) identity: ProxyId,
    pub(crate) started: Instant,
    pub(crate) registry: Arc<Registry>,
    pub(crate) labels: Labels,
    pub(crate) log: access_log::Sink,
    /// Finished spans, for the exporter.
    pub(crate) spans: Sender<Span>,
    pub(crate) log_format: ArcSwap<access_log::Format>,
    pub(crate) node: ArcSwap<Node>,
    pub(crate) own_metadata: ArcSwapOption<OwnMetadata>,
    /// Downstream connections at one time.
    pub(crate) max_connections: u64,
    /// Where upstream connections leave from.
    pub(crate) source_address: Option<IpAddr>,
    /// Cancelled: connections finish what they have and close.
    pub(crate) drain: CancellationToken,
    /// To the pod's own localhost, through a door.
    pub(crate) loopback_http: Http,
    pub(crate) loopback_tcp: Tcp,
    /// Seeds the workers' randomness, for tests.
    pub(crate) seed: Option<u64>,
    pub(crate) secrets: Arc<Secrets>,
    /// Those who watch what passes.
    pub(crate) tap: Arc<Tap>,
}
