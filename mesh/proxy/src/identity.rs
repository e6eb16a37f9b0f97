//! The workload's own certificate. Its key is made here and never leaves; the control plane signs
//! for the identity of our ServiceAccount token. Renewed when half of its life is over: new
//! connections then show the new one, open ones go on.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use mesh_config::{Secret, SignedCertificate, tls};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use crate::{
    admin::Lifecycle,
    discovery::Discovery,
    tls::{Facts, Secrets},
};

/// First wait after a failure, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Keeps a valid certificate for as long as the proxy runs.
pub(crate) async fn keep(discovery: Discovery, secrets: Arc<Secrets>, lifecycle: Arc<Lifecycle>) {
    let mut wait = BACK_OFF.0;
    loop {
        match renew(&discovery, &secrets).await {
            Ok(half_life) => {
                lifecycle.awaits_certificate.store(false, Relaxed);
                wait = BACK_OFF.0;
                // Proxies that were started together do not all come back together.
                let jitter = 0.99 + rand::random::<f64>() / 50.0;
                tokio::time::sleep(half_life.mul_f64(jitter)).await;
            }
            Err(error) => {
                tracing::warn!("no new certificate: {error:#}; trying again in {wait:?}");
                tokio::time::sleep(wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
                wait = (wait * 2).min(BACK_OFF.1);
            }
        }
    }
}

/// Asks for a certificate and puts it to use; tells after how long to ask again.
async fn renew(discovery: &Discovery, secrets: &Secrets) -> anyhow::Result<Duration> {
    let key = KeyPair::generate()?;
    let mut request = CertificateParams::default();
    request.distinguished_name = DistinguishedName::new();
    let request = request.serialize_request(&key)?.pem()?;
    let answer = discovery.post("/v1/certificate", request).await?;
    let signed: SignedCertificate =
        serde_json::from_slice(&answer).context("the answer is not a certificate")?;
    let facts = crate::tls::certificates(&signed.certificate_chain)
        .first()
        .and_then(Facts::of)
        .context("the answer holds no certificate")?;
    let own = Secret {
        name: tls::WORKLOAD.into(),
        certificate_chain: signed.certificate_chain,
        private_key: key.serialize_pem(),
        trusted_ca: String::new(),
    };
    let root = Secret {
        name: tls::MESH_ROOT.into(),
        trusted_ca: signed.trust_bundle,
        ..Secret::default()
    };
    if let Some(error) = secrets.put([Arc::new(own), Arc::new(root)]).pop() {
        return Err(error.into());
    }
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let left = u64::try_from(facts.not_after)
        .unwrap_or(0)
        .saturating_sub(now.as_secs());
    Ok((Duration::from_secs(left) / 2).max(Duration::from_secs(1)))
}
