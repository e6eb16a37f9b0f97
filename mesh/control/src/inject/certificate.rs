//! The certificate of the webhook: signed by an authority of our own, whose key lives in a Secret so
//! that replicas and restarts share it.

use std::sync::Arc;

use anyhow::Context;
use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, api::PostParams};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::ROOT_NAMESPACE;

/// Istio's name of the Secret.
const SECRET: &str = "istio-ca-secret";

/// What the webhook serves with, and what the API server must trust.
pub(crate) struct Serving {
    /// For the TLS listeners.
    pub(crate) tls: Arc<rustls::ServerConfig>,
    /// PEM of the authority.
    pub(crate) authority: String,
}

impl Serving {
    /// Reads or makes the authority and signs a fresh certificate for the Service `istiod`.
    pub(crate) async fn new(client: &Client) -> anyhow::Result<Self> {
        let (authority, key) = authority(client).await?;
        Self::sign(authority, &key)
    }

    fn sign(authority: String, key: &str) -> anyhow::Result<Self> {
        let issuer = Issuer::new(
            authority_params(),
            KeyPair::from_pem(key).context("key of the authority")?,
        );
        let names = [
            "istiod",
            "istiod.istio-system",
            "istiod.istio-system.svc",
            "istiod.istio-system.svc.cluster.local",
            "localhost",
        ];
        let leaf_key = KeyPair::generate()?;
        let params = CertificateParams::new(names.map(String::from).to_vec())?;
        let leaf = params.signed_by(&leaf_key, &issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            tls: Arc::new(tls),
            authority,
        })
    }
}

/// Always the same, so that the key alone brings the authority back.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "cluster.local");
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Certificate and key of the authority in PEM.
async fn authority(client: &Client) -> anyhow::Result<(String, String)> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), ROOT_NAMESPACE);
    let read = |secret: Secret| -> anyhow::Result<(String, String)> {
        let data = secret.data.unwrap_or_default();
        let text = |name: &str| -> anyhow::Result<String> {
            let bytes = &data
                .get(name)
                .with_context(|| {
                    format!("Secret {SECRET} lacks {name}; delete it to have it made anew")
                })?
                .0;
            Ok(String::from_utf8(bytes.clone())?)
        };
        Ok((text("ca-cert.pem")?, text("ca-key.pem")?))
    };
    if let Some(secret) = secrets
        .get_opt(SECRET)
        .await
        .with_context(|| format!("reading Secret {SECRET}"))?
    {
        return read(secret);
    }
    let key = KeyPair::generate()?;
    let certificate = authority_params().self_signed(&key)?.pem();
    let data = [
        ("ca-cert.pem", certificate.clone()),
        ("ca-key.pem", key.serialize_pem()),
    ];
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(SECRET.into()),
            ..ObjectMeta::default()
        },
        type_: Some("istio.io/ca-root".into()),
        data: Some(
            data.into_iter()
                .map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())))
                .collect(),
        ),
        ..Secret::default()
    };
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) => Ok((certificate, key.serialize_pem())),
        // Another replica was faster.
        Err(kube::Error::Api(status)) if status.code == 409 => read(secrets.get(SECRET).await?),
        Err(error) => Err(error).with_context(|| format!("creating Secret {SECRET}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_alone_brings_the_authority_back() {
        let key = KeyPair::generate().unwrap();
        let certificate = authority_params().self_signed(&key).unwrap().pem();
        let serving = Serving::sign(certificate.clone(), &key.serialize_pem()).unwrap();
        assert_eq!(serving.authority, certificate);
    }
}
