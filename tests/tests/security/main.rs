//! Identity, mutual TLS and authorization on a whole cluster, with the clients that a student has:
//! kubectl, curl, openssl and a browser's worth of pages.

mod authority;
mod gateway;
mod judges;
mod precedence;
mod reader;
mod strangers;
mod tokens;
mod wire;

use std::{
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context, ensure};
use dojo_tests::{
    bookstore::Reading,
    dojo::{Dojo, eventually},
    kubectl,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};

/// A change may take this long to be seen on a busy machine; it takes some milliseconds.
const SOON: Duration = Duration::from_secs(60);

fn curl(args: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new("curl");
    command
        .args(["-sS", "--max-time", "10", "--noproxy", "*"])
        .args(args);
    command.env_remove("http_proxy").output().context("curl")
}

/// Status and body of a page.
fn page(args: &[&str]) -> anyhow::Result<(String, String)> {
    let output = curl(&[&["-w", "\n%{http_code}"], args].concat())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').context("a status")?;
    Ok((status.to_owned(), body.to_owned()))
}

/// Names and addresses of the pods with these labels.
async fn pods(dojo: &Dojo, namespace: &str, labels: &str) -> anyhow::Result<Vec<(String, String)>> {
    let pods: Api<Pod> = Api::namespaced(dojo.client().await?, namespace);
    let pods = pods.list(&ListParams::default().labels(labels)).await?;
    let found = pods.items.into_iter().map(|pod| {
        let address = pod.status.and_then(|status| status.pod_ip);
        Ok((
            pod.metadata.name.context("a name")?,
            address.context("an address")?,
        ))
    });
    found.collect()
}

/// Name and address of the pod with these labels.
async fn pod(dojo: &Dojo, namespace: &str, labels: &str) -> anyhow::Result<(String, String)> {
    let mut found = pods(dojo, namespace, labels).await?;
    found.pop().with_context(|| format!("a pod with {labels}"))
}

fn peer_authentication(namespace: &str, mode: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{name: default, namespace: {namespace}}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
    )
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: {name}, namespace: default}}\nspec: {spec}\n"
    )
}

#[tokio::test]
async fn who_may_call_whom() -> anyhow::Result<()> {
    if !kubectl::available() {
        return Ok(());
    }
    let dojo = Dojo::up(&["bookinfo", "httpbin"])?;
    let file = dojo.kubeconfig();
    let apply = |yaml: &str| kubectl::ok(&file, &["apply", "-f", "-"], yaml);
    let delete = |kind: &str, name: &str| kubectl::ok(&file, &["delete", kind, name], "");
    let details = format!(
        "http://{}:9080/details/0",
        pod(&dojo, "default", "app=details").await?.1
    );

    // Permissive: anybody is served, and the mesh speaks mutual TLS within.
    ensure!(page(&[&details])?.0 == "200");
    wire::an_identity_can_be_read(&details)?;
    wire::metrics_prove_it(&dojo).await?;
    wire::secrets_can_be_listed(&dojo)?;
    wire::a_tap_shows_the_wire(&dojo).await?;
    strangers::are_refused_at_the_admin_interface(&dojo).await?;

    // Strict, under traffic: the mesh goes on, strangers are reset.
    let reading = Reading::start(dojo.port);
    for mode in ["STRICT", "DISABLE", "STRICT", "PERMISSIVE", "STRICT"] {
        apply(&peer_authentication("istio-system", mode))?;
        eventually(mode, SOON, async || {
            let code = curl(&[&details])?.status.code();
            ensure!(
                (code == Some(56)) == (mode == "STRICT"),
                "curl ends with {code:?}"
            );
            Ok(())
        })
        .await?;
        reader::clients_speak(&dojo, mode).await?;
    }
    reading.no_page_was_wrong()?;
    // The namespace outranks the mesh.
    apply(&peer_authentication("default", "PERMISSIVE"))?;
    eventually("the namespace's mode", SOON, async || {
        ensure!(page(&[&details])?.0 == "200");
        Ok(())
    })
    .await?;

    precedence::the_nearest_mode_holds(&file, &details).await?;
    precedence::denial_goes_before_permission(&file, &details).await?;

    // Policies: nothing, then productpage alone.
    apply(&policy("nothing", "{}"))?;
    eventually("nothing is allowed", SOON, async || {
        let (status, body) = page(&[&details])?;
        ensure!(
            status == "403" && body == "RBAC: access denied",
            "{status} {body}"
        );
        Ok(())
    })
    .await?;
    delete("authorizationpolicy", "nothing")?;
    let only = r#"{selector: {matchLabels: {app: details}}, rules: [{from: [{source: {principals: ["cluster.local/ns/default/sa/bookinfo-productpage"]}}], to: [{operation: {methods: [GET]}}]}]}"#;
    apply(&policy("details", only))?;
    eventually("productpage alone", SOON, async || {
        let (status, _) = page(&[&details])?;
        ensure!(status == "403", "{status}");
        let (status, body) = page(&[&format!("http://127.0.0.1:{}/api/v1/products/0", dojo.port)])?;
        ensure!(status == "200", "{status} {body}");
        Ok(())
    })
    .await?;
    delete("authorizationpolicy", "details")?;

    tokens::are_checked(&file, &details).await?;
    judges::are_asked(&file, &details).await?;
    strangers::are_told_nothing(&dojo, &file).await?;
    authority::an_intermediate_takes_over(&dojo, &file).await?;
    gateway::https_at_the_gateway(&dojo, &file).await
}
