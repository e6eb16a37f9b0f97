//! Finding out about the cluster.

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{
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
    Ok(Facts {
        version: (number(&version.major), number(&version.minor)),
        mesh: mesh(connection).await?,
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

async fn mesh(connection: &Connection) -> anyhow::Result<Mesh> {
    let api: Api<Deployment> = Api::namespaced(connection.client.clone(), "istio-system");
    let found = match api.get_opt("istiod").await {
        Ok(found) => found,
        Err(kube::Error::Api(status)) if status.code == 403 => None,
        Err(error) => return Err(error.into()),
    };
    Ok(match found {
        None => Mesh::None,
        Some(istiod) => match istiod.labels().get("app.kubernetes.io/part-of") {
            Some(of) if of == "meshdojo" => Mesh::Ours,
            _ => Mesh::Other,
        },
    })
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
