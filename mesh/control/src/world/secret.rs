//! Secrets that hold certificates.

use k8s_openapi::api::core::v1 as core;

/// A Secret with a certificate or authorities, trimmed. PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TlsSecret {
    /// `tls.crt` or `cert`.
    pub certificate: String,
    /// `tls.key` or `key`.
    pub key: String,
    /// `ca.crt` or `cacert`.
    pub authorities: String,
}

/// Keys are not for logs.
impl std::fmt::Debug for TlsSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsSecret").finish_non_exhaustive()
    }
}

impl TlsSecret {
    /// From the API object; `None` when it holds nothing of the kind.
    pub fn read(from: &core::Secret) -> Option<Self> {
        let data = from.data.as_ref()?;
        let text = |names: [&str; 2]| {
            let bytes = names.iter().find_map(|name| data.get(*name));
            bytes.map_or_else(String::new, |bytes| {
                String::from_utf8_lossy(&bytes.0).into_owned()
            })
        };
        let secret = Self {
            certificate: text(["tls.crt", "cert"]),
            key: text(["tls.key", "key"]),
            authorities: text(["ca.crt", "cacert"]),
        };
        (secret != Self::default()).then_some(secret)
    }
}
