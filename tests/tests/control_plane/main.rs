//! The control plane from its second copy to its end, while somebody reads pages: an upgrade, another
//! leader, an API server that is away, another authority, and the uninstallation. No page is lost.

mod away;
mod gate;

use std::time::Duration;

use anyhow::{Context, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use dojo_tests::{
    bookstore::{Reader, Reading, Stars},
    dojo::{Dojo, eventually, root},
    kubectl,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use serde_json::{Value, json};

/// What takes a second may take this long on a busy machine.
const SOON: Duration = Duration::from_secs(120);

/// `kubectl` on the cluster under test.
struct Kubectl<'a>(&'a Dojo);

impl Kubectl<'_> {
    fn run(&self, line: &str) -> anyhow::Result<String> {
        self.run_with(line, "")
    }

    fn run_with(&self, line: &str, stdin: &str) -> anyhow::Result<String> {
        let words: Vec<&str> = line.split(' ').collect();
        kubectl::ok(&self.0.kubeconfig(), &words, stdin)
    }

    fn apply(&self, yaml: &str) -> anyhow::Result<String> {
        self.run_with("apply -f -", yaml)
    }

    fn get(&self, what: &str) -> anyhow::Result<Value> {
        let text = self.run(&format!("get {what} -o json"))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Waits until a Deployment, or all of a namespace, is what its template says.
    fn rolled_out(&self, deployment: &str) -> anyhow::Result<()> {
        let line = format!("rollout status {deployment} --timeout={}s", SOON.as_secs());
        self.run(&line).map(|_| ())
    }
}

/// A VirtualService of its own that leads to nobody: its status says so.
fn mistake(name: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
         spec: {{hosts: [{name}.example], http: [{{route: [{{destination: {{host: nobody-{name}}}}}]}}]}}\n"
    )
}

/// The events about an object of this name.
fn events_about(kubectl: &Kubectl<'_>, name: &str) -> anyhow::Result<Vec<Value>> {
    let events = kubectl.get("events")?;
    let events = events["items"].as_array().context("a list")?.iter();
    let about = |event: &&Value| event["involvedObject"]["name"] == name;
    Ok(events.filter(about).cloned().collect())
}

/// Makes a mistake and waits until its status and an event tell of it.
async fn is_reported(kubectl: &Kubectl<'_>, name: &str) -> anyhow::Result<()> {
    kubectl.apply(&mistake(name))?;
    eventually("a status", SOON, async || {
        let object = kubectl.get(&format!("virtualservice {name}"))?;
        let said = object["status"]["validationMessages"].to_string();
        ensure!(said.contains(&format!("nobody-{name}")), "{said}");
        ensure!(!events_about(kubectl, name)?.is_empty(), "no event");
        Ok(())
    })
    .await
}

/// The pod that holds the Lease.
async fn leader(kubectl: &Kubectl<'_>) -> anyhow::Result<String> {
    eventually("a leader", SOON, async || {
        let lease = kubectl.get("lease istio-leader -n istio-system")?;
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        ensure!(holder.starts_with("istiod-"), "{lease}");
        kubectl.get(&format!("pod {holder} -n istio-system"))?;
        Ok(holder.to_owned())
    })
    .await
}

#[tokio::test]
async fn no_page_is_lost() -> anyhow::Result<()> {
    if !kubectl::available() {
        return Ok(());
    }
    let dojo = Dojo::up(&["bookinfo", "httpbin"])?;
    let kubectl = Kubectl(&dojo);
    let gate = gate::Gate::before(&dojo)?;
    let file = dojo.folder().join("through-the-gate");
    gate.kubeconfig(&dojo, &file)?;

    // A second copy, and another template for both.
    let reading = Reading::start(dojo.port);
    kubectl.run("scale deployment/istiod --replicas=2 -n istio-system")?;
    kubectl.rolled_out("deployment/istiod -n istio-system")?;
    let file = file.display();
    kubectl.run(&format!(
        "set env deployment/istiod KUBECONFIG={file} -n istio-system"
    ))?;
    kubectl.rolled_out("deployment/istiod -n istio-system")?;

    // Another leader goes on where the one before was.
    let first = leader(&kubectl).await?;
    is_reported(&kubectl, "first").await?;
    kubectl.run(&format!("delete pod {first} -n istio-system"))?;
    eventually("another leader", SOON, async || {
        let now = leader(&kubectl).await?;
        ensure!(now != first, "still {now}");
        Ok(())
    })
    .await?;
    is_reported(&kubectl, "second").await?;
    kubectl.rolled_out("deployment/istiod -n istio-system")?;

    away::the_mesh_goes_on(&dojo, &kubectl, &gate).await?;
    another_authority_takes_over(&kubectl).await?;
    // What follows ends pods of the application, of which a caller may hear too late on a busy machine.
    reading.no_page_was_wrong()?;

    // Each mistake was told once: neither by both copies, nor again by the next leader.
    for name in ["first", "second"] {
        let told = events_about(&kubectl, name)?;
        ensure!(told.len() == 1, "about {name}: {told:?}");
    }

    // Sidecars of the new version, one after the other: they have certificates of the new authority, and
    // speak with those that have one of the old.
    for deployment in ["deployment/ratings-v1", "deployment"] {
        kubectl.run(&format!("rollout restart {deployment}"))?;
        kubectl.rolled_out(deployment)?;
        pages_are_right(&dojo).await?;
    }
    uninstall(&kubectl)
}

/// A new root is trusted beside the old one everywhere, and signs, without a restart.
async fn another_authority_takes_over(kubectl: &Kubectl<'_>) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::OrganizationName, "another");
    let root = params.self_signed(&key)?.pem();
    let data =
        json!({ "ca-cert.pem": root, "ca-key.pem": key.serialize_pem(), "root-cert.pem": root });
    let metadata = json!({ "name": "cacerts", "namespace": "istio-system" });
    let secret =
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data });
    let before = kubectl.get("configmap istio-ca-root-cert")?;
    let before = before["data"]["root-cert.pem"]
        .as_str()
        .context("a root")?
        .to_owned();
    kubectl.apply(&secret.to_string())?;
    let trusts_both = |text: &str| text.contains(root.trim()) && text.contains(before.trim());
    eventually("trust in both", SOON, async || {
        let map = kubectl.get("configmap istio-ca-root-cert")?;
        let text = map["data"]["root-cert.pem"].as_str().unwrap_or_default();
        ensure!(trusts_both(text), "the ConfigMap: {text}");
        for configuration in [
            "mutatingwebhookconfiguration istio-sidecar-injector",
            "validatingwebhookconfiguration istio-validator-istio-system",
        ] {
            let found = kubectl.get(configuration)?;
            for webhook in found["webhooks"].as_array().context("webhooks")? {
                let bundle = webhook["clientConfig"]["caBundle"].as_str();
                let bundle = STANDARD.decode(bundle.unwrap_or_default())?;
                let text = String::from_utf8(bundle)?;
                ensure!(trusts_both(&text), "{configuration}: {text}");
            }
        }
        Ok(())
    })
    .await?;
    let pods = kubectl.get("pods -n istio-system -l app=istiod")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("root.pem");
    std::fs::write(&file, &root)?;
    for pod in pods["items"].as_array().context("pods")? {
        let address = pod["status"]["podIP"].as_str().context("an address")?;
        eventually("a certificate of the new authority", SOON, async || {
            let name = "istiod.istio-system.svc";
            let mut curl = std::process::Command::new("curl");
            curl.args(["-sS", "--noproxy", "*", "--max-time", "30", "--cacert"])
                .arg(&file);
            curl.args(["--resolve", &format!("{name}:15017:{address}")]);
            let asked = curl.arg(format!("https://{name}:15017/")).output()?;
            ensure!(
                asked.status.success(),
                "{}",
                String::from_utf8_lossy(&asked.stderr)
            );
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Waits until ten pages in a row have everything.
async fn pages_are_right(dojo: &Dojo) -> anyhow::Result<()> {
    let reader = Reader::new(dojo.port)?;
    eventually("ten pages", SOON, async || {
        for _ in 0..10 {
            let seen = reader.stars().await?;
            ensure!(
                matches!(seen, Stars::None | Stars::Black | Stars::Red),
                "{seen:?}"
            );
        }
        Ok(())
    })
    .await
}

/// In the documented order; no pod is left waiting, and new ones come.
fn uninstall(kubectl: &Kubectl<'_>) -> anyhow::Result<()> {
    kubectl.run("label namespace default istio-injection-")?;
    kubectl.run("rollout restart deployment")?;
    kubectl.rolled_out("deployment")?;
    kubectl.run("delete mutatingwebhookconfiguration istio-sidecar-injector")?;
    kubectl.run("delete validatingwebhookconfiguration istio-validator-istio-system")?;
    let install = root().join("k8s/install");
    let install = install.display();
    kubectl.run(&format!("delete --ignore-not-found -k {install}"))?;
    kubectl.run("rollout restart deployment")?;
    kubectl.rolled_out("deployment")?;
    let pods = kubectl.get("pods -A")?;
    for pod in pods["items"].as_array().context("a list")? {
        // Those of before may still be ending.
        if pod["metadata"]["deletionTimestamp"].is_null() {
            let namespace = &pod["metadata"]["namespace"];
            ensure!(namespace == "default", "{pod} is left");
            ensure!(pod["status"]["phase"] == "Running", "{pod} waits");
            ensure!(
                pod["spec"]["initContainers"].is_null(),
                "{pod} has a sidecar"
            );
        }
    }
    let kinds = kubectl.run("get crd -o name")?;
    ensure!(!kinds.contains("istio.io"), "{kinds}");
    Ok(())
}
