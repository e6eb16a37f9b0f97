//! `meshdojo proxy-status`: which proxies are connected, and whether they have taken what they were
//! told, in the form of `istioctl proxy-status`. The control plane says what it sent, each proxy what
//! is in effect.

mod compare;
mod state;

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt, api::ListParams};
use serde_json::Value;

use crate::{
    ROOT_NAMESPACE,
    pod_admin::{self, PodAdmin, PodArgs, client},
    proxy_config::columns,
};
use state::Status;

/// Port of the control plane's debug pages.
const MONITORING_PORT: u16 = 15014;
/// A proxy that does not answer within this is shown as unknown.
const PATIENCE: Duration = Duration::from_secs(10);
/// Proxies that are asked at the same time.
const AT_ONCE: usize = 8;
/// Of a proxy's configuration what tells of its state.
const STATE: &str = "/config_dump?mask=bootstrap.node.metadata,version_info,\
    dynamic_listeners.name,dynamic_listeners.error_state,\
    dynamic_route_configs.route_config.name,dynamic_route_configs.error_state";

/// `meshdojo proxy-status`.
#[derive(clap::Args, Clone, Debug)]
pub struct ProxyStatusArgs {
    /// Compare the configuration of this pod's proxy with the control plane's: NAME, NAME.NAMESPACE or deploy/NAME
    pod: Option<String>,
    /// Only proxies of this namespace; of a pod, its namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// Print short, json or yaml
    #[arg(short, long, default_value = "short", value_parser = ["short", "json", "yaml"])]
    output: String,
}

/// Runs the verb. `kubeconfig` leads to the cluster of this machine, used unless KUBECONFIG is set.
///
/// # Errors
/// The control plane or the pod's proxy cannot be asked.
pub async fn run(args: ProxyStatusArgs, kubeconfig: &Path) -> anyhow::Result<()> {
    let client = client(kubeconfig).await?;
    let istiods = istiods(&client).await?;
    if let Some(pod) = args.pod {
        let namespace = args.namespace;
        let difference = difference(&client, &istiods, PodArgs { pod, namespace }).await?;
        print!("{difference}");
        return Ok(());
    }
    let mut connected = Vec::new();
    for istiod in &istiods {
        let mut debug =
            PodAdmin::open(client.clone(), ROOT_NAMESPACE, istiod, MONITORING_PORT).await?;
        let page = debug.json("/debug/syncz").await?;
        let proxies = page["proxies"].as_array().into_iter().flatten().cloned();
        connected.extend(proxies.map(|proxy| (istiod.clone(), proxy)));
    }
    let of_namespace = |(_, proxy): &(String, Value)| {
        let (_, namespace) = state::name(proxy);
        args.namespace
            .as_deref()
            .is_none_or(|wanted| wanted == namespace)
    };
    connected.retain(of_namespace);
    let asking = connected.into_iter().map(|(istiod, proxy)| {
        let client = client.clone();
        async move {
            let (pod, namespace) = state::name(&proxy);
            let asked = tokio::time::timeout(PATIENCE, in_effect(client, namespace, pod)).await;
            let answer =
                asked.unwrap_or_else(|_| bail!("no answer within {} s", PATIENCE.as_secs()));
            Status::of(
                &istiod,
                &proxy,
                answer.map_err(|error| format!("{error:#}")),
            )
        }
    });
    let mut all: Vec<Status> = futures::stream::iter(asking)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    all.sort_by(|one, other| one.name.cmp(&other.name));
    match args.output.as_str() {
        "json" => println!("{}", serde_json::to_string_pretty(&all)?),
        "yaml" => print!("{}", serde_norway::to_string(&all)?),
        _ => print!("{}{}", columns(&state::table(&all)), state::problems(&all)),
    }
    Ok(())
}

/// The pods of the control plane.
async fn istiods(client: &Client) -> anyhow::Result<Vec<String>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), ROOT_NAMESPACE);
    let of_control = ListParams::default().labels("app=istiod");
    let pods = pods.list(&of_control).await;
    let pods = pods.with_context(|| format!("listing the pods of {ROOT_NAMESPACE}"))?;
    let running = |pod: &&Pod| {
        let status = pod.status.as_ref();
        status.and_then(|status| status.phase.as_deref()) == Some("Running")
            && pod.metadata.deletion_timestamp.is_none()
    };
    let names: Vec<String> = pods
        .iter()
        .filter(running)
        .map(ResourceExt::name_any)
        .collect();
    if names.is_empty() {
        bail!(
            "no pod of Deployment istiod runs in {ROOT_NAMESPACE}: there is no control plane to ask"
        );
    }
    Ok(names)
}

/// What a proxy says of its own configuration.
async fn in_effect(client: Client, namespace: &str, pod: &str) -> anyhow::Result<Value> {
    let mut admin = PodAdmin::open(client, namespace, pod, pod_admin::PORT).await?;
    admin.json(STATE).await
}

/// How the configuration of a proxy differs from what its control plane has for it.
async fn difference(client: &Client, istiods: &[String], pod: PodArgs) -> anyhow::Result<String> {
    let (namespace, name) = pod_admin::find(client, &pod).await?;
    let page = format!("/debug/config_dump?proxyID={name}.{namespace}");
    let mut told = Err(anyhow::anyhow!("nobody was asked"));
    for istiod in istiods {
        let mut debug =
            PodAdmin::open(client.clone(), ROOT_NAMESPACE, istiod, MONITORING_PORT).await?;
        told = debug.json(&page).await;
        if told.is_ok() {
            break;
        }
    }
    let told =
        told.with_context(|| format!("{name}.{namespace} is connected to no control plane"))?;
    let named = PodArgs {
        pod: name,
        namespace: Some(namespace),
    };
    let mut admin = PodAdmin::connect(client.clone(), &named).await?;
    let own = admin.json("/config_dump?include_eds").await?;
    Ok(compare::text(&told, &own))
}
