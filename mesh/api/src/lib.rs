//! Istio's resources as Rust types.
//!
//! ```text
//! JSON or YAML ──► Resource<VirtualService> ──► validate() ──► the control plane compiles it
//!                    ▲ types (one file per kind)
//!                    └─► schema ──► crds(): what the API server knows of each kind
//! ```
//!
//! The types are the only source: the schemas of the CustomResourceDefinitions are generated from
//! them, so `kubectl explain` prints the doc comments of the fields and strict validation knows
//! exactly the fields that exist. All API versions of a kind carry the same schema and any of them
//! is accepted. Field names are read in camelCase and in snake_case ([`parse`]).
//!
//! Kinds that the mesh does not carry out have complete types all the same: their manifests apply,
//! and the control plane says on their status that they have no effect.

#[macro_use]
mod message;

mod crd;
mod duration;
mod host;
mod kind;
mod resource;
mod schema;
mod selector;
mod validate;

pub mod destination_rule;
pub mod envoy_filter;
pub mod gateway;
pub mod proxy_config;
pub mod security;
pub mod service_entry;
pub mod sidecar;
pub mod telemetry;
pub mod virtual_service;
pub mod wasm_plugin;
pub mod workload;

pub use crd::crds;
pub use destination_rule::DestinationRule;
pub use duration::{Duration, DurationError};
pub use envoy_filter::EnvoyFilter;
pub use gateway::Gateway;
pub use host::{GatewayRef, Host, matches as host_matches};
pub use kind::{Column, KINDS, Kind, kind};
pub use proxy_config::ProxyConfig;
pub use resource::{Metadata, ParseError, Parsed, Resource, metadata, parse};
pub use security::{AuthorizationPolicy, PeerAuthentication, RequestAuthentication};
pub use selector::{PolicyTargetReference, WorkloadSelector, WorkloadSelectorLabels};
pub use service_entry::ServiceEntry;
pub use sidecar::Sidecar;
pub use telemetry::Telemetry;
pub use validate::validate;
pub use virtual_service::VirtualService;
pub use workload::WorkloadEntry;
