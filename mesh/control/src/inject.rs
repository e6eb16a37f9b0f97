//! The injector: a mutating admission webhook that adds the sidecar to pods.
//!
//! ```text
//! AdmissionReview ─► decide (labels, annotations, namespace) ─► patch ─► JSONPatch
//!                                                                └─ probes: through the agent
//! ```
//!
//! The sidecar is a native one: the init container `istio-proxy` with `restartPolicy: Always`, so it
//! starts before the application and stops after it. Nothing redirects connections yet: there is no
//! `istio-init`. The annotation `embedded.meshdojo.dev/door` tells the embedded cluster which
//! container is the way out; on other clusters redirection comes with a later stage.

mod certificate;
mod decide;
mod patch;
mod probes;
mod webhook;

pub(crate) use certificate::serving;
pub(crate) use webhook::{router, trust};
