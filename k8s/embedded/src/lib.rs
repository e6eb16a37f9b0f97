//! The embedded cluster: an API server, controllers and pods as processes, in one process.
//!
//! ```text
//!   kubectl      controllers   runtime      (kube-rs clients)
//!      \ TLS         |  in process |
//!       +-------- server::ApiServer --------+
//!       | auth -> admission -> defaults,    |
//!       | patch, validate -> store -> watch |
//!       +-----------------------------------+
//! ```
//!
//! The API server is one axum `Router` over one generic resource store. Everything else in the
//! cluster is an ordinary Kubernetes client of it: controllers and the pod runtime could run
//! against any cluster. What only a node can answer (logs) goes through the [`node::Node`] trait.
//!
//! Requests are JSON from end to end: objects are `serde_json::Value`s, and what is known about a
//! kind (schema, defaults, validation, table columns) is looked up by its [`gvk::Gvk`].

pub mod admission;
pub mod auth;
pub mod cluster;
pub mod controllers;
pub mod crd;
pub mod discovery;
pub mod gvk;
pub mod images;
pub mod informers;
mod label_selector;
pub mod metrics;
pub mod network;
pub mod node;
pub mod openapi;
pub mod runtime;
pub mod server;
pub mod status;
pub mod store;
mod versions;

pub mod defaults;
pub mod patch;
pub mod protobuf;
pub mod table;
mod types;
pub mod validate;

pub use cluster::{Config, run};
