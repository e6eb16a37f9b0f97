//! The injector: a mutating admission webhook that adds the sidecar to pods.
//!
//! ```text
//! AdmissionReview ─► decide (labels, annotations, namespace) ─► patch ─► JSONPatch
//! files (kube_inject) ─┘                                         ├─ redirect: istio-init
//!                                                                ├─ sidecar: istio-proxy
//!                                                                └─ probes: through the agent
//! ```
//!
//! The sidecar is a native one: the init container `istio-proxy` with `restartPolicy: Always`, so it
//! starts before the application and stops after it. Where Kubernetes is too old for that, it is the
//! first container, and the application waits for it. Before it `istio-init` has the kernel bring the
//! pod's connections to it; on the embedded cluster that does nothing, because there the annotation
//! `embedded.meshdojo.dev/door` tells which container is the way in and out.

mod annotations;
mod certificate;
mod decide;
pub mod kube_inject;
mod patch;
mod probes;
mod redirect;
mod sidecar;
mod webhook;

pub(crate) use annotations::not_carried_out;
pub(crate) use certificate::{keep, serving};
pub(crate) use webhook::{answer, router};
