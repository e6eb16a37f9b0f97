//! The objects of a cluster as they are looked at here.

use futures::{StreamExt, stream};
use kube::api::ListParams;
use serde_json::Value;

use crate::cluster::Cluster;

/// What is looked at.
const KINDS: &[(&str, &str)] = &[
    ("v1", "Namespace"),
    ("v1", "Service"),
    ("v1", "Pod"),
    ("apps/v1", "Deployment"),
    ("networking.istio.io/v1", "VirtualService"),
    ("networking.istio.io/v1", "DestinationRule"),
    ("networking.istio.io/v1", "Gateway"),
    ("networking.istio.io/v1", "ServiceEntry"),
    ("security.istio.io/v1", "PeerAuthentication"),
    ("security.istio.io/v1", "AuthorizationPolicy"),
];

/// The namespace whose rules are for all.
pub(super) const ROOT: &str = "istio-system";

/// Objects of any kind, each with its `kind`.
#[derive(Clone, Debug, Default)]
pub struct Objects(pub Vec<Value>);

/// A host as Istio resolves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// A name and a namespace of the cluster.
    Service(String, String),
    /// Anything else, `*` among it.
    Other(String),
}

impl Host {
    /// Reads a host as written in a namespace. Only a name without dots is completed.
    pub(super) fn resolve(host: &str, namespace: &str) -> Self {
        let full = host.strip_suffix(".svc.cluster.local");
        if let Some((name, namespace)) = full.and_then(|full| full.split_once('.')) {
            return Self::Service(name.into(), namespace.into());
        }
        if host.contains(['.', '*']) {
            Self::Other(host.into())
        } else {
            Self::Service(host.into(), namespace.into())
        }
    }
}

impl Objects {
    /// All of a cluster.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn of_cluster(cluster: &Cluster) -> anyhow::Result<Self> {
        let lists = stream::iter(KINDS)
            .map(|(api_version, kind)| async move {
                let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
                let resource = kube::api::ApiResource::from_gvk(&kube::api::GroupVersionKind::gvk(
                    group, version, kind,
                ));
                let client = cluster.client.clone();
                let api: kube::Api<kube::api::DynamicObject> = match &cluster.only {
                    Some(only) if *kind != "Namespace" => {
                        kube::Api::namespaced_with(client, only, &resource)
                    }
                    _ => kube::Api::all_with(client, &resource),
                };
                let list = match api.list(&ListParams::default()).await {
                    Ok(list) => list.items,
                    Err(kube::Error::Api(_)) => Vec::new(),
                    Err(error) => return Err(anyhow::Error::from(error)),
                };
                list.into_iter()
                    .map(|object| {
                        let mut value = serde_json::to_value(object)?;
                        value["kind"] = (*kind).into();
                        anyhow::Ok(value)
                    })
                    .collect::<Result<Vec<_>, _>>()
            })
            .buffered(KINDS.len())
            .collect::<Vec<_>>()
            .await;
        let mut all = Vec::new();
        for list in lists {
            all.extend(list?);
        }
        Ok(Self(all))
    }

    /// Those of a kind.
    pub(super) fn of<'a>(&'a self, kind: &str) -> impl Iterator<Item = &'a Value> {
        let kind = kind.to_owned();
        self.0.iter().filter(move |object| object["kind"] == kind)
    }

    /// One of a kind.
    pub(super) fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.0.iter().find(|object| {
            object["kind"] == kind
                && self::namespace(object) == namespace
                && self::name(object) == name
        })
    }

    /// The service of a subject, as it resolves.
    pub(super) fn service(&self, service: &(String, String)) -> Option<&Value> {
        match Host::resolve(&service.0, &service.1) {
            Host::Service(name, namespace) => self.get("Service", &namespace, &name),
            Host::Other(_) => None,
        }
    }

    /// Whether there is anything behind a host: a Service, or a ServiceEntry that names it.
    pub(super) fn knows(&self, host: &Host) -> bool {
        match host {
            Host::Service(name, namespace) => self.get("Service", namespace, name).is_some(),
            Host::Other(other) => {
                other.contains('*')
                    || self
                        .of("ServiceEntry")
                        .any(|entry| strings(&entry["spec"]["hosts"]).any(|host| host == other))
            }
        }
    }

    /// The pods that labels select in a namespace.
    pub(super) fn pods(&self, namespace: &str, labels: &[(String, String)]) -> Vec<&Value> {
        let selected = |pod: &&Value| {
            labels
                .iter()
                .all(|(key, value)| pod["metadata"]["labels"][key] == **value)
        };
        self.of("Pod")
            .filter(|pod| self::namespace(pod) == namespace)
            .filter(selected)
            .collect()
    }

    /// The pods behind a Service; none for one without selector.
    pub(super) fn pods_of(&self, service: &Value) -> Vec<&Value> {
        let labels = pairs(&service["spec"]["selector"]);
        if labels.is_empty() {
            return Vec::new();
        }
        self.pods(namespace(service), &labels)
    }
}

pub(super) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or("")
}

pub(super) fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or("")
}

/// The strings of a list.
pub(super) fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// The items of a list.
pub(super) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// The pairs of a map of strings.
pub(super) fn pairs(map: &Value) -> Vec<(String, String)> {
    let entries = map.as_object().into_iter().flatten();
    entries
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// `app=reviews,version=v1` as pairs.
pub(super) fn selector_pairs(selector: &str) -> Vec<(String, String)> {
    let parts = selector.split(',').filter_map(|part| part.split_once('='));
    parts
        .map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned()))
        .collect()
}

/// Whether a pod has a sidecar.
pub(super) fn has_sidecar(pod: &Value) -> bool {
    ["containers", "initContainers"]
        .iter()
        .flat_map(|list| items(&pod["spec"][list]))
        .any(|container| container["name"] == "istio-proxy")
}
