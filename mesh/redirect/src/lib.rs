//! Interception on a real cluster: the kernel is told to bring a pod's connections to its sidecar.
//!
//! ```text
//!  from outside ──► prerouting ─────────────────► 15006 ──► 127.0.0.6 ──► the workload
//!  the workload ──► output ──► 15001 ──► (uid 1337: left alone) ──► other pods
//! ```
//!
//! The init container `istio-init` runs `meshdojo istio-iptables` with the flags of Istio's program of
//! that name. [`Args`] becomes a [`Rules`], rules become one nftables script ([`Rules::script`], pure), and
//! [`run`] hands it to `nft`, which carries out all of it or nothing. The connections keep their
//! original destination, which the sidecar asks the kernel for. IPv4 and IPv6 alike; UDP, and with it
//! DNS, is left alone.
//!
//! On the embedded cluster pods have a door instead, so there is nothing to redirect.

mod args;
mod rules;
mod run;

pub use args::{Args, Mode};
pub use rules::{Ports, Rules};
pub use run::{Error, run};
