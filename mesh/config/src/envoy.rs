//! A snapshot as Envoy v3 JSON.
