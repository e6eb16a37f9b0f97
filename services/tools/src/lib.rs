//! The client tools that labs run in pods.
pub mod connection;
pub mod dial;
pub mod engine;
pub mod fortio;
pub mod request;
pub mod route;
pub mod schedule;
pub mod shell;
pub mod tls;
