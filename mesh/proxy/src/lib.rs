//! The mesh's data plane: a sidecar beside a workload, or a gateway.
//!
//! A request reads top to bottom, one file per phase:
//!
//! ```text
//! accept ─ tls ─ sniff ─ codec ─► request ─┬─ door          where does the client want to go?
//!          (sni)  └► tcp             │
//!                                    ├─ path, conventions, trace_context
//!                                    ├─ authorization (external, jwt, rbac)   may it pass?
//!                                    ├─ config/route   which route?
//!                                    ├─ fault
//!                                    └─ forward ─┬─ balance ─ pool, breaker ─► upstream (request_body)
//!                                                └─ retry, outlier
//!          downstream ◄─ response_body ◄─ reply, rewrite, upgrade
//!                          └─ exchange ─► stats, access_log, spans, tap
//! ```
//!
//! **Threads.** The control thread holds the configuration stream, the admin interface and the
//! agent's ports. Workers carry traffic: each is a single-threaded runtime with its own connection
//! pools and randomness ([`worker`]), so a request takes no lock. With several workers each has its
//! own socket on the shared port.
//!
//! **Configuration.** A [`mesh_config::Snapshot`] is compiled once per update ([`config`]); a
//! request loads its listener and holds what it needs, so an update never drops one. Clusters and
//! hosts are stable objects: their pools and statistics survive.
//!
//! **Failure.** Whatever goes wrong becomes an answer with a response flag ([`reply`], [`flags`]),
//! and every request ends in one record ([`exchange`]).

mod accept;
mod access_log;
mod admin;
mod agent;
mod args;
mod authorization;
mod balance;
mod breaker;
mod client;
mod codec;
mod config;
mod context;
mod conventions;
mod cors;
mod discovery;
mod dns;
mod door;
mod downstream;
mod exchange;
mod executor;
mod fault;
mod flags;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod grpc;
mod hash_policy;
mod headers;
mod identity;
mod jwt;
mod limits;
mod malformed;
mod metadata;
mod operators;
mod original;
mod outlier;
mod path;
mod pool;
mod proxy;
mod proxy_protocol;
mod rbac;
mod reply;
mod request;
mod request_body;
mod response_body;
mod retry;
mod rewrite;
mod run;
mod serve;
mod shared;
mod sni;
mod sniff;
mod socket;
mod spans;
mod stats;
mod tap;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;
mod trace_context;
mod upgrade;
mod upstream_error;
mod worker;

pub use args::Args;
pub use run::run;
