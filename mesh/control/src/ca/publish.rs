//! ConfigMap `istio-ca-root-cert` in every namespace: what workloads must trust.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use tokio::sync::watch;

use super::Authority;

/// Istio's name.
const NAME: &str = "istio-ca-root-cert";

/// Attempts to write it into a namespace, and the time between them.
const ATTEMPTS: usize = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// Namespaces of the system, which get none.
const SYSTEM: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "local-path-storage",
];

/// Writes the roots into each namespace, those to come as well, and again when they change.
pub(crate) async fn publish(client: Client, mut authority: watch::Receiver<Arc<Authority>>) {
    let events = watcher(Api::<Namespace>::all(client.clone()), crate::watch::all());
    let events = events.backoff(crate::watch::patience()).applied_objects();
    let mut namespaces = std::pin::pin!(events);
    let mut known = BTreeSet::new();
    let mut complained = false;
    loop {
        let name = tokio::select! {
            event = namespaces.next() => match event {
                None => return,
                Some(Ok(namespace)) => {
                    complained = false;
                    let name = namespace.name_any();
                    if SYSTEM.contains(&name.as_str()) {
                        continue;
                    }
                    if namespace.metadata.deletion_timestamp.is_some() {
                        known.remove(&name);
                        continue;
                    }
                    known.insert(name.clone());
                    Some(name)
                }
                // The watch tries again by itself; it is said once per outage.
                Some(Err(error)) => {
                    if !std::mem::replace(&mut complained, true) {
                        tracing::warn!("watching namespaces: {error}");
                    }
                    continue;
                }
            },
            changed = authority.changed() => match changed {
                Ok(()) => None,
                Err(_) => return,
            },
        };
        let roots = authority.borrow_and_update().trusted.trusted_ca.clone();
        match name {
            Some(name) => write(&client, &name, &roots).await,
            None => {
                for name in &known {
                    write(&client, name, &roots).await;
                }
            }
        }
    }
}

/// Writes the roots into a namespace. It may go away meanwhile, and permissions may come a moment later.
async fn write(client: &Client, namespace: &str, roots: &str) {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let how = PatchParams::apply("istiod").force();
    for _ in 0..ATTEMPTS {
        match api.patch(NAME, &how, &Patch::Apply(bundle(roots))).await {
            Ok(_) => return,
            Err(error) => tracing::warn!("writing ConfigMap {NAME} in {namespace}: {error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn bundle(roots: &str) -> ConfigMap {
    let labels = [("istio.io/config".to_owned(), "true".to_owned())];
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(
            "root-cert.pem".to_owned(),
            roots.to_owned(),
        )])),
        ..ConfigMap::default()
    }
}
