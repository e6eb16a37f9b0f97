//! TLS: who speaks at either end of a connection.
//!
//! ```text
//! accept ─► sniff: the client's greeting ─► filter chain ─► server ─┬─► codec
//!                                                            verify ┘ (Peer)
//! pool ─► client ─┬─► endpoint
//!          verify ┘            secrets: certificates and authorities by name
//! ```
//!
//! Certificates are looked up by name at each handshake, so that a new one takes effect without
//! touching what holds the name, and without touching open connections.

mod client;
pub(crate) mod control_plane;
mod peer;
mod secrets;
mod server;
mod stream;
mod verify;

use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;

pub(crate) use client::ClientTls;
pub(crate) use peer::{Facts, Peer};
pub(crate) use secrets::{SecretError, Secrets, certificates};
pub(crate) use server::ServerTls;
pub(crate) use stream::Upstream;

/// The one implementation of cryptography.
fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider()))
}
