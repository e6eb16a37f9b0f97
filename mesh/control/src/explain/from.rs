//! Who asks: `--from`.

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt, api::ListParams};

use super::ExplainArgs;
use crate::{pod_admin::PodArgs, world};

/// The pod that is meant. A name alone is that of a pod, else of an application (label `app`), else the
/// beginning of a pod's name, as Deployments give it.
pub(super) async fn find(client: &Client, args: &ExplainArgs) -> anyhow::Result<PodArgs> {
    let given = || PodArgs {
        pod: args.from.clone(),
        namespace: args.namespace.clone(),
    };
    if args.from.contains(['/', '.']) {
        return Ok(given());
    }
    let namespace = args
        .namespace
        .as_deref()
        .unwrap_or(client.default_namespace());
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pods = pods.list(&ListParams::default()).await;
    let pods = pods
        .with_context(|| format!("listing the pods of {namespace}"))?
        .items;
    let Some(pod) = choose(&pods, &args.from) else {
        bail!(
            "nothing in {namespace} that is called {} has a proxy: name a pod, deploy/NAME or an application",
            args.from
        );
    };
    Ok(PodArgs {
        pod,
        namespace: Some(namespace.to_owned()),
    })
}

fn choose(pods: &[Pod], name: &str) -> Option<String> {
    let in_mesh = |pod: &&Pod| world::Pod::read(pod).is_some_and(|pod| pod.in_mesh);
    // Whose name it is may be out of the mesh; whoever asks the pod says so.
    if pods.iter().any(|pod| pod.name_any() == name) {
        return Some(name.to_owned());
    }
    let of_app = |pod: &&Pod| pod.labels().get("app").is_some_and(|app| app == name);
    let beginning = format!("{name}-");
    let begins = |pod: &&Pod| pod.name_any().starts_with(&beginning);
    let mut running = pods.iter().filter(in_mesh);
    let found = running
        .clone()
        .find(of_app)
        .or_else(|| running.find(begins));
    found.map(ResourceExt::name_any)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, app: &str, proxy: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "default", "labels": { "app": app } },
            "spec": { "containers": [{ "name": proxy }] },
            "status": { "podIP": "127.16.0.2", "phase": "Running",
                "containerStatuses": [{ "name": proxy, "ready": true, "restartCount": 0, "image": "", "imageID": "",
                    "state": { "running": {} } }] },
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_an_application_or_a_deployment() {
        let pods = [
            pod("productpage-v1-a-b", "productpage", "istio-proxy"),
            pod("old-reviews", "reviews", "reviews"),
            pod("reviews-v2-c-d", "reviews", "istio-proxy"),
            pod("reviews", "other", "istio-proxy"),
        ];
        let chosen = |name: &str, pods: &[Pod]| choose(pods, name).unwrap_or_default();
        assert_eq!(chosen("productpage", &pods), "productpage-v1-a-b");
        assert_eq!(chosen("productpage-v1", &pods), "productpage-v1-a-b");
        assert_eq!(chosen("reviews", &pods), "reviews");
        assert_eq!(chosen("reviews", &pods[..3]), "reviews-v2-c-d");
        assert_eq!(chosen("page", &pods), "");
    }
}
