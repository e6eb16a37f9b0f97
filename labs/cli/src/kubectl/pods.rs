//! Which pod and which container `exec`, `logs` and `port-forward` mean.

use anyhow::{Context, bail};
use futures::StreamExt;
use kube::core::WatchEvent;
use serde_json::Value;

use super::{
    kinds::Kinds,
    objects::{self, Selection},
    server::{OBJECTS, Server},
};

/// Names the container that is meant when none is named.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The pods that `NAME`, `pod/NAME` or `deploy/NAME` means, the one to be used first.
///
/// # Errors
/// When it is not there, or has no pods.
pub async fn of(server: &Server, reference: &str) -> anyhow::Result<Vec<Value>> {
    let pod_path = |name: &str| format!("/api/v1/namespaces/{}/pods/{name}", server.namespace);
    let Some((kind, name)) = reference.split_once('/') else {
        return Ok(vec![server.get(&pod_path(reference)).await?]);
    };
    let kinds = Kinds::of(server).await?;
    let kind = objects::one(&kinds, kind)?;
    if kind.kind == "Pod" {
        return Ok(vec![server.get(&pod_path(name)).await?]);
    }
    let object = server.get(&kind.path_of(&server.namespace, name)).await?;
    let labels = object
        .pointer("/spec/selector/matchLabels")
        .or(object.pointer("/spec/selector"));
    let pairs = labels.and_then(Value::as_object).into_iter().flatten();
    let pairs: Vec<String> = pairs
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    if pairs.is_empty() {
        bail!("cannot find the pods of {reference}: it selects none");
    }
    let mut pods = selected(server, &pairs.join(",")).await?;
    pods.sort_by_key(rank);
    if pods.is_empty() {
        bail!("{reference} has no pods");
    }
    Ok(pods)
}

/// The pods that a selector finds.
///
/// # Errors
/// What the server refuses.
pub async fn selected(server: &Server, labels: &str) -> anyhow::Result<Vec<Value>> {
    let selection = Selection {
        labels: Some(labels.to_owned()),
        fields: None,
    };
    let path = format!(
        "/api/v1/namespaces/{}/pods{}",
        server.namespace,
        selection.query()
    );
    let mut list = server.get(&path).await?;
    Ok(list["items"]
        .as_array_mut()
        .map(std::mem::take)
        .unwrap_or_default())
}

/// The pod, as soon as `is_so` holds of it.
///
/// # Errors
/// When it is deleted before, or what the server refuses.
pub async fn until(
    server: &Server,
    name: &str,
    is_so: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let selection = Selection {
        fields: Some(format!("metadata.name={name}")),
        labels: None,
    };
    let path = format!("/api/v1/namespaces/{}/pods", server.namespace) + &selection.query();
    // Without a version the server begins with what is there.
    let mut events = std::pin::pin!(server.watch(&path, OBJECTS).await?);
    while let Some(event) = events.next().await {
        match event? {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) if is_so(&pod) => return Ok(pod),
            WatchEvent::Deleted(_) => bail!("pod {name:?} was deleted meanwhile"),
            WatchEvent::Error(status) => bail!("{}", status.message),
            _ => {}
        }
    }
    bail!("the watch ended")
}

/// Those that serve come before those that begin or end; what has served for longest first, then what
/// is oldest. Times are whole seconds; the order of the list decides between equals, as in kubectl.
fn rank(pod: &Value) -> (bool, bool, bool, String, String) {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.find(|c| c["type"] == "Ready" && c["status"] == "True");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (
        pod["metadata"]["deletionTimestamp"].is_string(),
        pod["status"]["phase"] != "Running",
        ready.is_none(),
        ready.map_or_else(String::new, |c| text(&c["lastTransitionTime"])),
        text(&pod["metadata"]["creationTimestamp"]),
    )
}

/// The container that is meant; says which when several could be.
///
/// # Errors
/// When the one that was named is not there.
pub fn container(pod: &Value, named: Option<&str>) -> anyhow::Result<String> {
    let names = |list: &str| -> Vec<String> {
        let all = pod["spec"][list].as_array().into_iter().flatten();
        all.filter_map(|c| c["name"].as_str().map(str::to_owned))
            .collect()
    };
    let (own, before) = (names("containers"), names("initContainers"));
    if let Some(named) = named {
        if own.iter().chain(&before).any(|name| name == named) {
            return Ok(named.to_owned());
        }
        bail!(
            "container {named} is not valid for pod {}: it has {}",
            objects::name(pod),
            own.iter()
                .chain(&before)
                .cloned()
                .collect::<Vec<_>>()
                .join(", ")
        );
    }
    if let Some(name) = pod["metadata"]["annotations"][DEFAULT_CONTAINER].as_str() {
        return Ok(name.to_owned());
    }
    let first = own.first().context("the pod has no containers")?.clone();
    if own.len() + before.len() > 1 {
        let before = before.iter().map(|name| format!("{name} (init)"));
        let all: Vec<String> = own.iter().cloned().chain(before).collect();
        eprintln!("Defaulted container {first:?} out of: {}", all.join(", "));
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_container_that_is_meant() {
        let mut pod = json!({ "metadata": { "name": "p" }, "spec": {
            "containers": [{ "name": "app" }, { "name": "istio-proxy" }], "initContainers": [{ "name": "once" }] } });
        assert_eq!(container(&pod, None).unwrap(), "app");
        assert_eq!(container(&pod, Some("once")).unwrap(), "once");
        let told = container(&pod, Some("x")).unwrap_err().to_string();
        assert_eq!(
            told,
            "container x is not valid for pod p: it has app, istio-proxy, once"
        );
        pod["metadata"]["annotations"][DEFAULT_CONTAINER] = "istio-proxy".into();
        assert_eq!(container(&pod, None).unwrap(), "istio-proxy");
    }

    #[test]
    fn a_pod_that_serves_comes_first() {
        let pod = |name: &str, ready: &str, ending: bool| {
            let mut pod = json!({ "metadata": { "name": name },
                "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }] } });
            if ending {
                pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            }
            pod
        };
        let mut pods = [
            pod("a", "True", true),
            pod("b", "False", false),
            pod("c", "True", false),
        ];
        pods.sort_by_key(rank);
        assert_eq!(pods.each_ref().map(objects::name), ["c", "b", "a"]);
    }
}
