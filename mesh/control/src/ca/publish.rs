//! ConfigMap `istio-ca-root-cert` in every namespace: what workloads must trust.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};

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

/// Writes the roots into each namespace, those to come as well.
pub(crate) async fn publish(client: Client, roots: String) {
    let events = watcher(
        Api::<Namespace>::all(client.clone()),
        watcher::Config::default(),
    );
    let mut namespaces = std::pin::pin!(events.default_backoff().applied_objects());
    while let Some(event) = namespaces.next().await {
        let namespace = match event {
            Ok(namespace) => namespace,
            // The watch tries again by itself.
            Err(error) => {
                tracing::warn!("watching namespaces: {error}");
                continue;
            }
        };
        let name = namespace.name_any();
        if SYSTEM.contains(&name.as_str()) || namespace.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), &name);
        let how = PatchParams::apply("istiod").force();
        // A namespace may go away meanwhile, and permissions may come a moment later.
        for _ in 0..ATTEMPTS {
            match api.patch(NAME, &how, &Patch::Apply(bundle(&roots))).await {
                Ok(_) => break,
                Err(error) => tracing::warn!("writing ConfigMap {NAME} in {name}: {error}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
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
