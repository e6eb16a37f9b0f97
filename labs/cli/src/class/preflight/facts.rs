//! Finding out about the cluster.

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    apps::v1::Deployment,
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1 as core,
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};

use super::{Connection, Facts, Mesh, Node, quantity};

/// What making a class takes: verb, group, resource.
const NEEDED: [(&str, &str, &str); 13] = [
    ("create", "", "namespaces"),
    ("patch", "", "namespaces"),
    ("delete", "", "namespaces"),
    ("patch", "", "serviceaccounts"),
    ("create", "", "serviceaccounts/token"),
    ("patch", "", "resourcequotas"),
    ("patch", "", "limitranges"),
    ("list", "", "configmaps"),
    ("patch", "networking.k8s.io", "networkpolicies"),
    ("patch", "rbac.authorization.k8s.io", "roles"),
    ("patch", "rbac.authorization.k8s.io", "rolebindings"),
    (
        "patch",
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
    ),
    (
        "delete",
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
    ),
];

pub(super) async fn gather(connection: &Connection) -> anyhow::Result<Facts> {
    let client = &connection.client;
    let version = client
        .apiserver_version()
        .await
        .context("the cluster does not answer")?;
    // GKE and others write `29+`.
    let number = |text: &str| text.trim_end_matches('+').parse().unwrap_or(0);
    let nodes: Vec<core::Node> = readable(Api::all(client.clone())).await?;
    let pods: Vec<core::Pod> = readable(Api::all(client.clone())).await?;
    let namespaces: Vec<core::Namespace> = readable(Api::all(client.clone())).await?;
    let deployments: Vec<Deployment> = readable(Api::all(client.clone())).await?;
    let is_istiod = |object: &Deployment| {
        object
            .labels()
            .get("app")
            .is_some_and(|app| app == "istiod")
    };
    let control_planes: Vec<Deployment> = deployments.into_iter().filter(is_istiod).collect();
    let left_over = match control_planes.is_empty() {
        true => webhooks(connection).await?,
        false => Vec::new(),
    };
    Ok(Facts {
        version: (number(&version.major), number(&version.minor)),
        mesh: mesh(&control_planes, &namespaces),
        left_over,
        strict: strict(&namespaces),
        forbidden: forbidden(connection).await?,
        embedded: nodes.iter().any(is_embedded),
        nodes: nodes
            .iter()
            .filter(|node| takes_pods(node))
            .map(of_node)
            .collect(),
        asked: pods
            .iter()
            .map(asked)
            .fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1)),
    })
}

/// All of a kind; nothing for one who may not read it, which is told among the permissions.
async fn readable<K>(api: Api<K>) -> anyhow::Result<Vec<K>>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    match api.list(&ListParams::default()).await {
        Ok(list) => Ok(list.items),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn mesh(control_planes: &[Deployment], namespaces: &[core::Namespace]) -> Mesh {
    let of = |object: &Deployment| {
        let namespace = object.namespace().unwrap_or_default();
        format!("{namespace}/{}", object.name_any())
    };
    let is_ours = |object: &&Deployment| {
        let part = object.labels().get("app.kubernetes.io/part-of");
        part.is_some_and(|of| of == "meshdojo")
    };
    let (ours, other): (Vec<_>, Vec<_>) = control_planes.iter().partition(is_ours);
    let ready = |object: &&Deployment| {
        let status = object.status.as_ref();
        status.and_then(|status| status.available_replicas) > Some(0)
    };
    Mesh {
        ready: ours.iter().any(ready),
        ours: ours.into_iter().map(of).collect(),
        other: other.into_iter().map(of).collect(),
        ending: namespaces.iter().any(|namespace| {
            namespace.name_any() == "istio-system"
                && namespace.metadata.deletion_timestamp.is_some()
        }),
    }
}

/// Webhook configurations of a mesh, whoever's it was.
async fn webhooks(connection: &Connection) -> anyhow::Result<Vec<String>> {
    let mutating: Vec<MutatingWebhookConfiguration> =
        readable(Api::all(connection.client.clone())).await?;
    let names = mutating.iter().map(ResourceExt::name_any);
    Ok(names
        .filter(|name| name.starts_with("istio-sidecar-injector"))
        .map(|name| format!("mutatingwebhookconfiguration/{name}"))
        .collect())
}

/// Namespaces that ask for sidecars and for a Pod Security that refuses them.
fn strict(namespaces: &[core::Namespace]) -> Vec<(String, String)> {
    let level = |namespace: &core::Namespace| {
        let labels = namespace.labels();
        let injected = labels
            .get("istio-injection")
            .is_some_and(|on| on == "enabled")
            || labels.contains_key("istio.io/rev");
        let level = labels.get("pod-security.kubernetes.io/enforce")?;
        (injected && level != "privileged").then(|| (namespace.name_any(), level.clone()))
    };
    namespaces.iter().filter_map(level).collect()
}

/// What is needed and not allowed.
async fn forbidden(connection: &Connection) -> anyhow::Result<Vec<String>> {
    let api: Api<SelfSubjectAccessReview> = Api::all(connection.client.clone());
    let asked = |(verb, group, resource): (&'static str, &'static str, &'static str)| {
        let api = api.clone();
        async move {
            let (name, part) = match resource.split_once('/') {
                Some((name, part)) => (name, Some(part.to_owned())),
                None => (resource, None),
            };
            let review = SelfSubjectAccessReview {
                spec: SelfSubjectAccessReviewSpec {
                    resource_attributes: Some(ResourceAttributes {
                        verb: Some(verb.into()),
                        group: Some(group.into()),
                        resource: Some(name.into()),
                        subresource: part,
                        ..ResourceAttributes::default()
                    }),
                    ..SelfSubjectAccessReviewSpec::default()
                },
                ..SelfSubjectAccessReview::default()
            };
            let answer = api.create(&PostParams::default(), &review).await?;
            let allowed = answer.status.is_some_and(|status| status.allowed);
            anyhow::Ok((!allowed).then(|| format!("{verb} {resource}")))
        }
    };
    let answers: Vec<Option<String>> = stream::iter(NEEDED)
        .map(asked)
        .buffered(4)
        .try_collect()
        .await?;
    Ok(answers.into_iter().flatten().collect())
}

fn takes_pods(node: &core::Node) -> bool {
    let spec = node.spec.clone().unwrap_or_default();
    let tainted = spec
        .taints
        .iter()
        .flatten()
        .any(|taint| taint.effect == "NoSchedule" || taint.effect == "NoExecute");
    let conditions = node
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    let ready = conditions
        .filter(|c| c.type_ == "Ready")
        .all(|c| c.status == "True");
    !tainted && ready && spec.unschedulable != Some(true)
}

fn of_node(node: &core::Node) -> Node {
    let status = node.status.clone().unwrap_or_default();
    let allocatable = status.allocatable.or(status.capacity).unwrap_or_default();
    let number = |name: &str| quantity::of(allocatable.get(name));
    let mut images = status
        .images
        .iter()
        .flatten()
        .flat_map(|i| i.names.iter().flatten());
    Node {
        name: node.name_any(),
        cpu: number("cpu"),
        memory: number("memory"),
        pods: number("pods"),
        has_image: images.any(|name| name.contains("meshdojo/meshdojo")),
    }
}

/// What a pod that is not over asks for.
fn asked(pod: &core::Pod) -> (f64, f64) {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    let Some(spec) = pod
        .spec
        .as_ref()
        .filter(|_| !matches!(phase, Some("Succeeded" | "Failed")))
    else {
        return (0.0, 0.0);
    };
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let mut sum = (0.0, 0.0);
    for container in spec.containers.iter().chain(sidecars) {
        let requests = container
            .resources
            .as_ref()
            .and_then(|r| r.requests.as_ref());
        sum.0 += quantity::of(requests.and_then(|r| r.get("cpu")));
        sum.1 += quantity::of(requests.and_then(|r| r.get("memory")));
    }
    sum
}

/// Whether the node is the one of an embedded cluster.
fn is_embedded(node: &core::Node) -> bool {
    let info = node
        .status
        .as_ref()
        .and_then(|status| status.node_info.as_ref());
    info.is_some_and(|info| info.container_runtime_version.starts_with("meshdojo"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn control_planes_are_told_apart_by_their_label() {
        let istiod = |namespace: &str, part: Option<&str>, available: i32| -> Deployment {
            let labels = match part {
                Some(part) => json!({ "app": "istiod", "app.kubernetes.io/part-of": part }),
                None => json!({ "app": "istiod" }),
            };
            let object = json!({
                "metadata": { "name": "istiod", "namespace": namespace, "labels": labels },
                "status": { "availableReplicas": available },
            });
            serde_json::from_value(object).unwrap()
        };
        let found = mesh(
            &[istiod("a", Some("meshdojo"), 0), istiod("b", None, 1)],
            &[],
        );
        assert_eq!(
            (found.ours, found.other),
            (vec!["a/istiod".into()], vec!["b/istiod".into()])
        );
        assert!(!found.ready, "the other is");
        assert!(mesh(&[istiod("a", Some("meshdojo"), 2)], &[]).ready);
    }

    #[test]
    fn sidecars_and_pod_security_are_weighed_by_namespace() {
        let namespace = |name: &str, labels: serde_json::Value| -> core::Namespace {
            let object = json!({ "metadata": { "name": name, "labels": labels } });
            serde_json::from_value(object).unwrap()
        };
        const LEVEL: &str = "pod-security.kubernetes.io/enforce";
        let found = strict(&[
            namespace(
                "a",
                json!({ "istio-injection": "enabled", LEVEL: "restricted" }),
            ),
            namespace(
                "b",
                json!({ "istio-injection": "enabled", LEVEL: "privileged" }),
            ),
            namespace("c", json!({ LEVEL: "restricted" })),
            namespace("d", json!({ "istio.io/rev": "default", LEVEL: "baseline" })),
        ]);
        let told = [("a", "restricted"), ("d", "baseline")].map(|(a, b)| (a.into(), b.into()));
        assert_eq!(found, told);
    }
}
