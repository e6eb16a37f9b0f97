//! The certificate of the webhooks and of the configuration stream.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};

use crate::ca::Authority;

/// Names under which the control plane is called.
const NAMES: [&str; 5] = [
    "istiod",
    "istiod.istio-system",
    "istiod.istio-system.svc",
    "istiod.istio-system.svc.cluster.local",
    "localhost",
];

/// A fresh certificate for the Service `istiod`, ready for TLS listeners.
pub(crate) fn serving(authority: &Authority) -> anyhow::Result<Arc<rustls::ServerConfig>> {
    let (chain, key) = authority.serving(&NAMES)?;
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}
