//! The admin interface of a pod's proxy, reached as kubectl reaches a pod's ports: through the API
//! server, so that it works on any cluster and asks for the same permission.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Portforwarder},
};

use crate::world::{self, PROXY_CONTAINER};

/// Port of the admin interface on the pod's localhost.
pub(crate) const PORT: u16 = 15000;

/// A pod, on the command line.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct PodArgs {
    /// The pod: NAME, or deploy/NAME for one of its pods; .NAMESPACE may follow
    pub(crate) pod: String,
    /// Namespace of the pod [default: that of the kubeconfig's context]
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
}

/// A client of the cluster. `kubeconfig` leads to the one of this machine, used unless KUBECONFIG is
/// set.
pub(crate) async fn client(kubeconfig: &Path) -> anyhow::Result<Client> {
    let named = std::env::var_os("KUBECONFIG").is_some_and(|path| !path.is_empty());
    let mut config = if named || !kubeconfig.exists() {
        let found = kube::Config::infer().await;
        found.context("no cluster: meshdojo up starts one, or set KUBECONFIG")?
    } else {
        let config = kube::config::Kubeconfig::read_from(kubeconfig)?;
        kube::Config::from_custom_kubeconfig(config, &Default::default()).await?
    };
    // A loopback address is never behind a proxy.
    if config.cluster_url.host() == Some("127.0.0.1") {
        config.proxy_url = None;
    }
    Ok(Client::try_from(config)?)
}

/// A connection to the admin interface.
pub(crate) struct PodAdmin {
    sender: http1::SendRequest<Empty<Bytes>>,
    forwarder: Portforwarder,
    pod: String,
    port: u16,
}

impl PodAdmin {
    /// Connects.
    ///
    /// # Errors
    /// There is no such pod, it has no proxy, or the API server does not let us.
    pub(crate) async fn connect(client: Client, args: &PodArgs) -> anyhow::Result<Self> {
        let (namespace, name) = find(&client, args).await?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let pod = pods.get_opt(&name).await?;
        let pod = pod.with_context(|| format!("there is no pod {name} in {namespace}"))?;
        ensure!(
            world::Pod::read(&pod).is_some_and(|pod| pod.in_mesh),
            "pod {name} in {namespace} has no running container {PROXY_CONTAINER}: it is not in the mesh"
        );
        Self::open(client, &namespace, &name, PORT).await
    }

    /// Connects to a port of a pod's localhost.
    ///
    /// # Errors
    /// The API server does not let us, or nobody listens there.
    pub(crate) async fn open(
        client: Client,
        namespace: &str,
        name: &str,
        port: u16,
    ) -> anyhow::Result<Self> {
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        let mut forwarder = pods
            .portforward(name, &[port])
            .await
            .with_context(|| format!("forwarding to port {port} of pod {name}"))?;
        let stream = forwarder
            .take_stream(port)
            .context("no stream to the pod")?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Its error reaches the request.
        tokio::spawn(connection);
        Ok(Self {
            sender,
            forwarder,
            pod: name.to_owned(),
            port,
        })
    }

    /// Asks for a page that is JSON.
    pub(crate) async fn json(&mut self, path: &str) -> anyhow::Result<serde_json::Value> {
        let page = self.get(path).await?.into_body().collect().await?;
        let error = || format!("{path} of {} is not JSON", self.pod);
        serde_json::from_slice(&page.to_bytes()).with_context(error)
    }

    /// Asks for a page.
    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<Response<Incoming>> {
        self.ask(Method::GET, path).await
    }

    /// Changes something; the page that says what is now.
    pub(crate) async fn post(&mut self, path: &str) -> anyhow::Result<String> {
        let answer = self.ask(Method::POST, path).await?.into_body();
        let bytes = answer.collect().await?.to_bytes();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn ask(&mut self, method: Method, path: &str) -> anyhow::Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, format!("localhost:{}", self.port))
            .body(Empty::new())?;
        match self.sender.send_request(request).await {
            Ok(response) if response.status().is_success() => Ok(response),
            Ok(response) => {
                let status = response.status();
                let body = response.into_body().collect().await?.to_bytes();
                let text = String::from_utf8_lossy(&body);
                let first = text.lines().next().unwrap_or_default();
                bail!(
                    "port {} of {} answers {status}: {first}",
                    self.port,
                    self.pod
                )
            }
            Err(error) => {
                // The node says why on another channel.
                let why = match self.forwarder.take_error(self.port) {
                    Some(why) => why.await,
                    None => None,
                };
                match why {
                    Some(why) => bail!("{}", why.trim()),
                    None => Err(error)
                        .with_context(|| format!("asking port {} of {}", self.port, self.pod)),
                }
            }
        }
    }
}

/// Namespace and name of the pod that is meant.
pub(crate) async fn find(client: &Client, args: &PodArgs) -> anyhow::Result<(String, String)> {
    let own = args.namespace.as_deref();
    let namespace = own.unwrap_or(client.default_namespace()).to_owned();
    let name = match args.pod.split_once('/') {
        None => {
            // Names of pods hold no dot where a Deployment gave them; a namespace never does.
            if let (None, Some((name, namespace))) = (own, args.pod.rsplit_once('.')) {
                return Ok((namespace.to_owned(), name.to_owned()));
            }
            return Ok((namespace, args.pod.clone()));
        }
        Some(("pod" | "pods" | "po", name)) => return Ok((namespace, name.to_owned())),
        Some(("deploy" | "deployment" | "deployments", name)) => name,
        Some((kind, _)) => bail!("{kind}/... is not understood: name a pod or deploy/NAME"),
    };
    let (name, namespace) = match (own, name.rsplit_once('.')) {
        (None, Some((name, namespace))) => (name, namespace.to_owned()),
        _ => (name, namespace),
    };
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let deployment = deployments.get_opt(name).await?;
    let deployment =
        deployment.with_context(|| format!("there is no Deployment {name} in {namespace}"))?;
    let labels = deployment.spec.and_then(|spec| spec.selector.match_labels);
    let labels: Vec<String> = labels
        .unwrap_or_default()
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let pods = pods
        .list(&ListParams::default().labels(&labels.join(",")))
        .await?;
    let running = |pod: &&Pod| {
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
    };
    let pod = pods.items.iter().find(running);
    let pod = pod.with_context(|| format!("no pod of Deployment {name} runs in {namespace}"))?;
    Ok((namespace, pod.name_any()))
}
