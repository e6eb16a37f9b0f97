//! A new intermediate in the Secret `cacerts` signs from then on, as long as it leads to the roots
//! that everybody already trusts. New roots need a restart, and time in which both are trusted.

use std::{pin::pin, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use tokio::sync::watch;

use super::{Authority, authority::GIVEN};
use crate::ROOT_NAMESPACE;

/// Follows the Secret for ever; one that is of no use changes nothing.
pub(crate) async fn follow(client: Client, authority: watch::Sender<Arc<Authority>>) {
    let secrets: Api<Secret> = Api::namespaced(client, ROOT_NAMESPACE);
    let only = watcher::Config::default().fields(&format!("metadata.name={GIVEN}"));
    let mut given = pin!(watcher(secrets, only).default_backoff().applied_objects());
    while let Some(event) = given.next().await {
        let read = match event {
            Ok(secret) => Authority::read(GIVEN, &secret),
            // The watch tries again by itself.
            Err(error) => {
                tracing::warn!("watching Secret {GIVEN}: {error}");
                continue;
            }
        };
        let changed = authority.send_if_modified(|current| match read {
            Ok(next) if next.signs_like(current) => false,
            Ok(next) if next.roots == current.roots => {
                *current = Arc::new(next);
                true
            }
            Ok(_) => {
                tracing::warn!(
                    "Secret {GIVEN} leads to other roots than those of the mesh: it is taken when the control plane starts again"
                );
                false
            }
            Err(error) => {
                tracing::warn!("{error:#}; what signed before goes on");
                false
            }
        });
        if changed {
            tracing::info!("certificates are signed with the intermediate of Secret {GIVEN}");
        }
    }
}
