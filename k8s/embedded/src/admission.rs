//! What happens to an object between decoding and storing: defaults that need the cluster's other
//! objects, addresses, and webhooks.
//!
//! Order, as in Kubernetes: ServiceAccount, mutating webhooks, ServiceAccount again (for containers
//! that a webhook has added), validating webhooks, allocation of addresses.

pub mod service_accounts;
pub mod services;
pub mod webhooks;
