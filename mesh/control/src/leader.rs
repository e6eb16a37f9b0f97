//! Which of several control planes writes statuses and Events: the one that holds a Lease. All of them
//! serve proxies, webhooks and certificates.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::ROOT_NAMESPACE;

/// Istio's name.
const NAME: &str = "istio-leader";

/// A holder that is silent for so long has lost the Lease.
const LIFE: Duration = Duration::from_secs(15);
const RENEW_EVERY: Duration = Duration::from_secs(5);

/// Holds the Lease, or waits for it; `leads` says which. Clocks of others are not trusted: a Lease is
/// stale when it has not changed for its life by our own.
pub(crate) async fn campaign(client: Client, identity: String, leads: watch::Sender<bool>) {
    let api: Api<Lease> = Api::namespaced(client, ROOT_NAMESPACE);
    let mut seen: Option<(Lease, Instant)> = None;
    let mut renewed = Instant::now();
    loop {
        let asked = Instant::now();
        match timeout(RENEW_EVERY, attempt(&api, &identity, &mut seen)).await {
            Ok(Ok(held)) => {
                renewed = asked;
                if leads.send_replace(held) != held {
                    tracing::info!("{} statuses", if held { "writes" } else { "leaves" });
                }
            }
            failed => {
                let why = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => "no answer".into(),
                };
                tracing::warn!("Lease {NAME}: {why}");
                // Another may take it before we can know.
                if renewed.elapsed() + RENEW_EVERY > LIFE {
                    leads.send_replace(false);
                }
            }
        }
        sleep(RENEW_EVERY).await;
    }
}

/// Gives the Lease up, so that another need not wait.
pub(crate) async fn resign(client: Client, identity: &str) -> kube::Result<()> {
    let api: Api<Lease> = Api::namespaced(client, ROOT_NAMESPACE);
    let Some(mut lease) = api.get_opt(NAME).await? else {
        return Ok(());
    };
    if holder(&lease) == identity {
        lease.spec.get_or_insert_default().holder_identity = None;
        api.replace(NAME, &PostParams::default(), &lease).await?;
    }
    Ok(())
}

async fn attempt(
    api: &Api<Lease>,
    identity: &str,
    seen: &mut Option<(Lease, Instant)>,
) -> kube::Result<bool> {
    let found = api.get_opt(NAME).await?;
    let unchanged = match (&found, &*seen) {
        (Some(lease), Some((before, since))) if lease == before => since.elapsed(),
        _ => Duration::ZERO,
    };
    let Some(wanted) = decide(found.as_ref(), identity, unchanged) else {
        if unchanged.is_zero() {
            *seen = found.map(|lease| (lease, Instant::now()));
        }
        return Ok(false);
    };
    let how = PostParams::default();
    let written = match found {
        None => api.create(&how, &wanted).await,
        // With the version that was read: of two that try, one succeeds.
        Some(_) => api.replace(NAME, &how, &wanted).await,
    };
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

fn holder(lease: &Lease) -> &str {
    let spec = lease.spec.as_ref();
    spec.and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or_default()
}

/// The Lease as we want it; `None`: another holds it.
fn decide(found: Option<&Lease>, identity: &str, unchanged: Duration) -> Option<Lease> {
    let mut lease = found.cloned().unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    let before = holder(&lease).to_owned();
    let own = before == identity;
    if !own && !before.is_empty() && unchanged < LIFE {
        return None;
    }
    let now = Some(MicroTime(Timestamp::now()));
    let spec = lease.spec.unwrap_or_default();
    let transitions = spec.lease_transitions.unwrap_or(0);
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(identity.into()),
        lease_duration_seconds: Some(LIFE.as_secs() as i32),
        acquire_time: if own { spec.acquire_time } else { now.clone() },
        renew_time: now,
        lease_transitions: Some(transitions + i32::from(!own && found.is_some())),
        ..LeaseSpec::default()
    });
    Some(lease)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_the_lease_until_it_is_silent_or_gives_it_up() {
        let own = decide(None, "a", Duration::ZERO).unwrap();
        assert_eq!(holder(&own), "a");
        let renewed = decide(Some(&own), "a", Duration::ZERO).unwrap();
        let spec = renewed.spec.clone().unwrap();
        assert_eq!(spec.lease_transitions, Some(0));
        assert_eq!(spec.acquire_time, own.spec.unwrap().acquire_time);
        assert_eq!(decide(Some(&renewed), "b", LIFE / 2), None);
        let taken = decide(Some(&renewed), "b", LIFE).unwrap();
        assert_eq!(holder(&taken), "b");
        assert_eq!(taken.spec.unwrap().lease_transitions, Some(1));
        let mut free = renewed;
        free.spec.get_or_insert_default().holder_identity = None;
        assert!(decide(Some(&free), "b", Duration::ZERO).is_some());
    }
}
