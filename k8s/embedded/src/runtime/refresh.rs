//! ConfigMaps and Secrets in volumes follow their objects while pods run, as on a real node (there within a
//! minute, here at once).

use super::context::Context;
use super::downward::Place;
use super::volumes::{self, Folders};
use crate::informers::{is_terminating, uid_of};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Volume};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The same in every namespace, and never changed.
const ROOT_CA: &str = "kube-root-ca.crt";

/// Whether a volume shows the ConfigMap, or Secret, of that name.
fn shows(volume: &Volume, kind: &str, name: &str) -> bool {
    let projected = volume.projected.iter();
    let mut sources = projected.flat_map(|p| p.sources.iter().flatten());
    match kind {
        "ConfigMap" => {
            volume.config_map.as_ref().is_some_and(|s| s.name == name)
                || sources.any(|s| s.config_map.as_ref().is_some_and(|s| s.name == name))
        }
        _ => {
            let secret = volume.secret.as_ref();
            secret.is_some_and(|s| s.secret_name.as_deref() == Some(name))
                || sources.any(|s| s.secret.as_ref().is_some_and(|s| s.name == name))
        }
    }
}

/// Keeps volumes fresh until `shutdown`.
pub(super) async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = follow::<ConfigMap>(&context) => {}
        () = follow::<Secret>(&context) => {}
    }
}

async fn follow<K>(context: &Context)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let api: Api<PartialObjectMeta<K>> = Api::all(context.client.clone());
    let changes = watch_objects(api, watcher::Config::default()).default_backoff();
    let mut changes = std::pin::pin!(changes);
    let kind = K::kind(&());
    loop {
        match changes.try_next().await {
            Ok(Some(Event::Apply(object))) if object.name_any() != ROOT_CA => {
                let namespace = object.namespace().unwrap_or_default();
                changed(context, &kind, &namespace, &object.name_any()).await;
            }
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(error) => tracing::warn!(%kind, %error, "watch interrupted, retrying"),
        }
    }
}

async fn changed(context: &Context, kind: &str, namespace: &str, name: &str) {
    for pod in context.informers.pods.list() {
        let here = pod.metadata.namespace.as_deref() == Some(namespace);
        let uses = |volume: &Volume| shows(volume, kind, name);
        let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
        if !here || is_terminating(pod.as_ref()) || !volumes.clone().any(uses) {
            continue;
        }
        if let Err(error) = refill(context, &pod, uses).await {
            tracing::warn!(pod = pod.name_any(), %error, "volume not refreshed");
        }
    }
}

async fn refill(
    context: &Context,
    pod: &Pod,
    which: impl Fn(&Volume) -> bool,
) -> Result<(), volumes::MountError> {
    let ip = pod
        .status
        .as_ref()
        .and_then(|s| s.pod_ip.as_ref()?.parse().ok());
    let folders = Folders {
        pod: context.config.state_dir.join("pods").join(uid_of(pod)),
    };
    // not mounted yet: it will be, with what is there then
    let Some(pod_ip) = ip.filter(|_| folders.pod.join("volumes").exists()) else {
        return Ok(());
    };
    let place = Place {
        pod_ip,
        host_ip: context.plan.node(),
    };
    volumes::refill(&context.client, pod, &place, &folders, which).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn volumes_are_known_by_what_they_show() {
        let volume =
            |source: serde_json::Value| -> Volume { serde_json::from_value(source).unwrap() };
        let map = volume(json!({"name": "v", "configMap": {"name": "a"}}));
        assert!(shows(&map, "ConfigMap", "a") && !shows(&map, "Secret", "a"));
        let both = volume(json!({"name": "v", "projected": {"sources": [
            {"secret": {"name": "s"}}, {"configMap": {"name": "c"}}]}}));
        assert!(shows(&both, "Secret", "s") && shows(&both, "ConfigMap", "c"));
        assert!(!shows(&both, "ConfigMap", "s"));
    }
}
