//! Manifests as the lab world publishes them reach Running and Ready, with and without sidecars, also where
//! ports below 1024 may not be had. The fixtures have the images, commands, arguments, variables,
//! ports and volumes of those manifests.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, ensure};
use dojo_tests::{
    dojo::{Dojo, eventually, root},
    kubectl,
};

const FILES: [&str; 5] = [
    "bookinfo.yaml",
    "bookinfo-databases.yaml",
    "fleetman.yaml",
    "fake-service.yaml",
    "samples.yaml",
];

#[tokio::test]
async fn published_manifests_run_unmodified() -> anyhow::Result<()> {
    if !kubectl::available() {
        return Ok(());
    }
    let dojo = Dojo::up_with(&["none"], &[("DOJO_LOWEST_PORT", "1024")])?;
    let kubectl = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        kubectl::ok(&dojo.kubeconfig(), &words, "")
    };
    let namespaces = ["plain", "meshed"];
    for namespace in namespaces {
        kubectl(&format!("create namespace {namespace}"))?;
    }
    kubectl("label namespace meshed istio-injection=enabled")?;
    for namespace in namespaces {
        for file in FILES {
            let path = root().join("tests/fixtures/published").join(file);
            kubectl(&format!("apply -n {namespace} -f {}", path.display()))?;
        }
    }
    for namespace in namespaces {
        kubectl(&format!(
            "wait -n {namespace} --for=condition=Ready pod --all --timeout=120s"
        ))
        .with_context(|| kubectl(&format!("get pods -n {namespace}")).unwrap_or_default())?;
    }
    let containers = "get pods -n meshed -o jsonpath={.items[*].status.containerStatuses[*].name}";
    let pods = kubectl("get pods -n meshed -o name")?.lines().count();
    let sidecars = kubectl("get pods -n meshed -o yaml")?
        .matches("name: istio-proxy")
        .count();
    ensure!(sidecars >= pods, "{pods} pods: {}", kubectl(containers)?);

    for namespace in namespaces {
        let pod = kubectl(&format!(
            "get pods -n {namespace} -l app=siege -o jsonpath={{.items[0].status.podIP}}"
        ))?;
        let ip: Ipv4Addr = pod.trim().parse().context("the pod's address")?;
        let door = match namespace {
            "plain" => format!("http://{ip}:15099"),
            _ => {
                let [a, b, c, d] = ip.octets();
                format!("http://{a}.{b}.{}.{d}:15001", c + 192)
            }
        };
        let client = reqwest::Client::builder()
            .proxy(reqwest::Proxy::http(&door)?)
            .build()?;
        for (url, text) in [
            ("http://productpage:9080/productpage", "Book Reviews"),
            // Port 80 of a pod, of an image that says so and of one that nobody declared.
            ("http://fleetman-webapp/", "<title>Fleet Management"),
            ("http://httpbin-python:8000/get", "\"origin\""),
            ("http://simple-web/", "Hello from simple-backend-"),
            ("http://svc-hello:8080/", "Hello server - v"),
            ("http://helloworld:5000/hello", "Hello version: v"),
            ("http://delivery:8080/actuator/health", "UP"),
        ] {
            eventually(url, Duration::from_secs(20), async || {
                let answer = client.get(url).send().await?.text().await?;
                ensure!(answer.contains(text), "{namespace}: {url}: {answer}");
                Ok(())
            })
            .await?;
        }
        // Memory, what stands in for MongoDB, and for MySQL: all three versions answer alike.
        for _ in 0..12 {
            let answer = client.get("http://ratings:9080/ratings/0").send().await?;
            let text = answer.text().await?;
            ensure!(text.contains("\"Reviewer1\":5"), "{namespace}: {text}");
        }
    }
    Ok(())
}
