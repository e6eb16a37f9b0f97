//! The certificate authority of the mesh.
//!
//! ```text
//! Secret cacerts, else istio-ca-secret (made once) ─► Authority ─┬─► serve: signs what proxies ask for
//!                                                                ├─► the control plane's own TLS
//!                                                                └─► publish: ConfigMap istio-ca-root-cert
//! a change of Secret cacerts ─► follow: another Authority, and for a while the roots of both
//! ```

mod authority;
mod follow;
mod publish;
mod serve;

pub(crate) use authority::Authority;
#[cfg(test)]
pub(crate) use authority::tests::authority as example;
pub(crate) use follow::follow;
pub(crate) use publish::publish;
pub(crate) use serve::{Signer, router};
