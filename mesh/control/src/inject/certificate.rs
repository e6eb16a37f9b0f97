//! The certificate of the webhooks and of the configuration stream, and the API server's trust in it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use kube::Client;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
};
use tokio::sync::watch;

use super::webhook::trust;
use crate::ca::Authority;

/// Names under which the control plane is called.
const NAMES: [&str; 5] = [
    "istiod",
    "istiod.istio-system",
    "istiod.istio-system.svc",
    "istiod.istio-system.svc.cluster.local",
    "localhost",
];

/// Webhook configurations may be installed after us, and repaired later.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What the listeners show, and when it is to be replaced.
pub(crate) struct Serving {
    pub(crate) tls: Arc<ServerConfig>,
    signed_by: Arc<Authority>,
    renew: SystemTime,
}

/// A fresh certificate for the Service `istiod`, ready for TLS listeners; to be replaced after half of its life.
pub(crate) fn serving(authority: Arc<Authority>, life: Duration) -> anyhow::Result<Serving> {
    let own = authority.serving(&NAMES, life)?;
    let chain = CertificateDer::pem_slice_iter(own.chain.as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let now = SystemTime::now();
    Ok(Serving {
        tls: Arc::new(tls),
        signed_by: authority,
        renew: now + own.ends.duration_since(now).unwrap_or_default() / 2,
    })
}

/// Renews the certificate before it ends and when the authority changes, and has the API server trust
/// it: what is to be trusted is written into the webhook configurations first, so that no pod is refused.
pub(crate) async fn keep(
    client: Client,
    mut authority: watch::Receiver<Arc<Authority>>,
    mut serving: Serving,
    show: watch::Sender<Arc<ServerConfig>>,
    life: Duration,
) {
    loop {
        let current = authority.borrow_and_update().clone();
        let trusted = trust(&client, &current.trusted.trusted_ca).await;
        if let Err(error) = &trusted {
            tracing::warn!("{error:#}");
        }
        // One of the same authority is trusted already.
        let other = trusted.is_ok() && !current.signs_like(&serving.signed_by);
        if other || SystemTime::now() >= serving.renew {
            let signer = if other {
                current
            } else {
                serving.signed_by.clone()
            };
            match self::serving(signer, life) {
                Ok(new) => {
                    tracing::info!("the certificate of the webhooks is renewed");
                    show.send_replace(new.tls.clone());
                    serving = new;
                }
                Err(error) => tracing::warn!("renewing the certificate of the webhooks: {error:#}"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY.min(life / 4)) => {}
            changed = authority.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::example;

    const DEADLINE: Duration = Duration::from_secs(60);

    /// A Kubernetes API without webhook configurations, or none at all.
    fn kubernetes(here: bool) -> Client {
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            drop(request);
            let status = serde_json::json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "reason": "NotFound", "code": 404, "message": "not there",
            });
            let body = kube::client::Body::from(status.to_string().into_bytes());
            let answer = http::Response::builder().status(404).body(body).unwrap();
            let answer = here.then_some(answer).ok_or("connection refused");
            async move { Ok::<_, tower::BoxError>(answer?) }
        });
        Client::new(service, "default")
    }

    async fn is_replaced(shown: &mut watch::Receiver<Arc<ServerConfig>>) -> bool {
        tokio::time::timeout(DEADLINE, shown.changed())
            .await
            .is_ok()
    }

    #[tokio::test]
    async fn it_is_renewed_before_it_ends_even_while_the_api_server_is_away() {
        for here in [true, false] {
            let life = Duration::from_secs(1);
            let (_signing, authority) = watch::channel(Arc::new(example()));
            let first = serving(authority.borrow().clone(), life).unwrap();
            let (show, mut shown) = watch::channel(first.tls.clone());
            tokio::spawn(keep(kubernetes(here), authority, first, show, life));
            for _ in 0..2 {
                assert!(is_replaced(&mut shown).await);
            }
        }
    }

    /// Whether a new authority is shown within ten looks.
    async fn is_taken(here: bool) -> bool {
        let long = Duration::from_secs(3600);
        let (signing, authority) = watch::channel(Arc::new(example()));
        let first = serving(authority.borrow().clone(), long).unwrap();
        let (show, mut shown) = watch::channel(first.tls.clone());
        tokio::spawn(keep(kubernetes(here), authority, first, show, long));
        signing.send_replace(Arc::new(example()));
        tokio::time::timeout(LOOK_EVERY * 10, shown.changed())
            .await
            .is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn another_authority_is_shown_once_the_api_server_trusts_it() {
        assert!(is_taken(true).await);
        assert!(!is_taken(false).await);
    }
}
