//! What is put into the Secret `cacerts` signs from then on. Roots that were trusted before stay so for as
//! long as what they have vouched for may live: no connection fails because two workloads have
//! certificates of different authorities.

use std::{future::pending, pin::pin, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{Authority, authority::GIVEN};
use crate::ROOT_NAMESPACE;

/// Follows the Secret for ever; one that is of no use changes nothing. `life` is that of what is signed.
pub(crate) async fn follow(
    client: Client,
    authority: watch::Sender<Arc<Authority>>,
    life: Duration,
) {
    let secrets: Api<Secret> = Api::namespaced(client, ROOT_NAMESPACE);
    let only = crate::watch::all().fields(&format!("metadata.name={GIVEN}"));
    let watcher = watcher(secrets, only).backoff(crate::watch::patience());
    let mut given = pin!(watcher.applied_objects());
    // When the roots of the authority before are forgotten.
    let mut forget = None;
    let mut complained = false;
    loop {
        let event = tokio::select! {
            event = given.next() => event,
            () = at(forget) => {
                forget = None;
                authority.send_modify(|current| *current = Arc::new(Authority::clone(current).alone()));
                tracing::info!("the roots before those of Secret {GIVEN} are no longer trusted");
                continue;
            }
        };
        let read = match event {
            None => return,
            Some(Ok(secret)) => {
                complained = false;
                Authority::read(GIVEN, &secret)
            }
            // The watch tries again by itself; it is said once per outage.
            Some(Err(error)) => {
                if !std::mem::replace(&mut complained, true) {
                    tracing::warn!("watching Secret {GIVEN}: {error}");
                }
                continue;
            }
        };
        let changed = authority.send_if_modified(|current| match read {
            Ok(next) => {
                let changed = !next.signs_like(current);
                if changed {
                    *current = Arc::new(next.after(current));
                }
                changed
            }
            Err(error) => {
                tracing::warn!("{error:#}; what signed before goes on");
                false
            }
        });
        if changed {
            let current = authority.borrow();
            if current.trusted.trusted_ca != current.roots {
                forget = Some(Instant::now() + life);
            }
            tracing::info!("certificates are signed with the authority of Secret {GIVEN}");
        }
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => pending().await,
    }
}
