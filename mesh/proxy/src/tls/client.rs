//! The client's side of TLS.

use std::{io, net::SocketAddr, sync::Arc};

use mesh_config::{CertificateValidation, ClientCertificate, UpstreamTlsContext};
use rustls::{
    CertificateError, ClientConfig, Error, SignatureScheme,
    client::{ResolvesClientCert, Resumption},
    pki_types::ServerName,
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use tokio_rustls::TlsConnector;

use super::{SecretError, Secrets, Upstream, provider, verify::Verifier};
use crate::{stats::ClusterStats, tap::Wire};

/// TLS towards the endpoints of a cluster.
#[derive(Debug)]
pub(crate) struct ClientTls {
    config: Arc<ClientConfig>,
    /// `None`: no name is asked for.
    server_name: Option<ServerName<'static>>,
    /// Only towards endpoints that offer it.
    pub(crate) where_offered: bool,
}

impl ClientTls {
    pub(crate) fn compile(
        context: &UpstreamTlsContext,
        secrets: &Arc<Secrets>,
    ) -> Result<Self, SecretError> {
        let trust = context
            .validation
            .as_ref()
            .map(|validation| &validation.trust);
        for name in context.certificate.iter().chain(trust) {
            secrets.load_files(name)?;
        }
        let server_name = ServerName::try_from(context.sni.clone()).ok();
        let builder = ClientConfig::builder_with_provider(provider().clone())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("every version has a suite: they are all there")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier {
                secrets: secrets.clone(),
                validation: context.validation.clone(),
                client: ClientCertificate::None,
            }));
        let mut config = match &context.certificate {
            None => builder.with_no_client_auth(),
            Some(name) => builder.with_client_cert_resolver(Arc::new(Named {
                secrets: secrets.clone(),
                name: name.as_str().into(),
            })),
        };
        config.enable_sni = server_name.is_some();
        // Connections are pooled; remembered sessions would outlive a change of trust.
        config.resumption = Resumption::disabled();
        config.alpn_protocols = context
            .alpn_protocols
            .iter()
            .map(|name| name.clone().into_bytes())
            .collect();
        Ok(Self {
            config: Arc::new(config),
            server_name,
            where_offered: context.where_offered,
        })
    }

    /// Trusts nobody: what stands in for a context that cannot be had, rather than plain text.
    pub(crate) fn failing(context: &UpstreamTlsContext) -> Self {
        let nobody = UpstreamTlsContext {
            where_offered: context.where_offered,
            certificate: None,
            validation: Some(CertificateValidation::default()),
            ..context.clone()
        };
        Self::compile(&nobody, &Arc::default()).expect("it names no file")
    }

    /// Shakes hands. An error says what went wrong as Envoy says it.
    pub(crate) async fn connect(
        &self,
        stream: Wire,
        to: SocketAddr,
        stats: &ClusterStats,
    ) -> io::Result<Upstream> {
        let name = self.server_name.clone();
        let name = name.unwrap_or_else(|| ServerName::IpAddress(to.ip().into()));
        let shaking = TlsConnector::from(self.config.clone()).connect(name, stream);
        match shaking.await {
            Ok(stream) => {
                stats.ssl_handshake.add(1);
                Ok(Upstream::Tls(Box::new(stream)))
            }
            Err(error) => {
                let (text, failure) = explain(&error);
                match failure {
                    Failure::San => stats.ssl_fail_verify_san.add(1),
                    Failure::Certificate => stats.ssl_fail_verify_error.add(1),
                    Failure::Other => stats.ssl_connection_error.add(1),
                }
                Err(io::Error::other(text))
            }
        }
    }
}

/// Looks the certificate up by name when a server asks for one.
#[derive(Debug)]
struct Named {
    secrets: Arc<Secrets>,
    name: Box<str>,
}

impl ResolvesClientCert for Named {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let key = self.secrets.certificate(&self.name)?;
        key.key.choose_scheme(schemes).is_some().then_some(key)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// The server's certificate does not carry an expected name.
    San,
    /// It is not to be trusted.
    Certificate,
    /// Anything else.
    Other,
}

/// A failed handshake in the words of Envoy's TLS library, and its kind for statistics.
fn explain(error: &io::Error) -> (String, Failure) {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let (text, failure) = match inner {
        Some(Error::InvalidCertificate(CertificateError::NotValidForName)) => (
            "|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: verify SAN list".into(),
            Failure::San,
        ),
        Some(Error::InvalidCertificate(reason)) => (
            format!("|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: {reason}"),
            Failure::Certificate,
        ),
        Some(Error::AlertReceived(alert)) => {
            let words = screaming(&format!("{alert:?}"));
            // The library's numbers of alerts begin here.
            let code = 268_436_448 + u32::from(u8::from(*alert));
            (format!("|{code}:SSL routines:OPENSSL_internal:TLSV1_ALERT_{words}"), Failure::Other)
        }
        Some(Error::InvalidMessage(_)) => (
            "|268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER".into(),
            Failure::Other,
        ),
        Some(other) => (format!("|{other}"), Failure::Other),
        None => (format!("|{error}"), Failure::Other),
    };
    (format!("TLS_error:{text}:TLS_error_end"), failure)
}

/// `UnknownCA` as `UNKNOWN_CA`.
fn screaming(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    let mut before = '_';
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && before.is_ascii_lowercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
        before = letter;
    }
    text
}
