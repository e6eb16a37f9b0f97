//! Which servers are trusted behind `https`.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Which certificates a server may show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those signed by the authorities of this system.
    #[default]
    System,
    /// Those signed by an authority in this PEM file.
    File(PathBuf),
    /// Any: what `-k` and `--verify=no` ask for.
    Anything,
}

/// Why no trust could be set up.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file with authorities cannot be used.
    #[error("{file}: {problem}")]
    File {
        /// Its path.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The system has no authorities.
    #[error(
        "this system has no certificate authorities: {0}; name a file of them, or skip verification (-k)"
    )]
    NoAuthorities(String),
    /// rustls refuses the configuration.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// The client's side of TLS.
///
/// # Errors
/// When the authorities cannot be read.
pub fn client(trust: &Trust) -> Result<Arc<ClientConfig>, TrustError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let schemes = provider
        .signature_verification_algorithms
        .supported_schemes();
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match trust {
        Trust::Anything => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(schemes))),
        Trust::System => builder.with_root_certificates(system()?),
        Trust::File(file) => {
            let wrong = |problem: String| TrustError::File {
                file: file.display().to_string(),
                problem,
            };
            let mut roots = RootCertStore::empty();
            let found = CertificateDer::pem_file_iter(file).map_err(|e| wrong(e.to_string()))?;
            for certificate in found {
                let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
                roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
            }
            if roots.is_empty() {
                return Err(wrong("no certificate in it; give a PEM file".to_owned()));
            }
            builder.with_root_certificates(roots)
        }
    };
    Ok(Arc::new(builder.with_no_client_auth()))
}

fn system() -> Result<RootCertStore, TrustError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let errors = found.errors.iter().map(ToString::to_string);
        let errors = errors.collect::<Vec<_>>().join(", ");
        let problem = if errors.is_empty() {
            "none found".to_owned()
        } else {
            errors
        };
        return Err(TrustError::NoAuthorities(problem));
    }
    Ok(roots)
}

/// Trusts whatever a server shows.
#[derive(Debug)]
struct Anyone(Vec<SignatureScheme>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let trust = Trust::File(file.path().to_owned());
        let error = client(&trust).expect_err("empty").to_string();
        assert!(error.contains("give a PEM file"), "{error}");
        let error = client(&Trust::File("/nowhere.pem".into())).expect_err("absent");
        assert!(error.to_string().starts_with("/nowhere.pem: "), "{error}");
    }
}
