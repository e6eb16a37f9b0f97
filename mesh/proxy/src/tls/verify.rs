//! Is the other side who it should be? The same check for servers and clients: signed by an
//! authority of a name, valid now, carrying one of the expected names.

use std::sync::Arc;

use mesh_config::{CertificateValidation, ClientCertificate};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use webpki::{EndEntityCert, KeyUsage};

use super::{Secrets, provider};

/// Checks a peer's certificate.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) secrets: Arc<Secrets>,
    /// `None`: any certificate will do.
    pub(super) validation: Option<CertificateValidation>,
    pub(super) client: ClientCertificate,
}

impl Verifier {
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), Error> {
        let Some(validation) = &self.validation else {
            return Ok(());
        };
        let bad = |error| Error::InvalidCertificate(error);
        let leaf = EndEntityCert::try_from(leaf).map_err(|_| bad(CertificateError::BadEncoding))?;
        let roots = self.secrets.roots(&validation.trust);
        let roots = roots.ok_or(bad(CertificateError::UnknownIssuer))?;
        let algorithms = provider().signature_verification_algorithms.all;
        leaf.verify_for_usage(algorithms, &roots, intermediates, now, usage, None, None)
            .map_err(|error| bad(because(error)))?;
        let expected = &validation.subject_alt_names;
        let mut carried = leaf.valid_uri_names().chain(leaf.valid_dns_names());
        if expected.is_empty()
            || carried.any(|name| expected.iter().any(|pattern| matches(pattern, name)))
        {
            return Ok(());
        }
        Err(bad(CertificateError::NotValidForName))
    }
}

fn because(error: webpki::Error) -> CertificateError {
    match error {
        webpki::Error::CertExpired { .. } => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        webpki::Error::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        other => CertificateError::Other(rustls::OtherError(Arc::new(other))),
    }
}

/// Exact, or with a `*` at either end. A certificate's own wildcard stands for one label.
fn matches(pattern: &str, name: &str) -> bool {
    let wild = |pattern: &str, name: &str| {
        let rest = pattern.strip_prefix("*.");
        rest.zip(name.split_once('.'))
            .is_some_and(|(rest, (_, parent))| rest.eq_ignore_ascii_case(parent))
    };
    if let Some(prefix) = pattern.strip_suffix('*') {
        return name.starts_with(prefix);
    }
    if let Some(suffix) = pattern.strip_prefix('*') {
        return name.ends_with(suffix);
    }
    pattern.eq_ignore_ascii_case(name) || wild(name, pattern)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates, now, KeyUsage::server_auth())?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn offer_client_auth(&self) -> bool {
        self.client != ClientCertificate::None
    }

    fn client_auth_mandatory(&self) -> bool {
        self.client == ClientCertificate::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates, now, KeyUsage::client_auth())?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn names_are_exact_or_wild_at_one_end() {
        for (pattern, name, same) in [
            ("spiffe://a/ns/b/sa/c", "spiffe://a/ns/b/sa/c", true),
            ("spiffe://a/ns/b/sa/c", "spiffe://a/ns/b/sa/d", false),
            ("spiffe://a/ns/b/*", "spiffe://a/ns/b/sa/d", true),
            ("*/sa/d", "spiffe://a/ns/b/sa/d", true),
            ("www.example.com", "*.example.com", true),
            ("a.www.example.com", "*.example.com", false),
            ("WWW.example.com", "www.example.com", true),
        ] {
            assert_eq!(matches(pattern, name), same, "{pattern} {name}");
        }
    }
}
