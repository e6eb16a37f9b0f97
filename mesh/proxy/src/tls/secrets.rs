//! Certificates and authorities by name: the workload's own, those of Secrets, those of files.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwap;
use mesh_config::{self as model, tls};
use rustls::{
    InconsistentKeys,
    pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor, pem::PemObject},
    sign::CertifiedKey,
};

use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::provider;

/// Authorities.
pub(super) type Roots = Vec<TrustAnchor<'static>>;

/// Everything that a handshake may need, replaced as a whole.
#[derive(Debug, Default)]
pub(crate) struct Secrets(ArcSwap<HashMap<Box<str>, Secret>>);

#[derive(Clone, Debug)]
struct Secret {
    certificate: Option<Arc<CertifiedKey>>,
    roots: Option<Arc<Roots>>,
    /// What it was made from.
    pem: Arc<model::Secret>,
}

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("secret {0}: no certificate in PEM form")]
    NoCertificate(String),
    #[error("secret {0}: no authority in PEM form")]
    NoAuthority(String),
    #[error("secret {name}: the private key: {reason}")]
    Key { name: String, reason: String },
    #[error("secret {name}: certificate and private key do not belong together")]
    Mismatch { name: String },
    #[error("secret {name}: {path}: {source}")]
    File {
        name: String,
        path: String,
        source: std::io::Error,
    },
}

impl Secrets {
    /// Adds or replaces secrets. A broken one keeps its last good version.
    pub(crate) fn put(
        &self,
        secrets: impl IntoIterator<Item = Arc<model::Secret>>,
    ) -> Vec<SecretError> {
        let mut errors = Vec::new();
        let mut all = HashMap::clone(&self.0.load());
        for secret in secrets {
            let known = all.get(secret.name.as_str());
            if known.is_some_and(|known| known.pem == secret) {
                continue;
            }
            match Secret::read(secret.clone()) {
                Ok(read) => _ = all.insert(secret.name.as_str().into(), read),
                Err(error) => errors.push(error),
            }
        }
        self.0.store(Arc::new(all));
        errors
    }

    /// Forgets what a snapshot named and the next does not.
    pub(crate) fn retain(&self, keep: impl Fn(&str) -> bool) {
        if self.0.load().keys().any(|name| !keep(name)) {
            let mut all = HashMap::clone(&self.0.load());
            all.retain(|name, _| keep(name));
            self.0.store(Arc::new(all));
        }
    }

    /// Reads the files that a context names; names of other kinds come from elsewhere.
    pub(super) fn load_files(&self, name: &str) -> Result<(), SecretError> {
        let read = |path: &str| {
            std::fs::read_to_string(Path::new(path)).map_err(|source| SecretError::File {
                name: name.into(),
                path: path.into(),
                source,
            })
        };
        let mut secret = model::Secret {
            name: name.into(),
            ..model::Secret::default()
        };
        if name == tls::SYSTEM_ROOT {
            return Ok(());
        } else if let Some(path) = name.strip_prefix("file-root:") {
            secret.trusted_ca = read(path)?;
        } else if let Some((certificate, key)) = name
            .strip_prefix("file-cert:")
            .and_then(|paths| paths.split_once('~'))
        {
            secret.certificate_chain = read(certificate)?;
            secret.private_key = read(key)?;
        } else {
            return Ok(());
        }
        self.put([Arc::new(secret)]).pop().map_or(Ok(()), Err)
    }

    /// The certificate of this name.
    pub(super) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.0.load().get(name)?.certificate.clone()
    }

    /// The authorities of this name.
    pub(super) fn roots(&self, name: &str) -> Option<Arc<Roots>> {
        if name == tls::SYSTEM_ROOT {
            return Some(system_roots());
        }
        self.0.load().get(name)?.roots.clone()
    }

    /// What all secrets were made from, by name.
    pub(crate) fn all(&self) -> Vec<Arc<model::Secret>> {
        let mut all: Vec<_> = self.0.load().values().map(|s| s.pem.clone()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

impl Secret {
    fn read(pem: Arc<model::Secret>) -> Result<Self, SecretError> {
        let name = || pem.name.clone();
        let mut secret = Self {
            certificate: None,
            roots: None,
            pem: pem.clone(),
        };
        if !pem.certificate_chain.is_empty() || !pem.private_key.is_empty() {
            let chain = certificates(&pem.certificate_chain);
            if chain.is_empty() {
                return Err(SecretError::NoCertificate(name()));
            }
            let broken = |reason: String| SecretError::Key {
                name: name(),
                reason,
            };
            let key = PrivateKeyDer::from_pem_slice(pem.private_key.as_bytes())
                .map_err(|error| broken(error.to_string()))?;
            let key = provider().key_provider.load_private_key(key);
            let key = key.map_err(|error| broken(error.to_string()))?;
            let certified = CertifiedKey::new(chain, key);
            if !is_pair(&certified).map_err(|error| broken(error.to_string()))? {
                return Err(SecretError::Mismatch { name: name() });
            }
            secret.certificate = Some(Arc::new(certified));
        }
        if !pem.trusted_ca.is_empty() {
            let roots = anchors(certificates(&pem.trusted_ca));
            if roots.is_empty() {
                return Err(SecretError::NoAuthority(name()));
            }
            secret.roots = Some(Arc::new(roots));
        }
        Ok(secret)
    }
}

/// Whether the key is the certificate's. webpki reads no certificate of version 1, which
/// `openssl x509 -req` makes before OpenSSL 3.2.
fn is_pair(certified: &CertifiedKey) -> Result<bool, rustls::Error> {
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(true),
        Err(rustls::Error::InconsistentKeys(_)) => Ok(false),
        Err(unread) => {
            let leaf = certified.end_entity_cert()?;
            let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| unread)?;
            let own = certified.key.public_key();
            Ok(own.is_none_or(|own| own.as_ref() == leaf.public_key().raw))
        }
    }
}

/// The certificates of a PEM text; what is not one is left out.
pub(crate) fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .filter_map(Result::ok)
        .collect()
}

fn anchors(certificates: Vec<CertificateDer<'static>>) -> Roots {
    certificates
        .iter()
        .filter_map(|der| Some(webpki::anchor_from_trusted_cert(der).ok()?.to_owned()))
        .collect()
}

/// Read once, when first asked for: only routes that leave the mesh need them.
fn system_roots() -> Arc<Roots> {
    static ROOTS: OnceLock<Arc<Roots>> = OnceLock::new();
    let load = || Arc::new(anchors(rustls_native_certs::load_native_certs().certs));
    ROOTS.get_or_init(load).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of version 1, made with `openssl x509 -req`.
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBCjCBsQIBATAKBggqhkjOPQQDAjANMQswCQYDVQQDDAJjYTAgFw0yNjExMjIw
MDIxMTRaGA8yMTI2MTAyOTAwMjExNFowFDESMBAGA1UEAwwJYS5leGFtcGxlMFkw
EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2CvLZFZxbKe8JG+KleIuIn9V9KFPz0Kh
eI6ptDswOtyr/ejD2Y1cuvB3Z2g3YeD5IvDeXyY83fZdv/jlVkQgdzAKBggqhkjO
PQQDAgNIADBFAiBRsbCYedcleZGgW9gBROLb8k5wN62S0w6/mDoQ2Zwn6wIhAKlD
3T8Dz2hfJQmzJDaMgWdD5ahBd+DcmHZ2+dp39gGA
-----END CERTIFICATE-----";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgxW1OwvmYytjAlrxA
sfSJt4xYW/zey2yfQZakEInE7lahRANCAATYK8tkVnFsp7wkb4qV4i4if1X0oU/P
QqF4jqm0OzA63Kv96MPZjVy68HdnaDdh4Pki8N5fJjzd9l2/+OVWRCB3
-----END PRIVATE KEY-----";

    fn read(key: &str) -> Result<Secret, SecretError> {
        Secret::read(Arc::new(model::Secret {
            name: "kubernetes://web".into(),
            certificate_chain: CERTIFICATE.into(),
            private_key: key.into(),
            ..model::Secret::default()
        }))
    }

    #[test]
    fn certificates_of_version_1_are_served() {
        assert!(read(KEY).expect("a secret").certificate.is_some());
    }

    #[test]
    fn another_key_is_refused() {
        let other = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        assert!(matches!(read(&other), Err(SecretError::Mismatch { .. })));
    }
}
