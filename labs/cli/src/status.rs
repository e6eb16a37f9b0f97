//! `meshdojo status`: what runs and where.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use serde::Serialize;

use crate::{
    arguments::{Output, StatusArgs},
    home::Home,
    kubeconfig,
};

/// What is known of one cluster.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    name: String,
    running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<u32>,
    kubeconfig: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
    /// Absent when the API does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pods: Option<Vec<PodStatus>>,
    /// The other clusters that have state here.
    others: Vec<String>,
}

#[derive(Serialize)]
struct PodStatus {
    namespace: String,
    name: String,
    ready: bool,
}

/// Prints the status. A cluster that does not run is told, not an error.
pub async fn run(home: &Home, args: StatusArgs) -> anyhow::Result<()> {
    let cluster = home.cluster(&args.cluster.name);
    let process = cluster.process();
    let pods = match process {
        Some(_) => tokio::time::timeout(Duration::from_secs(5), pods(&cluster.kubeconfig()))
            .await
            .ok(),
        None => None,
    };
    let status = Status {
        running: process.is_some(),
        process,
        kubeconfig: cluster.kubeconfig().display().to_string(),
        gateway: cluster
            .gateway_port()
            .map(|port| format!("http://127.0.0.1:{port}")),
        pods: pods.transpose()?,
        others: home
            .clusters()
            .into_iter()
            .filter(|name| *name != cluster.name)
            .collect(),
        name: cluster.name,
    };
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&status)?),
        Output::Text => print(&status),
    }
    Ok(())
}

async fn pods(kubeconfig: &std::path::Path) -> anyhow::Result<Vec<PodStatus>> {
    let client = kubeconfig::client(kubeconfig).await?;
    let all: Api<Pod> = Api::all(client);
    let pods = all.list(&ListParams::default()).await?;
    Ok(pods
        .into_iter()
        .map(|pod| PodStatus {
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
            ready: is_ready(&pod),
        })
        .collect())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

fn print(status: &Status) {
    match status.process {
        Some(process) => println!("cluster     {} (running, process {process})", status.name),
        None => println!(
            "cluster     {} (not running; `meshdojo up` starts it)",
            status.name
        ),
    }
    println!("kubeconfig  {}", status.kubeconfig);
    if let (Some(gateway), true) = (&status.gateway, status.running) {
        println!("gateway     {gateway}");
    }
    match &status.pods {
        Some(pods) => {
            let ready = pods.iter().filter(|pod| pod.ready).count();
            println!("pods        {ready} of {} ready", pods.len());
            for pod in pods.iter().filter(|pod| !pod.ready) {
                println!("            not ready: {}/{}", pod.namespace, pod.name);
            }
        }
        None if status.running => println!("pods        unknown: the API does not answer"),
        None => {}
    }
    if !status.others.is_empty() {
        println!("others      {}", status.others.join(", "));
    }
}
