//! What the suites share: a cluster of their own, and ways to look at it as a person would.

pub mod bookstore;
pub mod browser;
pub mod dojo;
pub mod envoy;
pub mod kubectl;
pub mod namespaces;
