//! The server's side of TLS.

use std::{io, sync::Arc, time::Duration};

use mesh_config::{ClientCertificate, DownstreamTlsContext, TlsVersion};
use rustls::{
    CipherSuite, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::CryptoProvider,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{Peer, SecretError, Secrets, provider, verify::Verifier};
use crate::sni::Hello;

/// A handshake must be done within this: Istio's limit.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(15);

/// Ends TLS on a filter chain.
#[derive(Debug)]
pub(crate) struct ServerTls {
    config: Arc<ServerConfig>,
    /// For clients that offer none of our application protocols.
    any_protocol: Arc<ServerConfig>,
    secrets: Arc<Secrets>,
    /// Name of our certificate: `By` in `x-forwarded-client-cert`.
    certificate: Box<str>,
}

impl ServerTls {
    pub(crate) fn compile(
        context: &DownstreamTlsContext,
        secrets: &Arc<Secrets>,
    ) -> Result<Self, SecretError> {
        let trust = context
            .validation
            .as_ref()
            .map(|validation| &validation.trust);
        for name in context.certificates.iter().chain(trust) {
            secrets.load_files(name)?;
        }
        let provider = Arc::new(CryptoProvider {
            cipher_suites: suites(&context.cipher_suites),
            ..(**provider()).clone()
        });
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions(context))
            .expect("every version has a suite: those of TLS 1.3 cannot be taken away");
        let builder = if context.client_certificate == ClientCertificate::None {
            builder.with_no_client_auth()
        } else {
            builder.with_client_cert_verifier(Arc::new(Verifier {
                secrets: secrets.clone(),
                validation: context.validation.clone(),
                client: context.client_certificate,
            }))
        };
        let names = context.certificates.iter().map(|name| name.as_str().into());
        let mut config = builder.with_cert_resolver(Arc::new(Named {
            secrets: secrets.clone(),
            names: names.collect(),
        }));
        // Clients keep their connections; remembered sessions would outlive a change of trust.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let any_protocol = Arc::new(config.clone());
        config.alpn_protocols = context
            .alpn_protocols
            .iter()
            .map(|name| name.clone().into_bytes())
            .collect();
        Ok(Self {
            config: Arc::new(config),
            any_protocol,
            secrets: secrets.clone(),
            certificate: context
                .certificates
                .first()
                .map_or("", String::as_str)
                .into(),
        })
    }

    /// Shakes hands; tells who the client is, if it showed a certificate.
    pub(crate) async fn accept<S>(
        &self,
        stream: S,
        hello: &Hello,
    ) -> io::Result<(TlsStream<S>, Option<Peer>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let known = |name: &[u8]| self.config.alpn_protocols.iter().any(|own| own == name);
        let config = if hello.alpn.iter().any(|name| known(name)) {
            &self.config
        } else {
            &self.any_protocol
        };
        let shaking = TlsAcceptor::from(config.clone()).accept(stream);
        let stream = timeout(HANDSHAKE_WITHIN, shaking)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        let (_, connection) = stream.get_ref();
        let chain = connection.peer_certificates().unwrap_or_default();
        let by = self.secrets.certificate(&self.certificate);
        let own = by.as_ref().and_then(|own| own.cert.first());
        let peer = chain.first().map(|leaf| Peer::read(leaf, own));
        Ok((stream, peer))
    }
}

fn versions(context: &DownstreamTlsContext) -> Vec<&'static SupportedProtocolVersion> {
    let oldest = context.minimum_version.unwrap_or(TlsVersion::Tls12);
    let newest = context.maximum_version.unwrap_or(TlsVersion::Tls13);
    [(TlsVersion::Tls12, &TLS12), (TlsVersion::Tls13, &TLS13)]
        .into_iter()
        .filter(|(version, _)| (oldest..=newest.max(oldest)).contains(version))
        .map(|(_, version)| version)
        .collect()
}

/// The suites of these names, those of TLS 1.3 always. Names that are not known or not sound are
/// left out; when nothing is left, all are taken.
fn suites(names: &[String]) -> Vec<SupportedCipherSuite> {
    let all = &provider().cipher_suites;
    let chosen = |suite: &SupportedCipherSuite| {
        suite.tls13().is_some()
            || names
                .iter()
                .any(|name| *name == openssl_name(suite.suite()))
    };
    let suites: Vec<_> = all.iter().copied().filter(chosen).collect();
    if suites.iter().all(|suite| suite.tls13().is_some()) {
        all.clone()
    } else {
        suites
    }
}

/// OpenSSL's name of a suite of TLS 1.2.
fn openssl_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => {
            "ECDHE-ECDSA-CHACHA20-POLY1305"
        }
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "",
    }
}

/// Looks certificates up by name when a client asks.
#[derive(Debug)]
struct Named {
    secrets: Arc<Secrets>,
    names: Vec<Box<str>>,
}

impl ResolvesServerCert for Named {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable = |key: &Arc<CertifiedKey>| {
            let schemes = hello.signature_schemes();
            key.key.choose_scheme(schemes).is_some()
        };
        let mut found = self
            .names
            .iter()
            .filter_map(|name| self.secrets.certificate(name));
        found.find(usable)
    }
}
