//! Waiting until what was applied serves.

use std::{collections::BTreeMap, time::Instant};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration, apps::v1::Deployment, core::v1::Pod,
};
use kube::{
    Api, Client, ResourceExt,
    api::ListParams,
    runtime::{WatchStreamExt, wait::await_condition, watcher},
};

use crate::{exit, progress::Step};

/// Waits until every named Deployment of the namespace has all its replicas available.
///
/// # Errors
/// A timeout that names the Deployments that are not, and why their pods wait.
pub async fn deployments(
    client: &Client,
    namespace: &str,
    names: &[String],
    step: &Step<'_>,
    deadline: Instant,
) -> anyhow::Result<()> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let mut missing: BTreeMap<&str, String> = names
        .iter()
        .map(|name| (name.as_str(), "not created yet".to_owned()))
        .collect();
    let mut changes = watcher(api, watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .boxed();
    let all_available = async {
        while let Some(deployment) = changes.try_next().await? {
            let name = deployment.name_any();
            let Some(&name) = missing.keys().find(|wanted| **wanted == name) else {
                continue;
            };
            match lacking(&deployment) {
                None => missing.remove(name),
                Some(why) => missing.insert(name, why),
            };
            if missing.is_empty() {
                break;
            }
            step.waiting_for(&list(&missing));
        }
        anyhow::Ok(())
    };
    match tokio::time::timeout_at(deadline.into(), all_available).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let pods = waiting_pods(client, namespace).await.unwrap_or_default();
            Err(exit::timeout(format!(
                "not ready in time in namespace {namespace}: {}{pods}; see `kubectl get pods -n {namespace}`",
                list(&missing)
            )))
        }
    }
}

/// Waits until the control plane has put its authority into the injection webhook: a pod made before
/// would be refused.
///
/// # Errors
/// A timeout.
pub async fn webhook(
    client: &Client,
    name: &str,
    step: &Step<'_>,
    deadline: Instant,
) -> anyhow::Result<()> {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    step.waiting_for("sidecar injector");
    let trusted = |configuration: Option<&MutatingWebhookConfiguration>| {
        let mut webhooks = configuration
            .into_iter()
            .flat_map(|c| c.webhooks.iter().flatten())
            .peekable();
        webhooks.peek().is_some()
            && webhooks.all(|webhook| webhook.client_config.ca_bundle.is_some())
    };
    match tokio::time::timeout_at(deadline.into(), await_condition(api, name, trusted)).await {
        Ok(outcome) => outcome.map(drop).map_err(Into::into),
        Err(_) => Err(exit::timeout(format!(
            "the webhook {name} got no authority in time; see `kubectl logs -n istio-system deploy/istiod`"
        ))),
    }
}

fn list(missing: &BTreeMap<&str, String>) -> String {
    let each: Vec<String> = missing
        .iter()
        .map(|(name, why)| format!("{name} ({why})"))
        .collect();
    each.join(", ")
}

/// What a Deployment lacks; `None` when its newest generation is fully available.
fn lacking(deployment: &Deployment) -> Option<String> {
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let observed = status.observed_generation >= deployment.metadata.generation;
    let available = status.available_replicas.unwrap_or(0);
    let updated = status.updated_replicas.unwrap_or(0);
    (!observed || available < wanted || updated < wanted)
        .then(|| format!("{available}/{wanted} ready"))
}

/// `; pod NAME: REASON: MESSAGE` for each container that waits.
async fn waiting_pods(client: &Client, namespace: &str) -> anyhow::Result<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut text = String::new();
    for pod in pods.list(&ListParams::default()).await? {
        let status = pod.status.clone().unwrap_or_default();
        let containers = status.init_container_statuses.into_iter().flatten();
        for container in containers.chain(status.container_statuses.into_iter().flatten()) {
            let waiting = container.state.and_then(|state| state.waiting);
            if let Some((reason, message)) = waiting.map(|w| (w.reason, w.message)) {
                text.push_str(&format!(
                    "; pod {}, container {}: {} {}",
                    pod.name_any(),
                    container.name,
                    reason.unwrap_or_default(),
                    message.unwrap_or_default()
                ));
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(generation: i64, observed: i64, updated: i32, available: i32) -> Deployment {
        serde_json::from_value(serde_json::json!({
            "metadata": { "name": "d", "generation": generation },
            "spec": { "replicas": 2, "selector": {}, "template": {} },
            "status": { "observedGeneration": observed, "updatedReplicas": updated, "availableReplicas": available },
        }))
        .unwrap()
    }

    #[test]
    fn available_means_the_newest_generation() {
        assert_eq!(lacking(&deployment(1, 1, 2, 2)), None);
        assert_eq!(lacking(&deployment(2, 1, 2, 2)), Some("2/2 ready".into()));
        assert_eq!(lacking(&deployment(2, 2, 1, 2)), Some("2/2 ready".into()));
        assert_eq!(lacking(&deployment(1, 1, 2, 1)), Some("1/2 ready".into()));
    }
}
