//! The key that signs: kept in a Secret so that replicas and restarts share it, or given by the
//! operator as an intermediate of an authority of theirs.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, ensure};
use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, api::PostParams};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber,
};
use time::OffsetDateTime;

use crate::ROOT_NAMESPACE;

/// Istio's name of the Secret that we make.
const OWN: &str = "istio-ca-secret";
/// Istio's name of the Secret that an operator gives.
pub(super) const GIVEN: &str = "cacerts";

/// Certificates are valid from a little before they are made: clocks differ.
const CLOCK_SKEW: Duration = Duration::from_secs(120);
/// Life of the root that we make.
const ROOT_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Bytes of the shortest RSA key that is signed (2048 bits), as a certificate holds it.
const SHORTEST_RSA: usize = 256;

/// Signs certificates.
#[derive(Clone)]
pub(crate) struct Authority {
    issuer: Arc<Issuer<'static, KeyPair>>,
    /// PEM of what leads from a signed certificate to a root; empty when we are the root.
    chain: String,
    /// PEM of the roots that it leads to.
    pub(super) roots: String,
    /// What everybody is to trust: these roots, and for a while those of the authority before.
    pub(crate) trusted: Arc<mesh_config::Secret>,
    /// Nothing that is signed lives longer.
    ends: OffsetDateTime,
}

/// Why a request is not signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsigned {
    #[error("the certificate signing request cannot be read or its signature is wrong: {0}")]
    Request(rcgen::Error),
    #[error("the key of the request is too weak: RSA needs 2048 bits")]
    Weak,
    #[error("the request asks for the identity {asked}, but its token is that of {own}")]
    OtherIdentity { asked: String, own: String },
    #[error("signing: {0}")]
    Signing(rcgen::Error),
}

impl Authority {
    /// The authority of the mesh, which is made when there is none.
    pub(crate) async fn obtain(client: &Client) -> anyhow::Result<Self> {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), ROOT_NAMESPACE);
        let get = async |name: &str| {
            let found = secrets.get_opt(name).await;
            found.with_context(|| format!("reading Secret {name}"))
        };
        if let Some(given) = get(GIVEN).await? {
            return Self::read(GIVEN, &given);
        }
        if let Some(own) = get(OWN).await? {
            return Self::read(OWN, &own);
        }
        let made = make()?;
        match secrets.create(&PostParams::default(), &made).await {
            Ok(_) => Self::read(OWN, &made),
            // Another replica was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                Self::read(OWN, &secrets.get(OWN).await?)
            }
            Err(error) => Err(error).with_context(|| format!("creating Secret {OWN}")),
        }
    }

    /// From a Secret with `ca-cert.pem` and `ca-key.pem`, and for an intermediate `root-cert.pem`
    /// and `cert-chain.pem`.
    pub(super) fn read(name: &str, secret: &Secret) -> anyhow::Result<Self> {
        let data = secret.data.clone().unwrap_or_default();
        let text = |field: &str| -> anyhow::Result<Option<String>> {
            let Some(bytes) = data.get(field) else {
                return Ok(None);
            };
            let text = String::from_utf8(bytes.0.clone());
            Ok(Some(text.with_context(|| {
                format!("Secret {name}: {field} is not PEM")
            })?))
        };
        let needed = |field: &str| {
            text(field)?.with_context(|| {
                format!("Secret {name} in {ROOT_NAMESPACE} lacks {field}; put it in, or delete the Secret to have an authority made")
            })
        };
        let (certificate, key) = (needed("ca-cert.pem")?, needed("ca-key.pem")?);
        let key = KeyPair::from_pem(&key)
            .with_context(|| format!("Secret {name}: ca-key.pem is not a key in PKCS#8 form"))?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes())
            .with_context(|| format!("Secret {name}: ca-cert.pem is not PEM"))?;
        let parsed = pem
            .parse_x509()
            .with_context(|| format!("Secret {name}: ca-cert.pem is not a certificate"))?;
        ensure!(
            parsed.public_key().subject_public_key.data == key.der_bytes(),
            "Secret {name}: ca-cert.pem and ca-key.pem do not belong together"
        );
        ensure!(
            parsed.is_ca(),
            "Secret {name}: ca-cert.pem is not the certificate of an authority (basicConstraints CA:TRUE)"
        );
        let ends = parsed.validity().not_after.to_datetime();
        let issuer = Issuer::from_ca_cert_pem(&certificate, key)
            .with_context(|| format!("Secret {name}: ca-cert.pem"))?;
        let (chain, roots) = match text("root-cert.pem")?.filter(|root| *root != certificate) {
            Some(roots) => {
                let chain = text("cert-chain.pem")?.filter(|chain| !chain.trim().is_empty());
                (chain.unwrap_or(certificate), roots)
            }
            None => (String::new(), certificate),
        };
        Ok(Self {
            issuer: Arc::new(issuer),
            chain,
            trusted: Arc::new(trusted(roots.clone())),
            roots,
            ends,
        })
    }

    /// With the roots of the one before trusted as well, for what it has signed.
    pub(super) fn after(mut self, before: &Self) -> Self {
        let mut roots = self.roots.clone();
        for block in before.trusted.trusted_ca.split_inclusive(END) {
            let block = block.trim();
            if block.ends_with(END) && !roots.contains(block) {
                roots = format!("{}\n{block}\n", roots.trim_end());
            }
        }
        self.trusted = Arc::new(trusted(roots));
        self
    }

    /// With nothing but its own roots trusted.
    pub(super) fn alone(mut self) -> Self {
        self.trusted = Arc::new(trusted(self.roots.clone()));
        self
    }

    /// What it signs leads to the same roots by the same certificates.
    pub(crate) fn signs_like(&self, other: &Self) -> bool {
        (&self.chain, &self.roots) == (&other.chain, &other.roots)
    }

    /// Signs a request for an identity, which is not taken from the request. The answer is PEM, the
    /// certificate first.
    pub(crate) fn sign(
        &self,
        request: &str,
        identity: &str,
        life: Duration,
    ) -> Result<String, Unsigned> {
        let mut request =
            CertificateSigningRequestParams::from_pem(request).map_err(Unsigned::Request)?;
        let own = SanType::URI(identity.try_into().map_err(Unsigned::Signing)?);
        if let Some(other) = request
            .params
            .subject_alt_names
            .iter()
            .find(|san| **san != own)
        {
            let asked = match other {
                SanType::URI(uri) => uri.to_string(),
                SanType::DnsName(name) => name.to_string(),
                other => format!("{other:?}"),
            };
            let own = identity.to_owned();
            return Err(Unsigned::OtherIdentity { asked, own });
        }
        let key = &request.public_key;
        let rsa = format!("{:?}", PublicKeyData::algorithm(key)).contains("RSA");
        if rsa && key.der_bytes().len() < SHORTEST_RSA {
            return Err(Unsigned::Weak);
        }
        request.params = self.leaf(vec![own], life);
        let signed = request
            .signed_by(&*self.issuer)
            .map_err(Unsigned::Signing)?;
        Ok(signed.pem() + &self.chain)
    }

    /// What every certificate of a workload has.
    fn leaf(&self, names: Vec<SanType>, life: Duration) -> CertificateParams {
        let now = OffsetDateTime::from(SystemTime::now());
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names;
        params.not_before = now - CLOCK_SKEW;
        params.not_after = (now + life).min(self.ends);
        params.serial_number = Some(serial_number());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        params
    }

    /// A certificate and a key of our own, for the names of the control plane: PEM chain, PKCS#8. The
    /// certificate lives so long, or until the authority ends.
    pub(crate) fn serving(&self, names: &[&str], life: Duration) -> anyhow::Result<Serving> {
        let names = names
            .iter()
            .map(|name| anyhow::Ok(SanType::DnsName((*name).try_into()?)))
            .collect::<Result<_, _>>()?;
        let key = KeyPair::generate()?;
        let leaf = self.leaf(names, life);
        let ends = leaf.not_after.into();
        let certificate = leaf.signed_by(&key, &*self.issuer)?;
        Ok(Serving {
            chain: certificate.pem() + &self.chain,
            key,
            ends,
        })
    }
}

/// A certificate of the control plane itself.
pub(crate) struct Serving {
    /// PEM, the certificate first.
    pub(crate) chain: String,
    pub(crate) key: KeyPair,
    pub(crate) ends: SystemTime,
}

/// How a certificate ends in PEM.
const END: &str = "-----END CERTIFICATE-----";

/// Roots, as proxies are told.
fn trusted(roots: String) -> mesh_config::Secret {
    mesh_config::Secret {
        name: mesh_config::tls::MESH_ROOT.into(),
        trusted_ca: roots,
        ..mesh_config::Secret::default()
    }
}

fn serial_number() -> SerialNumber {
    let mut bytes = [0; 16];
    // The system's randomness does not fail once it has been seeded, long before we run.
    let _ = rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes);
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}

/// A new root, as the Secret that keeps it.
fn make() -> anyhow::Result<Secret> {
    let now = OffsetDateTime::from(SystemTime::now());
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, crate::TRUST_DOMAIN);
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + ROOT_LIFE;
    params.serial_number = Some(serial_number());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.pem();
    let data = [
        ("ca-cert.pem", certificate),
        ("ca-key.pem", key.serialize_pem()),
    ];
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(OWN.into()),
            ..ObjectMeta::default()
        },
        type_: Some("istio.io/ca-root".into()),
        data: Some(
            data.into_iter()
                .map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())))
                .collect(),
        ),
        ..Secret::default()
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn authority() -> Authority {
        Authority::read(OWN, &make().unwrap()).unwrap()
    }

    pub(crate) fn request(names: Vec<SanType>) -> String {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        let key = KeyPair::generate().unwrap();
        params.serialize_request(&key).unwrap().pem().unwrap()
    }

    const IDENTITY: &str = "spiffe://cluster.local/ns/shop/sa/clerk";
    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn the_identity_is_the_callers_and_no_other() {
        let authority = authority();
        let uri = |text: &str| vec![SanType::URI(text.try_into().unwrap())];
        for (names, signed) in [
            (vec![], true),
            (uri(IDENTITY), true),
            (uri("spiffe://cluster.local/ns/shop/sa/owner"), false),
        ] {
            let answer = authority.sign(&request(names.clone()), IDENTITY, DAY);
            assert_eq!(answer.is_ok(), signed, "{names:?}");
        }
    }

    #[test]
    fn certificates_are_those_of_workloads() {
        let authority = authority();
        let chain = authority.sign(&request(vec![]), IDENTITY, DAY).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(chain.as_bytes()).unwrap();
        let leaf = pem.parse_x509().unwrap();
        let life = leaf.validity().not_after - leaf.validity().not_before;
        assert_eq!(life.unwrap().whole_seconds(), 24 * 3600 + 120);
        assert!(leaf.subject().iter().next().is_none() && !leaf.is_ca());
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        assert!(names.critical, "the subject is empty");
        assert_eq!(leaf.issuer().to_string(), "O=cluster.local");
    }

    #[test]
    fn nothing_outlives_the_authority() {
        let authority = authority();
        let chain = authority
            .sign(&request(vec![]), IDENTITY, ROOT_LIFE * 2)
            .unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(chain.as_bytes()).unwrap();
        let ends = pem.parse_x509().unwrap().validity().not_after.to_datetime();
        assert_eq!(ends, authority.ends);
    }

    #[test]
    fn garbage_is_refused() {
        let refused = authority().sign("no request", IDENTITY, DAY);
        assert!(matches!(refused, Err(Unsigned::Request(_))));
    }

    #[test]
    fn an_intermediate_of_the_operators_brings_its_chain() {
        let mut secret = make().unwrap();
        let other = make().unwrap().data.unwrap()["ca-cert.pem"].clone();
        let data = secret.data.as_mut().unwrap();
        let own = data["ca-cert.pem"].clone();
        data.insert("root-cert.pem".into(), other.clone());
        data.insert("cert-chain.pem".into(), own.clone());
        let authority = Authority::read(GIVEN, &secret).unwrap();
        assert_eq!(authority.roots.as_bytes(), other.0);
        let chain = authority.sign(&request(vec![]), IDENTITY, DAY).unwrap();
        assert!(chain.ends_with(std::str::from_utf8(&own.0).unwrap()));
        assert!(authority.signs_like(&Authority::read(GIVEN, &secret).unwrap()));
        assert!(!authority.signs_like(&super::tests::authority()));
    }

    #[test]
    fn roots_of_the_authority_before_are_trusted_once_until_it_is_alone() {
        let (first, second) = (authority(), authority());
        let (one, two) = (first.roots.clone(), second.roots.clone());
        let both = second.after(&first);
        assert_eq!(both.roots, two);
        let trusted = |authority: &Authority| authority.trusted.trusted_ca.clone();
        assert!(trusted(&both).contains(one.trim()) && trusted(&both).contains(two.trim()));
        let again = both.clone().after(&both);
        assert_eq!(trusted(&again).matches(END).count(), 2);
        assert_eq!(trusted(&both.alone()), two);
    }

    #[test]
    fn what_does_not_belong_together_is_refused_by_name() {
        let mut secret = make().unwrap();
        let key = KeyPair::generate().unwrap().serialize_pem();
        secret
            .data
            .as_mut()
            .unwrap()
            .insert("ca-key.pem".into(), ByteString(key.into_bytes()));
        let error = Authority::read(OWN, &secret).err().unwrap().to_string();
        assert_eq!(
            error,
            "Secret istio-ca-secret: ca-cert.pem and ca-key.pem do not belong together"
        );
    }
}
