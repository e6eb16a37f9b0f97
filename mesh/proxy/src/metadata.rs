//! Peer metadata exchange: how a proxy learns which workload called it, for its metrics. Istio's
//! headers, in Istio's form: a protobuf `Struct` in base64.

use std::{cell::RefCell, collections::HashMap};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::stats::istio::{Labels, PeerId};

pub(crate) mod protobuf;

pub(crate) const PEER_METADATA: HeaderName = HeaderName::from_static("x-envoy-peer-metadata");
pub(crate) const PEER_METADATA_ID: HeaderName = HeaderName::from_static("x-envoy-peer-metadata-id");

/// Distinct callers that a worker remembers.
const PEERS: usize = 1_024;

/// Callers by the text of their header, so that it is decoded once.
#[derive(Default)]
pub(crate) struct PeerCache(RefCell<HashMap<HeaderValue, PeerId>>);

impl PeerCache {
    /// Takes the caller's metadata off the request.
    pub(crate) fn take(&self, headers: &mut HeaderMap, labels: &Labels) -> PeerId {
        headers.remove(PEER_METADATA_ID);
        let Some(value) = headers.remove(PEER_METADATA) else {
            return PeerId::UNKNOWN;
        };
        let mut known = self.0.borrow_mut();
        if let Some(peer) = known.get(&value) {
            return *peer;
        }
        let peer = protobuf::decode(value.as_bytes())
            .map_or(PeerId::UNKNOWN, |workload| labels.peer(&workload));
        if known.len() < PEERS {
            known.insert(value, peer);
        }
        peer
    }
}

/// The proxy's own two headers.
#[derive(Clone, Debug)]
pub(crate) struct OwnMetadata {
    metadata: HeaderValue,
    id: HeaderValue,
}

impl OwnMetadata {
    /// `None` as long as the control plane has not told the proxy who it is.
    pub(crate) fn of(node: &mesh_config::Node) -> Option<Self> {
        if node.workload.name.is_empty() {
            return None;
        }
        Some(Self {
            metadata: HeaderValue::from_str(&protobuf::encode(node)).ok()?,
            id: HeaderValue::from_str(&node.id).ok()?,
        })
    }

    pub(crate) fn put(&self, headers: &mut HeaderMap) {
        headers.insert(PEER_METADATA, self.metadata.clone());
        headers.insert(PEER_METADATA_ID, self.id.clone());
    }
}
