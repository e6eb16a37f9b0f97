//! The cluster that is judged: a Kubernetes API and the address of its ingress gateway.

use std::{
    collections::BTreeMap, fs::OpenOptions, io::Write as _, net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt as _, path::Path,
};

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Service},
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
    config::{KubeConfigOptions, Kubeconfig},
};

/// Which cluster, and where its gateway is.
#[derive(Clone)]
pub struct Cluster {
    /// Its API.
    pub client: Client,
    /// `http://127.0.0.1:8080`: what `/path` in a check is added to.
    pub gateway: String,
    /// The one namespace that is seen, where it is not the whole cluster.
    pub only: Option<String>,
}

impl Cluster {
    /// Connects by a kubeconfig and one of its contexts.
    ///
    /// # Errors
    /// When the file or the context is not there, or no gateway can be found and none was given.
    pub async fn connect(
        kubeconfig: Option<&Path>,
        context: Option<&str>,
        gateway: Option<&str>,
    ) -> anyhow::Result<Self> {
        let client = client(kubeconfig, context).await?;
        let gateway = match gateway {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => find_gateway(&client).await?,
        };
        Ok(Self {
            client,
            gateway,
            only: None,
        })
    }

    /// The API of a kind.
    pub fn api(&self, api_version: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        if namespace.is_empty() {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        }
    }

    /// The pods that `deploy/NAME`, `pod/NAME` or `label=value` stands for, those that end left out.
    ///
    /// # Errors
    /// When there are none.
    pub async fn pods(&self, namespace: &str, reference: &str) -> anyhow::Result<Vec<Pod>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        if let Some(name) = reference.strip_prefix("pod/") {
            let pod = api.get_opt(name).await?;
            return Ok(vec![pod.with_context(|| {
                format!("there is no pod {name} in namespace {namespace}")
            })?]);
        }
        let selector = match reference.strip_prefix("deploy/") {
            Some(name) => self.selector_of(namespace, name).await?,
            None => reference.to_owned(),
        };
        let mut pods = self.living(namespace, &selector).await?;
        if let Some(name) = reference.strip_prefix("deploy/") {
            // Two Deployments may select by the same labels: a pod belongs to the one it is named after.
            pods.retain(|pod| {
                pod.name_any()
                    .strip_prefix(name)
                    .is_some_and(|rest| rest.matches('-').count() == 2)
            });
        }
        if pods.is_empty() {
            bail!("there is no pod of {reference} in namespace {namespace}");
        }
        Ok(pods)
    }

    /// The pods that a selector finds, those that end left out.
    ///
    /// # Errors
    /// What the API says.
    pub async fn living(&self, namespace: &str, selector: &str) -> anyhow::Result<Vec<Pod>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let pods = api.list(&ListParams::default().labels(selector)).await?;
        let living = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
            pod.metadata.deletion_timestamp.is_none()
                && !matches!(phase, Some("Succeeded" | "Failed"))
        };
        Ok(pods.items.into_iter().filter(living).collect())
    }

    async fn selector_of(&self, namespace: &str, name: &str) -> anyhow::Result<String> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let deployment = api
            .get_opt(name)
            .await?
            .with_context(|| format!("there is no Deployment {name} in namespace {namespace}"))?;
        let labels: BTreeMap<String, String> = deployment
            .spec
            .and_then(|spec| spec.selector.match_labels)
            .unwrap_or_default();
        let pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        Ok(pairs.join(","))
    }
}

/// A client by a kubeconfig, else by `KUBECONFIG` or the user's own, and one of its contexts.
///
/// # Errors
/// When the file or the context is not there.
pub async fn client(kubeconfig: Option<&Path>, context: Option<&str>) -> anyhow::Result<Client> {
    let options = KubeConfigOptions {
        context: context.map(str::to_owned),
        ..KubeConfigOptions::default()
    };
    let mut config = match kubeconfig {
        Some(file) => {
            let read = Kubeconfig::read_from(file)
                .with_context(|| format!("reading {}", file.display()))?;
            Config::from_custom_kubeconfig(read, &options).await?
        }
        None => Config::from_kubeconfig(&options)
            .await
            .context("no cluster: start one with `meshdojo up`, or set KUBECONFIG or --context")?,
    };
    // A loopback address is never behind a proxy.
    if config.cluster_url.host() == Some("127.0.0.1") {
        config.proxy_url = None;
    }
    Ok(Client::try_from(config)?)
}

/// Writes the user's kubeconfig with this context as the current one, for commands that are not told which.
///
/// # Errors
/// When there is no such context, or the file cannot be written.
pub fn write_kubeconfig(context: &str, file: &Path) -> anyhow::Result<()> {
    let mut config = Kubeconfig::read().context("no kubeconfig: set KUBECONFIG")?;
    ensure!(
        config.contexts.iter().any(|known| known.name == context),
        "the kubeconfig has no context {context:?}"
    );
    config.current_context = Some(context.to_owned());
    // Credentials are in it.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    Ok(file.write_all(serde_norway::to_string(&config)?.as_bytes())?)
}

/// Where the embedded cluster puts the loopback of a pod with a door: its pod range is 127.N.0, its loopbacks are
/// 127.N.192. `None` for a pod of any other cluster.
pub fn loopback(pod: &Pod) -> Option<Ipv4Addr> {
    pod.annotations().get("embedded.meshdojo.dev/door")?;
    let ip: Ipv4Addr = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
    let [a, b, c, d] = ip.octets();
    (a == 127).then(|| Ipv4Addr::new(127, b, c + 192, d))
}

/// The address of the ingress gateway as this machine reaches it.
///
/// # Errors
/// When there is none, or the cluster does not answer.
pub async fn find_gateway(client: &Client) -> anyhow::Result<String> {
    for namespace in ["istio-system", "istio-ingress"] {
        let api: Api<Service> = Api::namespaced(client.clone(), namespace);
        let found = api
            .get_opt("istio-ingressgateway")
            .await
            .context("the cluster does not answer")?;
        if let Some(url) = found.as_ref().and_then(gateway_url) {
            return Ok(url);
        }
    }
    bail!(
        "no address of an ingress gateway: the Service istio-ingressgateway is not there or has no external address; give one with --gateway http://HOST:PORT"
    )
}

fn gateway_url(service: &Service) -> Option<String> {
    let annotation = service
        .annotations()
        .get("embedded.meshdojo.dev/load-balancer-ports");
    let mapped = annotation
        .into_iter()
        .flat_map(|a| a.split(','))
        .find_map(|pair| pair.trim().strip_prefix("80="));
    if let Some(port) = mapped {
        return Some(format!("http://127.0.0.1:{port}"));
    }
    let status = service.status.as_ref()?.load_balancer.as_ref()?;
    let ingress = status.ingress.as_ref()?.first()?;
    let host = ingress.ip.as_ref().or(ingress.hostname.as_ref())?;
    Some(format!("http://{host}"))
}
