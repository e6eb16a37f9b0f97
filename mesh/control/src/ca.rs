//! The certificate authority of the mesh.
//!
//! ```text
//! Secret cacerts, else istio-ca-secret (made once) ─► Authority ─┬─► serve: signs what proxies ask for
//!                                                                ├─► the control plane's own TLS
//!                                                                └─► publish: ConfigMap istio-ca-root-cert
//! a change of Secret cacerts ─► follow: another Authority of the same roots
//! ```

mod authority;
mod follow;
mod publish;
mod serve;

pub(crate) use authority::Authority;
pub(crate) use follow::follow;
pub(crate) use publish::publish;
pub(crate) use serve::{Signer, router};
