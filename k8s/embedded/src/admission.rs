//! What happens to an object between decoding and storing: defaults that need the cluster, and
//! webhooks.

pub mod services;
