//! `kill -9` of the cluster, of a sidecar, of an application: nothing is lost, nothing is left.

use std::time::Duration;

use anyhow::{Context, ensure};
use dojo_tests::{
    bookstore::Reader,
    dojo::{Dojo, eventually},
};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const SOON: Duration = Duration::from_secs(60);

/// A process and what its command line says.
struct Process {
    pid: i32,
    parent: i32,
    command: String,
}

fn processes() -> Vec<Process> {
    let folders = std::fs::read_dir("/proc").expect("/proc").flatten();
    folders
        .filter_map(|folder| {
            let pid = folder.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(folder.path().join("stat")).ok()?;
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            if fields[0] == "Z" {
                return None;
            }
            let command = std::fs::read(folder.path().join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            Some(Process {
                pid,
                parent: fields[1].parse().ok()?,
                command,
            })
        })
        .collect()
}

/// Everything below a process.
fn family(root: i32) -> Vec<Process> {
    let mut found = vec![root];
    let mut members = Vec::new();
    let mut all = processes();
    loop {
        let (children, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|p| found.contains(&p.parent));
        if children.is_empty() {
            return members;
        }
        found.extend(children.iter().map(|p| p.pid));
        members.extend(children);
        all = others;
    }
}

fn kill_9(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("the process is ours");
}

async fn page_serves(dojo: &Dojo) -> anyhow::Result<()> {
    eventually("the page", SOON, async || {
        let (text, _) = Reader::new(dojo.port)?.page().await?;
        ensure!(text.contains("reviews-v"), "no reviews on the page");
        Ok(())
    })
    .await
}

/// Kills the process of a container of productpage and waits until the pod has counted a restart.
async fn is_restarted(dojo: &Dojo, container: &str, command: &str) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(dojo.client().await?, "default");
    let restarts = async || {
        let pod = pods
            .list(&ListParams::default().labels("app=productpage"))
            .await?;
        let pod = pod.items.first().context("a productpage pod")?.clone();
        let status = pod.status.unwrap_or_default();
        let all = status
            .container_statuses
            .into_iter()
            .chain(status.init_container_statuses)
            .flatten();
        let found = all
            .into_iter()
            .find(|c| c.name == container)
            .context("the container")?;
        anyhow::Ok((pod.metadata.name.unwrap_or_default(), found.restart_count))
    };
    let (pod, before) = restarts().await?;
    let victim = family(dojo.process()?)
        .into_iter()
        .find(|p| p.command.contains(command) && environment_names(p.pid, &pod))
        .context("the container's process")?;
    kill_9(victim.pid);
    eventually(&format!("a restart of {container}"), SOON, async || {
        let (_, now) = restarts().await?;
        ensure!(now > before, "{now} restarts");
        Ok(())
    })
    .await?;
    page_serves(dojo).await
}

fn environment_names(pid: i32, pod: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment
        .split(|b| *b == 0)
        .any(|v| v == format!("HOSTNAME={pod}").as_bytes())
}

#[tokio::test]
async fn every_kill_is_survived() -> anyhow::Result<()> {
    let dojo = Dojo::up(&["bookinfo"])?;
    page_serves(&dojo).await?;

    is_restarted(&dojo, "productpage", " service productpage").await?;
    is_restarted(&dojo, "istio-proxy", " proxy sidecar").await?;

    let maps: Api<ConfigMap> = Api::namespaced(dojo.client().await?, "default");
    for number in 0..50 {
        let map = ConfigMap {
            metadata: kube::api::ObjectMeta {
                name: Some(format!("kept-{number}")),
                ..Default::default()
            },
            ..Default::default()
        };
        maps.create(&PostParams::default(), &map).await?;
    }
    let cluster = dojo.process()?;
    let children: Vec<i32> = family(cluster).into_iter().map(|p| p.pid).collect();
    ensure!(children.len() >= 14, "{} processes", children.len());
    kill_9(cluster);
    eventually(
        "the end of every process of the cluster",
        SOON,
        async || {
            let left: Vec<String> = processes()
                .into_iter()
                .filter(|p| children.contains(&p.pid))
                .map(|p| p.command)
                .collect();
            ensure!(left.is_empty(), "still there: {left:?}");
            Ok(())
        },
    )
    .await?;

    dojo.up_again(&["none"])?;
    let maps: Api<ConfigMap> = Api::namespaced(dojo.client().await?, "default");
    let kept = maps.list(&ListParams::default()).await?;
    let kept = kept
        .iter()
        .filter(|map| map.name_any().starts_with("kept-"))
        .count();
    ensure!(kept == 50, "{kept} of 50 objects survived");
    page_serves(&dojo).await
}
