//! The control plane of the mesh.
//!
//! ```text
//! Kubernetes API ─ watch ─► World ─► Compiler ─► Snapshot per proxy ─► stream of changes
//!        ▲                    │
//!        └── status, events ──┴─► report: what is wrong or not carried out
//! ```

pub mod compile;
pub mod world;

pub use compile::compile;

/// Namespace of the control plane; rules there hold for the whole mesh.
pub const ROOT_NAMESPACE: &str = "istio-system";
