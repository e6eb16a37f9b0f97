//! The lab runner: reads labs, types them, judges the cluster by their checks.
//!
//! It is a client of a Kubernetes API and of HTTP, and knows nothing of how the mesh is made.
//!
//! ```text
//! README.md ── parse ──► Lab ──► Step ── check ──► judge ──► Verdict ── failed ──► diagnose ──► cause
//!                                  │                 ▲
//!                                  └── sh ── type ───┴── the cluster
//! ```

pub mod attempt;
pub mod book;
pub mod check;
pub mod class;
pub mod cluster;
pub mod command;
pub mod diagnose;
pub mod judge;
pub mod lab;
pub mod language;
pub mod lint;
pub mod parse;
pub mod progress;
pub mod rehearse;
pub mod say;
pub mod send;
pub mod sequential;
pub mod snapshot;
pub mod terminal;
pub mod type_in;

pub use command::{LabArgs, Place, run};
