//! Real Envoys in our mesh: a gateway and a sidecar poll the control plane of the embedded cluster
//! over REST, and carry out a lab's routes.
//!
//! Each stands for a pod that only sleeps: the cluster gives it its address and identity, the test
//! runs the Envoy at that address.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use dojo_tests::{
    dojo::{Dojo, eventually},
    envoy, kubectl,
};
use mesh_config::envoy::discovery;

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: envoy-gateway, labels: {istio: envoy}, annotations: {sidecar.istio.io/inject: "false"}}
spec: {containers: [{name: sleep, image: curlimages/curl, command: [sleep, infinity]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: envoy-sidecar, labels: {app: caller}, annotations: {sidecar.istio.io/inject: "false"}}
spec: {containers: [{name: sleep, image: curlimages/curl, command: [sleep, infinity]}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: envoy}
spec:
  selector: {istio: envoy}
  servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: page}
spec:
  hosts: ["*"]
  gateways: [envoy]
  http: [{match: [{uri: {exact: /productpage}}], route: [{destination: {host: productpage, port: {number: 9080}}}]}]
---
# A real Envoy gets no certificate from us, so it speaks plainly to PERMISSIVE workloads.
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: productpage}
spec: {host: productpage, trafficPolicy: {tls: {mode: DISABLE}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy: {tls: {mode: DISABLE}}
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
  - {name: v3, labels: {version: v3}}
"#;

fn weights(v1: u32, v2: u32, v3: u32) -> String {
    format!(
        r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews}}
spec:
  hosts: [reviews]
  http:
  - route:
    - {{destination: {{host: reviews, subset: v1}}, weight: {v1}}}
    - {{destination: {{host: reviews, subset: v2}}, weight: {v2}}}
    - {{destination: {{host: reviews, subset: v3}}, weight: {v3}}}
"#
    )
}

/// An Envoy at the address of a pod.
struct Envoy(Child);

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Stage<'a> {
    dojo: &'a Dojo,
    envoy: &'a Path,
    folder: &'a Path,
    control_plane: SocketAddr,
}

impl Stage<'_> {
    fn kubectl(&self, args: &[&str], stdin: &str) -> anyhow::Result<String> {
        kubectl::ok(&self.dojo.kubeconfig(), args, stdin)
    }

    fn address(&self, namespace: &str, pod: &[&str]) -> anyhow::Result<IpAddr> {
        let path = if pod[0] == "-l" {
            "{.items[0].status.podIP}"
        } else {
            "{.status.podIP}"
        };
        let output = format!("-ojsonpath={path}");
        let args = [&["get", "pod", "-n", namespace], pod, &[&output]].concat();
        Ok(self.kubectl(&args, "")?.trim().parse()?)
    }

    /// Starts an Envoy for a pod; its address.
    fn start(&self, role: &str, pod: &str, loopback: bool) -> anyhow::Result<(Envoy, IpAddr)> {
        let address = self.address("default", &[pod])?;
        let IpAddr::V4(v4) = address else {
            anyhow::bail!("{address} is not IPv4");
        };
        let [a, b, c, d] = v4.octets();
        let own = IpAddr::from([a, b, c + 192, d]);
        let token = self.kubectl(
            &["create", "token", "default", "--audience", "istio-ca"],
            "",
        )?;
        let file = self.folder.join(format!("{pod}.token"));
        std::fs::write(&file, token.trim())?;
        let id = format!("{role}~{address}~{pod}.default~default.svc.cluster.local");
        let admin = SocketAddr::new(own, 15000);
        let bootstrap = discovery::bootstrap(
            &id,
            loopback.then_some(own),
            self.control_plane,
            &file,
            admin,
        );
        let config = self.folder.join(format!("{pod}.json"));
        std::fs::write(&config, serde_json::to_vec_pretty(&bootstrap)?)?;
        let log = std::fs::File::create(self.folder.join(format!("{pod}.log")))?;
        let mut command = Command::new(self.envoy);
        command.arg("-c").arg(config);
        command.args([
            "--concurrency",
            "1",
            "--use-dynamic-base-id",
            "-l",
            "warning",
        ]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        Ok((
            Envoy(command.spawn()?),
            if loopback { own } else { address },
        ))
    }

    fn logs(&self) -> String {
        let read = |pod: &str| {
            std::fs::read_to_string(self.folder.join(format!("{pod}.log"))).unwrap_or_default()
        };
        format!(
            "gateway:\n{}\nsidecar:\n{}",
            read("envoy-gateway"),
            read("envoy-sidecar")
        )
    }
}

/// Which versions of reviews answered `times` requests through the sidecar's door.
async fn versions(door: SocketAddr, times: usize) -> anyhow::Result<BTreeMap<String, usize>> {
    let proxy = reqwest::Proxy::http(format!("http://{door}"))?;
    let client = reqwest::Client::builder()
        .proxy(proxy)
        .timeout(Duration::from_secs(5))
        .build()?;
    let mut seen = BTreeMap::new();
    for _ in 0..times {
        let answer = client
            .get("http://reviews:9080/reviews/0")
            .send()
            .await?
            .error_for_status()?;
        let body: serde_json::Value = serde_json::from_str(&answer.text().await?)?;
        let pod = body["podname"].as_str().context("a pod name")?;
        let version = pod.split('-').nth(1).context("reviews-VERSION-")?;
        *seen.entry(version.to_owned()).or_default() += 1;
    }
    Ok(seen)
}

#[tokio::test]
async fn a_lab_runs_with_real_envoys() -> anyhow::Result<()> {
    let Some(envoy) = envoy::binary() else {
        return Ok(());
    };
    if !kubectl::available() {
        return Ok(());
    }
    let dojo = Dojo::up(&["bookinfo"])?;
    let folder = tempfile::tempdir()?;
    let mut stage = Stage {
        dojo: &dojo,
        envoy: &envoy,
        folder: folder.path(),
        control_plane: "127.0.0.1:15010".parse()?,
    };
    stage.control_plane =
        SocketAddr::new(stage.address("istio-system", &["-l", "app=istiod"])?, 15010);
    stage.kubectl(&["apply", "-f", "-"], PODS)?;
    stage.kubectl(&["apply", "-f", "-"], &weights(50, 0, 50))?;
    stage.kubectl(
        &[
            "wait",
            "--for=condition=Ready",
            "pod/envoy-gateway",
            "pod/envoy-sidecar",
            "--timeout=60s",
        ],
        "",
    )?;
    let (_gateway, at) = stage.start("router", "envoy-gateway", false)?;
    let (_sidecar, loopback) = stage.start("sidecar", "envoy-sidecar", true)?;
    let outcome = lab(&stage, at, SocketAddr::new(loopback, 15001)).await;
    outcome.with_context(|| stage.logs())
}

async fn lab(stage: &Stage<'_>, gateway: IpAddr, door: SocketAddr) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let page = eventually(
        "the page through a real Envoy",
        Duration::from_secs(30),
        || async {
            let answer = client
                .get(format!("http://{gateway}:8080/productpage"))
                .send()
                .await?;
            Ok(answer.error_for_status()?)
        },
    )
    .await?;
    ensure!(
        page.headers()["server"] == "istio-envoy",
        "{:?}",
        page.headers()
    );
    let nothing = client
        .get(format!("http://{gateway}:8080/nothing"))
        .send()
        .await?;
    ensure!(nothing.status() == 404, "{}", nothing.status());

    let before = eventually(
        "reviews through a real Envoy",
        Duration::from_secs(30),
        || versions(door, 100),
    )
    .await?;
    // Of 100 draws at one half, fewer than 25 or more than 75 come once in two million times.
    let half = |version: &str| (25..=75).contains(before.get(version).unwrap_or(&0));
    ensure!(
        half("v1") && half("v3") && before.len() == 2,
        "half v1, half v3: {before:?}"
    );

    stage.kubectl(&["apply", "-f", "-"], &weights(0, 100, 0))?;
    eventually("all requests at v2", Duration::from_secs(30), || async {
        let seen = versions(door, 10).await?;
        ensure!(seen.get("v2") == Some(&10), "{seen:?}");
        Ok(())
    })
    .await
}
