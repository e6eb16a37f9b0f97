//! What every sample service shares.
//!
//! A sample service is a `Router` built from typed configuration. This crate brings it from the
//! command line to the network and surrounds it with what all services have:
//!
//! | module | question it answers |
//! | --- | --- |
//! | [`service`] | how does a service start, and what is around its routes? |
//! | [`listen`] | on which address? |
//! | [`server`] | how are connections accepted, served and ended? |
//! | [`connections`] | how many connections at a time, over plain TCP? |
//! | [`client`] | how does it call other services? |
//! | [`tunnel`] | how does it reach them over plain TCP? |
//! | [`grpc`] | how are gRPC calls served and made? |
//! | [`propagation`] | which headers go from the request served to the requests made? |
//! | [`chaos`] | which errors and delays happen on purpose? |
//! | [`metrics`] | what does `/metrics` show? |
//! | [`telemetry`] | where do logs and spans go? |
//! | [`trace_context`] | which trace does a request belong to? |
//!
//! Nothing here knows of a mesh or of Kubernetes: a service honours `http_proxy` and a few
//! variables, and runs alone on a laptop just as well.

pub mod chaos;
pub mod client;
pub mod connections;
pub mod duration;
pub mod grpc;
mod identity;
pub mod listen;
pub mod metrics;
pub mod propagation;
pub mod server;
pub mod service;
pub mod telemetry;
pub mod trace_context;
pub mod tunnel;

pub use identity::Identity;
pub use service::{Kit, SERVED_BY, ServeArgs, StartError, assemble, run, run_assembled};
