//! `kubectl get`, `describe`, `explain`, `api-resources`.

use crate::{
    Step,
    namespace::{Namespace, contains},
};
use anyhow::{Context, ensure};

pub(crate) const STEPS: &[(&str, Step)] = &[
    ("get_in_every_form", get_in_every_form),
    ("get_watch", get_watch),
    ("describe", describe),
    ("explain_and_api_resources", explain_and_api_resources),
];

fn get_in_every_form(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(2)?;
    let pods = ns.ok("get pods")?;
    contains(
        &pods,
        &[
            "NAME", "READY", "STATUS", "RESTARTS", "AGE", "1/1", "Running",
        ],
    )?;
    ensure!(pods.lines().count() == 3, "{pods}");
    contains(
        &ns.ok("get pods -o wide")?,
        &["IP", "NODE", "NOMINATED NODE", "READINESS GATES", "127."],
    )?;
    contains(&ns.ok("get pods -o name")?, &["pod/web-"])?;
    contains(
        &ns.ok("get deployment web -o yaml")?,
        &[
            "apiVersion: apps/v1",
            "kind: Deployment",
            "availableReplicas: 2",
        ],
    )?;
    let json: serde_json::Value = serde_json::from_str(&ns.ok("get pods -o json")?)?;
    ensure!(
        json["items"]
            .as_array()
            .is_some_and(|items| items.len() == 2),
        "{json}"
    );
    let columns =
        ns.ok("get pods -o custom-columns=N:.metadata.name,P:.status.phase --no-headers")?;
    ensure!(
        columns.lines().all(|line| line.ends_with("Running")),
        "{columns}"
    );
    ensure!(ns.ok("get pods -l app=web --no-headers")?.lines().count() == 2);
    contains(
        &ns.ok("get pods --show-labels")?,
        &["LABELS", "app=web,pod-template-hash="],
    )?;
    contains(
        &ns.ok("get pods -A")?,
        &["NAMESPACE", "istio-system", "istiod-"],
    )?;
    contains(
        &ns.ok("get all")?,
        &[
            "pod/web-",
            "service/web",
            "ClusterIP",
            "80/TCP",
            "deployment.apps/web",
            "2/2",
            "replicaset.apps/web-",
        ],
    )?;
    contains(
        &ns.ok("get endpointslices")?,
        &["ADDRESSTYPE", "IPv4", "9080"],
    )?;
    contains(&ns.ok("get nodes")?, &["Ready", "v1.36"])?;
    contains(
        &ns.ok("get namespaces")?,
        &["default", "kube-system", "Active"],
    )?;
    contains(&ns.ok("get pods --sort-by=.metadata.name")?, &["web-"])?;
    contains(
        &ns.refused("get pod nobody", "")?,
        &[r#"Error from server (NotFound): pods "nobody" not found"#],
    )?;
    contains(
        &ns.refused("get cats", "")?,
        &[r#"the server doesn't have a resource type "cats""#],
    )
}

fn get_watch(ns: &Namespace) -> anyhow::Result<()> {
    ns.ok("create configmap first --from-literal=a=1")?;
    let mut watch = std::process::Command::new("kubectl")
        .args([
            "-n",
            &ns.name,
            "get",
            "configmaps",
            "-w",
            "--output-watch-events",
            "--request-timeout=20s",
        ])
        .env("KUBECONFIG", ns.dojo.kubeconfig())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let lines = std::io::BufRead::lines(std::io::BufReader::new(
        watch.stdout.take().context("a pipe")?,
    ));
    let mut changed = false;
    let mut seen = Vec::new();
    for line in lines {
        let line = line?;
        if line.contains("first") && !changed {
            ns.ok("create configmap second --from-literal=a=1")?;
            ns.ok("delete configmap second")?;
            changed = true;
        }
        let over = line.starts_with("DELETED") && line.contains("second");
        seen.push(line);
        if over {
            break;
        }
    }
    watch.kill()?;
    watch.wait()?;
    contains(
        &seen.join("\n"),
        &[
            "EVENT",
            "ADDED      first",
            "ADDED      second",
            "DELETED    second",
        ],
    )
}

fn describe(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(1)?;
    contains(
        &ns.ok("describe pod -l app=web")?,
        &[
            "Status:",
            "Running",
            "Image:",
            "meshdojo/meshdojo:0.1.0",
            "Readiness:",
            "Scheduled",
            "Started",
            "Controlled By:",
        ],
    )?;
    contains(
        &ns.ok("describe deployment web")?,
        &[
            "Replicas:",
            "1 desired | 1 updated | 1 total | 1 available",
            "RollingUpdateStrategy:",
            "ScalingReplicaSet",
        ],
    )?;
    contains(
        &ns.ok("describe service web")?,
        &["Selector:", "app=web", "Endpoints:", ":9080"],
    )?;
    contains(
        &ns.ok("describe node")?,
        &["Capacity:", "Conditions:", "Ready"],
    )?;
    contains(
        &ns.exact(&["describe", "namespace", &ns.name])?,
        &["Status:", "Active"],
    )
}

fn explain_and_api_resources(ns: &Namespace) -> anyhow::Result<()> {
    contains(
        &ns.ok("explain deployment.spec.replicas")?,
        &[
            "GROUP:",
            "apps",
            "KIND:",
            "Deployment",
            "FIELD: replicas <integer>",
        ],
    )?;
    contains(
        &ns.ok("explain pod")?,
        &["KIND:       Pod", "FIELDS:", "spec", "<PodSpec>"],
    )?;
    contains(
        &ns.ok("explain virtualservice.spec.http.fault")?,
        &["FIELDS:", "abort", "delay"],
    )?;
    contains(
        &ns.ok("api-resources")?,
        &[
            "NAME",
            "SHORTNAMES",
            "APIVERSION",
            "deployments",
            "deploy",
            "apps/v1",
            "virtualservices",
            "vs",
            "networking.istio.io/v1",
        ],
    )?;
    contains(
        &ns.ok("api-versions")?,
        &["apps/v1", "networking.istio.io/v1alpha3", "v1"],
    )?;
    contains(&ns.ok("version")?, &["Server Version: v1.36"])
}
