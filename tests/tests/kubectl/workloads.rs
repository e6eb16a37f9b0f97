//! Jobs, CronJobs, DaemonSets, StatefulSets, and what scales by load.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::{
    Step,
    namespace::{Namespace, contains},
};

pub(crate) const STEPS: &[(&str, Step)] = &[
    ("jobs", jobs),
    ("cron_jobs", cron_jobs),
    ("daemon_sets", daemon_sets),
    ("stateful_sets", stateful_sets),
    ("top_and_autoscale", top_and_autoscale),
    ("ingress", ingress),
    ("pods_in_time_and_fresh", pods_in_time_and_fresh),
];

const IMAGE: &str = "--image=meshdojo/meshdojo:0.1.0";

fn jobs(ns: &Namespace) -> anyhow::Result<()> {
    ns.ok(&format!("create job greet {IMAGE} -- echo hello"))?;
    ns.ok("wait --for=condition=complete job/greet --timeout=40s")?;
    contains(&ns.ok("get jobs")?, &["greet", "Complete", "1/1"])?;
    contains(&ns.ok("logs job/greet")?, &["hello"])?;
    contains(
        &ns.ok("describe job greet")?,
        &["1 Succeeded", "SuccessfulCreate", "Completed"],
    )?;
    ns.ok(&format!("create job fails {IMAGE} -- false"))?;
    ns.exact(&[
        "patch",
        "job",
        "fails",
        "--type=merge",
        "-p",
        "{\"spec\":{\"backoffLimit\":0}}",
    ])?;
    ns.ok("wait --for=condition=failed job/fails --timeout=40s")?;
    ns.ok("delete job greet fails")?;
    ns.ok("wait --for=delete pod -l job-name=greet --timeout=30s")?;
    Ok(())
}

fn cron_jobs(ns: &Namespace) -> anyhow::Result<()> {
    ns.exact(&[
        "create",
        "cronjob",
        "tick",
        IMAGE,
        "--schedule=*/5 * * * *",
        "--",
        "echo",
        "tock",
    ])?;
    contains(&ns.ok("get cronjobs")?, &["tick", "*/5 * * * *", "False"])?;
    // at once, as one types it who does not want to wait
    ns.ok("create job --from=cronjob/tick now")?;
    ns.ok("wait --for=condition=complete job/now --timeout=40s")?;
    contains(&ns.ok("logs job/now")?, &["tock"])
}

fn daemon_sets(ns: &Namespace) -> anyhow::Result<()> {
    let set = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: { name: agent }
spec:
  selector: { matchLabels: { app: agent } }
  template:
    metadata: { labels: { app: agent } }
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{ name: main, image: "meshdojo/meshdojo:0.1.0", command: [sleep, "600"] }]
"#;
    ns.typed("apply -f -", set)?;
    ns.ok("rollout status daemonset/agent --timeout=40s")?;
    ns.ok("set env daemonset/agent COLOUR=blue")?;
    ns.ok("rollout status daemonset/agent --timeout=40s")?;
    contains(&ns.ok("exec ds/agent -- printenv COLOUR")?, &["blue"])
}

fn stateful_sets(ns: &Namespace) -> anyhow::Result<()> {
    let set = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: { name: db }
spec:
  serviceName: db
  replicas: 2
  selector: { matchLabels: { app: db } }
  template:
    metadata: { labels: { app: db } }
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{ name: main, image: "meshdojo/meshdojo:0.1.0", command: [sleep, "600"] }]
"#;
    ns.typed("apply -f -", set)?;
    ns.ok("rollout status statefulset/db --timeout=60s")?;
    contains(&ns.ok("get pods")?, &["db-0", "db-1"])?;
    contains(&ns.ok("get statefulsets")?, &["2/2"])?;
    contains(&ns.ok("exec db-1 -- printenv HOSTNAME")?, &["db-1"])?;
    ns.ok("scale statefulset db --replicas=1")?;
    ns.ok("wait --for=delete pod/db-1 --timeout=30s")?;
    contains(&ns.ok("get pods")?, &["db-0"])
}

const BUSY: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: busy }
spec:
  selector: { matchLabels: { app: busy } }
  template:
    metadata: { labels: { app: busy } }
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: main
          image: meshdojo/meshdojo:0.1.0
          command: [sh, -c, "while :; do :; done"]
          resources: { requests: { cpu: 10m } }
"#;

fn top_and_autoscale(ns: &Namespace) -> anyhow::Result<()> {
    ns.typed("apply -f -", BUSY)?;
    ns.ok("rollout status deployment/busy --timeout=40s")?;
    // what has started since the last measurement has no rate yet
    let deadline = Instant::now() + Duration::from_secs(30);
    while ns.ok("top pods").is_err() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(500));
    }
    contains(&ns.ok("top pods")?, &["CPU(cores)", "busy-"])?;
    contains(&ns.ok("top pods --containers")?, &["main"])?;
    contains(&ns.ok("top nodes")?, &["CPU(%)"])
        .or_else(|_| contains(&ns.ok("top nodes")?, &["CPU%"]))?;
    let said = ns.ok("autoscale deploy busy --min=1 --max=3 --cpu-percent=15")?;
    contains(
        &said,
        &["horizontalpodautoscaler.autoscaling/busy autoscaled"],
    )?;
    ns.ok("wait --for=jsonpath={.status.desiredReplicas}=3 hpa/busy --timeout=60s")?;
    ns.ok("wait --for=jsonpath={.spec.replicas}=3 deployment/busy --timeout=30s")?;
    let line = ns.ok("get hpa busy")?;
    contains(&line, &["Deployment/busy", "%/15%"])?;
    contains(
        &ns.ok("describe hpa busy")?,
        &["SuccessfulRescale", "above target", "ScalingActive"],
    )?;
    let conditions = ns.ok("get hpa busy -o jsonpath={.status.conditions[*].type}")?;
    ensure!(conditions.split(' ').count() == 3, "{conditions}");
    // the machine is not ours alone
    ns.ok("delete hpa busy").context("delete")?;
    ns.ok("delete deployment busy")?;
    // what cannot be measured is said
    ns.web(1)?;
    ns.ok("autoscale deploy web --min=1 --max=3 --cpu-percent=15")?;
    ns.exact(&[
        "wait",
        "--for=jsonpath={.status.conditions[?(@.type=='ScalingActive')].reason}=FailedGetResourceMetric",
        "hpa/web",
        "--timeout=40s",
    ])?;
    contains(
        &ns.ok("describe hpa web")?,
        &["missing request for cpu in container web"],
    )
}

fn ingress(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(1)?;
    ns.exact(&[
        "create",
        "ingress",
        "web",
        "--class=istio",
        "--rule=ratings.example/ratings*=web:http",
    ])?;
    let path = "{.status.loadBalancer.ingress[0].ports[0].port}";
    ns.exact(&[
        "wait",
        &format!("--for=jsonpath={path}"),
        "ingress/web",
        "--timeout=30s",
    ])?;
    let port = ns.ok(&format!("get ingress web -o jsonpath={path}"))?;
    contains(&ns.ok("get ingress")?, &["ratings.example", "127.0.0.1"])?;
    let curl = |host: &str, path: &str| -> anyhow::Result<String> {
        let output = Command::new("curl")
            .args(["-sS", "--noproxy", "*", "-H", &format!("Host: {host}")])
            .arg(format!("http://127.0.0.1:{port}{path}"))
            .output()?;
        Ok(String::from_utf8(output.stdout)?)
    };
    contains(&curl("ratings.example", "/ratings/3")?, &["\"id\":3"])?;
    contains(
        &curl("ratings.example", "/other")?,
        &["no Ingress has a rule"],
    )?;
    contains(
        &curl("other.example", "/ratings/3")?,
        &["no Ingress has a rule"],
    )
}

const LIMITED: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: limited }
spec:
  activeDeadlineSeconds: 2
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
    - name: main
      image: meshdojo/meshdojo:0.1.0
      command: [sleep, "600"]
---
apiVersion: v1
kind: Pod
metadata: { name: fresh }
spec:
  terminationGracePeriodSeconds: 1
  imagePullSecrets: [{ name: registry }]
  containers:
    - name: main
      image: meshdojo/meshdojo:0.1.0
      command: [sleep, "600"]
      volumeMounts: [{ name: v, mountPath: /etc/settings }]
  volumes: [{ name: v, configMap: { name: settings } }]
---
apiVersion: v1
kind: Pod
metadata: { name: fails }
spec:
  restartPolicy: Never
  containers:
    - name: main
      image: meshdojo/meshdojo:0.1.0
      command: [sh, -c, "echo the reason; exit 3"]
      terminationMessagePolicy: FallbackToLogsOnError
"#;

fn pods_in_time_and_fresh(ns: &Namespace) -> anyhow::Result<()> {
    ns.ok("create configmap settings --from-literal=key=one")?;
    ns.typed("apply -f -", LIMITED)?;
    ns.ok("wait --for=condition=Ready pod/fresh --timeout=60s")?;
    contains(&ns.ok("exec fresh -- cat /etc/settings/key")?, &["one"])?;
    ns.ok("create configmap settings --from-literal=key=two --dry-run=client -o yaml")
        .and_then(|changed| ns.typed("apply -f -", &changed))?;
    ns.exact(&[
        "exec",
        "fresh",
        "--",
        "sh",
        "-c",
        "for i in $(seq 150); do grep two $DOJO_ROOT/etc/settings/key && exit; sleep 0.2; done; exit 1",
    ])?;
    ns.ok("wait --for=jsonpath={.status.reason}=DeadlineExceeded pod/limited --timeout=60s")?;
    contains(&ns.ok("get pod limited")?, &["DeadlineExceeded"])
        .or_else(|_| contains(&ns.ok("get pod limited")?, &["Error"]))?;
    contains(
        &ns.ok("describe pod fresh")?,
        &["NotCarriedOut", "spec.imagePullSecrets"],
    )?;
    ns.ok("wait --for=jsonpath={.status.phase}=Failed pod/fails --timeout=30s")?;
    contains(
        &ns.ok("describe pod fails")?,
        &["the reason", "Exit Code:    3"],
    )
}
